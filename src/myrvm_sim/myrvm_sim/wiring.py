"""The simulated cabinet's wiring: which line of the GPIO chip leads where, and what can be the matter with a wire.

A stand-in for hardware, without I/O. A sensor or end switch pulls its line down while it is active, a resistor pulls it
up otherwise. Outputs are active high, resistors hold them low while nobody drives them. Times are CLOCK_MONOTONIC, ns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from myrvm_core.errors import RvmError

from myrvm_sim import sysfs
from myrvm_sim.gpio_chip import Chip
from myrvm_sim.load_cell import LoadCell
from myrvm_sim.physics import Signal, World

LABEL = "myrvm-cabinet"
MOTOR_BIN, MOTOR_CUSTOMER, WATCHDOG = "MOTOR_BIN", "MOTOR_CUSTOMER", "MOTOR_ENABLE_WATCHDOG"
OUTPUTS = (MOTOR_BIN, MOTOR_CUSTOMER, WATCHDOG, "LIGHT_RING", "DOOR_LOCK", "BUZZER", "STATUS_LAMP")
LINES = (
    *((signal.value, True) for signal in Signal),
    *((output, False) for output in OUTPUTS),
    ("HX711_DATA", True),
    ("HX711_CLOCK", False),
    *((f"SPARE{number}", False) for number in range(1, 6)),
)
OFFSETS = {name: offset for offset, (name, _) in enumerate(LINES)}
DRIVEN = {OFFSETS[name]: name for name in OUTPUTS}
HX711_DATA, HX711_CLOCK = OFFSETS["HX711_DATA"], OFFSETS["HX711_CLOCK"]
HX711_POWER_DOWN_NS = 50_000_000  # 60 us in truth; here each edge of the clock goes from process to process
SLOWEST_LOOK_NS = 1_000_000  # a chattering wire is looked at so often; its edges have their exact times all the same


class WiringError(RvmError):
    """There is no such wire."""


@dataclass
class Wire:
    """From a sensor to its line. `stuck`: whatever the sensor does; `flipped`: the other way round, for now."""

    offset: int
    active: bool = False
    stuck: bool | None = None
    flipped: bool = False
    half_period_ns: int = 0
    flips_ns: int | None = None
    until_ns: int = 0

    @property
    def level(self) -> bool | None:
        """What the wire drives its line to."""
        active = self.active != self.flipped if self.stuck is None else self.stuck
        return False if active else None


class Wiring:
    """Carries levels between a world and a chip.

    Args:
        at_ns: a time of the world on CLOCK_MONOTONIC.
    """

    def __init__(self, world: World, chip: Chip, at_ns: Callable[[float], int]) -> None:
        self._world, self._at_ns = world, at_ns
        self._wires = {signal: Wire(OFFSETS[signal.value], active) for signal, active in world.levels.items()}
        self._begin_ns = at_ns(0.0)
        self._load_cell = LoadCell(self._weigh, HX711_POWER_DOWN_NS, self._begin_ns)
        self._watchdog = False
        self._attach(chip, 0.0)

    def connect(self, chip: Chip, now_s: float) -> None:
        """A chip with nothing requested is in the old one's place."""
        self._attach(chip, now_s)
        self._drive(set(DRIVEN), now_s)

    def _attach(self, chip: Chip, now_s: float) -> None:
        self.chip = chip
        for wire in self._wires.values():
            chip.drive(wire.offset, wire.level, self._at_ns(now_s))
        chip.take_levels()

    def settle(self, now_s: float) -> None:
        """Carry over what has changed, until nothing changes any more."""
        now_ns = self._at_ns(now_s)
        while True:
            changes = self._world.take_changes()
            for change in changes:
                self._advance(at_ns := self._at_ns(change.at_s))
                wire = self._wires[change.signal]
                wire.active = change.active
                self.chip.drive(wire.offset, wire.level, at_ns)
            self._advance(now_ns)
            self.chip.advance(now_ns)
            levels = self.chip.take_levels()
            for offset, level, at_ns in levels:
                if offset == HX711_CLOCK:
                    self._load_cell.clock(level, at_ns)
            self.chip.drive(HX711_DATA, self._load_cell.data(now_ns), now_ns)
            outputs = {offset for offset, _, _ in levels if offset in DRIVEN}
            fitted = self.chip.lines[OFFSETS[WATCHDOG]].driven is not None
            if fitted != self._watchdog:
                self._watchdog = fitted
                self._world.fit_watchdog(fitted, now_s)
            if not outputs and not changes:
                return
            if outputs:
                self._drive(outputs, now_s)

    def next_event_ns(self) -> int | None:
        """When a wire or a debounce time wants to be looked at; None: not until something changes."""
        wires = [
            wire.flips_ns + (SLOWEST_LOOK_NS if wire.half_period_ns < SLOWEST_LOOK_NS else 0)
            for wire in self._wires.values()
            if wire.flips_ns is not None
        ]
        debounce = self.chip.next_event_ns()
        return min([*wires, *([] if debounce is None else [debounce])], default=None)

    @property
    def lit(self) -> bool:
        """Whether the chamber has its light; where nobody drives the ring it has daylight."""
        ring = self.chip.lines[OFFSETS["LIGHT_RING"]]
        return ring.driven is None or ring.level

    # What can be the matter with a wire

    def stick(self, line: str, active: bool | None, now_s: float) -> None:
        """The line of a sensor stays active or inactive; None: repaired. Raises WiringError."""
        wire = self._wire(line)
        wire.stuck = active
        self.chip.drive(wire.offset, wire.level, self._at_ns(now_s))
        self._world.note("wire", f"{line} {'is repaired' if active is None else 'sticks'}", now_s)

    def chatter(self, line: str, frequency_hz: float, duration_s: float, now_s: float) -> None:
        """The line of a sensor toggles for a while. Raises WiringError."""
        wire, now_ns = self._wire(line), self._at_ns(now_s)
        wire.half_period_ns = max(1, round(0.5e9 / frequency_hz))
        wire.flips_ns, wire.until_ns = now_ns, now_ns + round(duration_s * 1e9)
        self._world.note("wire", f"{line} chatters at {frequency_hz:g} Hz for {duration_s:g} s", now_s)

    def glitch(self, line: str, width_s: float, now_s: float) -> None:
        """One pulse on the line of a sensor. Raises WiringError."""
        self.chatter(line, 0.5 / width_s, width_s, now_s)

    def _wire(self, line: str) -> Wire:
        if line not in Signal.__members__:
            raise WiringError(f"line {line!r} has no wire to a sensor; allowed: {', '.join(Signal.__members__)}")
        return self._wires[Signal(line)]

    def _advance(self, now_ns: int) -> None:
        flipping = [wire for wire in self._wires.values() if wire.flips_ns is not None]
        while flipping:
            wire = min(flipping, key=lambda wire: wire.flips_ns or 0)
            at_ns = wire.flips_ns or 0
            if at_ns > now_ns:
                return
            ends = at_ns >= wire.until_ns
            wire.flipped = not ends and not wire.flipped
            wire.flips_ns = None if ends else min(at_ns + wire.half_period_ns, wire.until_ns)
            self.chip.drive(wire.offset, wire.level, at_ns)
            if ends:
                flipping.remove(wire)

    def _weigh(self, at_ns: int) -> int:
        return sysfs.weight_counts(self._world.weigh((at_ns - self._begin_ns) / 1e9))

    def _drive(self, outputs: set[int], now_s: float) -> None:
        level = {name: self.chip.lines[offset].level for offset, name in DRIVEN.items()}
        for offset in sorted(outputs):
            if (name := DRIVEN[offset]) == WATCHDOG:
                self._world.kick_watchdog(now_s)
            else:
                self._world.note("line", f"{name} {'on' if level[name] else 'off'}", now_s)
        self._world.set_motor(level[MOTOR_BIN], level[MOTOR_CUSTOMER], now_s)
