"""A machine in a cabinet in virtual time, for trials of fraud: the real deposit core, evidence table and gate.

Played here: the cabinet's world (`myrvm_sim.physics`), the sensors' delay, the disk, and the detector. The played
detector is fooled whatever lies there: it accepts each item as a mineral-water bottle, so that the evidence stands
alone. What it measures has the errors named in `ERRORS`.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median

from myrvm_core.deposit import (
    Classify,
    DepositMachine,
    Effect,
    Event,
    GateFinished,
    GateVerb,
    HandSeen,
    ItemDropped,
    ItemEntered,
    ItemLeft,
    MoveGate,
    Recovered,
    ReportFlag,
    SessionStarted,
    Show,
    Store,
    Stored,
    TimedOut,
    Timing,
    Update,
    Updated,
    VerdictGiven,
    Weighed,
)
from myrvm_core.deposit_record import Session, SessionKind
from myrvm_core.item_facts import RecentItems
from myrvm_core.verdict import Barcode, ItemMeasures, Outcome, Reason, Verdict
from myrvm_hardware.drivers import Role
from myrvm_hardware.gate import Gate, Verb
from myrvm_hardware.gate import Outcome as GateOutcome
from myrvm_hardware.motor_safety import Interlocks, Limits, MotorSafety
from myrvm_hardware.settings import GateSettings
from myrvm_sim.items import Item, Kind
from myrvm_sim.physics import Signal, World

from myrvm_core import evidence_table, paths

TICK_S = 0.01
SENSOR_DELAY_S = 0.02  # debounce, and the way to the deposit node
WEIGH_PERIOD_S, REPORT_PERIOD_S, MEDIAN = 0.1, 0.2, 3  # as config/hardware/desk.yaml and its defaults
POINTS = 10
# Of what the played detector measures: relative (length, width, volume), absolute (taper, crush, fill), and how often
# no outline is known as a whole: the picture's edge cut 3 of 69 rendered bottles, and none of 10 cans in labels.
ERRORS = {
    "length": 0.03, "width": 0.04, "volume": 0.09, "taper": 0.04, "crush": 0.06, "fill": 0.03,
    "cut": 0.04, "cut_short": 0.003,
}  # fmt: skip
SHORT_M = 0.17
QUICK = GateSettings(back_off_s=0.1, emptied_s=0.05, return_open_s=1.5)  # as config/hardware/desk.yaml
SLOW = GateSettings(back_off_s=0.1, dwell_s=0.7, return_open_s=1.5)  # stays open behind the item
TABLE = evidence_table.load(paths.home() / "config" / "evidence.yaml")


@dataclass(frozen=True)
class Product:
    """A bottle as it is sold: litres, kg and m."""

    name: str
    volume_l: float
    mass_kg: float
    length_m: float
    width_m: float
    class_name: str = "mineral"
    points: int = POINTS

    @property
    def spread_kg(self) -> float:
        """Largest deviation of an empty one."""
        return 0.001 + 0.08 * self.mass_kg


PRODUCTS = (
    Product("Spring 330", 0.33, 0.0115, 0.175, 0.058, points=5),
    Product("Spring 500", 0.5, 0.0150, 0.215, 0.063),
    Product("Spring 1500", 1.5, 0.0300, 0.310, 0.088, points=20),
    Product("Brook 330", 0.33, 0.0125, 0.165, 0.059, points=5),
    Product("Brook 600", 0.6, 0.0170, 0.230, 0.066),
    Product("Brook 750", 0.75, 0.0210, 0.255, 0.071, points=12),
    Product("Hill 500", 0.5, 0.0165, 0.208, 0.064),
    Product("Hill 1000", 1.0, 0.0260, 0.280, 0.079, points=15),
)
OTHERS = (
    Product("Cola 390", 0.39, 0.0220, 0.205, 0.061, class_name="soda", points=0),
    Product("Dish soap", 0.75, 0.0500, 0.250, 0.080, class_name="dishwasher", points=0),
)


@dataclass(frozen=True)
class Appearance:
    """What there is to measure of an item; `product` is that of its barcode, None: it has none that can be read."""

    length_m: float
    width_m: float
    volume_l: float
    taper: float = 0.45
    crush: float = 0.0
    fill: float = 0.0
    parts: int = 1
    product: Product | None = None
    fingerprint: tuple[float, ...] = ()


def of(product: Product, chance: random.Random, crush: float = 0.0, barcode: bool = True) -> Appearance:
    """What a bottle of a product looks like; its label is turned up in three of five."""
    design = random.Random(product.name)
    vector = [1.0] + [design.gauss(0.0, 0.03) + chance.gauss(0.0, 0.004) for _ in range(62)]
    shown = product if barcode and chance.random() < 0.6 else None
    widened = 1.0 + 0.4 * crush
    return Appearance(
        product.length_m * (1.0 - 0.3 * crush), product.width_m * widened, product.volume_l,
        design.uniform(0.33, 0.54), crush, product=shown, fingerprint=tuple(vector),
    )  # fmt: skip


@dataclass
class FraudCabinet:
    """One machine and its customer; `shows` is what the customer was told, `flags` what the operator was."""

    seed: int
    look: Outcome = Outcome.ACCEPTED
    gate: GateSettings = QUICK
    shows: list[Show] = field(default_factory=list[Show])
    flags: list[str] = field(default_factory=list[str])
    now_s: float = 10.0

    def __post_init__(self) -> None:
        self.chance = random.Random(f"fraud {self.seed}")
        self.world = World(self.seed)
        self.machine = DepositMachine(
            Timing(show_s=0.3, session_s=600.0), POINTS, donations=True, table=TABLE, recent=RecentItems()
        )
        roles = (Role.DOOR, Role.HAND, Role.EMERGENCY)
        limits = Limits(run_s=3.0, dead_time_s=0.1, duty_s=30.0, duty_window_s=60.0, clear_s=0.0, stale_s=5.0)
        self._interlocks = Interlocks(roles, limits.clear_s, limits.stale_s)
        self._safety = MotorSafety(["gate"], self._interlocks, limits)
        self._gate = Gate(self.gate, self._safety)
        self._levels: dict[Role, bool | None] = dict.fromkeys(roles, False)
        self._safety.opened(self.now_s)
        self._interlocks.read(self._levels, self.now_s)
        self.taped: dict[Signal, bool] = {}
        self.appearances: dict[int, Appearance] = {}
        self.hand_seen = True
        self.wobble_kg = 0.0
        self.on_effect: Callable[[Effect], None] = lambda effect: None
        self.on_change: Callable[[Signal, bool], None] = lambda signal, active: None
        self._planned: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._weights: deque[float] = deque(maxlen=MEDIAN)
        self._weighed_s = self._reported_s = self.now_s
        self._moving = ""
        self._ids = itertools.count(1)
        self._handle(Recovered())
        self._handle(SessionStarted(Session(SessionKind.ACCOUNT, "session", "alice")))

    # What people do

    def insert(self, kind: Kind, appearance: Appearance, weight_kg: float | None = None) -> Item:
        """Put an item in that looks so; its weight is drawn of its kind where none is given."""
        item = self.world.insert(kind, self.now_s)
        return self._known(item, appearance, weight_kg)

    def throw_in(self, kind: Kind, appearance: Appearance) -> Item:
        """Put one in behind an open gate."""
        return self._known(self.world.throw_in(kind, self.now_s), appearance, None)

    def _known(self, item: Item, appearance: Appearance, weight_kg: float | None) -> Item:
        self.appearances[item.number] = appearance
        if weight_kg is not None:
            item = self.world.items[item.number] = replace(item, weight_kg=weight_kg)
        return item

    def after(self, delay_s: float, do: Callable[[], object]) -> None:
        """Do something later."""
        heapq.heappush(self._planned, (self.now_s + delay_s, next(self._order), lambda: (do(), None)[1]))

    def run(self, until: Callable[[], bool], limit_s: float = 30.0) -> bool:
        """Let time pass until something holds; whether it did in time."""
        end_s = self.now_s + limit_s
        while not until() and self.now_s < end_s:
            self._tick()
        return until()

    def told(self, count: int = 1) -> bool:
        """Run until the customer was told of so many items, and the machine is ready for the next."""
        self.run(lambda: len(self.shows) >= count)
        self.run(lambda: self.machine.current is None and self.world.has_room(self.now_s) and not self._moving, 20.0)
        return len(self.shows) >= count

    # Time

    def _tick(self) -> None:
        self.now_s += TICK_S
        while self._planned and self._planned[0][0] <= self.now_s:
            heapq.heappop(self._planned)[2]()
        self.world.advance(self.now_s)
        for change in self.world.take_changes():
            self._changed(change.signal, change.active, change.at_s)
        self._weigh()
        self._drive()
        if self.now_s >= self.machine.deadline_s:
            self._handle(TimedOut())

    def _drive(self) -> None:
        self._interlocks.read(self._levels, self.now_s)
        self._gate.tick(self.world.position(self.now_s), self.now_s)
        self.world.drive(self._gate.motor, self.now_s)
        outcome = self._gate.snapshot().outcome
        if self._moving and outcome is not GateOutcome.RUNNING:
            self._moving = ""
            self.after(0.002, lambda: self._handle(GateFinished(outcome is GateOutcome.DONE)))

    def _changed(self, signal: Signal, active: bool, at_s: float) -> None:
        self.on_change(signal, active)
        if signal in self.taped:
            return
        at_ns = int(at_s * 1e9)
        events: dict[Signal, Callable[[], Event | None]] = {
            Signal.ENTRY: lambda: ItemEntered(at_ns, f"deposit-{next(self._ids)}") if active else ItemLeft(),
            Signal.DROP: lambda: ItemDropped(at_ns) if active else None,
            Signal.HAND: lambda: HandSeen(active) if self.hand_seen else None,
        }
        if signal is Signal.HAND and self.hand_seen:
            self._levels[Role.HAND] = active
        if signal is Signal.ENTRY:
            self._gate.chamber(active, self.now_s)
        if signal in events and (event := events[signal]()) is not None:
            self.after(SENSOR_DELAY_S, lambda: self._handle(event))

    def tape(self, signal: Signal, active: bool) -> None:
        """Cover a sensor: it stays so."""
        self.taped[signal] = active
        if signal is Signal.ENTRY and active:
            self._gate.chamber(True, self.now_s)
            self._handle(ItemEntered(int(self.now_s * 1e9), f"deposit-{next(self._ids)}"))

    def _weigh(self) -> None:
        if self.now_s - self._weighed_s >= WEIGH_PERIOD_S:
            self._weighed_s = self.now_s
            self._weights.append(self.world.weigh(self.now_s) + self.chance.gauss(0.0, self.wobble_kg))
        if self.now_s - self._reported_s >= REPORT_PERIOD_S and self._weights and self.machine.present is not None:
            self._reported_s = self.now_s
            self._handle(Weighed(int(self.now_s * 1e9), median(self._weights)))
        if self.machine.unnamed_item and not self.taped:
            self._handle(ItemEntered(int(self.now_s * 1e9), f"deposit-{next(self._ids)}"))

    # The machine

    def _handle(self, event: Event) -> None:
        for effect in self.machine.handle(event, self.now_s, int(self.now_s * 1e9)):
            self._carry_out(effect)
            self.on_effect(effect)

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Classify():
                seen_s = self.chance.uniform(0.05, 0.2)
                self.after(seen_s, self._see)
            case Store():
                self.after(self.chance.uniform(0.005, 0.03), lambda: self._handle(Stored()))
            case Update(shown=False):
                self.after(self.chance.uniform(0.005, 0.03), lambda: self._handle(Updated()))
            case MoveGate():
                self._moving = f"command-{next(self._order)}"
                verb = Verb.ACCEPT if effect.verb is GateVerb.ACCEPT else Verb.RETURN
                refusal, _ = self._gate.command(self._moving, "deposit", verb, self.now_s)
                if refusal:
                    self._moving = ""
                    self.after(0.01, lambda: self._handle(GateFinished(done=False)))
            case Show():
                self.shows.append(effect)
            case ReportFlag():
                self.flags.append(effect.flag)
            case _:
                pass

    def _see(self) -> None:
        item = self.world.present()
        verdict = self._verdict(self.appearances.get(item.number) if item else None)
        self.after(self.chance.uniform(0.15, 0.45), lambda: self._handle(VerdictGiven(verdict)))

    def _verdict(self, seen: Appearance | None) -> Verdict:
        if self.look is not Outcome.ACCEPTED:
            return Verdict(Outcome.REJECTED, Reason.PICTURE_DARK)
        if seen is None:
            return Verdict(Outcome.REJECTED, Reason.NOTHING_SEEN)
        return Verdict(
            Outcome.ACCEPTED, Reason.NONE, "mineral", 0.95, measures=self._measures(seen), barcode=_barcode(seen)
        )

    def _measures(self, seen: Appearance) -> ItemMeasures:
        chance = self.chance
        if chance.random() < ERRORS["cut" if seen.length_m > SHORT_M else "cut_short"]:
            return ItemMeasures(skipped="cut by the picture's edge")
        return ItemMeasures(
            mask_score=0.95,
            length_m=seen.length_m * (1.0 + chance.gauss(0.0, ERRORS["length"])),
            width_m=seen.width_m * (1.0 + chance.gauss(0.0, ERRORS["width"])),
            volume_l=seen.volume_l * (1.0 + chance.gauss(0.0, ERRORS["volume"]) - 0.3 * max(0.0, seen.crush - 0.3)),
            outline_px=_outline(seen.taper + chance.gauss(0.0, ERRORS["taper"])),
            crush=min(1.0, max(0.0, seen.crush + chance.gauss(0.0, ERRORS["crush"]))),
            fill=min(1.0, max(0.0, seen.fill + chance.gauss(0.0, ERRORS["fill"]))),
            parts=seen.parts,
            fingerprint=seen.fingerprint,
        )


def _outline(taper: float) -> tuple[float, ...]:
    """A body of 200 x 60 px with shoulders and a neck."""
    half = 30.0 * min(max(taper, 0.05), 1.0)
    corners = ((0, -30), (160, -30), (180, -half), (200, -half), (200, half), (180, half), (160, 30), (0, 30))
    return tuple(100.0 + number for corner in corners for number in corner)


def _barcode(seen: Appearance) -> Barcode:
    product = seen.product
    if product is None:
        return Barcode(error="none was found")
    return Barcode(
        "02000000000015", "EAN-13", 2, known=True, product=product.name, class_name=product.class_name,
        volume_l=product.volume_l, empty_mass_kg=product.mass_kg, mass_spread_kg=product.spread_kg,
        points=product.points,
    )  # fmt: skip
