"""What is known of the item in the machine, as facts for the evidence table. Pure.

`Story` is what the sensors told in their order, `Scale` what lies on it, `RecentItems` what was taken lately; `facts`
puts them together with the verdict. Times are ROS ns and monotonic s.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from myrvm_core.evidence_table import Facts
from myrvm_core.verdict import Reason, Verdict

WEIGHTS = 32  # samples of one item
SILENT_S = 2.0  # a scale that tells nothing for so long is not waited for
PICTURE_REASONS = (Reason.PICTURE_DARK, Reason.PICTURE_OVEREXPOSED, Reason.PICTURE_BLURRED, Reason.NO_PICTURE)
END, BODY = 0.06, (0.25, 0.35, 0.45, 0.55, 0.65, 0.75)  # places along an outline, of its length
WEIGHT_FACTS = ("weight_kg", "weight_spread_kg", "heft_kg_per_l", "weight_deviation")


@dataclass
class Story:
    """What the sensors told of one item; the names are those of the facts."""

    gaps: int = 0
    falls: int = 0
    left: int = 0
    entered_before_fall: int = 0
    entered_after_fall: int = 0
    risen: int = 0  # came past the sensor above the bin first
    left_again: int = 0
    fell_again: int = 0

    @property
    def rose(self) -> int:
        """What came up again after the fall: a thing that is put in falls, or stays."""
        return max(self.risen, self.left_again - self.fell_again)

    def note_entered(self, moved: bool) -> None:
        """The entry's beam is broken anew; `moved`: the gate has been told to take the item."""
        if not moved:
            self.gaps += 1
        elif not self.falls:
            self.entered_before_fall += 1
        else:
            self.entered_after_fall += 1
            self.risen += self.falls > 1 and not self.fell_again

    def note_fall(self) -> None:
        """Something passes the sensor above the bin, one way or the other."""
        self.falls += 1
        self.fell_again += self.entered_after_fall > 0

    def note_left(self) -> None:
        """The entry's beam is free, after the gate was told to take the item."""
        self.left += 1
        self.left_again += self.entered_after_fall > 0


@dataclass
class Scale:
    """The scale under the chamber, as long as one item lies there at rest."""

    quiet_from_ns: int = 0
    weights_kg: deque[float] = field(default_factory=lambda: deque(maxlen=WEIGHTS))
    heard_s: float = -math.inf

    def begin(self, quiet_from_ns: int) -> None:
        """An item has come, or a hand has gone: what was weighed before `quiet_from_ns` tells nothing."""
        self.quiet_from_ns = quiet_from_ns
        self.weights_kg.clear()

    def add(self, at_ns: int, weight_kg: float, now_s: float) -> None:
        """Take a sample; NaN is none."""
        if not math.isnan(weight_kg):
            self.heard_s = now_s
            if at_ns >= self.quiet_from_ns:
                self.weights_kg.append(weight_kg)

    def owes(self, now_s: float) -> bool:
        """Whether a weight will come that has not come yet."""
        return not self.weights_kg and now_s - self.heard_s < SILENT_S

    @property
    def weight_kg(self) -> float | None:
        """Of the item, None where it was not weighed."""
        return median(self.weights_kg) if self.weights_kg else None

    @property
    def spread_kg(self) -> float:
        """Largest less smallest; NaN of fewer than two samples."""
        return max(self.weights_kg) - min(self.weights_kg) if len(self.weights_kg) > 1 else math.nan


@dataclass
class RecentItems:
    """Fingerprints of the items that were taken lately, so many at most; a restart forgets them.

    Args:
        window_s: how long one is remembered.
        similarity: cosine of the angle between two that are alike, -1 .. 1.
        limit: how many are remembered.
    """

    window_s: float = 1800.0
    similarity: float = 0.99
    limit: int = 200
    _taken: deque[tuple[float, tuple[float, ...]]] = field(
        default_factory=lambda: deque[tuple[float, tuple[float, ...]]]()
    )

    def add(self, fingerprint: Sequence[float], now_s: float) -> None:
        """An item was taken; an empty fingerprint is none."""
        if fingerprint:
            self._taken.append((now_s, tuple(fingerprint)))
        while self._taken and (len(self._taken) > self.limit or self._taken[0][0] < now_s - self.window_s):
            self._taken.popleft()

    def alike(self, fingerprint: Sequence[float], now_s: float) -> float:
        """How many of them look like this one; NaN where it has no fingerprint."""
        if not fingerprint:
            return math.nan
        recent = (other for taken_s, other in self._taken if taken_s >= now_s - self.window_s)
        return float(sum(_cosine(fingerprint, other) >= self.similarity for other in recent))


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    """Of the angle between two; NaN, which is alike to nothing, where they cannot be compared."""
    if len(one) != len(other):
        return math.nan
    lengths = math.hypot(*one) * math.hypot(*other)
    return math.fsum(a * b for a, b in zip(one, other, strict=True)) / lengths if lengths else math.nan


