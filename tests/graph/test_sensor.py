"""The sensor node on the simulated cabinet: its GPIO chip, its sysfs, and what the actuator tells about interlocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from myrvm_interfaces.msg import NodeHealth, SensorEvent, SensorReading, SensorState
from myrvm_sim.cabinet_client import CabinetClient
from myrvm_sim.physics import Kind

from myrvm_ros import qos, stamps

ACTIVE, INACTIVE = SensorReading.LEVEL_ACTIVE, SensorReading.LEVEL_INACTIVE
UNKNOWN, ANALOG = SensorReading.LEVEL_UNKNOWN, SensorReading.LEVEL_ANALOG
ENTRY, DROP, BIN_FULL = SensorReading.ROLE_ENTRY, SensorReading.ROLE_DROP, SensorReading.ROLE_BIN_FULL
DOOR, HAND, EMERGENCY = SensorReading.ROLE_DOOR, SensorReading.ROLE_HAND, SensorReading.ROLE_EMERGENCY
WEIGHT, BIN_LEVEL, CURRENT = SensorReading.ROLE_WEIGHT, SensorReading.ROLE_BIN_LEVEL, SensorReading.ROLE_MOTOR_CURRENT
BATTERY, ON_BATTERY, BATTERY_LOW = (
    SensorReading.ROLE_BATTERY,
    SensorReading.ROLE_ON_BATTERY,
    SensorReading.ROLE_BATTERY_LOW,
)
LINES = {
    "device": "myrvm-cabinet",
    "lines": '["entry=ENTRY", "drop=DROP", "bin_full=BIN_FULL"]',
    "interlock_roles": '["door", "hand"]',
    "reopen_longest_s": 0.5,
}


class Sensors:
    """What a sensor node says."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.states: list[SensorState] = graph.listen(SensorState, "sensors/state", qos.STATE)
        self.events: list[SensorEvent] = graph.listen(SensorEvent, "sensors/events", qos.EVENT)
        self.beats: list[NodeHealth] = graph.listen(NodeHealth, "system/node_health", qos.HEARTBEAT)

    def reading(self, role: int) -> SensorReading:
        found = [reading for reading in self.states[-1].readings if reading.role == role] if self.states else []
        return found[0] if found else SensorReading(role=role, level=UNKNOWN)

    def level(self, role: int) -> int:
        return self.reading(role).level

    def wait_level(self, role: int, level: int) -> None:
        self.graph.wait(lambda: self.states and self.level(role) == level, f"level {level} of role {role}")

    def wait_health(self, level: int, text: str = "") -> None:
        said: Callable[[], bool] = lambda: bool(self.beats) and self.beats[-1].level == level  # noqa: E731
        self.graph.wait(lambda: said() and text in self.beats[-1].message, f"health {level} {text!r}")


@pytest.fixture
def sensors(graph: Any) -> Sensors:
    return Sensors(graph)


def test_edges_become_events_and_state(sensors: Sensors, cabinet: CabinetClient) -> None:
    sensors.graph.bring_up("sensor", **LINES)
    sensors.wait_level(ENTRY, INACTIVE)
    before_ns = time.time_ns()
    item = cabinet.insert(Kind.MINERAL)
    sensors.wait_level(ENTRY, ACTIVE)
    sensors.graph.wait(lambda: sensors.events, "event")
    event = sensors.events[0]
    assert (event.role, event.level, event.sequence) == (ENTRY, ACTIVE, 1)
    assert before_ns <= stamps.to_ns(event.stamp) <= time.time_ns()
    assert stamps.to_ns(sensors.reading(ENTRY).stamp) == stamps.to_ns(event.stamp)
    assert stamps.to_ns(sensors.states[-1].watching_since) < stamps.to_ns(event.stamp)
    assert item["weight_kg"] > 0
    cabinet.pull_out()
    sensors.wait_level(ENTRY, INACTIVE)
    sensors.graph.wait(lambda: len(sensors.events) >= 2, "second event")
    assert [event.sequence for event in sensors.events] == list(range(1, len(sensors.events) + 1))


def test_the_state_is_sent_again_as_a_proof_of_life(sensors: Sensors, cabinet: CabinetClient) -> None:
    sensors.graph.bring_up("sensor", **LINES, report_period_s=0.3)
    sensors.graph.wait(lambda: len(sensors.states) >= 6, "states without a change")
    sent_ns = [stamps.to_ns(state.header.stamp) for state in sensors.states]
    assert sent_ns == sorted(sent_ns)


def test_an_absent_chip_does_not_hold_up_activation(sensors: Sensors) -> None:
    sensors.graph.bring_up("sensor", driver="gpiod", device="/dev/gpiochip99")
    sensors.wait_health(NodeHealth.ERROR)
    assert sensors.beats[-1].message == "GPIO chip /dev/gpiochip99 is not there"


