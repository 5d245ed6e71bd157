from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from myrvm_vision.letterbox import PADDING, Letterbox, place

SIDES = st.integers(1, 2000)


@given(SIDES, SIDES, st.sampled_from([0, 32]))
def test_the_picture_lies_inside_the_input_and_keeps_its_shape(height: int, width: int, stride: int) -> None:
    placement, size = place((height, width), (320, 320), stride)
    assert 0 <= placement.top <= placement.top + placement.height <= size[0] <= 320
    assert 0 <= placement.left <= placement.left + placement.width <= size[1] <= 320
    assert max(placement.height, placement.width) == 320
    if stride == 0:
        assert size == (320, 320)
    scale = 320 / max(height, width)
    assert abs(placement.height - max(height * scale, 1)) <= 0.5
    assert abs(placement.width - max(width * scale, 1)) <= 0.5


@given(SIDES, SIDES)
def test_boxes_come_back_where_they_were(height: int, width: int) -> None:
    placement, _ = place((height, width), (320, 320))
    left, top = placement.left, placement.top
    whole = np.array([[left, top, left + placement.width, top + placement.height]], np.float32)
    np.testing.assert_allclose(placement.to_picture(whole), [[0, 0, width, height]], atol=1e-2)
    outside = np.array([[-50, -50, 400, 400]], np.float32)
    np.testing.assert_array_equal(placement.to_picture(outside), [[0, 0, width, height]])


@pytest.mark.parametrize("shape", [(480, 640), (320, 320), (640, 480), (100, 33), (1, 500)])
@pytest.mark.parametrize("stride", [0, 32])
def test_input_holds_the_picture_in_rgb_and_grey_elsewhere(shape: tuple[int, int], stride: int) -> None:
    letterbox = Letterbox((320, 320), stride)
    for blue, green, red in [(255, 128, 0), (10, 20, 30)]:  # the second picture goes into the same buffer
        network_input, placement = letterbox(np.full((*shape, 3), (blue, green, red), np.uint8))
        assert network_input.dtype == np.float32
        assert network_input.flags.c_contiguous
        expected = np.full((*network_input.shape[2:], 3), PADDING, np.float32)
        top, left = placement.top, placement.left
        expected[top : top + placement.height, left : left + placement.width] = (red, green, blue)
        np.testing.assert_allclose(network_input[0].transpose(1, 2, 0), expected / 255, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 900), st.integers(1, 900), st.sampled_from([0, 32]), st.integers(0, 2**32 - 1))
def test_equal_to_ultralytics(height: int, width: int, stride: int, seed: int) -> None:
    augment = pytest.importorskip("ultralytics.data.augment")
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    network_input, _ = Letterbox((320, 320), stride)(picture)
    theirs = augment.LetterBox((320, 320), auto=bool(stride), stride=32)(image=picture)
    expected = theirs[..., ::-1].transpose(2, 0, 1).astype(np.float32) / 255
    np.testing.assert_allclose(network_input[0], expected, atol=1e-6)
