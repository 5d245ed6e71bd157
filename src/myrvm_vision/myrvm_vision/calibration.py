"""From a network's score to the probability that the detection is right, so that a threshold means what it says.

Temperature scaling with a bias, on the log-odds. Source: C. Guo et al., "On calibration of modern neural networks",
ICML 2017; J. Platt, "Probabilistic outputs for support vector machines", 1999. It keeps the order of scores.
"""

from __future__ import annotations

import math
from dataclasses import replace

from myrvm_core.verdict import Detection
from pydantic import BaseModel, ConfigDict, Field

LOWEST = 1e-6  # scores are kept this far from 0 and 1, where the log-odds have no bound


class Calibration(BaseModel):
    """`calibration` of a model in the manifest, where figures for people are beside it; the default changes nothing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    temperature: float = Field(default=1.0, gt=0.0, le=100.0, allow_inf_nan=False)
    bias: float = Field(default=0.0, ge=-100.0, le=100.0, allow_inf_nan=False)

    @property
    def changes_nothing(self) -> bool:
        """Whether scores stay as they are."""
        return self.temperature == 1.0 and self.bias == 0.0

    def probability(self, score: float) -> float:
        """That a detection of this score, 0 .. 1, is right; rises with the score."""
        if self.changes_nothing:
            return score
        kept = min(max(score, LOWEST), 1.0 - LOWEST)
        log_odds = math.log(kept / (1.0 - kept)) / self.temperature + self.bias
        # Of the two forms the one that cannot overflow.
        if log_odds >= 0.0:
            return 1.0 / (1.0 + math.exp(-log_odds))
        return math.exp(log_odds) / (1.0 + math.exp(log_odds))

    def applied(self, detections: tuple[Detection, ...]) -> tuple[Detection, ...]:
        """The same detections in the same order, each with its probability as score."""
        if self.changes_nothing:
            return detections
        return tuple(replace(found, score=self.probability(found.score)) for found in detections)
