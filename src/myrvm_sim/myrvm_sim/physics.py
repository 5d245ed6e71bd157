"""The world of the simulated cabinet: items, chamber, a motor-driven flap, a bin, a customer and the sensors.

A stand-in for hardware. Pure: no clock, no thread, no socket; time is an argument (seconds of the world, monotonic), so
a test plays an hour in a millisecond. What happens between two calls is computed exactly, event by event.

The flap turns between two ends with home in the middle: at the BIN end the item in the chamber rolls off and falls
through the drop sensor, at the CUSTOMER end it is pushed onto the tray, where the customer takes it. Wrong orders of
commands jam the flap as they would strip a gear: reversing without a pause, the motor left on against an end or a jam,
moving on while a hand is in the gate.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from myrvm_core.errors import RvmError
from myrvm_hardware.drivers import Direction, EndSwitch

from myrvm_sim.items import TRAITS, Item, Kind, Place

GRAVITY_M_S2 = 9.81
LOG_ENTRIES = 20_000


class ImpossibleError(RvmError):
    """Nobody can do this in the cabinet's present state, such as putting an item into a full chamber."""


@dataclass(frozen=True)
class Mechanics:
    """The cabinet's constants. The flap's place is -1 at the BIN end, 0 at home, +1 at the CUSTOMER end."""

    travel_s: float = 0.35  # home to an end
    speed_spread: float = 0.08  # friction makes a run up to this much slower or faster
    breakaway_s: float = 0.02  # motor on to first movement
    coast_s: float = 0.015  # motor off to rest
    dead_time_s: float = 0.05  # shortest pause before the motor turns the other way
    stall_limit_s: float = 5.0  # motor on without moving, before the coupling breaks
    hand_grace_s: float = 0.15  # moving with a hand in the gate, before the hand is caught
    home_width: float = 0.2  # the home switch is closed within this distance of 0
    end_width: float = 0.05  # an end switch is closed within this distance of its end
    drop_height_m: float = 0.30
    drop_hold_s: float = 0.06  # the drop sensor stretches its pulse to this
    piece_gap_s: float = 0.15  # between two pieces that fall together
    pull_s: tuple[float, float] = (0.15, 0.35)  # a bottle on a string, from the bin up into the chamber
    reaction_s: tuple[float, float] = (0.3, 0.9)  # item on the tray to the customer's hand
    take_s: float = 0.3  # the hand is in the gate for this long
    bin_capacity: int = 200
    watchdog_s: float = 0.1  # the motor's current lasts so long after an edge at the watchdog
    running_a: float = 0.45
    stalled_a: float = 2.4
    weight_noise_kg: float = 0.002
    weight_step_kg: float = 0.001


class Signal(str, Enum):
    """A digital sensor or end switch; named as its line of the GPIO chip."""

    ENTRY = "ENTRY"
    DROP = "DROP"
    DOOR = "DOOR"
    BIN_FULL = "BIN_FULL"
    HAND = "HAND"
    EMERGENCY = "EMERGENCY"
    POWER_FAIL = "POWER_FAIL"
    SWITCH_CLOSED = "SWITCH_CLOSED"
    SWITCH_BIN = "SWITCH_BIN"
    SWITCH_CUSTOMER = "SWITCH_CUSTOMER"


class Jam(str, Enum):
    """How the flap is stuck."""

    SOFT = "soft"  # turning the other way frees it
    HARD = "hard"  # a technician must


@dataclass(frozen=True)
class Change:
    """A signal changed to `active` at `at_s`."""

    signal: Signal
    active: bool
    at_s: float


@dataclass(frozen=True)
class Entry:
    """One line of the log of what really happened; `item` is an item's number, 0 if it is about none."""

    at_s: float
    what: str
    item: int = 0
    detail: str = ""


