"""The data set's renderer: geometry, prints, splits and facts without Blender, and two small pictures with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import camera_effects
import cv2
import dataset
import make_data
import numpy as np
import prints
import pytest
import shapes
import zxingcpp
from designs import OF_SPLIT, SPLITS, WHITE, Chamber, seeded
from hypothesis import given
from hypothesis import strategies as st

TRAINING = Path(dataset.__file__).resolve().parent
GOLDEN = TRAINING.parent / "golden"
BOTTLE = shapes.bottle_profile(0.22, 0.033, 0.013, (0.66, 0.9))
BLENDER = shutil.which("blender")
LAYOUT = {"images": "jpg", "labels": "txt", "masks": "png", "facts": "json"}


def rendered(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the renderer to its end."""
    command = [
        str(BLENDER),
        "-b",
        "--python-exit-code",
        "1",
        "-P",
        str(TRAINING / "render.py"),
        "--",
        "--out",
        str(out),
    ]
    # Blender takes the first python3 on the path for its own.
    environment = {**os.environ, "PATH": os.defpath}
    environment.pop("LD_PRELOAD", None)
    return subprocess.run(
        [*command, *arguments], env=environment, capture_output=True, text=True, timeout=240, check=True
    )


class TestLiquid:
    def test_a_cylinder_holds_what_its_segment_does(self) -> None:
        x, radius = np.linspace(0.0, 0.2, 96), np.full(96, 0.03)
        for level in (-0.8, -0.3, 0.0, 0.4, 0.9):
            found = shapes.liquid(x, radius, level, 0.0)
            assert found is not None
            assert found.chord is not None
            segment = (np.arccos(-level) + level * np.sqrt(1.0 - level**2)) / np.pi
            assert found.fill == pytest.approx(segment, abs=0.004)
            width = float(np.ptp(found.chord[:, 1]))
            assert width == pytest.approx(2 * 0.03 * 0.97 * np.sqrt(1.0 - level**2), abs=4e-4)
            assert found.chord[:, 2] == pytest.approx(level * 0.97 * 0.03, abs=4e-4)

    @given(st.floats(-0.9, 0.9), st.floats(-0.9, 0.9), st.floats(0.0, 0.1), st.floats(2.0, 6.0), st.floats(0.5, 1.0))
    def test_more_is_fuller_and_stays_inside(
        self, one: float, other: float, slope: float, squareness: float, flatness: float
    ) -> None:
        low, high = (shapes.liquid(*BOTTLE, level, slope, squareness, flatness) for level in sorted((one, other)))
        assert high is not None
        assert (low.fill if low is not None else 0.0) <= high.fill <= 1.0
        wall = np.interp(high.mesh.vertices[:, 0], *BOTTLE)
        assert (np.abs(high.mesh.vertices[:, 1]) <= wall).all()
        # The meniscus climbs along the wall, by no more than its height.
        assert (np.abs(high.mesh.vertices[:, 2]) <= wall * flatness + shapes.MENISCUS_M).all()

    def test_below_the_bottom_there_is_none(self) -> None:
        assert shapes.liquid(*BOTTLE, -1.2, 0.0) is None

    def test_a_full_bottle_is_full(self) -> None:
        found = shapes.liquid(*BOTTLE, 1.2, 0.0)
        assert found is not None
        assert found.fill == pytest.approx(1.0, abs=1e-6)
        assert found.chord is None


