"""Every segmenter on the real architectures, with random weights made here: shapes, coordinates, deadlines, batches."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import untrained_segmenters as networks
from exploit import Exploit
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import ImageError, ModelError
from myrvm_core.verdict import Box
from myrvm_vision.onnx_segmenter import best_of, encode, enlarge, network_input, scaled_size
from myrvm_vision.segmenter import (
    CORNERS,
    OverdueError,
    Prompt,
    Segment,
    Segmenter,
    SegmenterOptions,
    in_batches,
    make_segmenter,
    outline_of,
    stability_of,
)
from numpy.typing import NDArray

Brought = tuple[str, Segmenter]  # the file and what it was opened as
BOX = Prompt(box=Box(20.0, 15.0, 100.0, 80.0))
OTHER = Prompt(box=Box(60.0, 40.0, 120.0, 95.0))
POINT = Prompt(points=((50.0, 40.0),), labels=(1,))
BOTH = Prompt(box=BOX.box, points=((50.0, 40.0), (70.0, 60.0)), labels=(1, 0))
PROMPTS = (BOX, POINT, BOTH, OTHER)


def opened(file: Path) -> Segmenter:
    segmenter = make_segmenter(file, SegmenterOptions(threads=1, size_px=256, trusted_folder=file.parent))
    segmenter.load()
    return segmenter


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return np.count_nonzero(one & other) / max(np.count_nonzero(one | other), 1)


# The public pair of ONNX files


@pytest.fixture(scope="module")
def sam() -> Any:
    pytest.importorskip("ultralytics")
    pytest.importorskip("onnx")
    return networks.small_sam()


@pytest.fixture(scope="module")
def files(sam: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pairs")
    return {
        kind: networks.public_pair(sam, folder, kind, single=kind == "single", preprocess=kind == "preprocesses")
        for kind in ("single", "several", "preprocesses")
    }


@pytest.fixture(scope="module", params=["single", "several", "preprocesses"])
def pair(request: pytest.FixtureRequest, files: dict[str, Path]) -> Iterator[Segmenter]:
    segmenter = opened(files[request.param])
    yield segmenter
    segmenter.close()


@pytest.mark.parametrize("shape", [(96, 128), (128, 80), (128, 128)])
@pytest.mark.parametrize("prompt", [BOX, BOTH])
def test_a_pair_answers_as_the_network_itself(
    sam: Any, pair: Segmenter, shape: tuple[int, int], prompt: Prompt
) -> None:
    image = networks.picture(*shape)
    logits, score = networks.reference_logits(sam, image, prompt)
    (found,) = pair.segment(pair.embed(image), [prompt])
    assert found.mask.shape == shape
    assert 0.02 < found.mask.mean() < 0.98  # a mask that is all or nothing would prove nothing
    assert overlap(found.mask, logits > 0.0) > 0.999
    assert found.score == pytest.approx(np.clip(score, 0.0, 1.0), abs=1e-4)
    assert found.stability == pytest.approx(stability_of(logits), abs=1e-3)


def test_a_single_point_takes_the_best_of_several_masks(sam: Any, files: dict[str, Path]) -> None:
    segmenter = opened(files["several"])
    image = networks.picture(96, 128)
    (found,) = segmenter.segment(segmenter.embed(image), [POINT])
    logits, _ = networks.reference_logits(sam, image, POINT)
    assert overlap(found.mask, logits > 0.0) > 0.999


def test_answers_keep_the_order_of_prompts_of_all_forms(pair: Segmenter) -> None:
    seen = pair.embed(networks.picture())
    together = pair.segment(seen, PROMPTS)
    for prompt, found in zip(PROMPTS, together, strict=True):
        (alone,) = pair.segment(seen, [prompt])
        assert (alone.mask == found.mask).all()
    assert not (together[0].mask == together[3].mask).all()


def test_another_size_of_picture_scales_the_answer(pair: Segmenter) -> None:
    image = networks.picture(120, 160)
    double = np.repeat(np.repeat(image, 2, 0), 2, 1)
    (small,) = pair.segment(pair.embed(image), [BOX])
    (large,) = pair.segment(pair.embed(double), [Prompt(box=Box(40.0, 30.0, 200.0, 160.0))])
    (other,) = pair.segment(pair.embed(double), [BOX])
    assert large.mask.shape == (240, 320)
    # The two pictures are not scaled alike to the last grey level, and random weights make much of it.
    assert overlap(large.mask[::2, ::2], small.mask) > overlap(other.mask[::2, ::2], small.mask) + 0.1


def test_a_deadline_that_is_over_ends_a_pair_and_the_next_picture_is_seen(pair: Segmenter) -> None:
    image = networks.picture()
    with pytest.raises(OverdueError, match="deadline"):
        pair.embed(image, time.monotonic() - 1.0)
    seen = pair.embed(image, time.monotonic() + 60.0)
    with pytest.raises(OverdueError):
        pair.segment(seen, [BOX], time.monotonic() - 1.0)
    assert len(pair.segment(seen, [BOX], time.monotonic() + 60.0)) == 1


def test_what_is_no_picture_is_refused(pair: Segmenter) -> None:
    with pytest.raises(ImageError, match="4 x 4 uint8"):
        pair.embed(np.zeros((4, 4), np.uint8))


def test_a_closed_pair_says_so(files: dict[str, Path]) -> None:
    segmenter = opened(files["single"])
    segmenter.close()
    segmenter.close()
    with pytest.raises(ModelError, match="not loaded"):
        segmenter.embed(networks.picture())


def test_a_pair_that_is_none_is_refused_in_a_sentence(files: dict[str, Path], tmp_path: Path) -> None:
    whole = files["single"]
    lonely = tmp_path / "lonely.encoder.onnx"
    lonely.write_bytes(whole.read_bytes())
    with pytest.raises(ModelError, match=r"lonely\.decoder\.onnx does not exist"):
        opened(lonely)
    (tmp_path / "lonely.decoder.onnx").write_bytes(whole.read_bytes())
    with pytest.raises(ModelError, match=r"has no .*point_coords"):
        opened(lonely)
    lonely.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(ModelError, match="not a network"):
        opened(lonely)
    with pytest.raises(ModelError, match="allowed: names that end in"):
        make_segmenter(tmp_path / "sam.engine")


# ultralytics' family


@pytest.fixture(scope="module", params=networks.CHECKPOINTS)
def brought(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brought]:
    pytest.importorskip("ultralytics")
    file = networks.checkpoint(request.param, tmp_path_factory.mktemp("brought"))
    segmenter = opened(file)
    yield str(file), segmenter
    segmenter.close()


def predicted(file: str, image: NDArray[np.uint8], prompt: Prompt) -> NDArray[np.bool_]:
    """By ultralytics' own `predict`."""
    ultralytics = importlib.import_module("ultralytics")
    kind = ultralytics.FastSAM if "FastSAM" in file else ultralytics.SAM
    box = prompt.box
    assert box is not None
    sides = [box.x_min, box.y_min, box.x_max, box.y_max]
    options = {"imgsz": 256, "verbose": False, "retina_masks": True, "conf": 0.0, "iou": 0.9, "device": "cpu"}
    if "FastSAM" in file:
        options["conf"] = 0.25
    (result,) = kind(file).predict(image, bboxes=[sides], **options)
    return result.masks.data[0].cpu().numpy() > 0.5


