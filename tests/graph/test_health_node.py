"""The health node in a real graph: thermal zones from a tree of files, power from the sensors, nodes by heartbeats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from myrvm_interfaces.msg import (
    GateState,
    NodeHealth,
    OperatingLimits,
    Output,
    Outputs,
    SensorReading,
    SensorState,
    SystemStatus,
)
from quick_policy import Thermometer, write_quick_policy

from myrvm_core import paths
from myrvm_ros import qos
from myrvm_system import selftest

OK, WARN, ERROR, STALE = bytes([0]), bytes([1]), bytes([2]), bytes([3])


def reading(role: int, level: int, value: float = 0.0) -> SensorReading:
    return SensorReading(role=role, level=level, value=value)


def test_diagnostics_and_limits_follow_the_machine(graph: Any, tmp_path: Path) -> None:
    thermometer = Thermometer(tmp_path / "sys")
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
    limits = graph.listen(OperatingLimits, "health/limits", qos.STATE)
    sensors = graph.node.create_publisher(SensorState, "sensors/state", qos.STATE)
    graph.bring_up(
        "health",
        sysfs_root=thermometer.sysfs,
        period_s=0.2,
        stale_after_s=1.5,
        policy_file=write_quick_policy(tmp_path),
    )

    def level(name: str) -> bytes | None:
        found = [status for status in diagnostics[-1].status if status.name == name] if diagnostics else []
        return found[0].level if found else None

    def limited(level: int, *causes: int) -> bool:
        return bool(limits) and (limits[-1].level, list(limits[-1].causes)) == (level, list(causes))

    graph.wait(lambda: limited(OperatingLimits.NORMAL), "no limits")
    thermometer.show(84.0)
    graph.wait(lambda: limited(OperatingLimits.SLOW, OperatingLimits.CAUSE_TEMPERATURE), "SLOW")
    assert limits[-1].frame_rate_limit_hz == 5.0
    graph.wait(lambda: level("machine: temperature cpu-thermal") == WARN, "a warning of the hot zone")
    thermometer.show(92.0)
    graph.wait(lambda: limited(OperatingLimits.PAUSED, OperatingLimits.CAUSE_TEMPERATURE), "PAUSED")
    assert "temperature cpu-thermal: 92.0 degC" in limits[-1].message
    graph.wait(lambda: level("machine: temperature cpu-thermal") == ERROR, "an error of the hot zone")
    thermometer.show(40.0)
    graph.wait(lambda: limited(OperatingLimits.NORMAL), "no limits again")
    graph.wait(lambda: level("machine: temperature cpu-thermal") == OK, "the end of the warning")
    heard = len(limits)
    graph.wait(lambda: len(limits) >= heard + 2, "the limits again without a change")

    active, inactive = SensorReading.LEVEL_ACTIVE, SensorReading.LEVEL_INACTIVE
    sensors.publish(SensorState(readings=[reading(SensorReading.ROLE_POWER_FAIL, active)]))
    graph.wait(lambda: limited(OperatingLimits.PAUSED, OperatingLimits.CAUSE_POWER), "PAUSED by the power-fail line")
    battery = reading(SensorReading.ROLE_BATTERY, SensorReading.LEVEL_ANALOG, 0.1)
    sensors.publish(SensorState(readings=[battery, reading(SensorReading.ROLE_ON_BATTERY, active)]))
    graph.wait(lambda: limited(OperatingLimits.SHUTDOWN, OperatingLimits.CAUSE_POWER), "SHUTDOWN by the battery")
    lines_off = [reading(SensorReading.ROLE_POWER_FAIL, inactive), reading(SensorReading.ROLE_ON_BATTERY, inactive)]
    sensors.publish(SensorState(readings=[battery, *lines_off]))
    graph.wait(lambda: limited(OperatingLimits.NORMAL), "no limits on mains")

    graph.wait(lambda: level("nodes: camera") == STALE, "the camera that never was there")
    graph.wait(lambda: level("nodes: health") in (OK, WARN), "its own heartbeat")
    names = {status.name for status in diagnostics[-1].status}
    assert {f"machine: {name}" for name in ("cpu", "memory", "disk", "clock", "storage", "network")} <= names
    status = next(status for status in diagnostics[-1].status if status.name == "machine: cpu")
    assert {"load_percent", "cores"} <= {value.key for value in status.values}
    log = (paths.data() / "logs" / "health.jsonl").read_text().splitlines()
    changes = [entry["limits"] for entry in map(json.loads, log) if entry["message"] == "limits"]
    assert changes == ["SLOW", "PAUSED", "NORMAL", "PAUSED", "SHUTDOWN", "NORMAL"]  # only changes are logged


def test_the_short_self_test_after_a_start_is_kept_and_shown(graph: Any) -> None:
    diagnostics = graph.listen(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
    sensors = graph.node.create_publisher(SensorState, "sensors/state", qos.STATE)
    gate = graph.node.create_publisher(GateState, "actuator/state", qos.STATE)
    outputs = graph.node.create_publisher(Outputs, "actuator/outputs", qos.STATE)
    status = graph.node.create_publisher(SystemStatus, "system/status", qos.STATE)
    heartbeat = graph.node.create_publisher(NodeHealth, "system/node_health", qos.HEARTBEAT)
    state = SensorState(readings=[reading(SensorReading.ROLE_DOOR, SensorReading.LEVEL_INACTIVE)])
    state.watching_since.sec = 1
    gate.publish(GateState(position=GateState.POSITION_CLOSED))
    outputs.publish(Outputs(outputs=[Output(name="buzzer")]))
    status.publish(SystemStatus(mode=SystemStatus.STARTING))
    graph.bring_up("health", period_s=0.2)

    def beat_until_told() -> bool:
        state.header.stamp = graph.node.get_clock().now().to_msg()
        sensors.publish(state)
        for node in ("sensor", "camera", "actuator"):
            heartbeat.publish(NodeHealth(header=state.header, node=node, message="ok"))
        return any(one.name == "machine: short self-test" for array in diagnostics for one in array.status)

    graph.wait(lambda: diagnostics, "diagnostics")
    assert not beat_until_told()
    assert not selftest.latest(paths.data() / "selftest", "short").exists()
    status.publish(SystemStatus(mode=SystemStatus.SERVING))
    graph.wait(beat_until_told, "finding")
    told = [one for one in diagnostics[-1].status if one.name == "machine: short self-test"][-1]
    assert told.level == OK, told.message
    report = json.loads(selftest.latest(paths.data() / "selftest", "short").read_text())
    assert (report["kind"], report["failed"], len(report["entries"])) == ("short", [], 7)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"slow_frame_rate_hz": "slow"}, "policy.yaml.slow_frame_rate_hz = 'slow' is not allowed"),
        ({"power_fail": {"rows": [], "better_after_s": 1}}, "policy.yaml.power_fail.rows = []"),
    ],
)
def test_a_policy_that_is_not_allowed_stops_configure_with_one_line(
    graph: Any, tmp_path: Path, change: dict[str, Any], line: str
) -> None:
    graph.start("health", policy_file=write_quick_policy(tmp_path, **change))
    assert not graph.transition("health", Transition.TRANSITION_CONFIGURE)
    assert line in graph.log("health")
    assert "Traceback" not in graph.log("health")
