"""The closer look at an item that the vote accepts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from myrvm_core.rules import Decision, Findings
from myrvm_core.verdict import Box, Detection, Outcome, Reason, Verdict
from myrvm_core.voting import Ballot, Vote
from myrvm_vision.classification import EXAMINED, Request, allowed_s
from myrvm_vision.examination import Frame
from myrvm_vision.recognizer import Look, Recognizer
from myrvm_vision.settings import DetectorSettings

VERDICT = Verdict(Outcome.ACCEPTED, Reason.NONE, "mineral", 0.9)
FRAME = Frame(np.zeros((4, 4, 3), np.uint8), Box(0, 0, 4, 4), 1)


class Notes:
    """An examiner that notes whether it looked, and may take its time."""

    def __init__(self, lasts_s: float = 0.0) -> None:
        self.lasts_s = lasts_s

    def examine(self, frames: Sequence[Frame], verdict: Verdict, deadline_s: float) -> Verdict:
        if self.lasts_s:
            while time.monotonic() < deadline_s:
                pass
        return self.skip(verdict, f"looked at {len(frames)}")

    def skip(self, verdict: Verdict, why: str) -> Verdict:
        skipped = f"{verdict.measures.skipped}{why};"
        return replace(verdict, measures=replace(verdict.measures, skipped=skipped))

    def close(self) -> None:
        """Nothing is held."""


def recognizer(*examiners: Notes) -> Recognizer:
    """Without a network: only examiners are asked."""
    nothing = cast(Any, None)
    return Recognizer(nothing, nothing, nothing, nothing, DetectorSettings(examine_s=0.05), examiners)


def test_each_examiner_looks_in_turn() -> None:
    assert recognizer(Notes(), Notes()).examine([FRAME], VERDICT).measures.skipped == "looked at 1;looked at 1;"


def test_what_the_budget_does_not_allow_is_skipped_with_the_reason() -> None:
    verdict = recognizer(Notes(lasts_s=1.0), Notes()).examine([FRAME], VERDICT)

    assert verdict.measures.skipped == "looked at 1;no time is left;"


def test_without_a_frame_nothing_is_looked_at() -> None:
    assert recognizer(Notes()).examine([], VERDICT).measures.skipped == "no frame shows it;"


def request_with(*reasons: Reason) -> Request:
    request = Request(0, Vote(len(reasons)), None, 0.0)
    for number, reason in enumerate(reasons):
        item = Detection("mineral", 0, 0.9, Box(number, 0, 4, 4))
        ballot = Ballot(number, Decision(reason, item))
        request.add(number, Look(cast(Any, None), Findings((item,)), ballot))
    return request


def test_the_newest_frames_that_agree_are_examined() -> None:
    no, yes = Reason.NOT_SURE, Reason.NONE
    request = request_with(yes, no, yes, yes, yes)

    frames = request.frames(yes, lambda _: FRAME.image)

    assert [frame.stamp_ns for frame in frames] == [4, 3, 2]
    assert len(frames) == EXAMINED


def test_a_closed_vote_wants_no_frame() -> None:
    request = request_with(Reason.NONE)
    assert request.wants(5)
    request.closed = True
    assert not request.wants(5)


@pytest.mark.parametrize(
    ("asked_s", "allowed"), [(1.0, 1.0), (0.0, 2.0), (-1.0, 2.0), (float("nan"), 2.0), (0.01, 0.1), (1e9, 30.0)]
)
def test_a_vote_lasts_as_asked_within_bounds(asked_s: float, allowed: float) -> None:
    assert allowed_s(asked_s, 2.0) == allowed
