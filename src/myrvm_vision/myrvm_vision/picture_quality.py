"""Is a picture good enough to judge? Brightness, burnt-out share and sharpness, on a small grey copy.

Sharpness is the variance of the Laplacian. Source: J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield
microscopy: a comparative study", ICPR 2000.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from myrvm_core.rules import PictureFault
from numpy.typing import NDArray

LONGEST_SIDE_PX = 320
BURNT_OUT = 250  # grey level from which a pixel carries no picture


@dataclass(frozen=True)
class Quality:
    """Figures of one picture."""

    brightness: float  # mean grey level, 0 .. 255
    burnt_out: float  # share of pixels, 0 .. 1
    sharpness: float  # variance of the Laplacian, grey levels squared


@dataclass(frozen=True)
class QualityLimits:
    """Where a picture is unusable."""

    dark_below: float
    burnt_out_above: float
    sharpness_below: float

    def faults(self, quality: Quality) -> frozenset[PictureFault]:
        """What is wrong with a picture of this quality."""
        found = {
            PictureFault.DARK: quality.brightness < self.dark_below,
            PictureFault.OVEREXPOSED: quality.burnt_out > self.burnt_out_above,
            PictureFault.BLURRED: quality.sharpness < self.sharpness_below,
        }
        return frozenset(fault for fault, holds in found.items() if holds)


def measure(image: NDArray[np.uint8]) -> Quality:
    """Figures of one picture: height x width x 3, BGR, uint8."""
    scale = min(1.0, LONGEST_SIDE_PX / max(image.shape[:2]))
    size = (max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1))
    grey = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))
    return Quality(
        brightness=float(cv2.mean(grey)[0]),
        burnt_out=float(np.count_nonzero(grey >= BURNT_OUT)) / grey.size,
        sharpness=float(deviation[0, 0] ** 2),
    )
