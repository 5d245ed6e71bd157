"""One item that is being classified: which frames may vote, and those that did. No ROS."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from myrvm_core.verdict import Reason, Verdict
from myrvm_core.voting import Vote
from numpy.typing import NDArray

from myrvm_vision.examination import Frame
from myrvm_vision.recognizer import Look

EXAMINED = 3  # frames of one item


def allowed_s(asked_s: float, default_s: float) -> float:
    """How long a vote may last, s: as asked within 0.1 .. 30, the default where nothing sensible is asked."""
    return min(max(asked_s, 0.1), 30.0) if math.isfinite(asked_s) and asked_s > 0.0 else default_s


def summary(verdict: Verdict) -> dict[str, str | float]:
    """A verdict for the log."""
    return {
        "outcome": verdict.outcome.name, "reason": verdict.reason.name, "class_name": verdict.class_name,
        "score": round(verdict.score, 3), "votes": f"{verdict.votes_for}/{verdict.votes_total}",
        "total_s": round(verdict.times.total_s, 3),
    }  # fmt: skip


@dataclass
class Request:
    """A call of `detector/classify`; `answer` and the frames are the node's. Times are ROS ns and monotonic s."""

    arrived_ns: int
    vote: Vote
    answer: Any
    begun_s: float
    cancel: Callable[[], None] = lambda: None
    wait_s: float = 0.0
    last_ns: int = -1
    closed: bool = False
    voted: list[tuple[Any, Look]] = field(default_factory=list[tuple[Any, Look]])

    def wants(self, stamp_ns: int) -> bool:
        """Whether a frame may vote: never one older than the item's arrival, none twice, none after the vote."""
        return not self.closed and stamp_ns >= self.arrived_ns and stamp_ns > self.last_ns

    def add(self, message: Any, look: Look) -> None:
        """Count a frame."""
        self.vote.add(look.ballot)
        self.voted.append((message, look))

    def restart(self, votes: int) -> None:
        """Forget what was seen: another model judges from now on, and an item is judged by one."""
        if not self.closed:
            self.vote, self.voted = Vote(votes), []

    def shown(self) -> Any | None:
        """The newest that voted and shows an item, None where none does: a picture without one is nobody's business."""
        return next((message for message, look in reversed(self.voted) if look.findings.items), None)

    def frames(self, reason: Reason, decode: Callable[[Any], NDArray[np.uint8]]) -> list[Frame]:
        """The newest that voted for it and show an item, newest first; a frame that cannot be decoded did not vote."""
        newest = [
            (message, look.ballot.stamp_ns, look.ballot.decision.item)
            for message, look in reversed(self.voted)
            if look.ballot.decision.reason is reason
        ]
        return [Frame(decode(message), item.box, stamp_ns) for message, stamp_ns, item in newest[:EXAMINED] if item]
