from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.rules import Decision
from myrvm_core.verdict import Box, Detection, ModelInfo, Outcome, Reason
from myrvm_core.voting import Ballot, Vote

REASONS = st.sampled_from([Reason.NONE, Reason.NOT_EMPTY, Reason.NOTHING_SEEN, Reason.NOT_SURE])


def ballot(reason: Reason, stamp_ns: int = 0, score: float = 0.9) -> Ballot:
    seen = Detection("mineral", 0, score, Box(0, 0, 10, 10)) if reason is not Reason.NOTHING_SEEN else None
    return Ballot(stamp_ns, Decision(reason, seen, 1), 0.001, 0.02, 0.002)


def vote(frames: int, *reasons: Reason) -> Vote:
    counted = Vote(frames)
    for stamp_ns, reason in enumerate(reasons):
        counted.add(ballot(reason, stamp_ns))
    return counted


@pytest.mark.parametrize(
    ("frames", "reasons", "outcome", "reason"),
    [
        (1, [Reason.NONE], Outcome.ACCEPTED, Reason.NONE),
        (3, [Reason.NONE, Reason.NONE], Outcome.ACCEPTED, Reason.NONE),
        (3, [Reason.NONE, Reason.NOT_EMPTY, Reason.NONE], Outcome.ACCEPTED, Reason.NONE),
        (3, [Reason.NOT_EMPTY, Reason.NONE, Reason.NOT_EMPTY], Outcome.REJECTED, Reason.NOT_EMPTY),
        (3, [Reason.NONE, Reason.NOT_EMPTY, Reason.NOTHING_SEEN], Outcome.REJECTED, Reason.NOT_SURE),
        (2, [Reason.NONE, Reason.NOT_EMPTY], Outcome.REJECTED, Reason.NOT_SURE),
        (3, [Reason.NONE], Outcome.REJECTED, Reason.NOT_SURE),
        (3, [], Outcome.REJECTED, Reason.NO_PICTURE),
    ],
)
def test_verdicts(frames: int, reasons: list[Reason], outcome: Outcome, reason: Reason) -> None:
    verdict = vote(frames, *reasons).verdict(ModelInfo("m", "1", "0" * 64), 0.01, 0.2)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)
    assert verdict.votes_total == len(reasons)
    assert verdict.model.name == "m"


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.lists(REASONS, min_size=n, max_size=n))))
def test_ending_early_never_changes_the_verdict(case: tuple[int, list[Reason]]) -> None:
    frames, reasons = case
    early = Vote(frames)
    for stamp_ns, reason in enumerate(reasons):
        if not early.closed:
            early.add(ballot(reason, stamp_ns))
    assert early.closed
    first, whole = (one.verdict(ModelInfo(), 0, 0) for one in (early, vote(frames, *reasons)))
    assert (first.outcome, first.reason) == (whole.outcome, whole.reason)


@given(st.integers(1, 7), st.lists(REASONS, max_size=7), st.randoms())
def test_accepted_only_by_more_than_half_whatever_the_order(frames: int, reasons: list[Reason], random: object) -> None:
    reasons = reasons[:frames]
    verdict = vote(frames, *reasons).verdict(ModelInfo(), 0.0, 0.0)
    assert (verdict.outcome is Outcome.ACCEPTED) == (reasons.count(Reason.NONE) * 2 > frames)
    assert 0 <= verdict.votes_for <= verdict.votes_total == len(reasons)
    shuffled = sorted(reasons, reverse=True)
    assert vote(frames, *shuffled).verdict(ModelInfo(), 0.0, 0.0).reason is verdict.reason


def test_the_item_is_that_of_the_newest_frame_that_agrees_and_times_are_summed() -> None:
    counted = Vote(3)
    for one in (ballot(Reason.NONE, 30, 0.8), ballot(Reason.NONE, 10, 0.95), ballot(Reason.NOT_EMPTY, 40)):
        counted.add(one)
    verdict = counted.verdict(ModelInfo(), 0.05, 0.2)
    assert (verdict.class_name, verdict.score, verdict.votes_for) == ("mineral", 0.8, 2)
    assert verdict.frame_stamps_ns == (10, 30, 40)
    assert verdict.times.inference_s == pytest.approx(0.06)
    assert (verdict.times.wait_s, verdict.times.total_s) == (0.05, 0.2)


def test_an_empty_vote_has_floats_only() -> None:
    times = Vote(3).verdict(ModelInfo(), 0.0, 0.0).times
    assert all(isinstance(value, float) for value in vars(times).values())
