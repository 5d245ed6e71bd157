"""Training around the network: composites, lists of pictures, the book of runs, a run that ended or stopped."""

from __future__ import annotations

import csv
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import compose
import cv2
import numpy as np
import picture_sets
import pytest
import runs
import shipped_models
from compose import CutOut
from picture_sets import CLASSES, Item, Picture

from myrvm_core import paths

HEIGHT, WIDTH = 240, 320


def render(folder: Path, name: str, model_class: str | None = "mineral") -> Path:
    """A stand-in for a render: a bright ellipse on grey, with its mask and facts."""
    for part in ("images", "labels", "masks", "facts"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    image, mask = np.full((HEIGHT, WIDTH, 3), 90, np.uint8), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    cv2.ellipse(image, (160, 120), (80, 30), 0, 0, 360, (0, 250, 250), -1)
    cv2.ellipse(mask, (160, 120), (80, 30), 0, 0, 360, (0, 0, 1), -1)
    box = (80.0, 90.0, 241.0, 151.0)
    cv2.imwrite(str(folder / "images" / f"{name}.png"), image)
    cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
    row = picture_sets.to_row(model_class, box, WIDTH, HEIGHT) if model_class else ""
    (folder / "labels" / f"{name}.txt").write_text(row)
    facts = {"kind": "mineral", "slices": [], "items": [{"model_class": model_class, "box": box}]}
    (folder / "facts" / f"{name}.json").write_text(json.dumps(facts))
    return folder / "images" / f"{name}.png"


def photograph(file: Path) -> Picture:
    image = np.zeros((400, 300, 3), np.uint8)
    image[100:200, 100:150] = 255
    cv2.imwrite(str(file), image)
    return Picture(file, picture_sets.PHOTOGRAPH, (Item("soda", (100.0, 100.0, 150.0, 200.0)),))


def test_an_item_is_cut_out_by_its_mask(tmp_path: Path) -> None:
    (item,) = compose.cut_outs(render(tmp_path, "a"))
    assert (item.name, item.alpha.shape) == ("mineral", (61, 161))
    assert item.alpha.max() == 1.0
    assert (item.image[item.alpha > 0] == (0, 250, 250)).all()
    assert compose.cut_outs(render(tmp_path, "hand", None)) == []


def test_the_label_of_a_pasted_item_is_where_its_pixels_are() -> None:
    item = CutOut("milk", np.full((20, 60, 3), 255, np.uint8), np.ones((20, 60), np.float32))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        ground = np.zeros((240, 320, 3), np.uint8)
        sides = compose.paste(rng, ground, compose.turned(item, 100.0, rng.uniform(0, 360)))
        assert sides is not None
        x, y, width, height = cv2.boundingRect((ground.max(axis=2) > 100).astype(np.uint8))
        assert sides == pytest.approx((x, y, x + width, y + height), abs=3)


def test_objects_of_a_cropped_photograph_keep_their_labels(tmp_path: Path) -> None:
    picture = photograph(tmp_path / "a.png")
    kept = 0
    for seed in range(20):
        image, labels = compose.cropped(np.random.default_rng(seed), picture, 320, 240)
        assert image.shape == (320, 240, 3)
        white = (image.min(axis=2) > 150).astype(np.uint8)
        assert bool(labels) == bool(white.any())  # what lost its label is grey, not a bottle without one
        for name, sides in labels:
            x, y, width, height = cv2.boundingRect(white)
            assert name == "soda"
            assert sides == pytest.approx((x, y, x + width, y + height), abs=3)
            kept += 1
    assert kept > 10


def test_composites_are_the_same_for_the_same_seed_and_all_labels_lie_inside(tmp_path: Path) -> None:
    items, photos = compose.cut_outs(render(tmp_path, "a")), [photograph(tmp_path / "b.png")]
    seen: set[str] = set()
    image, labels = compose.compose(np.random.default_rng(0), items, photos)
    again, same = compose.compose(np.random.default_rng(0), items, photos)
    assert (image == again).all()
    assert labels == same
    for seed in range(15):
        image, labels = compose.compose(np.random.default_rng(seed), items, photos)
        for name, (x_min, y_min, x_max, y_max) in labels:
            assert 0 <= x_min < x_max <= image.shape[1]
            assert 0 <= y_min < y_max <= image.shape[0]
            seen.add(name)
    assert seen == {"mineral", "soda"}


def test_each_run_is_a_line(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    runs.append({"run": "a", "all_map50": 0.5}, file)
    runs.append({"run": "b, with a comma"}, file)
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["run"], row["all_map50"]) for row in rows] == [("a", "0.5"), ("b, with a comma", "")]
    assert all(row["finished_at"] for row in rows)
    assert {f"{name}_recall" for name in ("all", *CLASSES)} < set(rows[0])
    with pytest.raises(ValueError, match="speed: no such column"):
        runs.append({"speed": 1}, file)
    file.write_text("run,other\n")
    with pytest.raises(ValueError, match="has other columns"):
        runs.append({"run": "c"}, file)