@dataclass(frozen=True)
class _Motion:
    """The flap moves from `place` at `from_s` with `speed` (1/s, signed) until `until_s`, then rests."""

    place: float
    from_s: float
    speed: float
    until_s: float

    def at(self, now_s: float) -> float:
        moved_s = max(0.0, min(now_s, self.until_s) - self.from_s)
        return max(-1.0, min(1.0, self.place + self.speed * moved_s))

    def reaches_s(self, place: float) -> float:
        """When the motion is at `place`; infinite if it never is."""
        if not self.speed:
            return float("inf")
        at_s = self.from_s + (place - self.place) / self.speed
        return at_s if self.from_s <= at_s <= self.until_s else float("inf")


SWITCHES = {
    Signal.SWITCH_CLOSED: EndSwitch.CLOSED,
    Signal.SWITCH_BIN: EndSwitch.BIN,
    Signal.SWITCH_CUSTOMER: EndSwitch.CUSTOMER,
}
SIGN = {Direction.TO_BIN: -1.0, Direction.TO_CUSTOMER: 1.0}


class World:
    """The cabinet and its customer. Every method takes the present time, which never runs backwards."""

    def __init__(self, seed: int = 0, mechanics: Mechanics | None = None) -> None:
        self.mechanics = mechanics or Mechanics()
        self.items: dict[int, Item] = {}
        self.log: deque[Entry] = deque(maxlen=LOG_ENTRIES)
        self.recorded = 0  # entries ever written to the log
        self.levels: dict[Signal, bool] = {signal: signal is Signal.SWITCH_CLOSED for signal in Signal}
        self.pieces_in_bin = 0
        self.direction = Direction.OFF
        self.jam: Jam | None = None
        self._jam_direction: Direction | None = None  # None: stuck whichever way it is turned first
        self._changes: list[Change] = []
        self._random = random.Random(f"world {seed}")
        self._noise = random.Random(f"scale {seed}")  # its own, so that weighing does not change what happens
        self._now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = itertools.count()
        self._motion = _Motion(0.0, 0.0, 0.0, 0.0)
        self._arrived = 0.0  # the end, -1 or 1, that the flap has reached and not left; 0: none
        self._plan = 0  # number of the present motion; what an older one planned does not happen
        self._last_on = (Direction.OFF, float("-inf"))
        self._both = self._watchdog = False
        self._powered = True  # by the watchdog
        self._kicked_s = float("-inf")
        self._falling = 0  # pieces in the drop sensor
        self._present = 0  # number of the item in the chamber or on the tray; 0: none

    # Time

    def advance(self, now_s: float) -> None:
        """Let everything happen that happens up to `now_s`."""
        while self._events and self._events[0][0] <= now_s:
            at_s, _, happen = heapq.heappop(self._events)
            self._now_s = max(self._now_s, at_s)
            happen()
        self._now_s = max(self._now_s, now_s)

    def next_event_s(self) -> float | None:
        """When something happens next if nobody does anything; None for never."""
        return self._events[0][0] if self._events else None

    def take_changes(self) -> list[Change]:
        """Changes of the signals since the last call, oldest first."""
        changes, self._changes = self._changes, []
        return changes

    # What the machine does

    def drive(self, direction: Direction, now_s: float) -> None:
        """Switch the motor."""
        self.advance(now_s)
        if direction is self.direction:
            return
        previous, self.direction = self.direction, direction
        self._record("motor", detail=direction.name.lower())
        if previous is not Direction.OFF:
            self._last_on = (previous, self._now_s)
        last, last_on_s = self._last_on
        if direction is Direction.OFF:
            self._coast()
        elif last not in (Direction.OFF, direction) and self._now_s - last_on_s < self.mechanics.dead_time_s:
            self._get_stuck(Jam.SOFT, direction, "reversed without a pause")
        else:
            self._start()

    @property
    def bin_level(self) -> float:
        """How full the bin is, 0 .. 1."""
        return min(1.0, self.pieces_in_bin / self.mechanics.bin_capacity)

    def set_motor(self, to_bin: bool, to_customer: bool, now_s: float) -> None:
        """The motor's two lines. Both at once is a fault of whoever drives them; the bridge lets nothing flow then."""
        self.advance(now_s)
        both = to_bin and to_customer
        if both and not self._both:
            self._record("fault", detail="both motor lines are active")
        self._both = both
        wanted = {(True, False): Direction.TO_BIN, (False, True): Direction.TO_CUSTOMER}
        self.drive(wanted.get((to_bin, to_customer), Direction.OFF), now_s)

    def note(self, what: str, detail: str, now_s: float) -> None:
        """Something for the log."""
        self.advance(now_s)
        self._record(what, detail=detail)

    def fit_watchdog(self, fitted: bool, now_s: float) -> None:
        """A monostable in the motor's supply, or a wire in its place."""
        self.advance(now_s)
        self._watchdog = fitted
        self._energise(not fitted)

    def kick_watchdog(self, now_s: float) -> None:
        """An edge at the monostable: the motor has current for `watchdog_s` from now on."""
        self.advance(now_s)
        self._kicked_s = self._now_s
        if self._watchdog:
            self._energise(True)
            self._after(self.mechanics.watchdog_s, self._watch)

    def current(self, now_s: float) -> float:
        """Of the motor, A."""
        self.advance(now_s)
        if self.direction is Direction.OFF or not self._has_current:
            return 0.0
        return self.mechanics.running_a if self.moving else self.mechanics.stalled_a

    def position(self, now_s: float) -> EndSwitch:
        """What the end switches tell."""
        self.advance(now_s)
        return next((switch for signal, switch in SWITCHES.items() if self.levels[signal]), EndSwitch.BETWEEN)

    def place(self, now_s: float) -> float:
        """Where the flap is: -1 BIN end, 0 home, +1 CUSTOMER end."""
        self.advance(now_s)
        return self._motion.at(self._now_s)

    def weigh(self, now_s: float) -> float:
        """What the scale under the chamber shows, kg."""
        self.advance(now_s)
        item = self.present()
        weight = item.weight_kg if item and item.place is Place.CHAMBER else 0.0
        noisy = weight + self._noise.gauss(0.0, self.mechanics.weight_noise_kg)
        return round(noisy / self.mechanics.weight_step_kg) * self.mechanics.weight_step_kg

    # What people do

    def present(self) -> Item | None:
        """The item in the chamber or on the tray."""
        return self.items.get(self._present)

    def has_room(self, now_s: float) -> bool:
        """Whether an item can be put in."""
        return self.position(now_s) is EndSwitch.CLOSED and not self.moving and self.present() is None

    def insert(self, kind: Kind, now_s: float, picture: str = "") -> Item:
        """Put an item in.

        Raises:
            ImpossibleError: another is there, or the gate is not closed.
        """
        self.advance(now_s)
        if other := self.present():
            raise ImpossibleError(f"item {other.number} ({other.kind.value}) is still in the {other.place.value}")
        if self.position(self._now_s) is not EndSwitch.CLOSED or self.moving:
            raise ImpossibleError("the gate is not closed")
        item = self._new(kind, picture, Place.CHAMBER)
        traits = TRAITS[kind]
        self._present = item.number
        self._record("inserted", item.number, kind.value)
        if kind is Kind.HAND:
            self._set(Signal.HAND, True)
        self._set(Signal.ENTRY, True)
        if traits.stays_s:
            self._after(self._random.uniform(*traits.stays_s), lambda: self._leave(item.number))
        return item

    def _new(self, kind: Kind, picture: str, place: Place) -> Item:
        traits = TRAITS[kind]
        item = Item(
            number=len(self.items) + 1,
            kind=kind,
            weight_kg=self._random.uniform(*traits.weight_kg),
            length_m=self._random.uniform(*traits.length_m),
            diameter_m=self._random.uniform(*traits.diameter_m),
            place=place,
            inserted_s=self._now_s,
            picture=picture,
        )
        self.items[item.number] = item
        return item

    def pull_out(self, now_s: float) -> Item:
        """The customer takes the item out of the chamber again, past the closed gate.

        Raises:
            ImpossibleError: there is none, or the gate is not closed.
        """
        self.advance(now_s)
        item = self.present()
        if item is None or item.place is not Place.CHAMBER or self.moving:
            raise ImpossibleError("there is no item in the chamber that could be pulled out")
        self._leave(item.number)
        return self.items[item.number]

    def pull_back(self, now_s: float) -> Item:
        """The customer pulls the item on a string up again, past both sensors: as long as the gate is open behind it.

        It lies in the bin all the same if the flap closes before it has come through.

        Raises:
            ImpossibleError: nothing on a string is in the bin, or the gate is closed.
        """
        self.advance(now_s)
        item = next((item for item in reversed(self.items.values()) if item.kind is Kind.STRING), None)
        if item is None or item.place is not Place.BIN or self._home():
            raise ImpossibleError("nothing on a string is in the bin behind an open gate")
        duration_s = self._random.uniform(*self.mechanics.pull_s)
        self._record("pulled", item.number, item.kind.value)
        self._put(item.number, Place.FALLING)
        self.pass_drop(0.2 * duration_s)
        self._after(0.7 * duration_s, lambda: self._emerge(item.number))
        return item

    def _emerge(self, number: int) -> None:
        """What was pulled has come up to the flap."""
        if self._home():
            self._put(number, Place.BIN)
            self.pass_drop(0.1)
            return
        self.pieces_in_bin -= 1
        self._put(number, Place.CUSTOMER)
        self._set(Signal.ENTRY, True)
        self._after(0.1, lambda: self._set(Signal.ENTRY, False))

    def throw_in(self, kind: Kind, now_s: float) -> Item:
        """Put an item in while the gate is open to the bin: it falls through, past both sensors.

        Raises:
            ImpossibleError: the gate is not open to the bin.
        """
        self.advance(now_s)
        if self._home() or self._motion.at(self._now_s) > 0.0:
            raise ImpossibleError("the gate is not open to the bin")
        item = self._new(kind, "", Place.FALLING)
        self._record("thrown in", item.number, kind.value)
        self._set(Signal.ENTRY, True)
        self._after(0.06, lambda: self._set(Signal.ENTRY, False))
        self._fall(item, 0.06)
        return item

    def _home(self) -> bool:
        return abs(self._motion.at(self._now_s)) <= self.mechanics.home_width

    def set_door(self, opened: bool, now_s: float) -> None:
        """Open or close the service door; opening it lets the technician empty the bin (`empty_bin`)."""
        self.advance(now_s)
        self._set(Signal.DOOR, opened)
        self._record("door", detail="opened" if opened else "closed")

    def set_hand(self, inside: bool, now_s: float) -> None:
        """Reach into the gate from outside, moving or not, or take the hand away."""
        self.advance(now_s)
        self._set(Signal.HAND, inside)
        self._record("hand", detail="inside" if inside else "away")

    def set_power_fail(self, failing: bool, now_s: float) -> None:
        """The supply says that it is about to go, or is back."""
        self.advance(now_s)
        self._set(Signal.POWER_FAIL, failing)
        self._record("power fail", detail="failing" if failing else "back")

    def set_emergency(self, pressed: bool, now_s: float) -> None:
        """Press or release the emergency stop, which cuts the motor's current."""
        self.advance(now_s)
        self._set(Signal.EMERGENCY, pressed)
        self._record("emergency stop", detail="pressed" if pressed else "released")
        if pressed:
            self._coast()
        elif self.direction is not Direction.OFF:
            self._start()

    def stick(self, jam: Jam | None, now_s: float) -> None:
        """Wedge the flap, or with None free it as a technician does."""
        self.advance(now_s)
        if jam:
            self._get_stuck(jam, None, "wedged")
        elif self.jam:
            self.jam = None
            self._record("freed", detail="by the technician")
            if self.direction is not Direction.OFF:
                self._start()

    def empty_bin(self, now_s: float) -> None:
        """The technician takes the full bin away; the items stay in the log as being in the bin."""
        self.advance(now_s)
        self.pieces_in_bin = 0
        self._set(Signal.BIN_FULL, False)
        self._record("bin emptied")

    def fill_bin(self, now_s: float) -> None:
        """Fill the bin to its capacity with pieces of no interest."""
        self.advance(now_s)
        self.pieces_in_bin = self.mechanics.bin_capacity
        self._set(Signal.BIN_FULL, True)
        self._record("bin filled")

    @property
    def moving(self) -> bool:
        """Whether the flap turns."""
        return bool(self._motion.speed) and self._now_s < self._motion.until_s

    # The flap

    @property
    def _has_current(self) -> bool:
        return self._powered and not self.levels[Signal.EMERGENCY]

    def _energise(self, powered: bool) -> None:
        if powered == self._powered:
            return
        self._powered = powered
        self._record("motor supply", detail="on" if powered else "off, by the watchdog")
        if self.direction is not Direction.OFF:
            (self._start if powered else self._coast)()

    def _watch(self) -> None:
        if self._watchdog and self._now_s >= self._kicked_s + self.mechanics.watchdog_s:
            self._energise(False)

    def _start(self) -> None:
        """The motor is on: plan the motion from here to the end."""
        mechanics, direction = self.mechanics, self.direction
        if not self._has_current:
            return
        if self.jam:
            self._jam_direction = self._jam_direction or direction
            if self.jam is Jam.HARD or self._jam_direction is direction:
                self._rest()
                self._watch_stall(self._now_s)
                return
            self.jam = None
            self._record("freed", detail="by turning the other way")
        sign = SIGN[direction]
        speed = sign / mechanics.travel_s * (1.0 + self._random.uniform(-1.0, 1.0) * mechanics.speed_spread)
        begin_s, place = self._now_s + mechanics.breakaway_s, self._motion.at(self._now_s)
        self._move(_Motion(place, begin_s, speed, begin_s + (sign - place) / speed))
        self._watch_stall(self._motion.until_s)

    def _coast(self) -> None:
        """The motor is off: friction stops the flap a little later."""
        motion, now_s = self._motion, self._now_s
        if not self.moving or now_s < motion.from_s:
            self._rest()
            return
        until_s = min(motion.until_s, now_s + self.mechanics.coast_s)
        self._move(_Motion(motion.at(now_s), now_s, motion.speed, until_s))

    def _rest(self) -> None:
        self._plan += 1
        self._motion = _Motion(self._motion.at(self._now_s), self._now_s, 0.0, self._now_s)

    def _move(self, motion: _Motion) -> None:
        self._plan += 1
        self._motion = motion
        end = 1.0 if motion.speed > 0.0 else -1.0
        if end != self._arrived:
            self._arrived = 0.0
            edge = end * (1.0 - self.mechanics.end_width)
            at_s = motion.from_s if motion.place * end >= edge * end else motion.reaches_s(edge)
            if at_s <= motion.until_s:
                self._while_planned(at_s, lambda: self._arrive(end))
        home, end_edge = self.mechanics.home_width, 1.0 - self.mechanics.end_width
        for edge in (-end_edge, -home, home, end_edge):
            at_s, beyond = motion.reaches_s(edge), edge + end * 1e-6
            if at_s <= motion.until_s:
                self._while_planned(at_s, lambda beyond=beyond: self._see_switches(beyond))
        if self.levels[Signal.HAND]:
            self._watch_hand()

    def _see_switches(self, place: float) -> None:
        self._set(Signal.SWITCH_CLOSED, abs(place) <= self.mechanics.home_width)
        self._set(Signal.SWITCH_BIN, place <= self.mechanics.end_width - 1.0)
        self._set(Signal.SWITCH_CUSTOMER, place >= 1.0 - self.mechanics.end_width)

    def _arrive(self, end: float) -> None:
        self._arrived = end
        if end < 0.0:
            self._at_bin()
        else:
            self._at_customer()

    def _while_planned(self, at_s: float, happen: Callable[[], None]) -> None:
        plan = self._plan
        self._at(at_s, lambda: happen() if plan == self._plan else None)

    def _watch_stall(self, from_s: float) -> None:
        self._while_planned(
            from_s + self.mechanics.stall_limit_s,
            lambda: self._get_stuck(Jam.HARD, None, "motor on without moving for too long"),
        )

    def _watch_hand(self) -> None:
        def caught() -> None:
            if self.levels[Signal.HAND] and self.moving:
                self._get_stuck(Jam.SOFT, self.direction, "a hand is caught")

        self._while_planned(max(self._now_s, self._motion.from_s) + self.mechanics.hand_grace_s, caught)

    def _get_stuck(self, jam: Jam, direction: Direction | None, why: str) -> None:
        if self.jam is not Jam.HARD:
            self.jam, self._jam_direction = jam, None if direction is Direction.OFF else direction
            self._record("jam", detail=f"{jam.value}: {why}")
        self._rest()
        if self.direction is not Direction.OFF and self.jam is Jam.SOFT:
            self._jam_direction = self._jam_direction or self.direction
            self._watch_stall(self._now_s)

    # Items

    def _at_bin(self) -> None:
        self._record("gate", detail="bin")
        item = self.present()
        if item is None or item.place is not Place.CHAMBER or not TRAITS[item.kind].pieces:
            return
        self._put(item.number, Place.FALLING)
        self._set(Signal.ENTRY, False)
        self._fall(item, 0.0)

    def _fall(self, item: Item, from_s: float) -> None:
        # Free fall from the flap's edge; the thicker item breaks the beam earlier.
        fall_s = (2.0 * (self.mechanics.drop_height_m - item.diameter_m) / GRAVITY_M_S2) ** 0.5
        pulse_s = max(self.mechanics.drop_hold_s, item.diameter_m / (GRAVITY_M_S2 * fall_s))
        for piece in range(TRAITS[item.kind].pieces):
            begin_s = from_s + fall_s + piece * self.mechanics.piece_gap_s
            self._after(begin_s, lambda: self._drop(item.number))
            self._after(begin_s + pulse_s, self._dropped)

    def pass_drop(self, from_s: float = 0.0) -> None:
        """Something that is no item of its own passes the sensor above the bin, such as a cap, or what is pulled up."""
        self._after(from_s, self._in_drop)
        self._after(from_s + self.mechanics.drop_hold_s, self._dropped)

    def _in_drop(self) -> None:
        self._falling += 1
        self._set(Signal.DROP, True)

    def _drop(self, number: int) -> None:
        self._falling += 1
        self.pieces_in_bin += 1
        if self.items[number].place is Place.FALLING:
            self._put(number, Place.BIN)
        self._set(Signal.DROP, True)
        if self.pieces_in_bin >= self.mechanics.bin_capacity:
            self._set(Signal.BIN_FULL, True)

    def _dropped(self) -> None:
        self._falling -= 1
        if not self._falling:
            self._set(Signal.DROP, False)

    def _at_customer(self) -> None:
        self._record("gate", detail="customer")
        item = self.present()
        if item and item.place is Place.CHAMBER and TRAITS[item.kind].pieces:
            self._put(item.number, Place.TRAY)
            self._after(self._random.uniform(*self.mechanics.reaction_s), lambda: self._reach(item.number))

    def _reach(self, number: int) -> None:
        if self.moving:  # nobody reaches into a moving gate
            self._after(0.1, lambda: self._reach(number))
            return
        self._set(Signal.HAND, True)
        self._after(self.mechanics.take_s, lambda: self._leave(number))

    def _leave(self, number: int) -> None:
        item = self.items[number]
        if item.place in (Place.CHAMBER, Place.TRAY):
            self._put(number, Place.CUSTOMER if TRAITS[item.kind].pieces else Place.GONE)
            self._set(Signal.ENTRY, False)
            self._set(Signal.HAND, False)

    def _put(self, number: int, place: Place) -> None:
        self.items[number] = replace(self.items[number], place=place)
        if number == self._present and place is not Place.TRAY:
            self._present = 0
        self._record(place.value, number, self.items[number].kind.value)

    # Bookkeeping

    def _set(self, signal: Signal, active: bool) -> None:
        if self.levels[signal] != active:
            self.levels[signal] = active
            self._changes.append(Change(signal, active, self._now_s))
            if signal is Signal.HAND and active and self.moving:
                self._watch_hand()

    def _at(self, at_s: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._sequence), happen))

    def _after(self, delay_s: float, happen: Callable[[], None]) -> None:
        self._at(self._now_s + delay_s, happen)

    def _record(self, what: str, item: int = 0, detail: str = "") -> None:
        self.recorded += 1
        self.log.append(Entry(self._now_s, what, item, detail))