def test_a_chip_that_vanishes_and_is_back(sensors: Sensors, cabinet: CabinetClient) -> None:
    sensors.graph.bring_up("sensor", **LINES)
    sensors.wait_level(ENTRY, INACTIVE)
    first_ns = stamps.to_ns(sensors.states[-1].watching_since)
    cabinet.plug_chip(False)
    sensors.wait_level(ENTRY, UNKNOWN)
    assert stamps.to_ns(sensors.states[-1].watching_since) == 0
    sensors.wait_health(NodeHealth.ERROR, "myrvm-cabinet")
    cabinet.insert(Kind.MINERAL)
    cabinet.plug_chip(True)
    sensors.wait_level(ENTRY, ACTIVE)
    sensors.graph.wait(lambda: sensors.events, "the edge that nobody saw")
    assert (sensors.events[-1].role, sensors.events[-1].level) == (ENTRY, ACTIVE)
    assert stamps.to_ns(sensors.states[-1].watching_since) > first_ns


@pytest.mark.parametrize("errno", [22, 524])
def test_a_chip_that_cannot_debounce_is_debounced_here(sensors: Sensors, cabinet: CabinetClient, errno: int) -> None:
    cabinet.trouble_chip(debounce_errno=errno)
    sensors.graph.bring_up("sensor", **LINES, **{"debounce.entry_s": 0.3})
    sensors.wait_level(ENTRY, INACTIVE)
    cabinet.glitch("ENTRY", 0.02)
    cabinet.insert(Kind.CAN)
    sensors.wait_level(ENTRY, ACTIVE)
    sensors.graph.wait(lambda: sensors.events, "event")
    assert [(event.role, event.level) for event in sensors.events if event.role == ENTRY] == [(ENTRY, ACTIVE)]


def test_a_sensor_that_chatters_is_unknown_until_it_is_quiet(sensors: Sensors, cabinet: CabinetClient) -> None:
    sensors.graph.bring_up("sensor", **LINES, kernel_debounce=False)
    sensors.wait_level(ENTRY, INACTIVE)
    first_ns = stamps.to_ns(sensors.states[-1].watching_since)
    cabinet.chatter("ENTRY", 10_000.0, 3.0)
    sensors.wait_level(ENTRY, UNKNOWN)
    sensors.wait_health(NodeHealth.WARN, "entry chatters")
    cabinet.set_bin(True)
    sensors.wait_level(BIN_FULL, ACTIVE)  # the others are heard meanwhile
    sensors.wait_level(ENTRY, INACTIVE)
    assert stamps.to_ns(sensors.states[-1].watching_since) > first_ns
    cabinet.insert(Kind.CAN)
    sensors.wait_level(ENTRY, ACTIVE)


def test_a_sensor_that_stays_active_is_named(sensors: Sensors, cabinet: CabinetClient) -> None:
    cabinet.stick_line("DROP", True)
    sensors.graph.bring_up("sensor", **LINES, stuck_after_s=1.0)
    sensors.wait_level(DROP, ACTIVE)
    sensors.wait_health(NodeHealth.WARN, "drop (0 min) stays active: blocked or stuck")
    cabinet.stick_line("DROP", None)
    sensors.wait_level(DROP, INACTIVE)
    sensors.graph.wait(lambda: "drop" not in sensors.beats[-1].message, "health without the drop sensor")


def test_lost_edges_are_made_good_by_reading_the_levels(sensors: Sensors, cabinet: CabinetClient) -> None:
    cabinet.trouble_chip(longest_buffer=4)
    sensors.graph.bring_up("sensor", **LINES, kernel_debounce=False, chatter_hz=10_000.0)
    sensors.wait_level(ENTRY, INACTIVE)
    first_ns = stamps.to_ns(sensors.states[-1].watching_since)
    cabinet.chatter("ENTRY", 5_000.0, 0.3)

    def lost() -> int:
        values = {value.key: value.value for value in sensors.beats[-1].values} if sensors.beats else {}
        return int(values.get("edges_lost", 0))

    sensors.graph.wait(lost, "lost edges")
    sensors.graph.wait(lambda: stamps.to_ns(sensors.states[-1].watching_since) > first_ns, "another watch")
    sensors.wait_level(ENTRY, INACTIVE)
    values = {value.key: value.value for value in sensors.beats[-1].values}
    assert values["reopened"] == "0"


def interlocks(levels: dict[int, int]) -> SensorState:
    now_ns = time.time_ns()
    state = SensorState(
        readings=[
            SensorReading(role=role, level=level, stamp=stamps.to_message(now_ns)) for role, level in levels.items()
        ]
    )
    state.header.stamp = stamps.to_message(now_ns)
    return state


