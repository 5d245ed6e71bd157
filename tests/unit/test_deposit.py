"""The deposit machine: the promise of the order of things, whatever happens."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from myrvm_core.deposit import (
    TIME_OUTS,
    TRANSITIONS,
    Classify,
    DepositMachine,
    Effect,
    Ending,
    Event,
    GateFinished,
    GateVerb,
    HandSeen,
    ItemDropped,
    ItemEntered,
    ItemLeft,
    MachineDown,
    MachineUp,
    MoveGate,
    PowerFailing,
    Recovered,
    ReportFlag,
    ReportStray,
    SessionEnded,
    SessionStarted,
    Show,
    State,
    Store,
    Stored,
    StoreRefused,
    TimedOut,
    Timing,
    Update,
    Updated,
    VerdictGiven,
    Watched,
    Weighed,
    mermaid,
)
from myrvm_core.deposit_record import DepositRecord, Session, SessionKind, Stage
from myrvm_core.item_facts import RecentItems
from myrvm_core.verdict import Barcode, ItemMeasures, Outcome, Reason, Verdict

from myrvm_core import evidence_table, paths

SHIPPED = evidence_table.load(paths.home() / "config" / "evidence.yaml")
ACCEPTED = Verdict(Outcome.ACCEPTED, Reason.NONE, "mineral", 0.9)
FULL = Verdict(Outcome.REJECTED, Reason.NOT_EMPTY, "not_empty", 0.9)
ALICE = Session(SessionKind.ACCOUNT, "session-1", "alice")


class Bench:
    """A machine under a clock of the test's own."""

    def __init__(self, donations: bool = True, recovered: Recovered | None = None, evidence: bool = False) -> None:
        table = SHIPPED if evidence else None
        self.machine = DepositMachine(Timing(), points_per_item=10, donations=donations, table=table)
        self.now_s = 100.0
        self.effects: list[Effect] = []
        self.do(recovered or Recovered())

    def do(self, *events: Event) -> list[Effect]:
        """Handle events; return the effects of all of them."""
        effects: list[Effect] = []
        for event in events:
            self.now_s += 0.01
            if isinstance(event, TimedOut) and math.isfinite(self.machine.deadline_s):
                self.now_s = max(self.now_s, self.machine.deadline_s)
            effects += self.machine.handle(event, self.now_s, int(self.now_s * 1e9))
        self.effects += effects
        return effects

    def item(self, number: int = 1) -> list[Effect]:
        """An item comes in and lies still."""
        return self.do(ItemEntered(0, f"deposit-{number}"), TimedOut())

    @property
    def now_ns(self) -> int:
        return int(self.now_s * 1e9)


def kinds(effects: list[Effect]) -> list[type]:
    return [type(effect) for effect in effects]


def test_a_class_may_be_worth_something_else() -> None:
    for points_by_class, points in (({"mineral": 7, "can": 1}, 7), ({"mineral": 0}, 0), ({"can": 1}, 10)):
        bench = Bench()
        bench.machine.points_by_class = points_by_class
        bench.do(SessionStarted(ALICE))
        bench.item()
        (store,) = bench.do(VerdictGiven(ACCEPTED))
        assert isinstance(store, Store)
        show = bench.do(Stored(), ItemLeft(), ItemDropped(1), Updated())[-2]
        assert isinstance(show, Show)
        assert (store.record.points, show.points, bench.machine.session_points) == (points, points, points)


def test_an_accepted_item_is_recorded_moved_settled_and_then_shown() -> None:
    bench = Bench()
    bench.do(SessionStarted(ALICE))
    assert bench.item() == [Classify(0)]
    (store,) = bench.do(VerdictGiven(ACCEPTED))
    assert isinstance(store, Store)
    assert store.record.session == ALICE
    assert bench.do(Stored()) == [MoveGate(GateVerb.ACCEPT)]
    assert bench.do(ItemLeft(), ItemDropped(1)) == [Update("deposit-1", Stage.TAKEN)]
    show, shown = bench.do(Updated())
    assert isinstance(show, Show)
    assert (show.ending, show.points) == (Ending.ACCEPTED, 10)
    assert shown == Update("deposit-1", Stage.TAKEN, shown=True)
    assert (bench.machine.session_items, bench.machine.session_points) == (1, 10)
    bench.do(GateFinished(True), TimedOut())
    assert bench.machine.state is State.SESSION


