"""The demo's plan and judgement: it must see every way in which screen, ledger and bin can disagree."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_sim.demo_report import ACCEPTED, RETURNED, UNRESOLVED, Credit, Happened, Report, Row
from myrvm_sim.physics import Kind
from myrvm_sim.scenario import KINDS, STRANGER, Incident, plan

GOOD = Row(1, "mineral", "alice", "d1", ACCEPTED, place="bin", points=10, latency_s=0.3)
BAD = Row(2, "can", "alice", "d2", RETURNED, place="customer", latency_s=0.5)
CREDIT = Credit("d1", "alice", 10)


def test_agreement() -> None:
    report = Report([GOOD, BAD], [CREDIT])
    assert report.agrees
    assert report.accounts() == {"alice": (10, 10)}
    assert report.latencies_s == pytest.approx((0.4, 0.49))


@pytest.mark.parametrize(
    ("rows", "ledger", "finding"),
    [
        ([GOOD], [], "lost"),
        ([GOOD], [CREDIT, CREDIT], "doubled"),
        ([GOOD], [Credit("d1", "budi", 10)], "wrong_credits"),
        ([GOOD], [Credit("d1", "alice", 9)], "wrong_credits"),
        ([BAD], [Credit("d2", "alice", 10)], "wrong_credits"),
        ([replace(GOOD, place="customer")], [CREDIT], "wrong_places"),
        ([replace(BAD, place="bin")], [], "wrong_places"),
        ([replace(GOOD, outcome=UNRESOLVED)], [], "wrong_places"),
        ([replace(BAD, outcome="")], [], "untold"),
        ([GOOD], [CREDIT], "troubles"),
        ([], [], None),
    ],
)
def test_every_disagreement_is_seen(rows: list[Row], ledger: list[Credit], finding: str | None) -> None:
    report = Report(rows, ledger, troubles=["a node did not come back"] if finding == "troubles" else [])
    assert not report.agrees
    assert finding is None or getattr(report, finding)


def test_an_incident_that_hurts_is_no_success() -> None:
    for survived in (True, False):
        report = Report([GOOD], [CREDIT], [Happened("hand", 1, "the hand was caught", survived)])
        assert report.agrees is survived


@pytest.mark.parametrize("count", [8, 12, 40, 100])
@pytest.mark.parametrize("seed", range(5))
def test_every_plan_has_one_trick(count: int, seed: int) -> None:
    (trick,) = [step for step in plan(count, seed) if step.disguised]
    assert (trick.kind, trick.incident) == (Kind.NOT_EMPTY, None)


def test_tricks_are_counted() -> None:
    full = replace(BAD, kind="not_empty", disguised=True)
    assert Report([GOOD, full], [CREDIT]).tricks == (0, 1)
    paid = replace(full, outcome=ACCEPTED, place="bin", points=10)
    assert Report([GOOD, paid], [CREDIT, Credit("d2", "alice", 10)]).tricks == (1, 1)


def test_wrong_verdicts_are_counted_and_do_not_disturb_the_accounts() -> None:
    taken = replace(BAD, outcome=ACCEPTED, place="bin", points=10)
    refused = replace(GOOD, outcome=RETURNED, place="customer")
    report = Report([taken, refused], [Credit("d2", "alice", 10)])
    assert (report.wrongly_accepted, report.wrongly_refused) == ([2], [1])
    assert report.agrees


def test_forty_items_are_of_all_kinds_half_of_them_wanted() -> None:
    assert Counter(step.kind for step in plan(40, 7)) == KINDS
    assert sum(KINDS.values()) == 40
    assert KINDS[Kind.MINERAL] == 20


@given(st.integers(8, 120), st.integers())
def test_every_plan_has_all_that_happens(count: int, seed: int) -> None:
    steps = plan(count, seed)
    assert steps == plan(count, seed)
    assert [step.number for step in steps] == list(range(1, count + 1))
    assert [step.customer for step in steps if step.customer is not None] == ["alice", STRANGER, "", "budi"]
    assert [step.server_down for step in steps if step.server_down is not None] == [True, False]
    assert {step.incident: step.kind for step in steps if step.incident} == dict.fromkeys(Incident, Kind.MINERAL)
    away, back = (next(step.number for step in steps if step.server_down is down) for down in (True, False))
    assert away <= next(step.number for step in steps if step.customer == STRANGER) < back, "a voucher needs it away"
    assert back <= next(step.number for step in steps if step.customer == "budi"), "budi's token needs the server"


def test_too_few_items_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8"):
        plan(7, 1)
