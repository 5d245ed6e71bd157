"""The deposit state machine: what the machine does with one item, without any I/O.

Events go in with the time, effects come out; the node carries the effects out and reports back with events. All
transitions stand in `TRANSITIONS`, from which the picture in `docs/architecture.md` is drawn. The order that keeps the
promise: an accepted item is on disk before the gate moves, its end is on disk before the customer is told. What the
detector accepts may still be refused: `evidence_table` judges it with the verdict, before the gate moves, and when the
gate has closed behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TypeAlias

from myrvm_core.deposit_record import DepositRecord, Session, SessionKind, Stage
from myrvm_core.evidence_table import EvidenceTable, Finding
from myrvm_core.item_facts import PICTURE_REASONS, WEIGHT_FACTS, RecentItems, Scale, Story, facts, late_facts
from myrvm_core.verdict import Outcome, Reason, Verdict

MOVEMENT_S = 20.0  # a scale that told something so lately works
COMPLETIONS = 3  # transitions without an event that may follow one event


class State(IntEnum):
    """Numbers equal the constants of `myrvm_interfaces/msg/DepositState`."""

    IDLE = 1
    SESSION = 2
    ITEM_DETECTED = 3
    CLASSIFYING = 4
    RECORDING = 5
    ACCEPTING = 6
    SETTLING = 7
    RETURNING = 8
    CLEARING = 9
    SHOWING = 10
    OUT_OF_ORDER = 11
    RECOVERING = 12
    WEIGHING = 13
    CONFIRMING = 14


class Ending(IntEnum):
    """What the customer is told. Numbers equal the constants of `myrvm_interfaces/msg/DepositResult`."""

    ACCEPTED = 1
    RETURNED = 2
    UNRESOLVED = 3


class GateVerb(IntEnum):
    """Numbers equal the constants of `myrvm_interfaces/srv/CommandGate`."""

    ACCEPT = 1
    RETURN = 2


BEFORE_THE_GATE = (State.CLASSIFYING, State.WEIGHING, State.RECORDING)
ENDING_OF_STAGE = {Stage.TAKEN: Ending.ACCEPTED, Stage.RETURNED: Ending.RETURNED, Stage.UNRESOLVED: Ending.UNRESOLVED}


@dataclass(frozen=True)
class Timing:
    """How long each state may last, in s."""

    settle_s: float = 0.15  # an item comes to rest before it is looked at
    classify_s: float = 8.0
    weigh_after_s: float = 0.5  # the scale has settled so long after an item entered
    weigh_s: float = 3.0  # until the scale has settled and the customer has let go
    record_s: float = 8.0
    gate_s: float = 8.0
    drop_s: float = 1.5  # end of the gate's movement to the drop sensor
    reweigh_s: float = 1.5  # until the scale has settled behind an item that fell without leaving the entry's beam
    confirm_s: float = 0.15  # end of the gate's movement to the last edge of what happened during it
    rewrite_s: float = 2.0  # write the end of a deposit again when the disk does not answer
    clear_s: float = 10.0  # the customer takes the item out
    show_s: float = 2.5
    session_s: float = 60.0
    recover_s: float = 2.0  # sensors tell what they saw while the node was away


# Events


@dataclass(frozen=True)
class SessionStarted:
    """A customer is known, or donates."""

    session: Session


@dataclass(frozen=True)
class SessionEnded:
    """The customer is finished."""


@dataclass(frozen=True)
class ItemEntered:
    """The entry sensor saw something at `at_ns`; `deposit_id` is the id that a deposit of it will have."""

    at_ns: int
    deposit_id: str


@dataclass(frozen=True)
class ItemLeft:
    """The chamber is empty again."""


@dataclass(frozen=True)
class ItemDropped:
    """The drop sensor saw something fall into the bin at `at_ns`."""

    at_ns: int


@dataclass(frozen=True)
class Watched:
    """The sensors miss no edge since `since_ns`; later than before: they were blind. `present`: they see an item."""

    since_ns: int
    present: bool


@dataclass(frozen=True)
class Weighed:
    """The scale under the chamber showed `weight_kg` at `at_ns`."""

    at_ns: int
    weight_kg: float


@dataclass(frozen=True)
class HandSeen:
    """A hand is in the gate, or has gone."""

    inside: bool


@dataclass(frozen=True)
class VerdictGiven:
    """The detector has decided."""

    verdict: Verdict


@dataclass(frozen=True)
class Stored:
    """The record is on disk."""


@dataclass(frozen=True)
class StoreRefused:
    """The record is not on disk, and will not be."""


@dataclass(frozen=True)
class GateFinished:
    """The gate's command has ended, well or not, or was refused."""

    done: bool


@dataclass(frozen=True)
class Updated:
    """The end of the deposit is on disk, or (`accepted` false) the buffer contradicts it."""

    accepted: bool = True


@dataclass(frozen=True)
class MachineDown:
    """Something without which no item can be taken is missing."""