def facts(
    verdict: Verdict,
    story: Story,
    scale: Scale,
    hand: bool | None,
    alike: float,
    picture_faults: int,
    since_last_s: float,
) -> dict[str, float | str]:
    """All that is known before the gate moves.

    Args:
        verdict: of the detector.
        story: of the sensors.
        scale: what it showed.
        hand: whether one is in the gate, None where nobody tells.
        alike: items taken lately that look like this one.
        picture_faults: refusals in a row for the picture's sake.
        since_last_s: since the last item was taken.
    """
    measures, barcode = verdict.measures, verdict.barcode
    weight_kg = math.nan if scale.weight_kg is None else scale.weight_kg
    known_volume_l = barcode.volume_l if barcode.known else math.nan
    volume_l = measures.volume_l if math.isnan(known_volume_l) else known_volume_l
    found: dict[str, float | str] = {
        "class": verdict.class_name,
        "score": verdict.score,
        "mask_score": measures.mask_score,
        "length_m": measures.length_m,
        "width_m": measures.width_m,
        "slenderness": _ratio(measures.length_m, measures.width_m),
        "taper": taper(measures.outline_px) if measures.fingerprint else math.nan,  # else it may be cut by the edge
        "volume_l": measures.volume_l,
        "crush": measures.crush,
        "fill": measures.fill,
        "cap": measures.cap,
        "parts": measures.parts or math.nan,
        "weight_kg": weight_kg,
        "weight_spread_kg": scale.spread_kg,
        "heft_kg_per_l": _ratio(weight_kg, volume_l),
        "barcode": ("known" if barcode.known else "unknown" if barcode.gtin else "none"),
        "volume_ratio": _ratio(measures.volume_l, known_volume_l),
        "hand": "" if hand is None else "inside" if hand else "away",
        "gaps": story.gaps,
        "since_last_s": since_last_s,
        "alike": alike,
        "picture_faults": picture_faults,
    }
    if barcode.known:
        found["product_class"] = "same" if barcode.class_name in ("", verdict.class_name) else "other"
        found["weight_deviation"] = _ratio(weight_kg - barcode.empty_mass_kg, barcode.mass_spread_kg)
    return found


def late_facts(story: Story, scale: Scale, taken_since_free: int) -> Facts:
    """What is known in addition when the gate has closed; `scale` then, not before."""
    return {
        "weight_left_kg": math.nan if scale.weight_kg is None else scale.weight_kg,
        "falls": story.falls,
        "left": story.left,
        "entered_before_fall": story.entered_before_fall,
        "entered_after_fall": story.entered_after_fall,
        "rose": story.rose,
        "taken_since_free": taken_since_free,
    }


def taper(outline_px: Sequence[float]) -> float:
    """Width of the narrower end of an outline by that of its body; NaN where there is no such outline.

    Args:
        outline_px: x and y of its corners in turn.
    """
    corners = list(zip(outline_px[::2], outline_px[1::2], strict=False))
    turned = _along_the_axis(corners)
    if not turned:
        return math.nan
    first, last = min(x for x, _ in turned), max(x for x, _ in turned)
    widths = [_width(turned, first + place * (last - first)) for place in (END, *BODY, 1.0 - END)]
    return _ratio(min(widths[0], widths[-1]), sorted(widths[1:-1])[-2])


def _along_the_axis(corners: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The corners seen from the centre of the area, its longer axis along x; none of an outline without area."""
    pairs = list(zip(corners, corners[1:] + corners[:1], strict=True))
    area = math.fsum(x * w - u * y for (x, y), (u, w) in pairs) / 2.0
    if len(corners) < 3 or abs(area) < 1.0:
        return []
    left = math.fsum((x + u) * (x * w - u * y) for (x, y), (u, w) in pairs) / (6.0 * area)
    top = math.fsum((y + w) * (x * w - u * y) for (x, y), (u, w) in pairs) / (6.0 * area)
    moved = [((x - left, y - top), (u - left, w - top)) for (x, y), (u, w) in pairs]
    # Second moments of the area: its longer axis is where it reaches furthest.
    xx = math.fsum((x * x + x * u + u * u) * (x * w - u * y) for (x, y), (u, w) in moved) / 12.0 / area
    yy = math.fsum((y * y + y * w + w * w) * (x * w - u * y) for (x, y), (u, w) in moved) / 12.0 / area
    xy = math.fsum((x * w + 2.0 * x * y + 2.0 * u * w + u * y) * (x * w - u * y) for (x, y), (u, w) in moved)
    turn = math.atan2(2.0 * xy / 24.0 / area, xx - yy) / 2.0
    cosine, sine = math.cos(turn), math.sin(turn)
    return [(x * cosine + y * sine, y * cosine - x * sine) for (x, y), _ in moved]


def _width(corners: list[tuple[float, float]], at: float) -> float:
    """Of an outline across x, between its outermost crossings there."""
    crossings = [
        y + (w - y) * (at - x) / (u - x)
        for (x, y), (u, w) in zip(corners, corners[1:] + corners[:1], strict=True)
        if (x - at) * (u - at) < 0.0
    ]
    return max(crossings) - min(crossings) if crossings else 0.0


def _ratio(value: float, by: float) -> float:
    return value / by if by > 0.0 else math.nan