class TestShapes:
    def test_the_volume_of_a_bottle(self) -> None:
        x, radius = np.linspace(0.0, 0.2, 96), np.full(96, 0.03)
        assert shapes.volume_m3(x, radius) == pytest.approx(np.pi * 0.03**2 * 0.2, rel=1e-3)
        assert shapes.section_area(200.0) == pytest.approx(4.0, rel=0.02)

    @given(st.integers(0, 1000), st.floats(0.05, 0.9))
    def test_a_crush_never_makes_taller_and_is_alike_for_all_parts(self, seed: int, depth: float) -> None:
        crush = shapes.Crush.drawn(np.random.default_rng(seed), depth, 0.22)
        body = shapes.turned(*BOTTLE).vertices
        pressed = crush.press(body)
        assert np.ptp(pressed[:, 2]) <= np.ptp(body[:, 2])
        assert 0.0 < crush.degree <= depth
        assert np.array_equal(crush.press(body[:100]), pressed[:100])

    def test_the_camera_looks_down(self) -> None:
        above = np.eye(4)
        above[2, 3] = -0.5
        camera = shapes.Camera(above, 400.0, 320, 240)
        points = np.array([(0.0, 0.0, 0.0), (0.1, 0.05, 0.0), (0.1, 0.05, 0.1)])
        assert camera.project(points) == pytest.approx(np.array([(160, 120), (240, 80), (260, 70)]))
        assert camera.box(np.array([(-1.0, -0.05, 0.0), (0.0, 0.0, 0.0)])) == pytest.approx((0, 120, 160, 160))


class TestPrints:
    def test_the_bars_can_be_read(self) -> None:
        code = prints.ean13("400638133393")
        assert code == "4006381333931"
        modules = np.pad(~prints.bars(code), 12, constant_values=True)
        image = np.repeat(np.repeat(modules[None].astype(np.uint8) * 255, 60, axis=0), 3, axis=1)
        assert [found.text for found in zxingcpp.read_barcodes(np.ascontiguousarray(image))] == [code]

    @given(st.text("0123456789", min_size=12, max_size=12))
    def test_every_code_has_95_modules_in_pairs_of_bars(self, digits: str) -> None:
        dark = prints.bars(prints.ean13(digits))
        assert len(dark) == 95
        assert np.count_nonzero(np.diff(dark.astype(int)) == 1) == 29
        assert dark[0]

    def test_a_label_is_its_names_and_colours_stay_in_range(self) -> None:
        palette = OF_SPLIT["train"].water_labels
        one, again, other = (
            prints.label(seeded("water", "train", number), palette, "2000000000008", bold=False) for number in (3, 3, 4)
        )
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)
        assert one.shape == (*prints.LABEL_PX, 3)
        assert one.min() >= 0.0
        assert one.max() <= 1.0

    @pytest.mark.parametrize("pattern", ["ribs", "plain", "diamond", "weave", "holes", "rollers"])
    def test_every_belt(self, pattern: str) -> None:
        clean, dirty = (
            prints.belt(np.random.default_rng(1), pattern, (0.2, 0.2, 0.2), dirt, 20, drops=10) for dirt in (0.0, 1.0)
        )
        assert clean.shape == dirty.shape == (*prints.BELT_PX, 3)
        assert np.abs(clean - dirty).mean() > 0.003


class TestSplits:
    def test_they_share_no_shape_and_no_colour_but_white(self) -> None:
        seen: dict[str, set[object]] = {}
        for split in SPLITS:
            designs = OF_SPLIT[split]
            mine: set[object] = set()
            for entry in fields(designs):
                value = getattr(designs, entry.name)
                if isinstance(value, tuple):
                    mine.update((entry.name, part) for part in value if part != WHITE)
            seen[split] = mine
        assert not seen["train"] & seen["test"]
        assert not seen["train"] & seen["val"]
        assert not seen["val"] & seen["test"]

    def test_no_chamber_and_no_label_is_in_two(self) -> None:
        chambers = [Chamber.drawn(split, n) for split in SPLITS for n in range(OF_SPLIT[split].chambers)]
        assert len({replace(chamber, name="") for chamber in chambers}) == len(chambers)
        draws = [tuple(seeded("water", split, n).integers(0, 1 << 30, 4)) for split in SPLITS for n in range(40)]
        assert len(set(draws)) == len(draws)

    def test_every_picture_is_planned_once(self) -> None:
        plans = [dataset.pictures(split, 0, 40) for split in SPLITS]
        names = [picture.name for plan in plans for picture in plan]
        assert len(set(names)) == len(names) == 3 * 40 * sum(dataset.ROUND.values())

    def test_a_round_is_balanced_and_mixed(self) -> None:
        plan = dataset.pictures("train", 5, 6)
        counted = {kind: sum(picture.kind == kind for picture in plan) for kind in dataset.KINDS}
        assert counted == dataset.ROUND
        assert [picture.kind for picture in plan] != sorted((picture.kind for picture in plan), key=dataset.KINDS.index)
        assert dataset.pictures("train", 0, 6)[-len(plan) :] == plan

    def test_the_command_shares_the_plan(self) -> None:
        command = make_data.render_command(
            "blender", Path("/data"), ["val=0:2", "train=0:4"], "1/2", ["--until", "15:05"]
        )
        assert command[-8:] == ["--share", "1/2", "--plan", "val=0:2", "--plan", "train=0:4", "--until", "15:05"]