@dataclass(frozen=True)
class MachineUp:
    """The machine can take items."""


@dataclass(frozen=True)
class PowerFailing:
    """The supply is about to go (the gate does not move then), or is back."""

    failing: bool


@dataclass(frozen=True)
class Recovered:
    """What a crash left behind is resolved; `present` is a recorded item that is still in the chamber.

    `blind`: the sensors were away since it was recorded, so that it may as well be another item. `counted`: the last
    deposit that is in `items` and `points`.
    """

    session: Session | None = None
    items: int = 0
    points: int = 0
    present: DepositRecord | None = None
    blind: bool = False
    counted: str = ""


@dataclass(frozen=True)
class TimedOut:
    """The state has lasted as long as it may."""


Event: TypeAlias = (
    SessionStarted
    | SessionEnded
    | ItemEntered
    | ItemLeft
    | ItemDropped
    | Watched
    | Weighed
    | HandSeen
    | VerdictGiven
    | Stored
    | StoreRefused
    | GateFinished
    | Updated
    | MachineDown
    | MachineUp
    | PowerFailing
    | Recovered
    | TimedOut
)

# Effects


@dataclass(frozen=True)
class Classify:
    """Ask for a verdict on the item that arrived at `item_arrived_at_ns`."""

    item_arrived_at_ns: int


@dataclass(frozen=True)
class Store:
    """Write the record to disk."""

    record: DepositRecord


@dataclass(frozen=True)
class MoveGate:
    """Command the gate."""

    verb: GateVerb


@dataclass(frozen=True)
class Update:
    """Write the end of a deposit to disk; with `shown`, that the customer was told."""

    deposit_id: str
    stage: Stage
    shown: bool = False


@dataclass(frozen=True)
class Show:
    """Tell the customer."""

    deposit_id: str
    session: Session
    ending: Ending
    verdict: Verdict
    points: int
    duration_s: float


@dataclass(frozen=True)
class ReportStray:
    """Something fell into the bin that no gate has moved: nobody is credited for it, and somebody has to know."""

    at_ns: int
    state: State


@dataclass(frozen=True)
class ReportFlag:
    """The table of evidence marks an item: the operator has to know."""

    deposit_id: str
    flag: str
    at_ns: int


Effect: TypeAlias = Classify | Store | MoveGate | Update | Show | ReportStray | ReportFlag


@dataclass
class Deposit:
    """The item in hand."""

    deposit_id: str
    session: Session
    entered_at_ns: int
    begun_s: float
    verdict: Verdict = field(default_factory=lambda: Verdict(Outcome.REJECTED, Reason.NOTHING_SEEN))
    recorded: bool = False  # may be on disk: its end has to be written
    moved: bool = False  # the gate may have taken it
    blind: bool = False  # it vanished while the sensors could not see where to
    fell: bool = False  # into the bin, before the gate was told to move
    stage: Stage | None = None
    returns: int = 0
    story: Story = field(default_factory=Story)
    left: Scale = field(default_factory=Scale)  # what the scale shows when the gate has closed
    waited: bool = False  # long enough for the scale and the customer's hand
    flags: set[str] = field(default_factory=set[str])


