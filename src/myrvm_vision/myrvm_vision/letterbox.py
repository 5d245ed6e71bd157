"""Letterbox: a picture scaled into the network's input, grey where it does not reach, and boxes scaled back.

Equal to `ultralytics.data.augment.LetterBox` and `ultralytics.utils.ops.scale_boxes` (held to it by a test).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

PADDING = 114  # grey level, ultralytics


@dataclass(frozen=True)
class Placement:
    """Where the picture lies in the input, px; `width` and `height` are those of the scaled picture."""

    picture_height: int
    picture_width: int
    left: int
    top: int
    width: int
    height: int

    def to_picture(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Boxes (n, 4: x_min, y_min, x_max, y_max) from input to picture coordinates, cut at the picture's edges."""
        scale_x, scale_y = self.width / self.picture_width, self.height / self.picture_height
        shifted = boxes - np.array([self.left, self.top] * 2, np.float32)
        scaled = shifted / np.array([scale_x, scale_y] * 2, np.float32)
        edges = np.array([self.picture_width, self.picture_height] * 2, np.float32)
        return np.clip(scaled, 0.0, edges)


def place(picture: tuple[int, int], size: tuple[int, int], stride: int = 0) -> tuple[Placement, tuple[int, int]]:
    """Where a picture goes, and the input's size.

    Args:
        picture: height and width, px.
        size: height and width of the network's input, px.
        stride: 0 pads to the whole of `size` (a fixed input); else only to the next multiple of it.
    """
    scale = min(size[0] / picture[0], size[1] / picture[1])
    height, width = max(round(picture[0] * scale), 1), max(round(picture[1] * scale), 1)
    pad_y, pad_x = size[0] - height, size[1] - width
    if stride:
        pad_y, pad_x = pad_y % stride, pad_x % stride
    top, left = round(pad_y / 2 - 0.1), round(pad_x / 2 - 0.1)
    return Placement(picture[0], picture[1], left, top, width, height), (height + pad_y, width + pad_x)


class Letterbox:
    """Turns BGR pictures into network input, in buffers that are made once for each size of picture.

    Args:
        size: height and width of the network's input, px.
        stride: see `place`.
        dtype: number type of the input, float32 or float16.
    """

    def __init__(self, size: tuple[int, int], stride: int = 0, dtype: type[Any] = np.float32) -> None:
        self._size = size
        self._stride = stride
        self._dtype = dtype
        self._picture_shape: tuple[int, int] | None = None

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray[Any], Placement]:
        """The input for one picture.

        Args:
            image: height x width x 3, BGR, uint8.

        Returns:
            1 x 3 x height x width, RGB, `dtype`, 0 .. 1 (valid until the next call), and where the picture lies in it.
        """
        if image.shape[:2] != self._picture_shape:
            self._prepare(image.shape[0], image.shape[1])
        place = self._placement
        if (place.height, place.width) == image.shape[:2]:
            self._inside[:] = image
        else:
            cv2.resize(image, (place.width, place.height), dst=self._inside, interpolation=cv2.INTER_LINEAR)
        cv2.split(self._canvas, self._blue_green_red)
        # A quotient, as ultralytics has it: the product with 1 / 255 differs in the last place.
        np.divide(self._planes, np.float32(255.0), out=self._input[0], casting="same_kind")
        return self._input, place

    def _prepare(self, height: int, width: int) -> None:
        self._placement, size = place((height, width), self._size, self._stride)
        self._canvas = np.full((*size, 3), PADDING, np.uint8)
        top, left = self._placement.top, self._placement.left
        self._inside = self._canvas[top : top + self._placement.height, left : left + self._placement.width]
        self._planes = np.empty((3, *size), np.uint8)  # red, green, blue
        self._blue_green_red = [self._planes[2], self._planes[1], self._planes[0]]
        self._input = np.empty((1, 3, *size), self._dtype)
        self._picture_shape = (height, width)