def test_an_item_behind_the_last_one_in_the_same_beam_is_a_deposit_of_its_own() -> None:
    bench = Bench()
    bench.item()
    bench.do(VerdictGiven(ACCEPTED), Stored(), ItemDropped(1), Updated(), GateFinished(True), TimedOut(), TimedOut())
    assert bench.machine.state is State.IDLE
    assert bench.machine.unnamed_item, "one deposit is not credited to two items"
    assert bench.do(ItemEntered(200, "deposit-2"), TimedOut()) == [Classify(200)]
    assert not bench.machine.unnamed_item
    (store,) = bench.do(VerdictGiven(ACCEPTED))
    assert isinstance(store, Store)
    assert store.record.deposit_id == "deposit-2"


def test_an_item_left_while_the_supply_failed_is_looked_at_anew_under_another_id() -> None:
    bench = Bench()
    bench.item()
    (show,) = bench.do(PowerFailing(True))
    assert isinstance(show, Show)
    assert (show.deposit_id, show.ending) == ("deposit-1", Ending.RETURNED)
    assert bench.machine.unnamed_item
    assert bench.do(ItemEntered(200, "deposit-2"), TimedOut(), TimedOut()) == [], "not while it fails"
    assert bench.do(PowerFailing(False), TimedOut()) == [Classify(200)]
    assert bench.machine.current is not None
    assert bench.machine.current.deposit_id == "deposit-2"


def test_a_refused_item_is_shown_at_once_and_given_back_without_a_record() -> None:
    bench = Bench()
    bench.item()
    show, gate = bench.do(VerdictGiven(FULL))
    assert isinstance(show, Show)
    assert (show.ending, show.verdict.reason, gate) == (Ending.RETURNED, Reason.NOT_EMPTY, MoveGate(GateVerb.RETURN))
    assert bench.do(ItemLeft(), GateFinished(True), TimedOut()) == []
    assert bench.machine.state is State.IDLE


def test_without_a_session_an_item_is_a_donation_or_comes_back() -> None:
    donated = Bench()
    donated.item()
    (store,) = donated.do(VerdictGiven(ACCEPTED))
    assert isinstance(store, Store)
    assert store.record.session.kind is SessionKind.DONATION

    refused = Bench(donations=False)
    show, gate = refused.do(ItemEntered(0, "deposit-1"))
    assert isinstance(show, Show)
    assert (show.verdict.reason, gate) == (Reason.NO_SESSION, MoveGate(GateVerb.RETURN))


@pytest.mark.parametrize("events", [[ItemLeft()], [TimedOut(), ItemLeft(), VerdictGiven(ACCEPTED)]])
def test_an_item_taken_out_before_the_verdict_is_not_credited(events: list[Event]) -> None:
    bench = Bench()
    bench.do(ItemEntered(0, "deposit-1"), *events)
    (show,) = [effect for effect in bench.effects if isinstance(effect, Show)]
    assert (show.ending, show.verdict.reason) == (Ending.RETURNED, Reason.TAKEN_OUT)
    assert Store not in kinds(bench.effects)


def test_an_item_pulled_back_after_it_was_recorded_ends_as_returned() -> None:
    bench = Bench()
    bench.item()
    bench.do(VerdictGiven(ACCEPTED), ItemLeft())
    assert bench.do(Stored()) == [Update("deposit-1", Stage.RETURNED)]
    (show, _) = bench.do(Updated())
    assert isinstance(show, Show)
    assert show.ending is Ending.RETURNED


def test_a_disk_that_does_not_take_the_record_gives_the_item_back() -> None:
    bench = Bench()
    bench.item()
    bench.do(VerdictGiven(ACCEPTED))
    show, gate = bench.do(StoreRefused())
    assert isinstance(show, Show)
    assert (show.verdict.reason, gate) == (Reason.CANNOT_RECORD, MoveGate(GateVerb.RETURN))


def test_a_jammed_gate_gives_the_item_back_and_says_so_on_disk_first() -> None:
    bench = Bench()
    bench.item()
    bench.do(VerdictGiven(ACCEPTED), Stored(), GateFinished(False))
    assert bench.do(TimedOut()) == [MoveGate(GateVerb.RETURN)]
    assert bench.do(GateFinished(True), ItemLeft()) == [Update("deposit-1", Stage.RETURNED)]
    assert [type(effect) for effect in bench.do(Updated())] == [Show, Update]


def test_an_item_that_vanishes_without_a_drop_is_unresolved() -> None:
    bench = Bench()
    bench.item()
    bench.do(VerdictGiven(ACCEPTED), Stored(), ItemLeft(), GateFinished(True))
    assert bench.do(TimedOut()) == [Update("deposit-1", Stage.UNRESOLVED)]
    show, _ = bench.do(Updated())
    assert isinstance(show, Show)
    assert (show.ending, show.points) == (Ending.UNRESOLVED, 0)