class DepositMachine:
    """The state of one machine. `handle` is the only way in; `deadline_s` says when `TimedOut` is due."""

    def __init__(
        self,
        timing: Timing,
        points_per_item: int,
        donations: bool,
        return_tries: int = 3,
        points_by_class: Mapping[str, int] | None = None,
        table: EvidenceTable | None = None,
        recent: RecentItems | None = None,
    ) -> None:
        self.timing = timing
        self.points_per_item = points_per_item
        self.points_by_class = dict(points_by_class or {})
        self.donations = donations
        self.return_tries = return_tries
        self.table, self.recent, self.scale = table or EvidenceTable(), recent or RecentItems(), Scale()
        self.hand: bool | None = None
        self.picture_faults = 0
        self.taken_since_free = 0
        self.last_taken_s = math.nan
        self.state = State.RECOVERING
        self.session: Session | None = None
        self.session_items = 0
        self.session_points = 0
        self.last_counted = ""  # the deposit that was the last to be added to these
        self.current: Deposit | None = None
        self.present: ItemEntered | None = None
        self.entered_in: Session | None = None  # open when that item entered
        self._begun_id = ""  # of the last deposit that was begun
        self.watching_since_ns = 0
        self.gate_busy = False
        self.down = False
        self.power_failing = False
        self.recovered_at_ns = 0
        self.ending_session = False
        self.now_ns = 0
        self.now_s = 0.0
        self.deadline_s = math.inf

    @property
    def unnamed_item(self) -> bool:
        """An item is there whose deposit has ended, or one behind it: it waits for an `ItemEntered` with a new id."""
        return self.current is None and self.present is not None and self.present.deposit_id == self._begun_id

    def may_grow(self, session_id: str) -> bool:
        """Whether a deposit may still be added to that session: it is open, or an item that entered in it is here."""
        refused = self.state in (State.RETURNING, State.CLEARING) and not _recorded(self, None)
        sessions = [
            None if self.ending_session else self.session,
            None if self.current is None or refused else self.current.session,
            None if self.present is None or self.current is not None else self.entered_in,
        ]
        return any(session is not None and session.session_id == session_id for session in sessions)

    def handle(self, event: Event, now_s: float, now_ns: int) -> list[Effect]:
        """Take one event.

        Args:
            event: what happened.
            now_s: monotonic time.
            now_ns: ROS time.

        Returns:
            What to do, in this order. An event that means nothing in the present state changes nothing.
        """
        self.now_s, self.now_ns = now_s, now_ns
        if isinstance(event, TimedOut) and now_s < self.deadline_s:
            return []
        self._track(event)
        effects: list[Effect] = []
        for step in (event, *[None] * COMPLETIONS):
            transition = self._find(step)
            if transition is None and isinstance(step, ItemDropped):
                effects += self._note_stray(step)
            elif transition is not None:
                effects += transition.action(self, step) if transition.action else []
                self.state = transition.target
                self.deadline_s = now_s + self._allowed_s(transition)
        return effects

    def _find(self, event: Event | None) -> Transition | None:
        kind = None if event is None else type(event)
        for transition in TRANSITIONS:
            fits = self.state in transition.sources and transition.event is kind
            if fits and (transition.guard is None or transition.guard(self, event)):
                return transition
        return None

    def _track(self, event: Event) -> None:
        self._note_evidence(event)
        if isinstance(event, ItemEntered):
            if self.present is None:  # else the beam was not free: it is one that entered before
                self.entered_in = None if self.ending_session else self.session
            self.present = event
        elif isinstance(event, ItemLeft):
            self.present = self.entered_in = None
        elif isinstance(event, GateFinished):
            self.gate_busy = False
        elif isinstance(event, TimedOut) and self.state in (State.ACCEPTING, State.CONFIRMING, State.RETURNING):
            self.gate_busy = False  # the gate has not reported in time: it is not waited for
        elif isinstance(event, Watched):
            self._note_blindness(event)
        elif isinstance(event, PowerFailing):
            self.power_failing = event.failing
        elif isinstance(event, MachineDown):
            self.down = True
        elif isinstance(event, MachineUp):
            self.down = False
        elif isinstance(event, SessionEnded) and self.state not in (
            State.SESSION,
            State.SHOWING,
            State.OUT_OF_ORDER,
        ):
            self.ending_session = self.session is not None

    def _note_evidence(self, event: Event) -> None:
        item, moving = self.current, self.state in (State.ACCEPTING, State.CONFIRMING)
        story = item.story if item is not None and (moving or self.state in BEFORE_THE_GATE) else Story()
        if isinstance(event, ItemEntered) and self.present is None:
            story.note_entered(moving)
            self.scale.begin(event.at_ns + round(self.timing.weigh_after_s * 1e9))
        elif isinstance(event, ItemLeft):
            self.taken_since_free = 0
            if moving:
                story.note_left()
        elif isinstance(event, ItemDropped) and moving and item is not None and event.at_ns > item.entered_at_ns:
            story.note_fall()
        elif isinstance(event, Weighed):
            if not moving:
                self.scale.add(event.at_ns, event.weight_kg, self.now_s)
            elif item is not None and not self.gate_busy:
                item.left.add(event.at_ns, event.weight_kg, self.now_s)
        elif isinstance(event, HandSeen):
            if self.hand and not event.inside:
                self.scale.begin(self.now_ns + round(self.timing.weigh_after_s * 1e9))
            self.hand = event.inside
        elif isinstance(event, VerdictGiven) and self.state is State.CLASSIFYING:
            self.picture_faults = self.picture_faults + 1 if event.verdict.reason in PICTURE_REASONS else 0

    def finding(self, verdict: Verdict) -> Finding | None:
        """What the table says of the item in hand, accepted by `verdict`; what marks counts for a refused one only."""
        item = self._item()
        since_last_s = self.now_s - self.last_taken_s
        alike = self.recent.alike(verdict.measures.fingerprint, self.now_s)
        known = facts(verdict, item.story, self.scale, self.hand, alike, self.picture_faults, since_last_s)
        if verdict.outcome is not Outcome.ACCEPTED:
            return self.table.mark(known)
        if item.moved:  # a hand may bring the next one by now
            known |= {"hand": "", **late_facts(item.story, item.left, self.taken_since_free + 1)}
        return self.table.judge(known)

    def _mark(self, verdict: Verdict) -> list[Effect]:
        item, finding = self._item(), self.finding(verdict)
        if finding is None or not finding.flag or finding.flag in item.flags:
            return []
        item.flags.add(finding.flag)
        return [ReportFlag(item.deposit_id, finding.flag, self.now_ns)]

    def _note_blindness(self, watched: Watched) -> None:
        if watched.since_ns > self.watching_since_ns:
            self.watching_since_ns = watched.since_ns
            if self.current is not None and self.current.moved and not watched.present:
                self.current.blind = True

    def _note_stray(self, dropped: ItemDropped) -> list[Effect]:
        item = self.current
        if item is not None and self.state in BEFORE_THE_GATE:
            item.fell = item.fell or dropped.at_ns > item.entered_at_ns
        # Sensor events from before the start are heard again after it: they belong to deposits that have ended.
        if self.state is State.RECOVERING or dropped.at_ns < self.recovered_at_ns:
            return []
        return [ReportStray(dropped.at_ns, self.state)]

    def _allowed_s(self, transition: Transition) -> float:
        if transition.allowed is not None:
            return float(getattr(self.timing, transition.allowed))
        name = TIME_OUTS[transition.target]
        return math.inf if name is None else float(getattr(self.timing, name))

    # Actions

    def _item(self) -> Deposit:
        if self.current is None:
            raise AssertionError(f"no item in state {self.state.name}: the transition table is wrong")
        return self.current

    def _points(self, item: Deposit) -> int:
        """What an accepted item is worth: the product's value, which nobody gets for a label alone, else its class'."""
        barcode, measures = item.verdict.barcode, item.verdict.measures
        by_look = self.points_by_class.get(item.verdict.class_name, self.points_per_item)
        if not barcode.known or barcode.points < 0:
            return by_look
        measured = not math.isnan(measures.volume_l) and not math.isnan(barcode.volume_l)
        return barcode.points if measured else min(barcode.points, by_look)

    def _move_gate(self, verb: GateVerb) -> list[Effect]:
        self.gate_busy = True
        return [MoveGate(verb)]

    def _show(self, ending: Ending) -> list[Effect]:
        item = self._item()
        points = self._points(item) if ending is Ending.ACCEPTED else 0
        if (
            ending is Ending.ACCEPTED
            and self.session is not None
            and item.session.session_id == self.session.session_id
        ):
            self.session_items += 1
            self.session_points += points
            self.last_counted = item.deposit_id
        self.current = None
        show = Show(item.deposit_id, item.session, ending, item.verdict, points, self.now_s - item.begun_s)
        return [show, Update(item.deposit_id, item.stage, shown=True)] if item.recorded and item.stage else [show]

    def open_session(self, event: Event | None) -> list[Effect]:
        """Begin a visit."""
        if isinstance(event, SessionStarted):
            self.session, self.session_items, self.session_points = event.session, 0, 0
            self.ending_session = False
        return []

    def close_session(self, _event: Event | None) -> list[Effect]:
        """End a visit."""
        self.session, self.session_items, self.session_points = None, 0, 0
        self.ending_session = False
        return self.disown(None) if self.state is State.OUT_OF_ORDER else []

    def disown(self, _event: Event | None) -> list[Effect]:
        """An item that waits while the machine takes none is not waited for by a visit that has ended."""
        if self.entered_in != self.session:
            self.entered_in = None
        return []

    def restore(self, event: Event | None) -> list[Effect]:
        """Go on where a crash has interrupted."""
        if not isinstance(event, Recovered):
            return []
        self.session, self.session_items, self.session_points = event.session, event.items, event.points
        self.last_counted, self.recovered_at_ns = event.counted, self.now_ns
        if event.present is None:
            return []
        record = event.present
        verdict = Verdict(Outcome.ACCEPTED, Reason.NONE, record.class_name, record.score, model=record.model)
        self.current = Deposit(
            record.deposit_id, record.session, record.accepted_at_ns, self.now_s, verdict,
            recorded=True, moved=True, blind=event.blind,
        )  # fmt: skip
        return self.give_back(None)

    def begin(self, _event: Event | None) -> list[Effect]:
        """Take the item in the chamber in hand, in the session in which it entered, else in the one that is open."""
        if self.present is None:
            raise AssertionError("begin without an item: the transition table is wrong")
        session = (
            self.entered_in
            or self.session
            or Session(SessionKind.DONATION, f"donation-{self.present.deposit_id}", "", self.present.at_ns)
        )
        self._begun_id = self.present.deposit_id
        self.current = Deposit(self.present.deposit_id, session, self.present.at_ns, self.now_s)
        return []

    def refuse_without_session(self, event: Event | None) -> list[Effect]:
        """Give an item back that came without a session."""
        self.begin(event)
        return self._refuse(Verdict(Outcome.REJECTED, Reason.NO_SESSION))

    def classify(self, _event: Event | None) -> list[Effect]:
        """Ask for a verdict."""
        return [Classify(self._item().entered_at_ns)]

    def _refuse(self, verdict: Verdict) -> list[Effect]:
        self._item().verdict = verdict
        item = self.current
        effects = self._show(Ending.RETURNED) + self._move_gate(GateVerb.RETURN)
        self.current = item  # still in the chamber
        return effects

    def refuse(self, event: Event | None) -> list[Effect]:
        """Tell why not, and give the item back."""
        verdict = event.verdict if isinstance(event, VerdictGiven) else Verdict(Outcome.REJECTED, Reason.ENGINE_FAILED)
        return self._mark(verdict) + self._refuse(verdict)

    def refuse_on_evidence(self, event: Event | None) -> list[Effect]:
        """Give an item back that was accepted by its look, but the table of evidence refuses it."""
        return self._refuse(self._convicted(_verdict(self, event)))

    def give_back_on_evidence(self, event: Event | None) -> list[Effect]:
        """The same with an item that is on record already."""
        self._item().verdict = self._convicted(self._item().verdict)
        return self.give_back(event)

    def _convicted(self, verdict: Verdict) -> Verdict:
        finding = self.finding(verdict)
        if finding is None:
            raise AssertionError("nothing speaks against it: the transition table is wrong")
        return replace(verdict, outcome=Outcome.REJECTED, reason=finding.reason)

    def weigh(self, event: Event | None) -> list[Effect]:
        """Keep the verdict until the scale and the customer's hand have come to rest."""
        self._item().verdict = _verdict(self, event)
        return []

    def wait_no_longer(self, _event: Event | None) -> list[Effect]:
        """Judge by what is known."""
        self._item().waited = True
        return []

    def note_taken_out(self, _event: Event | None) -> list[Effect]:
        """The customer took the item out before the machine had decided."""
        self._item().verdict = Verdict(Outcome.REJECTED, Reason.TAKEN_OUT)
        return self._show(Ending.RETURNED)

    def leave(self, _event: Event | None) -> list[Effect]:
        """The supply goes: the item stays where it is and is the customer's."""
        self._item().verdict = Verdict(Outcome.REJECTED, Reason.GATE_FAILED)
        return self._show(Ending.RETURNED)

    def store(self, event: Event | None) -> list[Effect]:
        """Make the accepted item durable before the gate moves."""
        item = self._item()
        if isinstance(event, VerdictGiven):
            item.verdict = event.verdict
        item.recorded = True
        verdict = item.verdict
        return [
            *self._mark(verdict),
            Store(
                DepositRecord(
                    deposit_id=item.deposit_id,
                    session=item.session,
                    class_name=verdict.class_name,
                    score=verdict.score,
                    points=self._points(item),
                    accepted_at_ns=self.now_ns,
                    weight_kg=self.scale.weight_kg,
                    model=verdict.model,
                )
            ),
        ]

    def refuse_unrecorded(self, _event: Event | None) -> list[Effect]:
        """Give an item back that the disk did not take."""
        self._item().recorded = False
        return self._refuse(replace(self._item().verdict, outcome=Outcome.REJECTED, reason=Reason.CANNOT_RECORD))

    def take(self, _event: Event | None) -> list[Effect]:
        """Move the item into the bin."""
        self._item().moved = True
        return self._move_gate(GateVerb.ACCEPT)

    def give_back(self, _event: Event | None) -> list[Effect]:
        """Move the item back to the customer."""
        self._item().returns += 1
        return self._move_gate(GateVerb.RETURN)

    def settle(self, stage: Stage) -> list[Effect]:
        """Write the end of the deposit."""
        item = self._item()
        item.stage = stage
        if stage is Stage.TAKEN:
            self.taken_since_free, self.last_taken_s = self.taken_since_free + 1, self.now_s
            self.recent.add(item.verdict.measures.fingerprint, self.now_s)
        if stage is Stage.RETURNED and item.verdict.outcome is Outcome.ACCEPTED:
            item.verdict = replace(item.verdict, outcome=Outcome.REJECTED, reason=Reason.GATE_FAILED)
        return [Update(item.deposit_id, stage)]

    def weigh_what_is_left(self, _event: Event | None) -> list[Effect]:
        """The entry's beam says that something is still there: so must the scale."""
        self._item().left.begin(self.now_ns + round(self.timing.weigh_after_s * 1e9))
        return []

    def confirm(self, _event: Event | None) -> list[Effect]:
        """The item has fallen, and the gate has closed: it counts, unless what happened meanwhile speaks against it."""
        item = self._item()
        marks, finding = self._mark(item.verdict), self.finding(item.verdict)
        if finding is None or finding.reason is Reason.NONE:
            return marks + self.settle(Stage.TAKEN)
        item.verdict = self._convicted(item.verdict)
        return self.settle(Stage.UNRESOLVED)

    def rewrite(self, _event: Event | None) -> list[Effect]:
        """Write the end of the deposit again: no answer came."""
        item = self._item()
        return [Update(item.deposit_id, item.stage or Stage.UNRESOLVED)]

    def tell(self, event: Event | None) -> list[Effect]:
        """Tell the customer how it ended."""
        item = self._item()
        if isinstance(event, Updated) and not event.accepted and item.stage is Stage.TAKEN:
            item.recorded = False  # the buffer says otherwise; a technician has to look
            return self._show(Ending.UNRESOLVED)
        return self._show(ENDING_OF_STAGE[item.stage or Stage.UNRESOLVED])

    def forget(self, _event: Event | None) -> list[Effect]:
        """The refused item is out."""
        self.current = None
        return []


