"""Levels of lines in use, as the nodes tell them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from myrvm_interfaces.msg import GateState, Output, Outputs, SensorReading, SensorState
from myrvm_system.gpio_levels import Levels
from myrvm_system.gpio_view import Purpose
from myrvm_system.messages import STALE_NS

from myrvm_ros import stamps

DOOR = SensorReading(role=SensorReading.ROLE_DOOR, level=SensorReading.LEVEL_ACTIVE)
NOW_NS = 1_770_000_000_000_000_000


def sensors(stamp_ns: int) -> SensorState:
    state = SensorState(readings=[DOOR, SensorReading(role=SensorReading.ROLE_HAND)])
    state.header.stamp = stamps.to_message(stamp_ns)
    return state


TOLD: dict[str, Any] = {
    "sensors/state": sensors(NOW_NS),
    "actuator/outputs": Outputs(outputs=[Output(name="buzzer", on=True), Output(name="closed")]),
    "actuator/state": GateState(position=GateState.POSITION_BIN),
}


def levels(told: dict[str, Any]) -> Levels:
    client = SimpleNamespace(latest=told, listen=lambda *_: None, now_ns=lambda: NOW_NS)
    return Levels(cast("Any", client))


@pytest.mark.parametrize(
    ("group", "name", "active"),
    [
        ("", "door", True), ("", "hand", None), ("outputs", "buzzer", True), ("outputs", "closed", False),
        ("outputs", "fan", None), ("", "bin", True), ("", "closed", False), ("", "to_bin", False),
        ("second_gate", "bin", None), ("second_gate", "to_bin", None), ("", "watchdog", None),
    ],
)  # fmt: skip
def test_each_line_has_its_own_teller(group: str, name: str, active: bool | None):
    assert levels(TOLD).of(Purpose("actuator", group, name, "gpiochip0", "1")) is active


def test_what_a_dead_sensor_node_has_told_is_not_known():
    stale = TOLD | {"sensors/state": sensors(NOW_NS - STALE_NS - 1)}
    assert levels(stale).of(Purpose("actuator", "", "door", "gpiochip0", "1")) is None


def test_nothing_is_known_of_a_moving_gate_or_of_a_graph_that_is_down():
    moving = TOLD | {"actuator/state": GateState(position=GateState.POSITION_MOVING, motor_on=True)}
    for name in ("bin", "closed", "to_bin"):
        assert levels(moving).of(Purpose("actuator", "", name, "gpiochip0", "1")) is None
    for name in ("door", "bin", "to_bin"):
        assert levels({}).of(Purpose("actuator", "", name, "gpiochip0", "1")) is None


@pytest.mark.parametrize(("in_use", "waits"), [(True, 2), (False, 1)])
def test_whoever_holds_our_lines_is_waited_for_before_discovery_shows_it(in_use: bool, waits: int):
    waited: list[float] = []
    client = SimpleNamespace(
        latest={},
        listen=lambda *_: None,
        wait=lambda _done, limit_s: bool(waited.append(limit_s)),
        node=SimpleNamespace(count_publishers=lambda _topic: 0),
    )
    Levels(cast("Any", client)).hear(in_use)
    assert len(waited) == waits
