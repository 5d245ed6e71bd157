"""Commands from afar on a real graph: manager and health node as they are, and a node that can be misconfigured."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from myrvm_cloud.audit_log import verify_log
from myrvm_cloud.command import Outcome, Status
from myrvm_cloud.command_services import command_desk, given_files
from myrvm_cloud.command_settings import CommandSettings
from myrvm_core.clock import machine_clock
from myrvm_core.overlay import OverlayFile
from myrvm_core.signing import SigningKey
from myrvm_interfaces.msg import CloudCommand, Maintenance, SystemStatus
from myrvm_ros.managed_node import ManagedNode
from myrvm_sim.operator import Operator, as_yaml
from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from tiny_machine import Machine

from myrvm_core import configuration
from myrvm_ros import qos

GRAPH = """
nodes:
  health: {package: myrvm_system, executable: health, settings: "myrvm_system.settings:HealthSettings",
           essential: false}
  other: {package: tiny, executable: other, settings: "myrvm_deposit.settings:DepositSettings", serves_customers: true,
          reason: DEPOSIT}
manager: {package: myrvm_system, executable: lifecycle_manager, settings: "myrvm_system.settings:ManagerSettings"}
defaults:
  restart: {limit: 1, window_s: 60.0, backoff_s: [0.05, 0.1]}
"""
OTHER = f"""#!{sys.executable}
# A stand-in for the deposit node: its settings, and one value with which it does not come up.
from myrvm_core.errors import DeviceError
from myrvm_deposit.settings import DepositSettings
from myrvm_ros.managed_node import ManagedNode, run
class Other(ManagedNode):
    settings_type = DepositSettings
    def __init__(self):
        super().__init__("other")
    def configure(self):
        if self.settings.show_s > 50.0:
            raise DeviceError("not with this value")