def test_ultralytics_family_answers_as_its_own_predict(brought: Brought) -> None:
    file, segmenter = brought
    image = networks.picture(120, 160)
    begun = time.monotonic()
    seen = segmenter.embed(image)
    took_s = time.monotonic() - begun
    found = segmenter.segment(seen, [BOX, OTHER])
    assert [one.mask.shape for one in found] == [(120, 160)] * 2
    assert overlap(found[0].mask, predicted(file, image, BOX)) > 0.99
    assert 0.0 <= found[0].score <= 1.0
    (alone,) = segmenter.segment(seen, [OTHER])
    assert overlap(alone.mask, found[1].mask) > 0.99
    # Broken off between two layers: a tenth of the time that it has just taken is too little.
    with pytest.raises(OverdueError, match="deadline"):
        segmenter.embed(image, time.monotonic() + took_s / 10.0)
    with pytest.raises(OverdueError):
        segmenter.segment(seen, [BOX], time.monotonic() - 1.0)
    (again,) = segmenter.segment(seen, [Prompt(points=((50.0, 40.0),), labels=(1,))], time.monotonic() + 60.0)
    assert again.mask.shape == (120, 160)


def test_a_pickle_is_loaded_from_the_trusted_folder_only(tmp_path: Path) -> None:
    file = tmp_path / "mobile_sam.pt"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match="pickle"):
        make_segmenter(file, SegmenterOptions(trusted_folder=tmp_path / "other")).load()


