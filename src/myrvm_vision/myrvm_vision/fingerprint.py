"""What an item looks like in 63 numbers, alike when it lies otherwise: form, colours and print along its axis.

A unit vector: the cosine of two of them is at least `ALIKE` for the same item and less for most others. How often it
errs: docs/recognition.md, "Outline". It tells items of one design from others, not two bottles of one design.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from myrvm_vision.mask_measures import Mask, Profile

ALIKE = 0.99  # cosine, chosen on the validation set
BINS = 12  # along the axis
ACROSS_PX, ALONG_PX = 24, 96  # of the straightened picture
# How much items differ in width over length, lightness, two colours, print (0 .. 255), and size.
SPREAD_WIDTH, SPREAD_LIGHT, SPREAD_COLOUR, SPREAD_PRINT, SPREAD_SIZE = 0.06, 40.0, 12.0, 16.0, 0.15
SHARE = 0.05  # of the numbers against the constant first: makes the limit between same and other `ALIKE`
TYPICAL_LENGTH = 0.5  # of the picture's width


def fingerprint(image: NDArray[np.uint8], mask: Mask, shape: Profile) -> tuple[float, ...]:
    """Of an item in a picture (BGR); `shape` is of its outline `mask`."""
    colours = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2Lab), np.uint8)
    straight = shape.straightened(colours, (ACROSS_PX, ALONG_PX)).astype(np.float32)
    inside = shape.straightened(mask.astype(np.uint8), (ACROSS_PX, ALONG_PX)) > 0
    # What is known across each bin: mean and spread of lightness, mean of the two colours.
    pixels = straight.reshape(ACROSS_PX, BINS, -1, 3).transpose(1, 0, 2, 3).reshape(BINS, -1, 3)
    weight = inside.reshape(ACROSS_PX, BINS, -1).transpose(1, 0, 2).reshape(BINS, -1, 1).astype(np.float32) + 1e-6
    mean = (pixels * weight).sum(1) / weight.sum(1)
    spread = np.sqrt((((pixels - mean[:, None]) ** 2) * weight).sum(1) / weight.sum(1))[:, 0]
    widths = shape.widths_px.reshape(BINS, -1).mean(1) / shape.length_px
    rows = np.stack(
        (
            (widths - 0.3) / SPREAD_WIDTH,
            (mean[:, 0] - 128.0) / SPREAD_LIGHT,
            (mean[:, 1] - 128.0) / SPREAD_COLOUR,
            (mean[:, 2] - 128.0) / SPREAD_COLOUR,
            (spread - 20.0) / SPREAD_PRINT,
        )
    )
    size = np.log(shape.length_px / image.shape[1] / TYPICAL_LENGTH) / SPREAD_SIZE
    vector = np.concatenate(([1.0], SHARE * _from_either_end(rows), [SHARE * size * BINS**0.5]))
    return tuple(float(number) for number in vector / np.linalg.norm(vector))


def _from_either_end(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """The same numbers whichever end comes first: what both ends have in common, and how far they differ."""
    half = BINS // 2
    first, second = rows[:, :half], rows[:, ::-1][:, :half]
    return np.concatenate(((first + second) / 2.0**0.5, np.abs(first - second) / 2.0**0.5)).ravel()