@pytest.mark.parametrize(("present", "stage"), [(False, Stage.UNRESOLVED), (True, Stage.RETURNED)])
def test_after_blind_sensors_only_an_item_that_is_seen_again_counts_as_returned(present: bool, stage: Stage) -> None:
    bench = Bench()
    bench.do(Watched(1, False))
    bench.item()
    bench.do(VerdictGiven(ACCEPTED), Stored(), GateFinished(False), TimedOut(), Watched(2, present))
    assert bench.do(ItemLeft(), GateFinished(True)) == [Update("deposit-1", stage)]


def test_the_end_of_a_deposit_is_written_again_until_the_disk_answers() -> None:
    bench = Bench()
    bench.item()
    bench.do(VerdictGiven(ACCEPTED), Stored(), ItemDropped(1))
    for _ in range(5):
        assert bench.do(TimedOut()) == [Update("deposit-1", Stage.TAKEN)]
    assert Show in kinds(bench.do(Updated()))


def test_an_item_belongs_to_the_session_in_which_it_entered() -> None:
    bench = Bench()
    bench.do(SessionStarted(ALICE))
    bench.item()
    bench.do(
        SessionEnded(), VerdictGiven(ACCEPTED), Stored(), ItemLeft(), ItemDropped(1), Updated(), GateFinished(True)
    )
    (show,) = [effect for effect in bench.effects if isinstance(effect, Show)]
    assert show.session == ALICE
    bench.do(TimedOut())
    assert bench.machine.state is State.IDLE


def test_a_machine_that_goes_out_of_order_finishes_the_item_first() -> None:
    bench = Bench()
    bench.item()
    bench.do(VerdictGiven(ACCEPTED), Stored(), MachineDown(), ItemLeft(), ItemDropped(1), Updated(), GateFinished(True))
    assert Show in kinds(bench.effects)
    bench.do(TimedOut())
    assert bench.machine.state is State.OUT_OF_ORDER
    assert bench.item(2) == []
    bench.do(MachineUp())
    assert bench.machine.state is State.ITEM_DETECTED


def test_a_recorded_item_found_in_the_chamber_after_a_crash_is_given_back() -> None:
    record = DepositRecord("deposit-0", "mineral", 0.9, 10, 1, session=ALICE)
    machine = DepositMachine(Timing(), 10, donations=True)
    machine.handle(ItemEntered(0, "deposit-9"), 1.0, 1)
    assert machine.handle(Recovered(present=record), 2.0, 2) == [MoveGate(GateVerb.RETURN)]
    assert machine.handle(GateFinished(True), 3.0, 3) == []
    assert machine.handle(ItemLeft(), 4.0, 4) == [Update("deposit-0", Stage.RETURNED)]


def test_an_item_that_stays_is_offered_again_and_more_slowly_after_some_tries() -> None:
    bench = Bench()
    bench.item()
    bench.do(VerdictGiven(FULL))
    waits: list[float] = []
    for _ in range(6):
        bench.do(GateFinished(True))
        assert bench.machine.state is State.CLEARING
        waits.append(round(bench.machine.deadline_s - bench.now_s))
        assert bench.do(TimedOut()) == [MoveGate(GateVerb.RETURN)]
    timing = bench.machine.timing
    assert waits == [timing.clear_s] * 3 + [timing.session_s] * 3


def test_the_picture_shows_every_row_of_the_table() -> None:
    assert mermaid().count("-->") == 1 + sum(len(row.sources) for row in TRANSITIONS)
    assert set(TIME_OUTS) == set(State)


EVENTS = st.sampled_from(
    [
        SessionStarted(ALICE),
        SessionEnded(),
        "enter",
        ItemLeft(),
        ItemDropped(1),
        VerdictGiven(ACCEPTED),
        VerdictGiven(FULL),
        Stored(),
        StoreRefused(),
        GateFinished(True),
        GateFinished(False),
        Updated(),
        Updated(False),
        Watched(1, False),
        Watched(2, True),
        Watched(3, False),
        MachineDown(),
        MachineUp(),
        TimedOut(),
        Weighed(10**12, 0.02),
        Weighed(10**12, 0.4),
        HandSeen(True),
        HandSeen(False),
    ]
)