@pytest.mark.parametrize("name", ["mobile_sam.pt", "sam2.1_t.pt", "FastSAM-s.pt"])
def test_a_pickle_that_would_run_code_does_not(tmp_path: Path, name: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("ultralytics")
    trace = tmp_path / "trace"
    torch.save({"model": Exploit(trace)}, tmp_path / name)
    with pytest.raises(ModelError, match="is not a segmenter that ultralytics loads"):
        opened(tmp_path / name)
    assert not trace.exists()
    torch.load(tmp_path / name, weights_only=False)
    assert trace.read_text() == "it ran"  # it would have


# What all share


def test_a_prompt_must_name_something() -> None:
    with pytest.raises(ValueError, match="names nothing"):
        Prompt(points=((1.0, 1.0),), labels=(0,))
    with pytest.raises(ValueError, match="labels"):
        Prompt(box=BOX.box, points=((1.0, 1.0),))


@given(st.lists(st.sampled_from(PROMPTS), max_size=20), st.integers(1, 5))
def test_batches_hold_every_prompt_once_and_one_form_each(prompts: list[Prompt], most: int) -> None:
    batches = in_batches(prompts, most)
    assert sorted(number for batch in batches for number in batch) == list(range(len(prompts)))
    assert all(len(batch) <= most and len({prompts[number].form for number in batch}) == 1 for batch in batches)


@given(st.integers(1, 2000), st.integers(1, 2000))
def test_coordinates_follow_the_scaled_picture(height: int, width: int) -> None:
    size = scaled_size((height, width), 1024)
    assert max(size) == 1024
    corner = Prompt(box=Box(0.0, 0.0, float(width), float(height)), points=((width / 2, height / 2),), labels=(1,))
    fed = encode([corner], (height, width), 1024)
    np.testing.assert_allclose(fed["point_coords"][0, 2], (size[1], size[0]), rtol=1e-6)
    np.testing.assert_allclose(fed["point_coords"][0, 0], (size[1] / 2, size[0] / 2), rtol=1e-6)
    assert fed["point_labels"].tolist() == [[1.0, 2.0, 3.0]]


def test_a_point_without_box_is_padded() -> None:
    assert encode([POINT], (100, 200), 1024)["point_labels"].tolist() == [[1.0, -1.0]]


def test_the_input_is_padded_with_nothing_at_the_lower_right() -> None:
    fed = network_input(np.full((60, 120, 3), 200, np.uint8), 64, padded=True)
    assert fed.shape == (1, 3, 64, 64)
    assert (fed[0, :, 32:] == 0.0).all()
    np.testing.assert_allclose(
        fed[0, :, 0, 0], [(200 - 123.675) / 58.395, (200 - 116.28) / 57.12, (200 - 103.53) / 57.375]
    )


def test_small_maps_are_enlarged_in_place() -> None:
    logits = np.full((32, 32), -9.0, np.float32)
    logits[6:12, 4:20] = 9.0
    found = enlarge(logits, (120, 160), 64) > 0.5  # half the input's stride: 1 px of the map is 5 px of the picture
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (30, 60, 20, 100)


def test_which_mask_is_taken() -> None:
    scores = np.array([0.9, 0.2, 0.6, 0.4])
    assert best_of(scores, BOX) == best_of(scores, BOTH) == best_of(scores[:1], POINT) == 0
    assert best_of(scores, POINT) == 2


def test_stability_is_the_overlap_of_two_thresholds() -> None:
    logits = np.array([[-3.0, -0.5, 0.5, 3.0, 3.0]])
    assert stability_of(logits) == pytest.approx(2 / 4)
    assert stability_of(np.full((3, 3), -5.0)) == 0.0
    assert stability_of(np.full((3, 3), 5.0)) == 1.0


def test_an_outline_has_few_corners_and_the_largest_part() -> None:
    mask = np.random.default_rng(0).random((300, 400)) < 0.5  # the worst that there is
    mask[40:200, 50:350] |= np.random.default_rng(1).random((160, 300)) < 0.9
    assert 3 < len(outline_of(mask)) <= CORNERS
    plain = np.zeros((50, 60), np.bool_)
    plain[10:20, 5:40] = True
    plain[30:33, 50:53] = True
    segment = Segment(plain, 1.0, 1.0)
    assert sorted(map(tuple, segment.outline.tolist())) == [(5.0, 10.0), (5.0, 19.0), (39.0, 10.0), (39.0, 19.0)]
    assert outline_of(np.zeros((4, 4), np.bool_)).shape == (0, 2)