run(Other)
"""
SETTINGS = {
    "steady_s": 0.5, "trial_s": 20.0, "item_limit_s": 5.0, "reboot_command": ["touch", "rebooted"], "burst": 100,
}  # fmt: skip


class Host(ManagedNode[CommandSettings]):
    """A node that carries commands out, as the cloud bridge does; its loop runs in a thread of its own."""

    settings_type = CommandSettings

    def configure(self) -> None:
        self.desk = command_desk(self, CommandSettings(**SETTINGS), machine_clock(), lambda: 0)

    def activate(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._task = self._loop.create_task(self.desk.run())
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        self.on_release(self._stop)

    def _work(self) -> None:
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(10.0)

    def send(self, envelope: str) -> None:
        self._loop.call_soon_threadsafe(self.desk.receive, envelope)


@pytest.fixture
def machine(graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    policy = Path(os.environ["MYRVM_HOME"]) / "config" / "policy.yaml"
    built = Machine(graph, tmp_path, monkeypatch, GRAPH)
    (tmp_path / "config" / "policy.yaml").write_text(policy.read_text())
    (built.programs / "other").write_text(OTHER)
    monkeypatch.setattr(configuration, "SETTINGS_CHECKS", "none")  # they know the nodes of a whole machine
    monkeypatch.setattr(sys, "argv", ["bridge", "--ros-args", "--params-file", str(built.parameters)])
    try:
        yield built
    finally:
        built.bring_up.stop()


@pytest.fixture
def operator(tmp_path: Path, machine: Machine) -> Operator:
    made = Operator([SigningKey.generate("a"), SigningKey.generate("b")])
    (tmp_path / "config" / "keys.yaml").write_text(as_yaml(made.ring))
    return made


@pytest.fixture
def host(machine: Machine, operator: Operator) -> Iterator[Host]:
    machine.up()
    context = Context()
    rclpy.init(context=context)
    node = Host("cloud_bridge", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    ended = threading.Event()

    def spin() -> None:
        node.trigger_configure()
        node.trigger_activate()
        while not ended.is_set():
            executor.spin_once(timeout_sec=0.1)
        node.release()

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        yield node
    finally:
        ended.set()
        thread.join(20.0)
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_commands_reach_the_nodes_and_a_bad_configuration_goes_back(
    machine: Machine, operator: Operator, host: Host, tmp_path: Path
) -> None:
    texts = machine.graph.listen(CloudCommand, "cloud/command", qos.EVENT)
    windows = machine.graph.listen(Maintenance, "system/maintenance", qos.STATE)
    machine.wait(lambda: host.active and "other" in host.desk._executor._graph.state.nodes, "the host")

    def outcome(kind: str, **parameters: Any) -> Outcome:
        known = len(host.desk.outcomes())
        host.send(operator.command("desk", kind, parameters, keys=2))
        machine.wait(lambda: len(host.desk.outcomes()) > known, f"outcome of {kind}", 90.0)
        return host.desk.outcomes()[-1]

    def parameter(node: str, name: str) -> Any:
        request = GetParameters.Request(names=[name])
        return machine.graph.call(GetParameters, f"{node}/get_parameters", request).values[0]

    assert outcome("set_log_level", node="health", level="DEBUG").status is Status.DONE
    assert parameter("health", "log_level").string_value == "DEBUG"
    nobody = outcome("set_log_level", node="nobody", level="DEBUG")
    assert (nobody.status, nobody.reason) == (Status.FAILED, "nobody/set_parameters did not answer within 6 s")
    selftest = outcome("run_selftest")
    assert selftest.status is Status.FAILED, "there are no sensors here"
    assert selftest.reason.startswith("self-test: ")

    changed = outcome("config_update", patch={"health": {"period_s": 2.0}, "other": {"show_s": 3.0}})
    assert (changed.status, changed.reason) == (Status.DONE, "")
    assert parameter("health", "period_s").double_value == 2.0
    assert parameter("other", "show_s").double_value == 3.0
    bad = outcome("config_update", patch={"other": {"show_s": 55.0}})
    assert bad.status is Status.FAILED
    assert bad.reason.startswith("version 2 was taken back: ")
    assert "not with this value" in bad.reason
    machine.wait_mode(SystemStatus.SERVING)
    assert parameter("other", "show_s").double_value == 3.0
    old = machine.bring_up.pid("other")
    os.kill(old, signal.SIGKILL)
    machine.wait(lambda: machine.replaced("other", old), "a new process")
    machine.wait_mode(SystemStatus.SERVING)
    assert parameter("other", "show_s").double_value == 3.0, "a new process has it too"

    assert outcome("out_of_service").status is Status.DONE
    machine.wait_mode(SystemStatus.PAUSED)
    assert machine.node("other").lifecycle_state == 2
    assert outcome("in_service").status is Status.DONE
    machine.wait_mode(SystemStatus.SERVING)
    now_s = time.time()
    assert (
        outcome("set_maintenance", begins=now_s, ends=now_s + 3600.0, reason="new bin", who="Anna").status
        is Status.DONE
    )
    machine.wait_mode(SystemStatus.PAUSED)
    machine.wait(lambda: windows[-1].active, "the window")
    assert (windows[-1].reason, windows[-1].who) == ("new bin", "Anna")
    assert outcome("set_maintenance", cancel=True).status is Status.DONE
    machine.wait_mode(SystemStatus.SERVING)
    machine.wait(lambda: not windows[-1].planned, "its end")

    assert outcome("show_message", text="Hello").status is Status.DONE
    machine.wait(lambda: texts, "the text")
    assert (texts[0].kind, texts[0].text, texts[0].duration_s) == (CloudCommand.SHOW_TEXT, "Hello", 60.0)
    assert outcome("restart_node", node="health").status is Status.DONE
    absent = outcome("light", on=True)
    assert absent.reason == "actuator/set_output did not answer within 10 s"
    assert outcome("reboot").status is Status.DONE
    data = Path(os.environ["MYRVM_DATA"])
    assert (data / "rebooted").is_file()
    assert OverlayFile().read().current.parameters == {"health": {"period_s": 2}, "other": {"show_s": 3}}
    public = SigningKey.load_or_make(data / "identity" / "machine.pem").public
    assert verify_log(data / "audit" / "commands", public).problems == []


def test_the_parameter_files_are_those_of_the_process() -> None:
    arguments = ["bridge", "--ros-args", "--params-file", "a.yaml", "-p", "x:=1", "--params-file", "b.yaml"]
    assert given_files(arguments) == [Path("a.yaml"), Path("b.yaml")]
    assert given_files(["bridge"]) == []