@settings(max_examples=1000, deadline=None)
@given(st.lists(EVENTS, max_size=60), st.booleans(), st.booleans())
def test_whatever_happens_the_order_of_things_holds(events: list[Any], donations: bool, evidence: bool) -> None:
    bench = Bench(donations, evidence=evidence)
    stored: set[str] = set()
    settled: dict[str, Stage] = {}
    shown: dict[str, Ending] = {}
    for number, event in enumerate(events):
        before = bench.machine.current
        state = bench.machine.state
        effects = bench.do(ItemEntered(number, f"deposit-{number}") if event == "enter" else event)
        if event == Stored() and state is State.RECORDING and before:
            stored.add(before.deposit_id)
        if isinstance(event, Updated) and state is State.SETTLING and before and before.stage and event.accepted:
            settled[before.deposit_id] = before.stage
        for effect in effects:
            if isinstance(effect, MoveGate) and effect.verb is GateVerb.ACCEPT:
                assert bench.machine.current is not None
                assert bench.machine.current.deposit_id in stored, "the gate takes what is not on disk"
            if isinstance(effect, Show):
                assert effect.deposit_id not in shown, "told twice"
                shown[effect.deposit_id] = effect.ending
                if effect.ending is Ending.ACCEPTED:
                    assert settled.get(effect.deposit_id) is Stage.TAKEN, "told before it is on disk"
                    assert effect.deposit_id in stored
            if isinstance(effect, Update) and effect.shown:
                assert effect.deposit_id in shown
        assert bench.machine.deadline_s < math.inf or bench.machine.state in (State.IDLE, State.OUT_OF_ORDER)
    # However it went, with everybody cooperating the machine comes to rest.
    bench.do(ItemLeft(), MachineUp(), SessionEnded())
    for _ in range(20):
        bench.do(VerdictGiven(FULL), Stored(), GateFinished(True), Updated(), TimedOut())
    assert bench.machine.state is State.IDLE
    assert bench.machine.current is None


# To whose session an item counts

BUDI = Session(SessionKind.VOUCHER, "session-2", "session-2")
ITEM: list[Any] = [
    "enter", TimedOut(), VerdictGiven(ACCEPTED), Stored(), ItemLeft(), ItemDropped(10**15), Updated(),
    GateFinished(True),
]  # fmt: skip


@st.composite
def visits(draw: st.DrawFn) -> list[Any]:
    """Customers one after the other, and then some events come early or late and others in between."""
    items = draw(st.lists(st.integers(1, 2), min_size=1, max_size=3))
    events = [event for count in items for event in ("begin", *ITEM * count, SessionEnded(), TimedOut())]
    for _ in range(draw(st.integers(0, 6))):
        at, to = (draw(st.integers(0, len(events) - 1)) for _ in range(2))
        events.insert(max(0, min(to, at + 4)), events.pop(at))
    others = [MachineDown(), MachineUp(), PowerFailing(True), PowerFailing(False), TimedOut(), VerdictGiven(FULL)]
    for _ in range(draw(st.integers(0, 3))):
        events.insert(draw(st.integers(0, len(events))), draw(st.sampled_from(others)))
    return events


@settings(max_examples=1000, deadline=None)
@given(visits(), st.booleans(), st.booleans())
def test_an_item_is_credited_to_the_session_in_which_it_entered(
    events: list[Any], donations: bool, evidence: bool
) -> None:
    bench = Bench(donations, evidence=evidence)
    machine = bench.machine
    beam, owner = False, ""  # the session that was open when the beam was broken
    owners: dict[str, str] = {}
    for number, event in enumerate(events):
        if event == "enter":
            event = ItemEntered(number, f"deposit-{number}")
            if not beam:
                owner = machine.session.session_id if machine.session and not machine.ending_session else ""
        if event == "begin":
            event = SessionStarted(Session(SessionKind.ACCOUNT, f"session-{number}", "x"))
        effects = bench.do(event)
        beam = isinstance(event, ItemEntered) or (beam and event != ItemLeft())
        if machine.current is not None:
            owners.setdefault(machine.current.deposit_id, owner)
        for effect in effects:
            if isinstance(effect, Store) and owners[effect.record.deposit_id]:
                assert effect.record.session.session_id == owners[effect.record.deposit_id]
        if machine.state is State.OUT_OF_ORDER and (machine.session is None or machine.session.session_id != owner):
            owner = ""  # it is looked at anew when the machine is in order, whoever is there then


