"""A closer look at an item that the vote accepts, before the verdict is given: outline, barcode. No ROS.

Each `Examiner` adds what it found to the verdict; what it means is decided elsewhere, with the weight and the sensors'
sequence (`myrvm_core.evidence_table`). An examiner never turns a verdict, and one that fails says so in its findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from myrvm_core.verdict import Box, Verdict
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """A frame that voted for the verdict: height x width x 3, BGR, uint8, and the item's box in it, px."""

    image: NDArray[np.uint8]
    box: Box
    stamp_ns: int


class Examiner(Protocol):
    """Looks for one thing. Used by one thread at a time."""

    def examine(self, frames: Sequence[Frame], verdict: Verdict, deadline_s: float) -> Verdict:
        """The verdict with what was found, or why nothing was.

        Args:
            frames: those that voted for it, newest first, at least one.
            verdict: as the vote and the examiners before it gave it.
            deadline_s: monotonic time at which the answer is due.
        """
        ...

    def skip(self, verdict: Verdict, why: str) -> Verdict:
        """The verdict with the reason why nothing was looked for."""
        ...

    def close(self) -> None:
        """Release what it holds. May be called again."""
        ...