def test_interlocks_come_from_the_actuator_and_are_unknown_without_it(sensors: Sensors, cabinet: CabinetClient) -> None:
    actuator = sensors.graph.node.create_publisher(SensorState, "actuator/interlocks", qos.STATE)
    sensors.graph.bring_up("sensor", **LINES, interlock_stale_s=1.0)
    sensors.wait_level(ENTRY, INACTIVE)
    assert (sensors.level(DOOR), sensors.level(HAND)) == (UNKNOWN, UNKNOWN)
    sensors.wait_health(NodeHealth.WARN, "the actuator does not report door, hand")

    def keep_telling(door: int) -> bool:
        """The door is told until the state shows it."""
        actuator.publish(interlocks({DOOR: door, HAND: INACTIVE, EMERGENCY: ACTIVE}))
        return sensors.level(DOOR) == door and sensors.level(HAND) == INACTIVE

    sensors.graph.wait(lambda: keep_telling(INACTIVE), "closed door")
    assert sensors.events == []
    sensors.graph.wait(lambda: keep_telling(ACTIVE), "open door")
    sensors.graph.wait(lambda: sensors.events, "event of the door")
    assert [(event.role, event.level) for event in sensors.events] == [(DOOR, ACTIVE)]
    assert EMERGENCY not in [reading.role for reading in sensors.states[-1].readings]
    sensors.wait_level(DOOR, UNKNOWN)  # the actuator is silent now
    sensors.graph.wait(lambda: keep_telling(INACTIVE), "door again")
    sensors.graph.wait(lambda: len(sensors.events) == 2, "event of what changed meanwhile")
    assert sensors.events[-1].level == INACTIVE


ANALOG_GROUPS = {
    "weight.driver": "iio",
    "weight.device": "hx711",
    "bin_level.driver": "iio",
    "bin_level.device": "vl53l0x",
    "bin_level.period_s": 0.1,
    "motor_current.driver": "iio",
    "motor_current.device": "ina226",
    "power.driver": "power_supply",
    "power.period_s": 0.1,
}


def test_weight_bin_level_current_and_power_come_from_sysfs(sensors: Sensors, cabinet: CabinetClient) -> None:
    sensors.graph.bring_up("sensor", **LINES, **ANALOG_GROUPS)
    for role in (WEIGHT, BIN_LEVEL, CURRENT, BATTERY):
        sensors.wait_level(role, ANALOG)
    sensors.wait_level(ON_BATTERY, INACTIVE)
    sensors.wait_level(BATTERY_LOW, INACTIVE)
    item = cabinet.insert(Kind.MINERAL)
    sensors.graph.wait(lambda: abs(sensors.reading(WEIGHT).value - item["weight_kg"]) < 0.02, "weight")
    cabinet.set_power(False, 5.0)
    sensors.wait_level(ON_BATTERY, ACTIVE)
    sensors.wait_level(BATTERY_LOW, ACTIVE)
    sensors.graph.wait(lambda: abs(sensors.reading(BATTERY).value - 0.05) < 1e-6, "charge")


def test_what_a_scale_cannot_weigh_is_unknown_and_named(
    sensors: Sensors, cabinet: CabinetClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MYRVM_SYSFS", str(tmp_path))
    scale = tmp_path / "bus/iio/devices/iio:device3"
    scale.mkdir(parents=True)
    (scale / "name").write_text("hx711\n")
    (scale / "in_weight_raw").write_text("1.5\n")
    groups = {"weight.driver": "iio", "weight.device": "hx711", "weight.period_s": 0.05, "weight.stale_after_s": 0.5}
    sensors.graph.bring_up("sensor", **LINES, **groups)
    sensors.wait_level(WEIGHT, ANALOG)
    for nonsense, said in (("nan", "weight reads nan: no number"), ("-3", "weight = -3 is not plausible: -0.05 .. 20")):
        (scale / "in_weight_raw").write_text(nonsense)
        sensors.wait_level(WEIGHT, UNKNOWN)
        sensors.wait_health(NodeHealth.WARN, f"{said} (the camera decides alone)")
        (scale / "in_weight_raw").write_text("1.5")
        sensors.wait_level(WEIGHT, ANALOG)
    (scale / "in_weight_raw").unlink()
    sensors.wait_level(WEIGHT, UNKNOWN)
    sensors.wait_health(NodeHealth.WARN, "in_weight_raw cannot be read")
    assert sensors.level(ENTRY) == INACTIVE


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"lines": '["entry=1", "exit=2"]'},
            "sensor.lines: 'exit' in 'exit=2' is not known; allowed: entry, drop, door",
        ),
        ({"weight.scale": 0.0}, "sensor.weight.scale = 0.0 is not allowed: float"),
        ({"weight.driver": "balance"}, "sensor.weight.driver = 'balance' is not installed in myrvm.analog_drivers"),
        ({"interlock_roles": '["window"]'}, "sensor.interlock_roles: 'window' is not known"),
        ({"use_sim_time": True}, "sensor.use_sim_time = True is not allowed: edges have the time of day"),
        ({"debounce.entry_s": 5.0}, "sensor.debounce.entry_s = 5.0 is not allowed: float, 0 .. 1 s"),
    ],
)
def test_garbage_in_the_configuration_stops_configure_with_one_line(
    graph: Any, settings: dict[str, Any], said: str
) -> None:
    graph.start("sensor", **settings)
    assert not graph.transition("sensor", Transition.TRANSITION_CONFIGURE)
    assert said in graph.log("sensor")
    assert "Traceback" not in graph.log("sensor")
