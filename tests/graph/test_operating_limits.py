"""A graph that obeys its health: heat from a simulated sysfs tree, power from the sensors, tiny nodes for the rest.

The health node and the lifecycle manager are the real ones.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from myrvm_interfaces.msg import DepositState, OperatingLimits, SensorReading, SensorState, SystemStatus
from myrvm_interfaces.srv import ManageSystem
from quick_policy import Thermometer, write_quick_policy
from tiny_machine import Machine

from myrvm_core import paths
from myrvm_ros import qos

GRAPH = """
nodes:
  base: {package: tiny, executable: base, reason: BUFFER}
  health: {package: myrvm_system, executable: health, essential: false, watches: true, reason: HEALTH}
  follower: {package: tiny, executable: follower, start_after: [base], serves_customers: true, reason: DEPOSIT}
manager: {package: myrvm_system, executable: lifecycle_manager}
"""
ON, OFF = SensorReading.LEVEL_ACTIVE, SensorReading.LEVEL_INACTIVE
Request = ManageSystem.Request


class Cabinet:
    """The machine with its temperature and its battery."""

    def __init__(self, graph: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.thermometer = Thermometer(folder / "sys")
        self.marker = folder / "switched_off"
        # Stands in for `systemctl poweroff`: notes each call.
        command = [sys.executable, "-c", f"open({str(self.marker)!r},'a').write('off')"]
        parameters = {
            "lifecycle_manager": {"heartbeat_timeout_s": 2.0, "power_off_command": command},
            "health": {
                "sysfs_root": str(self.thermometer.sysfs),
                "policy_file": str(write_quick_policy(folder / "quick")),
                "period_s": 0.2,
            },
        }
        sections = {node: {"ros__parameters": values} for node, values in parameters.items()}
        self.machine = Machine(graph, folder, monkeypatch, GRAPH, json.dumps(sections))
        self._limits = graph.listen(OperatingLimits, "health/limits", qos.STATE)
        self._sensors = graph.node.create_publisher(SensorState, "sensors/state", qos.STATE)
        self.deposit = graph.node.create_publisher(DepositState, "deposit/state", qos.STATE)

    def battery(self, on_battery: bool, charge: float) -> None:
        battery = SensorReading(role=SensorReading.ROLE_BATTERY, level=SensorReading.LEVEL_ANALOG, value=charge)
        mains = SensorReading(role=SensorReading.ROLE_ON_BATTERY, level=ON if on_battery else OFF)
        self._sensors.publish(SensorState(readings=[battery, mains]))

    def wait_level(self, level: int) -> None:
        self.machine.wait(lambda: self._limits and self._limits[-1].level == level, f"level {level}")

    @property
    def reasons(self) -> list[int]:
        return list(self.machine._heard[-1].reasons)

    def times_switched_off(self) -> int:
        return len(self.marker.read_text()) // len("off") if self.marker.exists() else 0

    def kill_manager(self) -> None:
        seen = len(self.machine._heard)
        os.kill(self.machine.bring_up.pid("lifecycle_manager"), signal.SIGKILL)
        self.machine.wait(lambda: len(self.machine._heard) > seen, "a new manager")


@pytest.fixture
def cabinet_of_tiny_nodes(graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cabinet]:
    built = Cabinet(graph, tmp_path, monkeypatch)
    try:
        yield built
    finally:
        built.machine.bring_up.stop()


def test_heat_slows_pauses_and_ends_the_machine_serves_again(cabinet_of_tiny_nodes: Cabinet) -> None:
    cabinet = cabinet_of_tiny_nodes
    machine = cabinet.machine
    machine.up()
    machine.forget()
    for temperature_c, level, mode in (
        (84.0, OperatingLimits.SLOW, SystemStatus.DEGRADED),
        (92.0, OperatingLimits.PAUSED, SystemStatus.OUT_OF_ORDER),
    ):
        cabinet.thermometer.show(temperature_c)
        cabinet.wait_level(level)
        machine.wait_mode(mode)
        assert cabinet.reasons == [SystemStatus.REASON_TEMPERATURE]
    cabinet.thermometer.show(40.0)
    cabinet.wait_level(OperatingLimits.NORMAL)
    machine.wait_mode(SystemStatus.SERVING)
    assert machine.notes() == []  # no node was touched


def test_a_low_battery_ends_the_graph_in_order_and_runs_the_command_once(cabinet_of_tiny_nodes: Cabinet) -> None:
    cabinet = cabinet_of_tiny_nodes
    machine = cabinet.machine
    machine.up()
    machine.forget()
    cabinet.deposit.publish(DepositState(state=DepositState.ACCEPTING))
    cabinet.battery(on_battery=True, charge=0.1)
    cabinet.wait_level(OperatingLimits.SHUTDOWN)
    machine.wait_mode(SystemStatus.OUT_OF_ORDER)
    assert machine.notes() == []  # the item that is in the machine is finished first
    cabinet.deposit.publish(DepositState(state=DepositState.IDLE))
    machine.wait(cabinet.times_switched_off, "the command")
    machine.wait_mode(SystemStatus.STOPPED)
    assert cabinet.reasons == [SystemStatus.REASON_POWER]
    assert machine.notes() == ["follower deactivate", "base deactivate"]
    assert machine.node("health").lifecycle_state == 3
    refused = machine.manage(Request.RESUME)
    assert (refused.success, "the machine is being switched off" in refused.message) == (False, True)
    cabinet.kill_manager()  # the next one finds the graph down, and that the command has been run
    machine.wait_mode(SystemStatus.STOPPED)

    cabinet.battery(on_battery=False, charge=0.1)  # mains is back before the machine was off
    machine.wait_mode(SystemStatus.SERVING)
    assert cabinet.times_switched_off() == 1
    assert json.loads((paths.data() / "system" / "order.json").read_text())["switched_off_boot"] == ""


def test_maintenance_and_pause_survive_a_kill_of_the_manager(cabinet_of_tiny_nodes: Cabinet) -> None:
    cabinet = cabinet_of_tiny_nodes
    machine = cabinet.machine
    machine.up()
    machine.forget()
    assert machine.manage(Request.MAINTENANCE).success
    machine.wait_mode(SystemStatus.MAINTENANCE)
    assert machine.notes() == ["follower deactivate"]
    cabinet.kill_manager()
    machine.wait(
        lambda: machine.mode == SystemStatus.MAINTENANCE and machine.node("base").lifecycle_state == 3, "MAINTENANCE"
    )
    assert machine.notes() == ["follower deactivate"]
    assert machine.manage(Request.PAUSE).success
    cabinet.kill_manager()
    machine.wait_mode(SystemStatus.PAUSED)
    assert machine.manage(Request.RESUME).success
    cabinet.kill_manager()
    machine.wait_mode(SystemStatus.SERVING)

    assert machine.manage(Request.MAINTENANCE).success
    order = paths.data() / "system" / "order.json"
    order.write_bytes(order.read_bytes()[:7])
    cabinet.kill_manager()
    machine.wait_mode(SystemStatus.PAUSED)
    log = (paths.data() / "logs" / "lifecycle_manager.jsonl").read_text()
    assert "the machine is paused until RESUME" in log
    assert machine.manage(Request.RESUME).success
    machine.wait_mode(SystemStatus.SERVING)
