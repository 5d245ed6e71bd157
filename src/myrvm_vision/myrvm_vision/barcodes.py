"""Reads the barcode of an item: EAN-13, EAN-8, UPC-A and UPC-E, at any angle, by zxing-cpp. No ROS.

zxing-cpp looks along and across a picture; a barcode that lies between is found in one that is turned by 45 degrees.
It writes a UPC-E out as the UPC-A that it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import cv2
import numpy as np
import zxingcpp
from myrvm_core.verdict import Box
from numpy.typing import NDArray

from myrvm_vision.gtin import normalised

FORMATS = zxingcpp.barcode_formats_from_str("EAN13|EAN8|UPCA|UPCE")
MARGIN = 0.05  # of the box's sides: the detector's box may be a little too small
SMALL_PX = 900  # a picture whose longer side is shorter is looked at enlarged, too
TURNS_DEG = (0.0, 45.0)


@dataclass(frozen=True)
class Reading:
    """A barcode in one picture. `gtin` has 14 digits, `corners_px` x and y of the four corners."""

    gtin: str
    symbology: str
    corners_px: tuple[float, ...]


def read(image: NDArray[np.uint8], box: Box, deadline_s: float = float("inf")) -> Reading | None:
    """The first barcode with a right check digit within a box; None where there is none, or no time is left.

    Args:
        image: height x width x 3, BGR, uint8.
        box: of the item, px.
        deadline_s: monotonic; no further view is begun after it.
    """
    crop, left, top = _cut(image, box)
    if not crop.size:
        return None
    for view, to_crop in _views(crop):
        if monotonic() >= deadline_s:
            return None
        for found in zxingcpp.read_barcodes(view, formats=FORMATS, try_invert=False):
            with suppress(ValueError):  # a misread one
                return Reading(normalised(found.text), str(found.format), _corners(found, to_crop, left, top))
    return None


def _cut(image: NDArray[np.uint8], box: Box) -> tuple[NDArray[np.uint8], int, int]:
    height, width = image.shape[:2]
    wide, high = MARGIN * (box.x_max - box.x_min), MARGIN * (box.y_max - box.y_min)
    left, top = max(0, int(box.x_min - wide)), max(0, int(box.y_min - high))
    right, bottom = min(width, int(box.x_max + wide) + 1), min(height, int(box.y_max + high) + 1)
    crop = image[top:bottom, left:right]
    return (np.asarray(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), np.uint8) if crop.size else crop), left, top


def _views(crop: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float64]]]:
    """Pictures to look at, and the matrix (2 x 3) by which each one's px become the crop's."""
    height, width = crop.shape[:2]
    scales = (1.0, 2.0) if max(height, width) < SMALL_PX else (1.0,)
    for scale in scales:
        for turn in TURNS_DEG:
            if scale == 1.0 and turn == 0.0:
                yield crop, np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
                continue
            matrix = cv2.getRotationMatrix2D((width / 2.0, height / 2.0), turn, scale)
            sine, cosine = abs(matrix[0, 1]), abs(matrix[0, 0])
            wide, high = round(width * cosine + height * sine), round(width * sine + height * cosine)
            matrix[:, 2] += (wide / 2.0 - width / 2.0, high / 2.0 - height / 2.0)
            view = cv2.warpAffine(crop, matrix, (wide, high), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            yield np.asarray(view, np.uint8), np.asarray(cv2.invertAffineTransform(matrix), np.float64)


def _corners(found: zxingcpp.Barcode, to_crop: NDArray[np.float64], left: int, top: int) -> tuple[float, ...]:
    place = found.position
    corners = (place.top_left, place.top_right, place.bottom_right, place.bottom_left)
    points = [(corner.x, corner.y, 1.0) for corner in corners]
    return tuple(float(value) for value in (np.array(points) @ to_crop.T + (left, top)).ravel())
