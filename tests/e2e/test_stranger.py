"""A stranger with ten lines of rclpy: every topic, every service, every transition of every node, no import of ours."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import rclpy
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from myrvm_interfaces.srv import ManageSystem
from myrvm_sim.physics import Kind
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile

from myrvm_core import graph as graph_file

OF_ROS = ("/describe_parameters", "/get_parameter", "/list_parameters", "/set_parameters", "/get_type_description",
          "/get_available", "/get_transition", "/get_state", "/change_state")  # fmt: skip
SPEAKING = {
    "/camera/image_raw", "/camera/image_raw/compressed", "/camera/camera_info", "/detector/detections",
    "/detector/annotated", "/sensors/state", "/sensors/events", "/actuator/state", "/deposit/state", "/deposit/result",
    "/buffer/status", "/cloud/status", "/system/status", "/system/node_health", "/diagnostics",
}  # fmt: skip
RARE = {"/cloud/command"}  # what an operator sends
NODES = graph_file.load().names


def load(type_name: str) -> Any:
    """The class of `package/msg/Name`."""
    package, kind, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.{kind}"), name)


@pytest.fixture(scope="module")
def stranger(machine: Any) -> Iterator[Any]:
    """A plain node in the machine's domain."""
    machine.wait_serving()
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("stranger", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def call(service_type: Any, name: str, request: Any) -> Any:
        client = node.create_client(service_type, name)
        asked: list[Any] = []
        asked_s = 0.0

        def answered() -> bool:
            nonlocal asked_s
            # Asked again after a while: a server that has not discovered the client yet cannot answer it.
            if client.service_is_ready() and time.monotonic() > asked_s + 3.0:
                asked.append(client.call_async(request))
                asked_s = time.monotonic()
            executor.spin_once(timeout_sec=0.02)
            return any(future.done() for future in asked)

        machine.wait(answered, f"answer of {name}")
        node.destroy_client(client)
        return next(future.result() for future in asked if future.done())

    node.call = call  # type: ignore[attr-defined]
    node.spin = lambda: executor.spin_once(timeout_sec=0.02)  # type: ignore[attr-defined]
    yield node
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_every_topic_can_be_heard(machine: Any, stranger: Any) -> None:
    heard: set[str] = set()
    subscribed: set[str] = set()

    def subscribe_to_all() -> None:
        for name, types in stranger.get_topic_names_and_types():
            publishers = stranger.get_publishers_info_by_topic(name)
            if publishers and name not in subscribed:
                subscribed.add(name)
                offered = publishers[0].qos_profile
                profile = QoSProfile(depth=10, reliability=offered.reliability, durability=offered.durability)
                stranger.create_subscription(load(types[0]), name, lambda _, name=name: heard.add(name), profile)

    def all_heard() -> bool:
        subscribe_to_all()
        stranger.spin()
        return heard >= SPEAKING and subscribed >= SPEAKING | RARE

    machine.wait_ready()
    machine.desk.cabinet.insert(Kind.NOT_EMPTY)
    machine.wait(all_heard, "every topic")


def test_every_service_answers_even_an_empty_request(machine: Any, stranger: Any) -> None:
    services = {
        name: types[0]
        for name, types in stranger.get_service_names_and_types()
        if types[0].startswith("myrvm_interfaces/") and not any(part in name for part in OF_ROS)
    }
    assert len(services) >= 10
    for name, type_name in services.items():
        service_type = load(type_name)
        if service_type is not ManageSystem:  # its empty request is no verb: tested with the manager
            assert stranger.call(service_type, name, service_type.Request()) is not None
    machine.wait_serving()


def state_of(stranger: Any, node: str) -> int:
    return stranger.call(GetState, f"/{node}/get_state", GetState.Request()).current_state.id


def transition(stranger: Any, node: str, number: int) -> bool:
    request = ChangeState.Request()
    request.transition.id = number
    return stranger.call(ChangeState, f"/{node}/change_state", request).success


@pytest.mark.parametrize("node", NODES)
def test_every_transition_can_be_driven_and_the_manager_does_not_fight(machine: Any, stranger: Any, node: str) -> None:
    machine.wait_serving()
    for number, state in (
        (Transition.TRANSITION_DEACTIVATE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_CLEANUP, State.PRIMARY_STATE_UNCONFIGURED),
        (Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE),
        (Transition.TRANSITION_ACTIVATE, State.PRIMARY_STATE_ACTIVE),
    ):
        assert transition(stranger, node, number), number
        assert state_of(stranger, node) == state
    machine.wait_serving()
    pid = machine.desk.machine.pid(node)
    assert transition(stranger, node, Transition.TRANSITION_ACTIVE_SHUTDOWN)

    def is_back() -> bool:
        (status,) = [status for status in machine.customer.status.nodes if status.name == node]
        return status.pid not in (0, pid) and status.lifecycle_state == State.PRIMARY_STATE_ACTIVE

    machine.wait(is_back, f"a new {node}")
    machine.wait_serving()
