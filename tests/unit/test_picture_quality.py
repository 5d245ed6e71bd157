from __future__ import annotations

import cv2
import numpy as np
import pytest
from myrvm_core.rules import PictureFault
from myrvm_vision.picture_quality import QualityLimits, measure
from myrvm_vision.settings import DetectorSettings
from numpy.typing import NDArray

from myrvm_core import paths

SETTINGS = DetectorSettings()
LIMITS = QualityLimits(SETTINGS.dark_below, SETTINGS.burnt_out_above, SETTINGS.sharpness_below)
PICTURES = sorted((paths.home() / "src/myrvm_sim/myrvm_sim/pictures").glob("*.jpg"))


def read(number: int) -> NDArray[np.uint8]:
    picture = cv2.imread(str(PICTURES[number]))
    assert picture is not None
    return picture.astype(np.uint8, copy=False)


@pytest.mark.parametrize("number", range(0, 80, 4))
def test_pictures_of_the_chamber_are_fine_and_spoilt_ones_are_not(number: int) -> None:
    picture = read(number)
    assert LIMITS.faults(measure(picture)) == frozenset()
    assert PictureFault.DARK in LIMITS.faults(measure((picture * 0.08).astype(np.uint8)))
    bright = np.clip(picture.astype(np.int16) * 4, 0, 255).astype(np.uint8)
    assert PictureFault.OVEREXPOSED in LIMITS.faults(measure(bright))
    blurred = cv2.GaussianBlur(picture, (0, 0), 8).astype(np.uint8)
    assert LIMITS.faults(measure(blurred)) == {PictureFault.BLURRED}


def test_figures_of_known_pictures() -> None:
    half = np.zeros((100, 100, 3), np.uint8)
    half[:, 50:] = 255
    quality = measure(half)
    assert quality.brightness == pytest.approx(127.5)
    assert quality.burnt_out == pytest.approx(0.5)
    flat = measure(np.full((2000, 3, 3), 90, np.uint8))
    assert (flat.brightness, flat.burnt_out, flat.sharpness) == (90.0, 0.0, 0.0)