Guard: TypeAlias = Callable[[DepositMachine, "Event | None"], bool]
Action: TypeAlias = Callable[[DepositMachine, "Event | None"], list[Effect]]


@dataclass(frozen=True)
class Transition:
    """One row of the table. `event` None: taken as soon as the guard holds. `label` and `when` are for the picture."""

    sources: tuple[State, ...]
    event: type[Event] | None
    target: State
    action: Action | None = None
    guard: Guard | None = None
    when: str = ""
    allowed: str | None = None  # name of the time-out in `Timing`, where it is not the target's own


def _verdict(machine: DepositMachine, event: Event | None) -> Verdict:
    if isinstance(event, VerdictGiven) or machine.current is None:
        return event.verdict if isinstance(event, VerdictGiven) else Verdict(Outcome.REJECTED, Reason.NOTHING_SEEN)
    return machine.current.verdict


def _accepted(machine: DepositMachine, event: Event | None) -> bool:
    return _verdict(machine, event).outcome is Outcome.ACCEPTED


def _convicted(machine: DepositMachine, event: Event | None) -> bool:
    if not _accepted(machine, event):
        return False
    finding = machine.finding(_verdict(machine, event))
    return finding is not None and finding.reason is not Reason.NONE


def _unsteady(machine: DepositMachine, _event: Event | None) -> bool:
    item = machine.current
    if item is None or item.waited or machine.present is None:
        return False
    weight = machine.table.asks_for(*WEIGHT_FACTS) and machine.scale.owes(machine.now_s)
    return weight or (bool(machine.hand) and machine.table.asks_for("hand"))


