"""Barcodes are read at any angle, within the item's box only, and name the product; no barcode turns a verdict."""

from __future__ import annotations

from pathlib import Path
from time import monotonic

import cv2
import numpy as np
import pytest
import zxingcpp
from barcode_pictures import draw
from myrvm_core.verdict import Box, Outcome, Reason, Verdict
from myrvm_vision.barcode_examiner import BarcodeExaminer
from myrvm_vision.barcodes import read
from myrvm_vision.examination import Frame
from myrvm_vision.gtin import normalised
from myrvm_vision.products import ProductTable, from_rows
from numpy.typing import NDArray

SPRING, OTHER = "2000000000015", "2000000000022"
WHOLE = Box(0, 0, 640, 480)
ACCEPTED = Verdict(Outcome.ACCEPTED, Reason.NONE, "mineral", 0.9)


def empty() -> NDArray[np.uint8]:
    noise = np.random.default_rng(5).normal(150, 6, (480, 640, 3))
    return np.clip(noise, 0, 255).astype(np.uint8)


def frame(image: NDArray[np.uint8], box: Box = WHOLE) -> Frame:
    return Frame(image, box, 1)


def examine(tmp_path: Path, *frames: Frame, left_s: float = 60.0) -> Verdict:
    table = ProductTable(tmp_path / "products.db", from_rows([f"{SPRING},Spring 600,mineral,PET,0.6,0.015,0.003,12"]))
    return BarcodeExaminer(table).examine(frames, ACCEPTED, monotonic() + left_s)


@pytest.mark.parametrize("angle_deg", range(0, 360, 15))
def test_a_barcode_is_read_at_any_angle(angle_deg: int) -> None:
    found = read(draw(empty(), SPRING, (320, 240), 2.0, angle_deg), WHOLE)
    assert found is not None
    assert (found.gtin, found.symbology) == (normalised(SPRING), "EAN-13")
    centre = np.array(found.corners_px).reshape(4, 2).mean(axis=0)
    assert np.abs(centre - (320, 240)).max() < 40, "the corners are in the picture's own px"


@pytest.mark.parametrize(
    ("symbology", "text", "gtin"),
    [
        ("EAN13", SPRING, "02000000000015"),
        ("EAN8", "20000011", "00000020000011"),
        ("UPCA", "036000291452", "00036000291452"),
        ("UPCE", "01234565", "00012345000065"),
    ],
)
def test_every_kind_of_retail_barcode_is_read(symbology: str, text: str, gtin: str) -> None:
    found = read(draw(empty(), text, (320, 240), 2.5, 10.0, symbology), WHOLE)
    assert found is not None
    assert found.gtin == gtin


def test_other_codes_and_wrong_check_digits_are_no_gtin(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(draw(empty(), "2000000000015", (320, 240), 2.5, 0.0, "Code128"), WHOLE) is None

    class Misread:
        text, format = "2000000000016", "EAN-13"

    monkeypatch.setattr(zxingcpp, "read_barcodes", lambda *_, **__: [Misread()])
    assert read(empty(), WHOLE) is None


def test_only_what_lies_within_the_items_box_is_read() -> None:
    picture = draw(empty(), SPRING, (150, 240), 2.0, 0.0)
    assert read(picture, Box(20, 150, 290, 330)) is not None
    assert read(picture, Box(350, 100, 600, 400)) is None
    assert read(picture, Box(700, 500, 900, 600)) is None, "outside of the picture"


def test_the_verdict_names_the_product_and_is_the_same_otherwise(tmp_path: Path) -> None:
    picture = draw(empty(), SPRING, (320, 240), 2.0, 20.0)
    verdict = examine(tmp_path, frame(picture), frame(empty()), frame(picture))
    found = verdict.barcode
    assert (found.gtin, found.frames, found.known) == (normalised(SPRING), 2, True)
    assert (found.product, found.class_name, found.points) == ("Spring 600", "mineral", 12)
    assert (found.volume_l, found.empty_mass_kg, found.mass_spread_kg) == (0.6, 0.015, 0.003)
    assert (verdict.outcome, verdict.reason, verdict.class_name) == (Outcome.ACCEPTED, Reason.NONE, "mineral")


def test_an_unknown_product_is_known_by_its_number_alone(tmp_path: Path) -> None:
    found = examine(tmp_path, frame(draw(empty(), OTHER, (320, 240), 2.0, 0.0))).barcode
    assert (found.gtin, found.known, found.points, found.error) == (normalised(OTHER), False, -1, "")


def test_the_barcode_of_most_frames_counts(tmp_path: Path) -> None:
    spring, other = (draw(empty(), text, (320, 240), 2.0, 0.0) for text in (SPRING, OTHER))
    assert examine(tmp_path, frame(other), frame(spring), frame(spring)).barcode.gtin == normalised(SPRING)
    assert examine(tmp_path, frame(other), frame(spring)).barcode.gtin == normalised(OTHER), "the newest of equals"


def test_no_barcode_no_time_and_a_damaged_table_are_said_and_change_nothing(tmp_path: Path) -> None:
    picture = draw(empty(), OTHER, (320, 240), 2.0, 0.0)
    (tmp_path / "products.db").write_text("no database")
    for verdict, error in (
        (examine(tmp_path, frame(empty())), "none was found"),
        (examine(tmp_path, frame(picture), left_s=-1.0), "none was found"),
        (examine(tmp_path, frame(picture)), "cannot be read"),
    ):
        assert error in verdict.barcode.error
        assert (verdict.outcome, verdict.barcode.known) == (Outcome.ACCEPTED, False)


def test_a_blurred_barcode_is_not_misread(tmp_path: Path) -> None:
    picture = draw(empty(), SPRING, (320, 240), 2.0, 0.0)
    for sigma in (1.0, 2.0, 4.0, 8.0):
        blurred = np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)
        found = read(blurred, WHOLE)
        assert found is None or found.gtin == normalised(SPRING)
