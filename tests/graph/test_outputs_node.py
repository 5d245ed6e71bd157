"""The actuator's outputs on the simulated chip: rules, the technician's calls, safe values on the way out."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from myrvm_interfaces.msg import DepositState, NodeHealth, OperatingLimits, Outputs, SystemStatus
from myrvm_interfaces.srv import SetOutput
from myrvm_sim.cabinet_client import CabinetClient

from myrvm_ros import qos

Request = SetOutput.Request


class Machine:
    """Sensor and actuator; this test is the manager and the deposit node."""

    def __init__(self, graph: Any, cabinet: CabinetClient) -> None:
        self.graph, self.cabinet = graph, cabinet
        self.outputs: list[Outputs] = graph.listen(Outputs, "actuator/outputs", qos.STATE)
        self.beats: list[NodeHealth] = graph.listen(NodeHealth, "system/node_health", qos.HEARTBEAT)
        self.status = graph.node.create_publisher(SystemStatus, "system/status", qos.STATE)
        self.limits = graph.node.create_publisher(OperatingLimits, "health/limits", qos.STATE)
        self.deposit = graph.node.create_publisher(DepositState, "deposit/state", qos.STATE)
        graph.bring_up("sensor", hardware="desk")
        graph.bring_up("actuator", hardware="desk")
        self.wait(light_ring=False, door_lock=False)

    def wait(self, **wanted: bool) -> None:
        def shown() -> dict[str, bool]:
            return {output.name: output.on for output in self.outputs[-1].outputs} if self.outputs else {}

        self.graph.wait(lambda: wanted.items() <= shown().items(), f"outputs {wanted}")

    def call(self, name: str, on: bool, technician: bool = True, duration_s: float = 0.0) -> Any:
        request = Request(name=name, on=on, technician=technician, duration_s=duration_s, holder="test")
        return self.graph.call(SetOutput, "actuator/set_output", request)

    def lines(self) -> dict[str, bool]:
        """At the lines themselves."""
        entries = (entry["detail"].split() for entry in self.cabinet.log() if entry["what"] == "line")
        return {name: value == "on" for name, value in entries}


@pytest.fixture
def machine(graph: Any, cabinet: CabinetClient) -> Machine:
    return Machine(graph, cabinet)


def test_outputs_follow_the_machine_and_the_technician(machine: Machine):
    machine.status.publish(SystemStatus(mode=SystemStatus.SERVING))
    machine.wait(status_lamp=True)
    machine.limits.publish(OperatingLimits(level=OperatingLimits.DARK))
    machine.wait(status_lamp=False)
    machine.deposit.publish(DepositState(state=DepositState.CLASSIFYING))
    machine.wait(light_ring=True)
    assert machine.lines()["LIGHT_RING"]  # a picture needs its light
    machine.limits.publish(OperatingLimits())
    machine.wait(status_lamp=True)
    machine.deposit.publish(DepositState(state=DepositState.RETURNING))
    machine.wait(light_ring=False, buzzer=True)
    machine.wait(buzzer=False)
    machine.status.publish(SystemStatus(mode=SystemStatus.MAINTENANCE))
    machine.wait(door_lock=True)
    machine.cabinet.set_door(True)
    machine.wait(door_lock=False)
    machine.cabinet.set_door(False)

    machine.status.publish(SystemStatus(mode=SystemStatus.SERVING))
    machine.wait(status_lamp=True, door_lock=False)
    refused = machine.call("buzzer", True)
    assert (refused.taken, refused.refusal) == (False, Request.REFUSED_NOT_ALLOWED)
    assert refused.message == "a technician drives outputs only in maintenance (rvm maintenance on)"
    machine.status.publish(SystemStatus(mode=SystemStatus.MAINTENANCE))
    machine.wait(door_lock=True)
    assert "only with the service door open" in machine.call("buzzer", True).message
    machine.cabinet.set_door(True)
    machine.wait(door_lock=False)
    answer = machine.call("buzzer", True)
    assert (answer.taken, answer.read_back, answer.message) == (True, True, "")
    assert machine.lines()["BUZZER"]
    assert machine.call("siren", True).refusal == Request.REFUSED_UNKNOWN
    machine.cabinet.set_door(False)
    machine.wait(buzzer=False)
    assert machine.call("buzzer", True, technician=False, duration_s=0.2).taken
    machine.wait(buzzer=False)


def test_a_chip_that_vanishes_and_every_way_out(machine: Machine):
    machine.cabinet.plug_chip(False)
    machine.graph.wait(lambda: not machine.call("buzzer", True, technician=False, duration_s=0.1).taken, "refusal")
    assert machine.call("buzzer", True, technician=False, duration_s=0.1).refusal == Request.REFUSED_FAULT
    machine.cabinet.plug_chip(True)
    machine.graph.wait(lambda: machine.call("buzzer", True, technician=False, duration_s=0.1).taken, "chip again")
    machine.status.publish(SystemStatus(mode=SystemStatus.SERVING))
    machine.wait(status_lamp=True)
    assert machine.graph.transition("actuator", Transition.TRANSITION_DEACTIVATE)
    machine.wait(status_lamp=False)
    assert not machine.lines()["STATUS_LAMP"]
    assert machine.graph.transition("actuator", Transition.TRANSITION_ACTIVATE)
    machine.wait(status_lamp=True)
    process = machine.graph.processes["actuator"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30.0) == 0, machine.graph.log("actuator")
    assert not machine.lines()["STATUS_LAMP"]


def test_a_name_that_is_none_stops_configure_with_one_line(graph: Any):
    graph.start("actuator", **{"outputs.lines": '["Light=3"]'})
    assert not graph.transition("actuator", Transition.TRANSITION_CONFIGURE)
    assert "actuator.outputs.lines: name 'Light' is not allowed" in graph.log("actuator")
    assert "Traceback" not in graph.log("actuator")
