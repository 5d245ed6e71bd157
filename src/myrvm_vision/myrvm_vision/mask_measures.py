"""From an outline to figures: length, width, volume, crush, fill, cap, items that touch. Pure functions, no network.

A picture is taken from straight above a belt on which the item lies. How wrong each figure is on held-out renders:
docs/recognition.md, "Outline", and `models/training/segment_evaluate.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

STATIONS = 48  # along the axis
ENDS = 1  # station at which an end's width is taken
SURE = 0.5  # probability from which a place is a part's
EDGE_PX = 2  # an outline that comes so near to the picture's edge is cut by it
TOUCHING_PX = 5  # at 320 px of width: as far as another item may lie from the outline to touch it
TOUCHING_SHARE = 0.02  # of the item's area, that another one must have there
CAP_FROM, CAP_SHARE = 0.34, 0.012  # of the length from the middle; of the item's area
VOLUMES_L = (0.2, 0.25, 0.33, 0.5, 0.75, 1.0, 1.5, 2.0)  # as bottles are sold
# Of the body that an outline encloses when it is turned about its axis; fitted on the renders' validation set.
VOLUME_FACTOR = 0.97
# Of the middle's sideways steps from station to station, in widths: what whole items have, and crush for what is more.
SMOOTHED, STRAIGHT, CRUSH_PER_SWAY = 5, 0.0011, 60.0

Mask = NDArray[np.bool_]
Probability = NDArray[np.float32]


@dataclass(frozen=True)
class View:
    """How the camera sees the belt.

    Args:
        height_m: of the camera above it.
        pixels_per_m: on the belt below it, in the picture as it is measured.
    """

    height_m: float
    pixels_per_m: float

    def to_m(self, length_px: float, above_m: float) -> float:
        """A length seen at a height above the belt, which looks larger there."""
        return length_px / self.pixels_per_m * max(self.height_m - above_m, 0.0) / self.height_m

    def thickness_m(self, width_px: float) -> float:
        """Width of a round body that lies on the belt: its edges are half of it above the belt."""
        seen_m = width_px / self.pixels_per_m
        return seen_m / (1.0 + seen_m / (2.0 * self.height_m))


@dataclass(frozen=True)
class Profile:
    """An outline along its longer axis, at `STATIONS` places from one end to the other.

    Args:
        centre: x and y of the axis' middle, px.
        along, across: unit vectors.
        length_px: of the axis.
        left, right: where the outline begins and ends across the axis, px from it.
    """

    centre: NDArray[np.float64]
    along: NDArray[np.float64]
    across: NDArray[np.float64]
    length_px: float
    left: NDArray[np.float64]
    right: NDArray[np.float64]

    @property
    def widths_px(self) -> NDArray[np.float64]:
        """Across the axis."""
        return self.right - self.left

    @property
    def width_px(self) -> float:
        """Of the body: nearly the widest place, so that a dent or a burr does not count."""
        return float(np.quantile(self.widths_px, 0.9))

    def place(self, station: float, offset_px: float) -> tuple[float, float]:
        """Where it is beside the axis, x and y, px; `station` is 0 at one end and 1 at the other."""
        x, y = self.centre + self.along * (station - 0.5) * self.length_px + self.across * offset_px
        return float(x), float(y)

    def straightened(self, image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
        """The item's part of a picture, turned so that its axis lies along x: height x width of `size`."""
        half = max(-float(self.left.min()), float(self.right.max()), 1.0)
        corners = [self.place(0.0, -half), self.place(1.0, -half), self.place(0.0, half)]
        wanted = [(0, 0), (size[1] - 1, 0), (0, size[0] - 1)]
        matrix = cv2.getAffineTransform(np.array(corners, np.float32), np.array(wanted, np.float32))
        return np.asarray(cv2.warpAffine(image, matrix, (size[1], size[0]), flags=cv2.INTER_LINEAR), np.uint8)


def profile(mask: Mask) -> Profile | None:
    """The outline along its longer axis; none of a mask of less than 20 px."""
    whole = largest(mask)
    if np.count_nonzero(whole) < 20:
        return None
    rows, columns = np.nonzero(whole)
    points = np.column_stack((columns, rows)).astype(np.float32)
    (x, y), (width, height), angle = cv2.minAreaRect(cv2.convexHull(points))
    turn = math.radians(angle if width >= height else angle + 90.0)
    along, across = np.array([math.cos(turn), math.sin(turn)]), np.array([-math.sin(turn), math.cos(turn)])
    centre = np.array([x, y], np.float64)
    length = max(width, height) + 1.0  # pixels have a size
    places = points - centre
    stations = np.clip(((places @ along) / length + 0.5) * STATIONS, 0, STATIONS - 1).astype(int)
    offsets = places @ across
    left, right = np.full(STATIONS, np.inf), np.full(STATIONS, -np.inf)
    np.minimum.at(left, stations, offsets - 0.5)
    np.maximum.at(right, stations, offsets + 0.5)
    known = np.flatnonzero(np.isfinite(left))
    every = np.arange(STATIONS)
    return Profile(
        centre, along, across, length, np.interp(every, known, left[known]), np.interp(every, known, right[known])
    )