@settings(max_examples=1000, deadline=None)
@given(visits(), st.booleans(), st.booleans())
def test_nothing_is_added_to_a_session_of_which_that_was_said(
    events: list[Any], donations: bool, evidence: bool
) -> None:
    bench = Bench(donations, evidence=evidence)
    started: set[str] = set()
    closed: set[str] = set()
    for number, event in enumerate(events):
        if event == "enter":
            event = ItemEntered(number, f"deposit-{number}")
        if event == "begin":
            event = SessionStarted(Session(SessionKind.VOUCHER, f"session-{number}", f"session-{number}"))
        for effect in bench.do(event):
            if isinstance(effect, Show | Store):
                session = effect.session if isinstance(effect, Show) else effect.record.session
                accepted = isinstance(effect, Store) or effect.ending is Ending.ACCEPTED
                assert not (accepted and session.session_id in closed), "added after it was settled"
        if bench.machine.session is not None:
            started.add(bench.machine.session.session_id)
        growing = {session_id for session_id in started if bench.machine.may_grow(session_id)}
        assert not growing & closed, "it grows again"
        closed = started - growing


def test_an_item_that_waits_while_its_session_ends_is_still_of_that_session() -> None:
    bench = Bench(donations=False)
    bench.do(SessionStarted(BUDI))
    bench.item()
    bench.do(VerdictGiven(ACCEPTED), Stored(), ItemLeft(), ItemDropped(10**12), Updated())
    assert bench.machine.state is State.SHOWING
    assert bench.do(ItemEntered(1, "deposit-2")) == [], "the gate still moves"
    bench.do(SessionEnded(), SessionStarted(ALICE))
    assert bench.machine.session == ALICE
    assert bench.machine.may_grow("session-2")
    bench.do(GateFinished(True), TimedOut())
    (store,) = bench.do(VerdictGiven(ACCEPTED))
    assert isinstance(store, Store)
    assert store.record.session == BUDI
    bench.do(Stored(), ItemLeft(), ItemDropped(10**12), SessionEnded())
    assert bench.machine.may_grow("session-2")
    show, _ = bench.do(Updated())
    assert isinstance(show, Show)
    assert (show.session, bench.machine.session_items) == (BUDI, 0)
    assert not bench.machine.may_grow("session-2")


def test_the_next_user_ends_a_session_that_rests() -> None:
    bench = Bench()
    bench.do(SessionStarted(BUDI), SessionStarted(ALICE))
    assert (bench.machine.session, bench.machine.state) == (ALICE, State.SESSION)
    assert not bench.machine.may_grow("session-2")


def test_a_session_ends_also_while_the_machine_is_out_of_order() -> None:
    bench = Bench()
    bench.do(SessionStarted(BUDI), MachineDown(), TimedOut())
    assert (bench.machine.session, bench.machine.state) == (None, State.OUT_OF_ORDER)
    assert bench.machine.deadline_s == math.inf


def test_an_item_left_in_a_machine_out_of_order_does_not_hold_up_the_end_of_its_session() -> None:
    bench = Bench()
    bench.do(SessionStarted(BUDI))
    bench.item()
    bench.do(PowerFailing(True), TimedOut())
    assert bench.machine.state is State.OUT_OF_ORDER
    assert bench.machine.may_grow("session-2"), "open"
    bench.do(SessionEnded())
    assert not bench.machine.may_grow("session-2")


# Falls that no gate has moved, a supply that goes, sensors that were away


def strays(effects: list[Effect]) -> list[State]:
    return [effect.state for effect in effects if isinstance(effect, ReportStray)]


def test_a_fall_while_idle_is_reported_and_nobody_is_credited() -> None:
    bench = Bench()
    assert strays(bench.do(ItemDropped(bench_ns(bench)))) == [State.IDLE]
    assert bench.machine.state is State.IDLE
    assert not [effect for effect in bench.effects if isinstance(effect, Update | Show | Store)]


def bench_ns(bench: Bench) -> int:
    return int(bench.now_s * 1e9) + 1


def test_a_fall_from_before_the_start_is_no_stray_and_credits_nobody() -> None:
    bench = Bench()
    bench.do(ItemEntered(int(bench.now_s * 1e9), "deposit-1"), TimedOut(), VerdictGiven(ACCEPTED), Stored())
    assert bench.do(ItemDropped(5)) == [], "heard again after the start"
    assert bench.machine.state is State.ACCEPTING


def test_an_accepted_item_that_falls_before_the_gate_moves_is_unresolved() -> None:
    for early in (True, False):
        bench = Bench()
        bench.item()
        fall = (ItemLeft(), ItemDropped(bench_ns(bench)))
        effects = bench.do(*fall, VerdictGiven(ACCEPTED)) if early else bench.do(VerdictGiven(ACCEPTED), *fall)
        assert strays(effects) == [State.CLASSIFYING if early else State.RECORDING]
        assert bench.do(Stored()) == [Update("deposit-1", Stage.UNRESOLVED)]