def _never_left(machine: DepositMachine, _event: Event | None) -> bool:
    item, asked = machine.current, machine.table.asks_for("weight_left_kg")
    return asked and item is not None and item.story.left == 0 and machine.now_s - machine.scale.heard_s < MOVEMENT_S


def _weighed_again(machine: DepositMachine, _event: Event | None) -> bool:
    return machine.current is not None and machine.current.left.weight_kg is not None


def _watched(machine: DepositMachine, _event: Event | None) -> bool:
    return machine.table.watches_the_gate


def _gate_watched(machine: DepositMachine, event: Event | None) -> bool:
    return machine.gate_busy and _watched(machine, event)


def _present(machine: DepositMachine, _event: Event | None) -> bool:
    return machine.present is not None


def _ready(machine: DepositMachine, event: Event | None) -> bool:
    return (
        machine.present is not None
        and not machine.unnamed_item
        and not machine.gate_busy
        and not _down(machine, event)
        and not machine.ending_session
    )


def _both(*guards: Guard) -> Guard:
    return lambda machine, event: all(guard(machine, event) for guard in guards)


def _not(guard: Guard) -> Guard:
    return lambda machine, event: not guard(machine, event)


def _recorded(machine: DepositMachine, _event: Event | None) -> bool:
    return machine.current is not None and machine.current.recorded


