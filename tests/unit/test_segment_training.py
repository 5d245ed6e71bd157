"""Training of the small segmenter: samples, a run that stops and goes on, and the pair that it is exported as."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import segment_data
from myrvm_core.verdict import Box
from myrvm_vision.onnx_segmenter import encode, network_input
from myrvm_vision.segmenter import Prompt, SegmenterOptions, make_segmenter

torch = pytest.importorskip("torch")
pytest.importorskip("ultralytics")
pytest.importorskip("onnx")
segment_evaluate, segment_export, segment_network, segment_train = (
    importlib.import_module(f"segment_{name}") for name in ("evaluate", "export", "network", "train")
)

HEIGHT, WIDTH = 240, 320


def render(folder: Path, seed: int) -> None:
    """A stand-in for a render: one bright ellipse with liquid, cap and label, and a dark one."""
    for part in ("images", "masks", "facts"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    image, mask = np.full((HEIGHT, WIDTH, 3), 90, np.uint8), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    items = []
    for number, shade in ((1, 240), (2, 20)):
        middle = (int(rng.integers(90, 230)), 60 + 110 * (number - 1))
        cv2.ellipse(image, middle, (70, 28), 0, 0, 360, (shade, shade, shade), -1)
        cv2.ellipse(mask, middle, (70, 28), 0, 0, 360, (0, 0, number), -1)
        items.append(
            {
                "kind": "mineral", "model_class": "mineral", "design": f"d{number}", "label_design": f"l{number}",
                "box": [middle[0] - 70, middle[1] - 28, middle[0] + 71, middle[1] + 29], "crush": 0.0, "fill": 0.0,
                "length_m": 0.18, "volume_l": 0.3, "fill_line": None, "cap": number == 1, "touching": False,
            }
        )  # fmt: skip
    mask[50:60, 100:110][mask[50:60, 100:110, 2] == 1] = (255, 0, 1)
    name = f"mineral_{seed:06d}"
    camera = {"height_m": 0.5, "focal_px": 400.0, "pixels_per_m_on_belt": 800.0}
    cv2.imwrite(str(folder / "images" / f"{name}.jpg"), image)
    cv2.imwrite(str(folder / "masks" / f"{name}.png"), mask)
    facts = {"kind": "two", "seed": seed, "camera": camera, "slices": ["dark"], "items": items}
    (folder / "facts" / f"{name}.json").write_text(json.dumps(facts))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for seed in range(4):
        render(folder / "train", seed)
    render(folder / "val", 9)
    return folder


def arguments(data: Path, out: Path, epochs: int) -> argparse.Namespace:
    stage = segment_train.Stage.parse(f"96x96:{epochs}")
    return argparse.Namespace(
        data=data, weights=None, out=out, stage=[stage], batch=4, rate=2e-3, seed=0, threads=1, most=0, judged=1
    )


def epochs(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "epochs.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    segment_train.Run(arguments(data, out, 2)).train()
    return out


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(data: Path, trained: Path, tmp_path: Path) -> None:
    run = segment_train.Run(arguments(data, tmp_path, 2))

    def save_and_stop() -> None:
        segment_train.Run.save(run)
        sys.exit(143)

    run.save = save_and_stop
    with pytest.raises(SystemExit):
        run.train()
    again = segment_train.Run(arguments(data, tmp_path, 2))
    assert again.epoch == 1
    again.train()
    assert [row["epoch"] for row in epochs(tmp_path)] == [2]  # the first was stopped before it was judged
    assert epochs(tmp_path)[0]["loss"] == pytest.approx(epochs(trained)[1]["loss"], rel=1e-3)


def test_samples_show_the_item_and_its_parts_in_the_window(data: Path) -> None:
    (scene,) = segment_data.read(data / "val")
    rng = np.random.default_rng(0)
    stage = segment_train.Stage(160, 160, 1)
    kinds = set()
    for _ in range(60):
        sample = segment_train.draw(scene, 1, scene.facts["items"][0], stage, rng)
        assert sample is not None
        outline, _, cap, _, other = sample.truth.astype(bool)
        inside = sample.image[outline].mean()
        assert inside > sample.image[~outline].mean() + 30  # it is the bright one
        assert not (cap & ~outline).any()
        assert not (other & outline).any()
        for (x, y), label in zip(sample.points, sample.labels, strict=True):
            if label == 1:
                assert outline[int(y), int(x)]
            if label == 0:
                assert not outline[int(y), int(x)]
        kinds.add(tuple(sample.labels.tolist()))
    assert {(2.0, 3.0, -1.0, -1.0), (2.0, 3.0, 1.0, -1.0), (-1.0, -1.0, 1.0, -1.0)} <= kinds


def test_what_is_not_a_stage_is_refused() -> None:
    for text in ("192:3", "100x96:3", "96x96", "ax96:1"):
        with pytest.raises(argparse.ArgumentTypeError, match="multiples of 32"):
            segment_train.Stage.parse(text)


def test_the_exported_pair_answers_as_the_network(data: Path, trained: Path, tmp_path: Path) -> None:
    network = segment_network.Segmenter()
    network.load_state_dict(torch.load(trained / "last.pt", weights_only=True)["average"])
    encoder, _ = segment_export.export(network, "small", tmp_path)
    segmenter = make_segmenter(encoder, SegmenterOptions(threads=1))
    segmenter.load()
    (scene,) = segment_data.read(data / "val")
    prompts = [Prompt(box=Box(*item["box"])) for item in scene.facts["items"]]
    found = segmenter.segment(segmenter.embed(scene.image), prompts)
    fed = encode(prompts, (HEIGHT, WIDTH), 320)
    with torch.no_grad():
        embedding = network.encoder(torch.from_numpy(network_input(scene.image, 320, padded=True)))
        points, labels = torch.from_numpy(fed["point_coords"]), torch.from_numpy(fed["point_labels"])
        logits, figures = network.decoder(embedding, points, labels, torch.full((1, 1, 160, 160), -20.0))
        whole = torch.nn.functional.interpolate(logits, (320, 320), mode="bilinear")[:, :, :HEIGHT, :WIDTH]
    for place, segment in enumerate(found):
        assert np.mean(segment.mask == (whole[place, 0].numpy() > 0.0)) > 0.999
        assert segment.score == pytest.approx(float(torch.sigmoid(figures[place, 0])), abs=1e-3)
        assert list(segment.parts) == list(segment_data.PARTS)
        cap = torch.sigmoid(whole[place, 2]).numpy()
        assert np.abs(segment.parts["cap"] - cap).mean() < 0.02
        assert segment.figures["fill"] == pytest.approx(float(torch.sigmoid(figures[place, 2])), abs=1e-3)


def test_the_truth_has_no_error(data: Path) -> None:
    table = segment_evaluate.evaluate(data / "val", None)
    assert (table["items"], table["mean_iou"], table["iou_below_0.8"]) == (2, 1.0, 0.0)
    assert table["iou_by_slice"] == {"dark": 1.0}
    assert table["touching_found"] != table["touching_found"]  # there is none


def test_pictures_without_masks_are_no_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pictures with masks"):
        segment_data.read(tmp_path)