def test_a_refused_item_that_falls_into_the_bin_is_reported() -> None:
    bench = Bench()
    bench.item()
    bench.do(VerdictGiven(FULL))
    assert strays(bench.do(ItemLeft(), ItemDropped(bench_ns(bench)))) == [State.RETURNING]


def test_when_the_supply_goes_a_fresh_item_stays_with_the_customer() -> None:
    for judged in (False, True):
        bench = Bench()
        bench.item() if judged else bench.do(ItemEntered(0, "deposit-1"))
        show, *others = bench.do(PowerFailing(True))
        assert isinstance(show, Show)
        assert (show.ending, show.verdict.reason, others) == (Ending.RETURNED, Reason.GATE_FAILED, [])
        assert bench.do(TimedOut(), VerdictGiven(ACCEPTED)) == []
        assert bench.machine.state is State.OUT_OF_ORDER
        bench.do(ItemEntered(0, "deposit-2"), PowerFailing(False))
        assert bench.machine.state is State.ITEM_DETECTED, "power is back: it serves without a visit"
        assert bench.machine.current is not None
        assert bench.machine.current.deposit_id == "deposit-2"


def test_when_the_supply_goes_while_the_record_is_written_the_gate_does_not_move() -> None:
    bench = Bench()
    bench.item()
    bench.do(VerdictGiven(ACCEPTED), PowerFailing(True))
    assert bench.do(Stored()) == [Update("deposit-1", Stage.RETURNED)]
    show, shown = bench.do(Updated())
    assert isinstance(show, Show)
    assert (show.ending, shown) == (Ending.RETURNED, Update("deposit-1", Stage.RETURNED, shown=True))


def test_held_and_unwatched_an_item_is_offered_back_and_called_unresolved() -> None:
    record = DepositRecord("deposit-1", "mineral", 0.9, 10, 5, ALICE)
    bench = Bench(recovered=Recovered(present=record, blind=True))
    bench.do(ItemEntered(0, "deposit-2"), GateFinished(True))
    assert bench.do(ItemLeft()) == [Update("deposit-1", Stage.UNRESOLVED)]


# What speaks against an item that looks right

FALL = (ItemLeft(), ItemDropped(10**15))


def shows(effects: list[Effect]) -> list[tuple[Ending, Reason]]:
    return [(effect.ending, effect.verdict.reason) for effect in effects if isinstance(effect, Show)]


def flags(effects: list[Effect]) -> list[str]:
    return [effect.flag for effect in effects if isinstance(effect, ReportFlag)]


def test_with_evidence_an_item_counts_when_the_gate_has_closed() -> None:
    bench = Bench(evidence=True)
    bench.item()
    bench.do(VerdictGiven(ACCEPTED), Stored())
    assert bench.do(*FALL) == []
    assert bench.machine.state is State.CONFIRMING
    assert bench.do(GateFinished(True)) == []
    assert bench.do(TimedOut()) == [Update("deposit-1", Stage.TAKEN)]
    assert shows(bench.do(Updated())) == [(Ending.ACCEPTED, Reason.NONE)]


@pytest.mark.parametrize(
    ("measures", "reason"),
    [(ItemMeasures(fill=0.6), Reason.NOT_EMPTY), (ItemMeasures(parts=2), Reason.MULTIPLE_ITEMS)],
)
def test_what_the_outline_tells_refuses_it_before_it_is_recorded(measures: ItemMeasures, reason: Reason) -> None:
    bench = Bench(evidence=True)
    bench.item()
    effects = bench.do(VerdictGiven(Verdict(Outcome.ACCEPTED, Reason.NONE, "mineral", 0.9, measures=measures)))
    assert kinds(effects) == [Show, MoveGate]
    assert shows(effects) == [(Ending.RETURNED, reason)]


def test_the_verdict_waits_for_a_scale_that_works_and_its_weight_is_on_record() -> None:
    for weight_kg, refused in ((0.02, False), (0.4, True)):
        bench = Bench(evidence=True)
        bench.do(ItemEntered(bench.now_ns, "deposit-1"), Weighed(bench.now_ns, 0.0), TimedOut())
        assert bench.do(VerdictGiven(ACCEPTED)) == []
        assert bench.machine.state is State.WEIGHING
        assert bench.do(Weighed(bench.now_ns, 0.0)) == [], "the scale has not settled"
        bench.now_s += 1.0
        effects = bench.do(Weighed(bench.now_ns, weight_kg))
        if refused:
            assert shows(effects) == [(Ending.RETURNED, Reason.NOT_EMPTY)]
        else:
            (store,) = effects
            assert isinstance(store, Store)
            assert store.record.weight_kg == weight_kg