def _dropped_on_record(machine: DepositMachine, event: Event | None) -> bool:
    item = machine.current
    return isinstance(event, ItemDropped) and item is not None and item.recorded and event.at_ns > item.entered_at_ns


def _fell(machine: DepositMachine, _event: Event | None) -> bool:
    return machine.present is None and machine.current is not None and machine.current.fell


def _taken_out(machine: DepositMachine, event: Event | None) -> bool:
    return machine.present is None and not (_fell(machine, event) and _accepted(machine, event))


def _vanished_unseen(machine: DepositMachine, _event: Event | None) -> bool:
    return machine.present is None and machine.current is not None and machine.current.blind


def _may_return_again(machine: DepositMachine, _event: Event | None) -> bool:
    return machine.current is not None and machine.current.returns < machine.return_tries


def _gate_busy(machine: DepositMachine, _event: Event | None) -> bool:
    return machine.gate_busy


def _down(machine: DepositMachine, _event: Event | None) -> bool:
    return machine.down or machine.power_failing


def _power_failing(machine: DepositMachine, _event: Event | None) -> bool:
    return machine.power_failing


def _has_session(machine: DepositMachine, _event: Event | None) -> bool:
    return machine.session is not None


def _owned_or_donated(machine: DepositMachine, _event: Event | None) -> bool:
    return machine.entered_in is not None or machine.donations


def _next_item(machine: DepositMachine, event: Event | None) -> bool:
    return _ready(machine, event) and (machine.session is not None or _owned_or_donated(machine, event))


