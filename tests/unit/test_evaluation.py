"""The figures of an evaluation on cases whose answer is known, and the command on a network of a millisecond."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import evaluate
import figures
import numpy as np
import photographs
import picture_sets
import pytest
import toy_network
from evaluation_page import failure
from figures import Judged, interval, pairs, reliability, risk_coverage
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.rules import Decision, Findings
from myrvm_core.verdict import Box, Detection, Reason
from picture_sets import CLASSES, Item, Picture

from myrvm_core import paths, rules

LEFT, RIGHT = (10.0, 10.0, 50.0, 50.0), (100.0, 10.0, 150.0, 50.0)


def found(name: str, score: float, sides: picture_sets.Sides) -> Detection:
    return Detection(name, CLASSES.index(name), score, Box(*sides))


def judged(
    items: list[tuple[str | None, picture_sets.Sides]],
    detections: list[Detection],
    reason: Reason = Reason.REFUSED_MATERIAL,
    kind: str = "mineral",
    slices: tuple[str, ...] = (),
) -> Judged:
    picture = Picture(Path("a.jpg"), kind, tuple(Item(name, sides) for name, sides in items), slices)
    best = detections[0] if detections else None
    return Judged(picture, Findings(tuple(detections)), Decision(reason, best), tuple(detections))


ACCEPTED_RIGHT = judged([("mineral", LEFT)], [found("mineral", 0.9, LEFT)], Reason.NONE)
ACCEPTED_WRONG = judged([("not_empty", LEFT)], [found("mineral", 0.8, LEFT)], Reason.NONE, "sip", ("dark",))
REFUSED_RIGHT = judged([("soda", LEFT)], [found("soda", 0.7, LEFT)], kind="soda", slices=("dark",))
REFUSED_WRONG = judged([("mineral", LEFT)], [found("soda", 0.6, LEFT)])
MISSED = judged([("soda", LEFT), ("milk", RIGHT)], [found("milk", 0.5, RIGHT)], Reason.REFUSED_MATERIAL, "two")
GHOST = judged([], [found("yogurt", 0.45, RIGHT)], kind="nothing")
ALL = (ACCEPTED_RIGHT, ACCEPTED_WRONG, REFUSED_RIGHT, REFUSED_WRONG, MISSED, GHOST)


def test_a_box_belongs_to_the_item_that_it_fits_best_and_each_item_has_one() -> None:
    first, second = Item("mineral", LEFT), Item("soda", (12.0, 10.0, 52.0, 50.0))
    near, nearer = found("soda", 0.9, (12.0, 10.0, 52.0, 51.0)), found("soda", 0.8, LEFT)
    again = found("soda", 0.7, LEFT)
    assert pairs([first, second], [again, near, nearer]) == [(second, near), (first, nearer), (None, again)]
    assert pairs([first], [found("soda", 0.9, RIGHT)]) == [(None, found("soda", 0.9, RIGHT)), (first, None)]


def test_confusion_counts_each_item_and_each_ghost_once() -> None:
    table = figures.confusion(ALL)
    nothing = figures.BACKGROUND
    assert {(row, column): count for row, cells in table.items() for column, count in cells.items() if count} == {
        ("mineral", "mineral"): 1, ("not_empty", "mineral"): 1, ("soda", "soda"): 1, ("mineral", "soda"): 1,
        ("soda", nothing): 1, ("milk", "milk"): 1, (nothing, "yogurt"): 1,
    }  # fmt: skip


def test_precision_and_recall_are_those_of_the_confusion() -> None:
    rows = figures.box_figures(ALL)
    assert (rows["mineral"]["items"], rows["mineral"]["precision"], rows["mineral"]["recall"]) == (2, 0.5, 0.5)
    assert (rows["soda"]["precision"], rows["soda"]["recall"]) == (0.5, 0.5)
    assert (rows["yogurt"]["items"], rows["yogurt"]["precision"], rows["yogurt"]["recall"]) == (0, 0.0, None)
    assert rows["dishwasher"]["map50"] is None
    assert rows["all"]["items"] == 6


def test_average_precision_of_a_perfect_and_of_a_useless_detector() -> None:
    perfect = [judged([(name, LEFT)], [found(name, 0.9, LEFT)]) for name in CLASSES]
    assert figures.box_figures(perfect)["all"]["map50_95"] == pytest.approx(1.0)
    shifted = [judged([(name, LEFT)], [found(name, 0.9, (20.0, 10.0, 60.0, 50.0))]) for name in CLASSES]
    row = figures.box_figures(shifted)["all"]  # overlap 0.6: right at 0.5, 0.55 and 0.6 of ten limits
    assert row["map50"] == pytest.approx(1.0)
    assert row["map50_95"] == pytest.approx(0.3, abs=1e-3)
    useless = [judged([("mineral", LEFT)], [found("mineral", 0.9, RIGHT)])]
    assert figures.box_figures(useless)["mineral"]["map50"] == 0.0


def test_an_item_that_cannot_be_told_counts_neither_for_nor_against() -> None:
    told = judged([("mineral", RIGHT)], [found("mineral", 0.8, RIGHT)])
    untold = judged([(None, LEFT)], [found("mineral", 0.9, LEFT)])
    assert figures.box_figures([told, untold])["mineral"] == figures.box_figures([told])["mineral"]
    assert len(figures.scored([told, untold])[0]) == 1


def test_what_the_machine_decides() -> None:
    outcome = figures.decisions(ALL)
    assert outcome["accept_precision"]["share"] == 0.5
    assert outcome["accept_recall"] == interval(1, 2)
    assert outcome["not_empty_accepted"] == interval(1, 1)
    assert outcome["wrongly_accepted"] == interval(1, 4)
    assert outcome["reasons"]["sip"] == {"ACCEPTED": 1}
    trick = judged([("mineral", LEFT), (None, RIGHT)], [found("mineral", 0.9, LEFT)], Reason.NONE, "string")
    outcome = figures.decisions((*ALL, trick))
    assert outcome["tricks_accepted"] == interval(1, 1)
    assert outcome["accept_precision"] == interval(1, 3)
    assert outcome["accept_precision_without_tricks"] == interval(1, 2)


def test_slices_hold_only_their_pictures() -> None:
    rows = figures.slices(ALL)
    assert list(rows) == ["dark"]
    assert rows["dark"]["pictures"] == 2
    assert rows["dark"]["items_right"] == interval(1, 2)


def test_photographs_are_asked_whether_something_is_found() -> None:
    kind = picture_sets.PHOTOGRAPH
    both = [("mineral", LEFT), (None, RIGHT)]
    seen = judged(both, [found("soda", 0.9, LEFT), found("soda", 0.8, RIGHT)], kind=kind, slices=("bottle",))
    ghost = judged([("soda", LEFT)], [found("soda", 0.9, RIGHT)], kind=kind, slices=("bottle",))
    shown = figures.photographs([seen, ghost, ACCEPTED_RIGHT])
    assert (shown["pictures"], shown["found"], shown["objects_found"]) == (
        2,
        {"bottle": interval(1, 2)},
        interval(2, 3),
    )
    assert (shown["false_boxes"], shown["pictures_with_false_box"]) == (interval(1, 3), interval(1, 2))
    assert shown["class_right"] == interval(0, 1)


def test_the_interval_is_wilsons() -> None:
    assert interval(0, 10) == {"hits": 0, "count": 10, "share": 0.0, "low": 0.0, "high": 0.2775}
    assert interval(95, 100) == {"hits": 95, "count": 100, "share": 0.95, "low": 0.8882, "high": 0.9785}
    assert interval(0, 0)["share"] is None


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_reliability_and_risk_lose_nothing(rows: list[tuple[float, bool]]) -> None:
    scores, right = np.array([score for score, _ in rows]), np.array([hit for _, hit in rows])
    bins = reliability(scores, right)
    assert sum(bins.counts) == len(rows)
    assert np.average(bins.share_right, weights=bins.counts) == pytest.approx(right.mean())
    assert 0.0 <= bins.error <= 1.0
    coverage, risk = risk_coverage(scores, right)
    assert (coverage[-1], risk[-1]) == (1.0, pytest.approx(1.0 - right.mean()))


def test_reliability_sees_how_far_off_scores_are() -> None:
    scores = np.full(100, 0.95)
    assert reliability(scores, np.arange(100) < 95).error == pytest.approx(0.0)
    assert reliability(scores, np.arange(100) < 45).error == pytest.approx(0.5)


def test_a_higher_threshold_accepts_less() -> None:
    table = rules.load(paths.home() / "config" / "rules.yaml", 0.7)
    rows = figures.thresholds(ALL, table)
    assert [row["recall"] for row in rows] == sorted((row["recall"] for row in rows), reverse=True)
    at = {row["threshold"]: row for row in rows}
    assert (at[0.5]["precision"], at[0.85]["precision"]) == (0.5, 1.0)


def test_failures_are_told_in_a_line() -> None:
    assert [failure(one) for one in ALL] == [
        "", "accepted, should be refused", "", "REFUSED_MATERIAL, should be accepted", "soda not found",
        "yogurt where nothing is",
    ]  # fmt: skip


def test_forms_of_picture_sets(tmp_path: Path) -> None:
    cabinet = picture_sets.read(paths.home() / evaluate.CABINET)
    assert {picture.kind for picture in cabinet if picture.acceptable} == {"mineral"}
    for folder in ("images", "labels", "facts"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(tmp_path / "images" / f"{name}.jpg"), np.zeros((240, 320, 3), np.uint8))
    rows = "".join(picture_sets.to_row(name, sides, 320, 240) for name, sides in (("mineral", LEFT), ("soda", RIGHT)))
    (tmp_path / "labels" / "a.txt").write_text(rows)
    (tmp_path / "labels" / "b.txt").write_text("")
    items = [{"model_class": "soda", "box": LEFT}, {"model_class": "milk", "box": [0, 0, 3, 90]}]
    facts = {"kind": "touching", "slices": ["dark"], "items": items}
    (tmp_path / "facts" / "b.json").write_text(json.dumps(facts))
    (told,) = picture_sets.read(tmp_path)  # of `a` the facts are not written yet
    assert (told.kind, told.slices, told.classes, len(told.items)) == ("touching", ("dark",), ("soda",), 2)
    (tmp_path / "facts").rename(tmp_path / "unknown")
    plain, empty = picture_sets.read(tmp_path)
    assert not empty.items
    assert [item.model_class for item in plain.items] == ["mineral", "soda"]
    assert plain.items[0].box == pytest.approx(LEFT, abs=0.01)
    (tmp_path / "labels" / "a.txt").write_text("9 0.5 0.5 0.1 0.1\n")
    with pytest.raises(ValueError, match=r"a\.txt: row 1: class 9 is not allowed: 0 \.\. 6"):
        picture_sets.read(tmp_path)
    with pytest.raises(ValueError, match="holds no pictures"):
        picture_sets.read(tmp_path / "unknown")


def test_held_out_photographs_are_never_trained_on() -> None:
    folder = paths.home().parent / "shared" / "data" / "photos"
    if not folder.is_dir():
        pytest.skip("the photographs are not beside the project")
    training, held_out = photographs.split(folder)
    names = [{picture.file.stem for picture in part} for part in (training, held_out)]
    assert not names[0] & names[1]
    assert names[1] == photographs.HELD_OUT
    assert all(None not in [item.model_class for item in picture.items] for picture in training)


def test_the_command_writes_one_page_that_needs_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    entries = []
    for name, colour in (("mineral", toy_network.GREEN), ("soda", toy_network.RED), ("milk", toy_network.GREEN)):
        cv2.imwrite(str(folder / f"{name}.png"), toy_network.picture(colour))
        box = [110.0, 60.0, 210.0, 260.0]
        entries.append({"file": f"{name}.png", "kind": name, "items": [{"model_class": name, "box": box}]})
    (folder / "index.json").write_text(json.dumps(entries))
    models = toy_network.install(tmp_path / "models")
    out = tmp_path / "out"
    words = ["--file", str(models / "toy.onnx"), "--pictures", str(folder), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *words])
    evaluate.main()
    written = json.loads((out / "figures.json").read_text())
    assert written["decisions"]["accept_precision"] == interval(1, 2)
    assert written["boxes"]["soda"]["map50"] == 1.0
    page = (out / "evaluation.html").read_text()
    assert "milk.png, milk: accepted, should be refused" in page
    assert page.count("<img ") == page.count("src='data:image/jpeg;base64,") == 1
    assert page.count("<svg") == 3
    assert not [word for word in ("src='http", "<script", "<link", "@import") if word in page]
    assert "accept precision" in capsys.readouterr().out
