from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from myrvm_vision.postprocess import Limits, decode, suppress
from numpy.typing import NDArray


def boxes_of(seed: int, count: int) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, 200, (count, 2))
    return np.hstack((corner, corner + generator.uniform(0, 120, (count, 2)))).astype(np.float32)


def overlap_of(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(shared / union) if union else 0.0


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.floats(0.1, 0.9))
def test_suppression_keeps_one_box_of_each_cluster(seed: int, count: int, limit: float) -> None:
    boxes = boxes_of(seed, count)
    kept = suppress(boxes, limit, len(boxes))
    assert suppress(boxes, limit, 2) == kept[:2]
    assert kept == sorted(kept)
    assert kept[:1] == [0][:count]
    for number in range(count):
        covered = any(overlap_of(boxes[better], boxes[number]) > limit - 1e-6 for better in kept if better < number)
        assert covered if number not in kept else True
    for first in kept:
        assert all(overlap_of(boxes[first], boxes[other]) <= limit + 1e-6 for other in kept if other > first)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 80), st.floats(0.05, 0.9), st.floats(0.2, 0.9))
def test_equal_to_ultralytics(seed: int, count: int, score: float, limit: float) -> None:
    nms = pytest.importorskip("ultralytics.utils.nms")
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(seed)
    output = np.concatenate(
        (generator.uniform(20, 300, (2, count)), generator.uniform(0, 150, (2, count)), generator.random((7, count)))
    )
    output = output.astype(np.float32)[None]
    ours = decode(output, 7, Limits(score, limit, 20))
    theirs = nms.non_max_suppression(torch.from_numpy(output.copy()), score, limit, max_det=20, nc=7)[0].numpy()
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_classes_do_not_suppress_each_other() -> None:
    output = np.zeros((1, 6, 3), np.float32)
    output[0, :4] = [[50, 51, 50], [50, 50, 50], [40, 40, 40], [40, 40, 40]]
    output[0, 4:] = [[0.9, 0.8, 0.1], [0.0, 0.0, 0.7]]
    found = decode(output, 2, Limits())
    np.testing.assert_allclose(found[:, 4:], [[0.9, 0], [0.7, 1]], atol=1e-6)
    np.testing.assert_allclose(found[0, :4], [30, 30, 70, 70])


def test_a_head_that_suppresses_itself_is_only_filtered() -> None:
    output = np.array([[[0, 0, 9, 9, 0.9, 3], [0, 0, 9, 9, 0.8, 3], [1, 1, 2, 2, 0.2, 0]]], np.float32)
    np.testing.assert_array_equal(decode(output, 7, Limits()), output[0, :2])
    assert decode(output, 7, Limits(count=1)).shape == (1, 6)


@pytest.mark.parametrize("shape", [(1, 10, 2100), (2, 11, 5), (11, 5), (1, 5, 7)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"is not understood: \(1, 11, n\) or \(1, n, 6\) for 7 classes"):
        decode(np.zeros(shape, np.float32), 7, Limits())