def test_a_scale_that_falls_silent_is_not_waited_for_too_long() -> None:
    bench = Bench(evidence=True)
    bench.do(ItemEntered(bench.now_ns, "deposit-1"), Weighed(bench.now_ns, 0.0), TimedOut(), VerdictGiven(ACCEPTED))
    assert kinds(bench.do(TimedOut())) == [Store]


def test_a_hand_is_waited_for_and_refused_if_it_stays() -> None:
    for stays in (False, True):
        bench = Bench(evidence=True)
        bench.item()
        bench.do(HandSeen(True))
        assert bench.do(VerdictGiven(ACCEPTED)) == []
        effects = bench.do(TimedOut() if stays else HandSeen(False))
        assert shows(effects) == ([(Ending.RETURNED, Reason.LET_GO)] if stays else [])
        assert kinds(effects) == ([Show, MoveGate] if stays else [Store])


def test_an_item_taken_out_while_it_is_weighed_is_not_credited() -> None:
    bench = Bench(evidence=True)
    bench.item()
    bench.do(HandSeen(True), VerdictGiven(ACCEPTED))
    assert shows(bench.do(ItemLeft())) == [(Ending.RETURNED, Reason.TAKEN_OUT)]


@pytest.mark.parametrize("recorded", [False, True])
def test_an_item_that_may_have_been_exchanged_is_given_back(recorded: bool) -> None:
    bench = Bench(evidence=True)
    bench.item()
    exchange = (ItemLeft(), ItemEntered(1, "deposit-2"))
    if recorded:
        bench.do(VerdictGiven(ACCEPTED), *exchange)
        assert bench.do(Stored()) == [MoveGate(GateVerb.RETURN)]
        assert bench.do(GateFinished(True), ItemLeft()) == [Update("deposit-1", Stage.RETURNED)]
        assert shows(bench.do(Updated())) == [(Ending.RETURNED, Reason.LET_GO)]
    else:
        assert shows(bench.do(*exchange, VerdictGiven(ACCEPTED))) == [(Ending.RETURNED, Reason.LET_GO)]
    assert MoveGate(GateVerb.ACCEPT) not in bench.effects


@pytest.mark.parametrize(
    ("meanwhile", "ending"),
    [
        ((*FALL, ItemDropped(10**15 + 1), ItemEntered(5, "x"), ItemLeft()), (Ending.UNRESOLVED, Reason.LET_GO)),
        ((ItemLeft(), ItemEntered(5, "x"), *FALL), (Ending.UNRESOLVED, Reason.LET_GO)),
        ((ItemDropped(10**15), ItemDropped(10**15 + 1)), (Ending.UNRESOLVED, Reason.LET_GO)),
        ((*FALL, ItemEntered(5, "x"), ItemLeft()), (Ending.UNRESOLVED, Reason.LET_GO)),
        ((*FALL, ItemEntered(5, "x"), ItemLeft(), ItemDropped(10**15 + 1)), (Ending.ACCEPTED, Reason.NONE)),
        ((*FALL, ItemEntered(5, "x")), (Ending.ACCEPTED, Reason.NONE)),
        ((*FALL, HandSeen(True)), (Ending.ACCEPTED, Reason.NONE)),
        ((*FALL, ItemDropped(10**15 + 1)), (Ending.ACCEPTED, Reason.NONE)),
    ],
    ids=[
        "pulled back",
        "exchanged",
        "beam covered",
        "pulled back at once",
        "thrown in",
        "eager",
        "eager hand",
        "cap falls apart",
    ],
)
def test_what_happens_while_the_gate_moves(meanwhile: tuple[Event, ...], ending: tuple[Ending, Reason]) -> None:
    bench = Bench(evidence=True)
    bench.item()
    bench.do(VerdictGiven(ACCEPTED), Stored())
    effects = bench.do(*meanwhile, GateFinished(True), TimedOut(), Updated())
    assert shows(effects) == [ending]
    assert flags(effects) == (["thrown_in"] if len(strays(effects)) and ItemLeft() in meanwhile[2:] and
                              ending[0] is Ending.ACCEPTED else [])  # fmt: skip


def take(bench: Bench, number: int, verdict: Verdict, beam: bool = True) -> list[Effect]:
    leaves = [ItemLeft()] if beam else []
    return bench.do(
        ItemEntered(bench.now_ns, f"deposit-{number}"), TimedOut(), VerdictGiven(verdict), Stored(), *leaves,
        ItemDropped(10**15), GateFinished(True), TimedOut(), Updated(), TimedOut(),
    )  # fmt: skip