def test_the_time_of_a_resumed_stage_is_the_sum(tmp_path: Path) -> None:
    results = tmp_path / "results.csv"
    results.write_text("epoch, time\n1, 10.0\n2, 21.5\n3, 9.0\n4, 18.0\n")
    assert runs.seconds_of(results) == 39.5


def test_the_manifest_is_changed_one_model_at_a_time(tmp_path: Path) -> None:
    shipped_models.put({"name": "a", "version": "1"}, tmp_path)
    shipped_models.put({"name": "b", "version": "1"}, tmp_path)
    shipped_models.put({"name": "a", "version": "2"}, tmp_path)
    shipped_models.change("b", {"calibration": {"bias": 1.0}}, tmp_path)
    assert shipped_models.entry("", tmp_path) == {"name": "a", "version": "2"}
    assert shipped_models.entry("b", tmp_path) == {"name": "b", "version": "1", "calibration": {"bias": 1.0}}
    with pytest.raises(KeyError, match="has no model 'c'; allowed: a, b"):
        shipped_models.change("c", {}, tmp_path)


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The command, its book of runs in the test's folder. Torch and ultralytics are an extra."""
    pytest.importorskip("ultralytics")
    monkeypatch.setattr(runs.append, "__defaults__", (tmp_path / "runs.csv",))
    return importlib.import_module("train")


def test_a_run_keeps_its_lists_and_ends_once(
    train: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "data", tmp_path / "first"
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            render(data / split, f"{split}_{number}", "mineral")
    start = tmp_path / "start.pt"
    train.YOLO("yolov5n.yaml").save(start)
    words = [
        "--data",
        str(data),
        "--weights",
        str(start),
        "--out",
        str(out),
        "--stage",
        "32:1:10",
        "--stage",
        "32:1:10",
    ]
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    train.main()
    assert (out / "best.pt").is_file()
    render(data / "train", "rendered_since")
    (out / "best.pt").unlink()  # as if stopped before the end
    train.main()
    assert len((out / "train.txt").read_text().splitlines()) == 4
    train.main()
    assert "this run has ended" in capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
    assert len(rows) == 2
    assert (rows[0]["run"], rows[0]["renders"], rows[0]["validation"], rows[0]["stages"]) == (
        "first", "4", "2", "32:1:10 32:1:10",
    )  # fmt: skip
    assert rows[0]["mineral_map50"]


def test_coco_weights_fit_all_but_the_head(train: ModuleType, tmp_path: Path) -> None:
    weights = paths.home().parent / "shared" / "data" / "weights" / "yolov5n_coco.safetensors"
    if not weights.is_file():
        pytest.skip("the COCO weights are not beside the project")
    assert train.coco_start(weights, tmp_path).is_file()
