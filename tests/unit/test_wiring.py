"""The cabinet's wiring, without I/O: sensors at lines, the motor's lines at the motor, and wires that are broken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from myrvm_hardware.drivers import Direction
from myrvm_sim.gpio_chip import Chip, Line, LineConfig, Request
from myrvm_sim.physics import Kind, Signal, World
from myrvm_sim.wiring import LINES, MOTOR_BIN, MOTOR_CUSTOMER, OFFSETS, WATCHDOG, Wiring, WiringError

from myrvm_sim import gpio_uapi as uapi


class Bench:
    """A world, a chip, and time that passes when told to; seconds."""

    def __init__(self) -> None:
        self.world, self.now_s = World(seed=1), 0.0
        self.wiring = Wiring(self.world, Chip("gpiochip0", "bench", LINES), lambda at_s: round(at_s * 1e9))
        self.edges: list[tuple[float, bool]] = []

    @property
    def now_ns(self) -> int:
        return round(self.now_s * 1e9)

    def pass_time(self, duration_s: float) -> None:
        """As the cabinet does: look when something happens."""
        end_s = self.now_s + duration_s
        while True:
            wires_ns = self.wiring.next_event_ns()
            due = [self.world.next_event_s(), None if wires_ns is None else wires_ns / 1e9]
            self.now_s = min([end_s, *(max(at_s, self.now_s) for at_s in due if at_s is not None)])
            self.world.advance(self.now_s)
            self.wiring.settle(self.now_s)
            if self.now_s >= end_s:
                return

    def take(self, *names: str, flags: int = uapi.OUTPUT) -> Request:
        def encode(at_ns: int, rising: bool, _line: Line, _sequence: int) -> bytes:
            self.edges.append((at_ns / 1e9, rising))
            return b"edge"

        configs = [LineConfig(flags)] * len(names)
        offsets = [OFFSETS[name] for name in names]
        request = self.wiring.chip.request(offsets, configs, b"bench", 16, encode, self.now_ns)
        self.wiring.settle(self.now_s)
        return request

    def watch(self, name: str) -> Request:
        """Edges of a sensor's line, active low with a resistor."""
        return self.take(name, flags=uapi.INPUT | uapi.EDGES | uapi.ACTIVE_LOW | uapi.BIAS_PULL_UP)

    def set(self, request: Request, *values: bool) -> None:
        self.wiring.chip.set_values(zip(request.lines, values, strict=True), self.now_ns)
        self.wiring.settle(self.now_s)

    def told(self, what: str) -> list[str]:
        return [entry.detail for entry in self.world.log if entry.what == what]


def test_a_sensor_pulls_its_line_down() -> None:
    bench = Bench()
    line = bench.watch("ENTRY").lines[0]
    assert not line.value
    bench.world.insert(Kind.CAN, 0.0)
    bench.wiring.settle(0.0)
    assert line.value
    assert not line.level


def test_the_motor_lines_drive_the_gate() -> None:
    bench = Bench()
    motor, switch = bench.take(MOTOR_BIN, MOTOR_CUSTOMER), bench.watch("SWITCH_BIN")
    bench.set(motor, True, False)
    bench.pass_time(1.0)
    assert switch.lines[0].value
    bench.wiring.chip.close(motor.number, bench.now_ns)
    bench.wiring.settle(bench.now_s)
    assert bench.told("motor") == ["to_bin", "off"], "a line that is given back is off"


def test_both_motor_lines_at_once_are_a_fault_and_no_movement() -> None:
    bench = Bench()
    bench.set(bench.take(MOTOR_BIN, MOTOR_CUSTOMER), True, True)
    assert bench.told("fault") == ["both motor lines are active"]
    assert bench.world.direction is Direction.OFF


def test_the_watchdog_is_there_while_somebody_drives_it() -> None:
    bench = Bench()
    motor = bench.take(MOTOR_BIN, MOTOR_CUSTOMER)
    bench.set(motor, True, False)
    bench.pass_time(0.2)
    assert bench.world.moving, "a wire in the monostable's place"
    bench.set(motor, False, False)
    watchdog = bench.take(WATCHDOG)
    bench.pass_time(0.1)
    bench.set(motor, False, True)
    assert bench.world.current(bench.now_s) == 0.0
    bench.set(watchdog, True)
    bench.pass_time(0.05)
    assert bench.world.current(bench.now_s) > 0.0
    bench.pass_time(0.1)
    assert bench.world.current(bench.now_s) == 0.0


def test_another_chip_drives_nothing_and_shows_what_is() -> None:
    bench = Bench()
    bench.world.insert(Kind.CAN, 0.0)
    bench.set(bench.take(MOTOR_BIN, MOTOR_CUSTOMER), True, False)
    bench.wiring.connect(Chip("gpiochip0", "bench", LINES), bench.now_s)
    assert bench.told("motor") == ["to_bin", "off"]
    assert bench.watch("ENTRY").lines[0].value


@pytest.mark.parametrize("active", [False, True])
def test_a_wire_that_sticks_and_is_repaired(active: bool) -> None:
    bench = Bench()
    line = bench.watch("DOOR").lines[0]
    bench.wiring.stick("DOOR", active, 0.0)
    for opened in (True, False, True):
        bench.world.set_door(opened, bench.now_s)
        bench.pass_time(0.1)
        assert line.value == active
    bench.wiring.stick("DOOR", None, bench.now_s)
    assert line.value


@settings(max_examples=30)
@given(st.floats(1.0, 10_000.0), st.floats(0.001, 0.2))
def test_a_wire_that_chatters_has_every_edge_at_its_time(frequency_hz: float, duration_s: float) -> None:
    bench = Bench()
    line = bench.watch("DROP").lines[0]
    bench.wiring.chatter("DROP", frequency_hz, duration_s, 0.0)
    bench.pass_time(duration_s + 1.0)
    assert not line.value
    half_s = 0.5 / frequency_hz
    assert len(bench.edges) == pytest.approx(duration_s / half_s, abs=2)
    for number, (at_s, rising) in enumerate(bench.edges):
        assert rising == (number % 2 == 0)
        assert at_s == pytest.approx(min(number * half_s, duration_s), abs=1e-8 * (number + 1))


def test_a_glitch_is_two_edges() -> None:
    bench = Bench()
    bench.watch("EMERGENCY")
    bench.wiring.glitch("EMERGENCY", 50e-6, 0.0)
    bench.pass_time(1.0)
    assert bench.edges == [(0.0, True), (50e-6, False)]


@pytest.mark.parametrize("fault", ["stick", "chatter", "glitch"])
def test_a_wire_that_is_not_there(fault: str) -> None:
    arguments: dict[str, tuple[Any, ...]] = {"stick": (True,), "chatter": (100.0, 1.0), "glitch": (0.1,)}
    with pytest.raises(WiringError, match="line 'MOTOR_BIN' has no wire to a sensor; allowed: ENTRY, DROP, DOOR"):
        getattr(Bench().wiring, fault)("MOTOR_BIN", *arguments[fault], 0.0)


def test_every_sensor_has_a_line_of_its_name() -> None:
    assert {signal.value for signal in Signal} <= OFFSETS.keys()
    assert len(OFFSETS) == len(LINES)
