"""Domain types survive the way through their messages."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.verdict import Barcode, ItemMeasures, Outcome, Reason, Verdict
from myrvm_ros.conversions import verdict_from_message, verdict_to_message

FLOAT32 = st.floats(width=32, allow_infinity=False)
TEXT = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=20)


def corners(most: int) -> st.SearchStrategy[tuple[float, ...]]:
    return st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=most).map(tuple)


MEASURES = st.builds(
    ItemMeasures,
    *[FLOAT32] * 7,
    parts=st.integers(0, 255),
    fill_line_px=corners(4),
    outline_px=corners(256),
    fingerprint=corners(64),
    duration_s=FLOAT32,
    skipped=TEXT,
)
BARCODES = st.builds(
    Barcode,
    gtin=st.from_regex(r"\d{8,14}", fullmatch=True),
    symbology=TEXT,
    frames=st.integers(0, 255),
    corners_px=corners(8),
    known=st.booleans(),
    product=TEXT,
    class_name=TEXT,
    volume_l=FLOAT32,
    empty_mass_kg=FLOAT32,
    mass_spread_kg=FLOAT32,
    error=TEXT,
)


def same(first: Any, second: Any) -> bool:
    """Equal, NaN with NaN."""
    return all(
        a == b or (isinstance(a, float) and math.isnan(a) and math.isnan(b))
        for a, b in ((getattr(first, f.name), getattr(second, f.name)) for f in fields(first))
    )


@given(MEASURES, BARCODES)
def test_the_evidence_of_a_verdict_survives_its_message(measures: ItemMeasures, barcode: Barcode) -> None:
    verdict = Verdict(Outcome.ACCEPTED, Reason.NONE, "mineral", 0.5, measures=measures, barcode=barcode)

    again = verdict_from_message(verdict_to_message(verdict))

    assert same(again.measures, measures)
    assert same(again.barcode, barcode)
    assert again.outcome is Outcome.ACCEPTED