def test_items_that_look_alike_are_marked_and_accepted() -> None:
    bench = Bench(evidence=True)
    same = Verdict(Outcome.ACCEPTED, Reason.NONE, "mineral", 0.9, measures=ItemMeasures(fingerprint=(1.0, 2.0, 0.5)))
    other = Verdict(Outcome.ACCEPTED, Reason.NONE, "mineral", 0.9, measures=ItemMeasures(fingerprint=(2.0, 1.0, 0.5)))
    verdicts = [same, other, same, same, same, same, same, other]
    marked = [flags(take(bench, number, verdict)) for number, verdict in enumerate(verdicts)]
    assert marked == [[]] * 6 + [["same_item"], []]
    assert shows(bench.effects) == [(Ending.ACCEPTED, Reason.NONE)] * 8
    bench.now_s += 3600.0
    assert flags(take(bench, 9, same)) == [], "long ago"


@pytest.mark.parametrize(("left_kg", "ending"), [(0.0, Ending.UNRESOLVED), (0.02, Ending.ACCEPTED)])
def test_where_the_beam_says_that_something_is_left_the_scale_has_to_agree(left_kg: float, ending: Ending) -> None:
    bench = Bench(evidence=True)
    bench.do(ItemEntered(bench.now_ns, "deposit-1"), Weighed(bench.now_ns, 0.0), TimedOut())
    bench.now_s += 1.0
    bench.do(Weighed(bench.now_ns, 0.02), VerdictGiven(ACCEPTED), Stored(), ItemDropped(10**15), GateFinished(True))
    assert bench.do(Weighed(bench.now_ns, 0.01)) == [], "not settled"
    bench.now_s += 1.0
    assert kinds(bench.do(Weighed(bench.now_ns, left_kg))) == [Update]
    assert [told for told, _ in shows(bench.do(Updated()))] == [ending]


def test_a_beam_that_never_gets_free_is_marked() -> None:
    bench = Bench(evidence=True)
    assert [flags(take(bench, number, ACCEPTED, beam=False)) for number in range(3)] == [[], [], ["entry_covered"]]
    bench.do(ItemLeft())
    assert flags(take(bench, 9, ACCEPTED)) == []


def test_a_camera_that_sees_nothing_again_and_again_is_marked() -> None:
    bench = Bench(evidence=True)
    dark = Verdict(Outcome.REJECTED, Reason.PICTURE_DARK)
    for number, expected in enumerate([[], [], ["camera_blinded"], ["camera_blinded"]]):
        bench.do(ItemEntered(bench.now_ns, f"deposit-{number}"), TimedOut())
        assert flags(bench.do(VerdictGiven(dark))) == expected
        bench.do(GateFinished(True), ItemLeft())
    take(bench, 9, ACCEPTED)
    assert bench.machine.picture_faults == 0


def test_a_product_is_worth_what_its_table_says() -> None:
    measured = ItemMeasures(volume_l=0.6)
    for measures, barcode, points in (
        (measured, Barcode(gtin="1", known=True, volume_l=0.6, points=25), 25),
        (ItemMeasures(), Barcode(gtin="1", known=True, volume_l=0.6, points=25), 10),  # a label alone
        (measured, Barcode(gtin="1", known=True, points=25), 10),
        (ItemMeasures(), Barcode(gtin="1", known=True, points=3), 3),
        (measured, Barcode(gtin="1", known=True, points=0), 0),
        (measured, Barcode(gtin="1", known=True), 10),
        (measured, Barcode(gtin="1", points=25), 10),
    ):
        bench = Bench(evidence=True)
        verdict = Verdict(Outcome.ACCEPTED, Reason.NONE, "mineral", 0.9, measures=measures, barcode=barcode)
        effects = take(bench, 1, verdict)
        assert [effect.points for effect in effects if isinstance(effect, Show)] == [points]


@given(st.lists(st.lists(st.floats(-1, 1), min_size=2, max_size=2), max_size=400))
def test_the_memory_of_recent_items_is_bounded(prints: list[list[float]]) -> None:
    recent = RecentItems(window_s=50.0, limit=20)
    for second, fingerprint in enumerate(prints):
        recent.add(fingerprint, float(second))
        assert recent.alike(fingerprint, float(second)) >= (1 if math.hypot(*fingerprint) > 1e-100 else 0)
    assert recent.alike([1.0, 0.0], len(prints) + 51.0) == 0
    assert recent.alike([1.0, 0.0], float(len(prints))) <= 20
    assert math.isnan(recent.alike([], 0.0))
    recent.add([1.0], 0.0)
    assert recent.alike([1.0, 0.0], 0.0) <= 20, "another kind of fingerprint is like none"