def _ending_session(machine: DepositMachine, _event: Event | None) -> bool:
    return machine.ending_session


def _settle(stage: Stage) -> Action:
    return lambda machine, event: machine.settle(stage)


# How long each state may last: the name of a field of `Timing`, None for as long as it likes.
TIME_OUTS: dict[State, str | None] = {
    State.IDLE: None,
    State.SESSION: "session_s",
    State.ITEM_DETECTED: "settle_s",
    State.CLASSIFYING: "classify_s",
    State.RECORDING: "record_s",
    State.ACCEPTING: "gate_s",
    State.SETTLING: "rewrite_s",
    State.RETURNING: "gate_s",
    State.CLEARING: "clear_s",
    State.SHOWING: "show_s",
    State.OUT_OF_ORDER: None,
    State.RECOVERING: None,
    State.WEIGHING: "weigh_s",
    State.CONFIRMING: "gate_s",
}

_S = State
_M = DepositMachine
TRANSITIONS: tuple[Transition, ...] = (
    Transition((_S.RECOVERING,), Recovered, _S.RETURNING, _M.restore,
               lambda m, e: isinstance(e, Recovered) and e.present is not None, "item still in the chamber"),
    Transition((_S.RECOVERING,), Recovered, _S.SESSION, _M.restore,
               lambda m, e: isinstance(e, Recovered) and e.session is not None, "session was open"),
    Transition((_S.RECOVERING,), Recovered, _S.IDLE, _M.restore),

    Transition((_S.IDLE,), SessionStarted, _S.SESSION, _M.open_session),
    Transition((_S.SESSION,), SessionEnded, _S.IDLE, _M.close_session),
    Transition((_S.SESSION,), TimedOut, _S.IDLE, _M.close_session),
    Transition((_S.SESSION,), SessionStarted, _S.SESSION, _M.open_session, None, "next user"),
    Transition((_S.SESSION,), None, _S.IDLE, _M.close_session, _ending_session, "customer finished meanwhile"),
    Transition((_S.SESSION,), None, _S.OUT_OF_ORDER, _M.disown, _down, "out of order", allowed="session_s"),
    Transition((_S.IDLE,), None, _S.OUT_OF_ORDER, _M.disown, _down, "out of order"),
    Transition((_S.OUT_OF_ORDER,), SessionEnded, _S.OUT_OF_ORDER, _M.close_session),
    Transition((_S.OUT_OF_ORDER,), TimedOut, _S.OUT_OF_ORDER, _M.close_session),
    Transition((_S.OUT_OF_ORDER,), None, _S.SESSION, None, _both(_not(_down), _has_session), "in order, session open"),
    Transition((_S.OUT_OF_ORDER,), None, _S.IDLE, None, _not(_down), "in order"),

    Transition((_S.SESSION,), None, _S.ITEM_DETECTED, _M.begin, _ready, "item present"),
    Transition((_S.IDLE,), None, _S.ITEM_DETECTED, _M.begin, _both(_ready, _owned_or_donated),
               "item present, of the last session or donated"),
    Transition((_S.IDLE,), None, _S.RETURNING, _M.refuse_without_session, _ready, "item present, no session"),
    Transition((_S.ITEM_DETECTED, _S.CLASSIFYING, _S.WEIGHING), None, _S.SHOWING, _M.leave, _power_failing,
               "power fails"),
    Transition((_S.ITEM_DETECTED,), ItemLeft, _S.SHOWING, _M.note_taken_out),
    Transition((_S.ITEM_DETECTED,), TimedOut, _S.CLASSIFYING, _M.classify),

    Transition((_S.CLASSIFYING,), VerdictGiven, _S.SHOWING, _M.note_taken_out, _taken_out, "item gone"),
    Transition((_S.CLASSIFYING,), VerdictGiven, _S.WEIGHING, _M.weigh, _both(_accepted, _unsteady), "not at rest"),
    Transition((_S.CLASSIFYING,), VerdictGiven, _S.RETURNING, _M.refuse_on_evidence, _convicted, "evidence"),
    Transition((_S.CLASSIFYING,), VerdictGiven, _S.RECORDING, _M.store, _accepted, "accepted"),
    Transition((_S.CLASSIFYING,), VerdictGiven, _S.RETURNING, _M.refuse, None, "refused"),
    Transition((_S.CLASSIFYING,), TimedOut, _S.RETURNING, _M.refuse),
    Transition((_S.WEIGHING,), TimedOut, _S.WEIGHING, _M.wait_no_longer),
    Transition((_S.WEIGHING,), None, _S.SHOWING, _M.note_taken_out, _taken_out, "item gone"),
    Transition((_S.WEIGHING,), None, _S.RETURNING, _M.refuse_on_evidence, _both(_not(_unsteady), _convicted),
               "evidence"),
    Transition((_S.WEIGHING,), None, _S.RECORDING, _M.store, _not(_unsteady), "at rest"),

    Transition((_S.RECORDING,), Stored, _S.SETTLING, _settle(Stage.UNRESOLVED), _fell, "fell without the gate"),
    Transition((_S.RECORDING,), Stored, _S.SETTLING, _settle(Stage.RETURNED), _power_failing, "power fails"),
    Transition((_S.RECORDING,), Stored, _S.RETURNING, _M.give_back_on_evidence, _both(_present, _convicted),
               "evidence"),
    Transition((_S.RECORDING,), Stored, _S.ACCEPTING, _M.take, _present, "item present"),
    Transition((_S.RECORDING,), Stored, _S.SETTLING, _settle(Stage.RETURNED), None, "item gone"),
    Transition((_S.RECORDING,), StoreRefused, _S.RETURNING, _M.refuse_unrecorded),
    Transition((_S.RECORDING,), TimedOut, _S.RETURNING, _M.give_back),

    Transition((_S.ACCEPTING,), ItemDropped, _S.CONFIRMING, None, _both(_dropped_on_record, _gate_watched),
               "on record, gate moves"),
    Transition((_S.ACCEPTING,), ItemDropped, _S.CONFIRMING, None, _both(_dropped_on_record, _watched),
               "on record, watched", allowed="confirm_s"),
    Transition((_S.ACCEPTING,), ItemDropped, _S.SETTLING, _M.confirm, _dropped_on_record, "on record"),
    Transition((_S.RETURNING, _S.CLEARING), ItemDropped, _S.SETTLING, _settle(Stage.TAKEN), _dropped_on_record,
               "on record"),
    Transition((_S.CONFIRMING,), GateFinished, _S.CONFIRMING, _M.weigh_what_is_left, _never_left, "item present?",
               allowed="reweigh_s"),
    Transition((_S.CONFIRMING,), GateFinished, _S.CONFIRMING, allowed="confirm_s"),
    Transition((_S.CONFIRMING,), Weighed, _S.SETTLING, _M.confirm, _weighed_again),
    Transition((_S.CONFIRMING,), TimedOut, _S.SETTLING, _M.confirm),
    Transition((_S.ACCEPTING,), GateFinished, _S.ACCEPTING, allowed="drop_s"),
    Transition((_S.ACCEPTING,), TimedOut, _S.RETURNING, _M.give_back, _present, "item present"),
    Transition((_S.ACCEPTING,), TimedOut, _S.SETTLING, _settle(Stage.UNRESOLVED), None, "item gone, no drop"),

    Transition((_S.SETTLING,), Updated, _S.SHOWING, _M.tell),
    Transition((_S.SETTLING,), TimedOut, _S.SETTLING, _M.rewrite),

    Transition((_S.RETURNING,), GateFinished, _S.CLEARING, None, _may_return_again, "tries left"),
    Transition((_S.RETURNING,), GateFinished, _S.CLEARING, allowed="session_s"),
    Transition((_S.RETURNING,), TimedOut, _S.CLEARING),
    Transition((_S.CLEARING,), None, _S.SETTLING, _settle(Stage.UNRESOLVED), _vanished_unseen, "item gone unseen"),
    Transition((_S.CLEARING,), None, _S.SETTLING, _settle(Stage.RETURNED), _both(_not(_present), _recorded),
               "item out, on record"),
    Transition((_S.CLEARING,), None, _S.SHOWING, _M.forget, _not(_present), "item out"),
    Transition((_S.CLEARING,), TimedOut, _S.RETURNING, _M.give_back),

    Transition((_S.SHOWING,), SessionEnded, _S.SHOWING, _M.close_session),
    Transition((_S.SHOWING,), SessionStarted, _S.SHOWING, _M.open_session, _not(_has_session), "no session is open"),
    Transition((_S.SHOWING,), TimedOut, _S.SHOWING, None, _gate_busy, "gate still moves"),
    Transition((_S.SHOWING,), TimedOut, _S.SESSION, None, _has_session, "session is open"),
    Transition((_S.SHOWING,), TimedOut, _S.IDLE),
    Transition((_S.SHOWING,), ItemEntered, _S.ITEM_DETECTED, _M.begin, _next_item, "next item"),
    Transition((_S.SHOWING,), GateFinished, _S.ITEM_DETECTED, _M.begin, _next_item, "next item waits"),
)  # fmt: skip


def mermaid() -> str:
    """The table as a Mermaid state diagram, for the docs."""
    lines = ["stateDiagram-v2", "    [*] --> RECOVERING"]
    for transition in TRANSITIONS:
        event = "" if transition.event is None else transition.event.__name__
        guard = f"[{transition.when}]" if transition.when else ""
        label = " ".join(part for part in (event, guard) if part)
        lines += [f"    {source.name} --> {transition.target.name}: {label}" for source in transition.sources]
    return "\n".join(lines) + "\n"