def item_facts(**changed: object) -> dataset.ItemFacts:
    known: dict[str, object] = {
        "kind": "sip",
        "model_class": "not_empty",
        "design": "water-test-00",
        "label_design": None,
        "barcode": None,
        "box": (32.0, 24.0, 160.0, 72.0),
        "length_m": 0.2,
        "volume_l": 0.5,
        "crush": 0.0,
        "fill": 0.1,
        "fill_line": ((40.0, 30.0), (40.0, 60.0)),
        "cap": True,
        "tint": (1.0, 1.0, 1.0),
        "touching": False,
    }
    return dataset.ItemFacts(**{**known, **changed})  # pyright: ignore[reportArgumentType]


def test_label_rows_are_of_items_with_a_class_that_are_seen() -> None:
    items = (item_facts(), item_facts(model_class=None), item_facts(box=(0.0, 0.0, 5.0, 200.0)))
    assert dataset.yolo_rows(items, 320, 240) == "1 0.30000 0.20000 0.40000 0.20000\n"


def test_facts_are_json_with_four_decimals() -> None:
    view = dataset.CameraFacts(0.5, 400.0, 800.0)
    facts = dataset.Facts("sip", 7, "test-01", view, ("dark",), (item_facts(crush=0.123456),))
    read = json.loads(json.dumps(dataset.rounded(asdict(facts))))
    assert set(read) == {"kind", "seed", "chamber", "camera", "slices", "items"}
    assert read["items"][0]["crush"] == 0.1235
    assert read["items"][0]["fill_line"] == [[40.0, 30.0], [40.0, 60.0]]


def test_the_camera_blurs_darkens_and_repeats_itself() -> None:
    effects = camera_effects.Effects.drawn(np.random.default_rng(5), dark=False)
    sharp = replace(effects, blur_px=0.3, motion_px=0.0, noise=0.0, smears=0, scratches=0)
    edge = np.zeros((60, 80, 3), np.float32)
    edge[:, 40:] = 0.5
    once, again = camera_effects.apply(edge, effects), camera_effects.apply(edge, effects)
    assert np.array_equal(once, again)
    soft = camera_effects.apply(edge, replace(sharp, blur_px=6.0))
    assert np.abs(np.diff(soft, axis=1)).max() < np.abs(np.diff(camera_effects.apply(edge, sharp), axis=1)).max()
    shaded = camera_effects.apply(np.full((60, 80, 3), 0.5, np.float32), replace(sharp, vignette=0.4, white=(1, 1, 1)))
    assert shaded[0, 0].mean() < shaded[30, 40].mean()