def largest(mask: Mask) -> Mask:
    """The largest connected part of a mask."""
    count, labels, figures, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count <= 2:
        return mask
    return labels == 1 + int(np.argmax(figures[1:, cv2.CC_STAT_AREA]))


def is_cut(mask: Mask) -> bool:
    """Whether the item reaches out of the picture, so that nothing of its size is known."""
    border = np.ones_like(mask)
    border[EDGE_PX:-EDGE_PX, EDGE_PX:-EDGE_PX] = False
    return int(np.count_nonzero(mask & border)) > 4 * EDGE_PX


def size_m(shape: Profile, view: View) -> tuple[float, float]:
    """Length and width, m.

    An end is seen where it is highest: a bottom as wide as the body at the body's full height, a neck near its half.
    """
    width = view.thickness_m(shape.width_px)
    ends = (float(shape.widths_px[place]) for place in (ENDS, -1 - ENDS))
    heights = [(width + min(view.thickness_m(end), width)) / 2.0 for end in ends]
    return sum(view.to_m(shape.length_px / 2.0, height) for height in heights), width


def volume_l(shape: Profile, view: View) -> float:
    """Of a round body with such an outline, l; for a crushed one of what it encloses now, if it were round."""
    widths = np.array([view.thickness_m(float(width)) for width in shape.widths_px])
    length, _ = size_m(shape, view)
    return VOLUME_FACTOR * 1000.0 * math.pi / 4.0 * float(np.mean(widths**2)) * length


def volume_class_l(volume: float) -> float:
    """The volume as bottles are sold that is nearest, as a ratio."""
    return min(VOLUMES_L, key=lambda sold: abs(math.log(max(volume, 1e-3) / sold)))


def crush(shape: Profile) -> float:
    """How far the item is from a straight, round body, 0 .. 1, by how much its middle sways along the axis.

    A bottle that is pressed flat from above and stays straight looks like a wide one: this cannot tell.
    """
    middle = np.convolve((shape.left + shape.right) / 2.0, np.ones(SMOOTHED) / SMOOTHED, "valid")
    stations = np.arange(len(middle))
    swaying = middle - np.polyval(np.polyfit(stations, middle, 1), stations)
    sway = float(np.mean(np.abs(np.diff(swaying)))) / max(shape.width_px, 1.0)
    return float(np.clip(CRUSH_PER_SWAY * (sway - STRAIGHT), 0.0, 1.0))


def fill(mask: Mask, liquid: Probability) -> float:
    """Share of the item on which liquid is seen, 0 .. 1: not yet that of its volume, but 0 where it is empty."""
    seen = np.count_nonzero((liquid > SURE) & mask)
    return seen / max(np.count_nonzero(mask), 1)


def fill_line(shape: Profile, mask: Mask, liquid: Probability) -> tuple[float, float, float, float] | None:
    """x, y, x, y of the liquid's surface across the item where it is widest, px; none where there is no liquid."""
    wet = largest((liquid > SURE) & mask)
    rows, columns = np.nonzero(wet)
    if len(rows) < 0.01 * np.count_nonzero(mask):
        return None
    places = np.column_stack((columns, rows)) - shape.centre
    stations = np.clip(((places @ shape.along) / shape.length_px + 0.5) * STATIONS, 0, STATIONS - 1).astype(int)
    offsets = places @ shape.across
    left, right = np.zeros(STATIONS), np.zeros(STATIONS)
    for station in np.unique(stations):
        there = offsets[stations == station]
        left[station], right[station] = there.min() - 0.5, there.max() + 0.5
    widest = int(np.argmax(np.convolve(right - left, np.ones(3) / 3.0, "same")))
    station = (widest + 0.5) / STATIONS
    return *shape.place(station, left[widest]), *shape.place(station, right[widest])


def cap(shape: Profile, mask: Mask, seen: Probability) -> float:
    """Probability that the item has a cap: how surely it is seen on a cap's area at one of the ends."""
    rows, columns = np.nonzero(mask)
    along = (np.column_stack((columns, rows)) - shape.centre) @ shape.along / shape.length_px
    area = max(int(CAP_SHARE * len(rows)), 4)
    ends = (np.sort(seen[rows, columns][place])[-area:] for place in (along < -CAP_FROM, along > CAP_FROM))
    return max((float(end.mean()) for end in ends if len(end)), default=0.0)


def parts(mask: Mask, other: Probability) -> int:
    """How many items touch here: this one, and each of the others at its outline."""
    near = max(round(TOUCHING_PX * mask.shape[1] / 320), 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * near + 1, 2 * near + 1))
    around = cv2.dilate(mask.astype(np.uint8), kernel).astype(bool) & ~mask
    count, labels, figures, _ = cv2.connectedComponentsWithStats(((other > SURE) & ~mask).astype(np.uint8))
    enough = TOUCHING_SHARE * np.count_nonzero(mask)
    touching = [
        number
        for number in range(1, count)
        if figures[number, cv2.CC_STAT_AREA] >= enough and (around & (labels == number)).any()
    ]
    return 1 + len(touching)
