"""Domain types of recognition. Numbers equal the constants of `myrvm_interfaces/msg/Verdict`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum


class Outcome(IntEnum):
    """Accepted or not."""

    ACCEPTED = 1
    REJECTED = 2


class Reason(IntEnum):
    """Why an item is refused; NONE when it is accepted."""

    NONE = 0
    NOTHING_SEEN = 1
    MULTIPLE_ITEMS = 2
    NOT_EMPTY = 3
    REFUSED_MATERIAL = 4
    NOT_A_BOTTLE = 5
    NOT_SURE = 6
    PICTURE_DARK = 7
    PICTURE_OVEREXPOSED = 8
    PICTURE_BLURRED = 9
    NO_PICTURE = 10
    ENGINE_FAILED = 11
    NO_SESSION = 12
    CANNOT_RECORD = 13
    TAKEN_OUT = 14
    GATE_FAILED = 15
    TURN_IT = 16
    LET_GO = 17


@dataclass(frozen=True)
class Box:
    """An upright box, px, origin at the upper left corner."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float


@dataclass(frozen=True)
class Detection:
    """One object in one frame; `score` is 0 .. 1."""

    class_name: str
    class_id: int
    score: float
    box: Box


@dataclass(frozen=True)
class ModelInfo:
    """Which network decided; `sha256` of its file as 64 hexadecimal digits."""

    name: str = ""
    version: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class StageTimes:
    """Durations in s, summed over the frames that voted."""

    wait_s: float = 0.0
    preprocess_s: float = 0.0
    inference_s: float = 0.0
    postprocess_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True)
class ItemMeasures:
    """What the outline of the item says (`msg/ItemMeasures`). NaN: not measured, for the reason in `skipped` if any.

    `fill_line_px`, `outline_px`: x and y of each corner in turn. `fingerprint` is alike for the same item.
    """

    mask_score: float = math.nan
    length_m: float = math.nan
    width_m: float = math.nan
    volume_l: float = math.nan
    crush: float = math.nan
    fill: float = math.nan
    cap: float = math.nan
    parts: int = 0
    fill_line_px: tuple[float, ...] = ()
    outline_px: tuple[float, ...] = ()
    fingerprint: tuple[float, ...] = ()
    duration_s: float = 0.0
    skipped: str = ""


@dataclass(frozen=True)
class Barcode:
    """A barcode on the item, and the product that it stands for (`msg/Barcode`). NaN, points -1: not known."""

    gtin: str = ""
    symbology: str = ""
    frames: int = 0
    corners_px: tuple[float, ...] = ()
    known: bool = False
    product: str = ""
    class_name: str = ""
    volume_l: float = math.nan
    empty_mass_kg: float = math.nan
    mass_spread_kg: float = math.nan
    points: int = -1
    error: str = ""


@dataclass(frozen=True)
class Verdict:
    """The answer to "is this item accepted?"; `frame_stamps_ns` are capture times in ROS time, oldest first."""

    outcome: Outcome
    reason: Reason
    class_name: str = ""
    score: float = 0.0
    box: Box = Box(0.0, 0.0, 0.0, 0.0)
    votes_for: int = 0
    votes_total: int = 0
    frame_stamps_ns: tuple[int, ...] = ()
    model: ModelInfo = field(default_factory=ModelInfo)
    times: StageTimes = field(default_factory=StageTimes)
    measures: ItemMeasures = field(default_factory=ItemMeasures)
    barcode: Barcode = field(default_factory=Barcode)