class TestGoldenSet:
    ROWS = json.loads((GOLDEN / "index.json").read_text())
    RENDERS = [row for row in ROWS if row["kind"] != "photograph"]

    def test_sixty_renders_of_every_kind_and_ten_photographs_with_attribution(self) -> None:
        assert len(self.RENDERS) == 60
        assert {row["kind"] for row in self.RENDERS} == set(dataset.KINDS)
        assert len(self.ROWS) - len(self.RENDERS) == 10
        assert "CC BY 4.0" in (GOLDEN / "ATTRIBUTION.md").read_text()
        listed = {row["file"] for row in self.ROWS}
        assert {path.name for path in GOLDEN.glob("*.jpg")} == listed

    def test_they_are_of_the_test_split_alone(self) -> None:
        assert all(row["chamber"].startswith("test-") for row in self.RENDERS)
        designs = [
            name for row in self.RENDERS for item in row["items"] for name in (item["label_design"], item["design"])
        ]
        assert not [name for name in designs if name and ("-train" in name or "-val" in name)]

    @pytest.mark.parametrize("row", RENDERS, ids=lambda row: row["file"])
    def test_masks_are_of_the_items(self, row: dict[str, Any]) -> None:
        image = cv2.imread(str(GOLDEN / row["file"]))
        mask = cv2.imread(str((GOLDEN / row["file"]).with_suffix(".png")), cv2.IMREAD_COLOR)
        assert image is not None
        assert mask is not None
        assert image.shape == mask.shape == (480, 640, 3)
        hidden = {2} if row["kind"] == "nested" else set()
        assert set(np.unique(mask[..., 2])) == set(range(len(row["items"]) + 1)) - hidden
        for number, item in enumerate(row["items"], start=1):
            rows, columns = np.nonzero(mask[..., 2] == number)
            if number not in hidden:
                x_min, y_min, x_max, y_max = item["box"]
                assert x_min - 2 <= columns.min() <= columns.max() <= x_max + 2
                assert y_min - 2 <= rows.min() <= rows.max() <= y_max + 2
            if item["fill"] > 0.02 and row["kind"] != "holding":
                assert np.count_nonzero((mask[..., 2] == number) & (mask[..., 1] == 255)) > 100
            if item["fill"] == 0.0:
                assert not np.count_nonzero((mask[..., 2] == number) & (mask[..., 1] == 255))


@pytest.mark.skipif(BLENDER is None, reason="needs Blender 3.4 with python3-numpy")
def test_blender_renders_the_same_picture_again_and_masks_that_fill_their_boxes(tmp_path: Path) -> None:
    arguments = ("--golden", "half=1", "--golden", "can=1", "--seed", "800003", "--width-px", "64", "--samples", "1")
    for folder in ("one", "again"):
        rendered(tmp_path / folder, *arguments)
    index = json.loads((tmp_path / "one" / "index.json").read_text())
    assert [row["kind"] for row in index] == ["half", "can"]
    assert (tmp_path / "again" / "index.json").read_text() == (tmp_path / "one" / "index.json").read_text()
    for row in index:
        pictures = [(tmp_path / folder / row["file"]).read_bytes() for folder in ("one", "again")]
        assert pictures[0] == pictures[1]
        mask = cv2.imread(str((tmp_path / "one" / row["file"]).with_suffix(".png")), cv2.IMREAD_COLOR)
        image = cv2.imread(str(tmp_path / "one" / row["file"]))
        assert mask is not None
        assert image is not None
        assert mask.shape == image.shape == (48, 64, 3)
        rows, columns = np.nonzero(mask[..., 2] == 1)
        seen = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert seen == pytest.approx(row["items"][0]["box"], abs=1.6)
        assert (np.count_nonzero(mask[..., 1]) > 20) == (row["kind"] == "half")
        assert set(np.unique(mask[..., 0])) <= {0, 128, 255}


@pytest.mark.skipif(BLENDER is None, reason="needs Blender 3.4 with python3-numpy")
def test_a_data_set_goes_on_where_it_stopped(tmp_path: Path) -> None:
    arguments = ("--plan", "test=0:1", "--share", "3/54", "--width-px", "64", "--samples", "1")
    rendered(tmp_path, *arguments)
    picture = dataset.pictures("test", 0, 1)[3]
    made = {name: tmp_path / "test" / name / f"{picture.name}.{ending}" for name, ending in LAYOUT.items()}
    assert all(path.is_file() for path in made.values())
    facts = json.loads(made["facts"].read_text())
    assert facts["kind"] == picture.kind
    labelled = [item for item in facts["items"] if item["model_class"]]
    assert len(made["labels"].read_text().splitlines()) == len(labelled)
    made["masks"].unlink()
    rendered(tmp_path, *arguments)
    assert not made["masks"].exists()  # whole by its facts, so it was not made again
    made["facts"].unlink()
    rendered(tmp_path, *arguments)
    assert made["masks"].exists()
    assert json.loads(made["facts"].read_text()) == facts
