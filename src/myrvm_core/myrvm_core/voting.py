"""A vote over the freshest frames: a reason wins with more than half of the frames that were asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import fsum

from myrvm_core.rules import Decision
from myrvm_core.verdict import Box, ModelInfo, Outcome, Reason, StageTimes, Verdict


@dataclass(frozen=True)
class Ballot:
    """One frame's decision, the frame's capture time (ROS time) and how long its stages took, s."""

    stamp_ns: int
    decision: Decision
    preprocess_s: float = 0.0
    inference_s: float = 0.0
    postprocess_s: float = 0.0


@dataclass
class Vote:
    """Collects ballots, at most `frames`; ends early where the rest cannot change the outcome."""

    frames: int
    ballots: list[Ballot] = field(default_factory=list[Ballot])

    @property
    def needed(self) -> int:
        """Ballots that a reason needs to win. Frames that never came count against it."""
        return self.frames // 2 + 1

    def add(self, ballot: Ballot) -> None:
        """Count one frame."""
        self.ballots.append(ballot)

    @property
    def winner(self) -> Reason | None:
        """The reason that has won, None while none has."""
        counts = Counter(ballot.decision.reason for ballot in self.ballots)
        return next((reason for reason, count in counts.items() if count >= self.needed), None)

    @property
    def closed(self) -> bool:
        """Whether another frame could not change the outcome."""
        counts = Counter(ballot.decision.reason for ballot in self.ballots)
        missing = self.frames - len(self.ballots)
        return self.winner is not None or max(counts.values(), default=0) + missing < self.needed

    def verdict(self, model: ModelInfo, wait_s: float, total_s: float) -> Verdict:
        """The outcome of the ballots so far: the winner; NOT_SURE where there is none; NO_PICTURE without a ballot."""
        ballots = sorted(self.ballots, key=lambda ballot: ballot.stamp_ns)
        reason = self.winner if self.winner is not None else Reason.NOT_SURE if ballots else Reason.NO_PICTURE
        outcome = Outcome.ACCEPTED if reason is Reason.NONE else Outcome.REJECTED
        agreeing = [ballot for ballot in ballots if ballot.decision.reason is reason]
        item = agreeing[-1].decision.item if agreeing else None
        return Verdict(
            outcome=outcome,
            reason=reason,
            class_name=item.class_name if item else "",
            score=item.score if item else 0.0,
            box=item.box if item else Box(0.0, 0.0, 0.0, 0.0),
            votes_for=sum(
                (ballot.decision.reason is Reason.NONE) == (outcome is Outcome.ACCEPTED) for ballot in ballots
            ),
            votes_total=len(ballots),
            frame_stamps_ns=tuple(ballot.stamp_ns for ballot in ballots),
            model=model,
            times=StageTimes(
                wait_s=wait_s,
                preprocess_s=fsum(ballot.preprocess_s for ballot in ballots),
                inference_s=fsum(ballot.inference_s for ballot in ballots),
                postprocess_s=fsum(ballot.postprocess_s for ballot in ballots),
                total_s=total_s,
            ),
        )
