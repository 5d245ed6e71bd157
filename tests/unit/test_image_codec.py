"""The image codec, ours and cv_bridge's where it is installed, on the same vectors."""

from __future__ import annotations

from array import array
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import ImageError
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from myrvm_ros import image_codec

from_cv_bridge = pytest.param(
    image_codec.from_message,
    id="cv_bridge",
    marks=pytest.mark.skipif(
        image_codec.bridge is None, reason="cv_bridge is not installed (it comes with ROS from apt)"
    ),
)
decoders = pytest.mark.parametrize("decode", [pytest.param(image_codec.decode, id="ours"), from_cv_bridge])
Decode = Callable[[Image], NDArray[np.uint8]]


def picture(height: int, width: int, channels: int, seed: int = 0) -> NDArray[np.uint8]:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def padded(image: NDArray[np.uint8], encoding: str, padding: int) -> Image:
    rows = image.reshape(image.shape[0], -1)
    step = rows.shape[1] + padding
    data = np.full((image.shape[0], step), 0xEE, np.uint8)
    data[:, : rows.shape[1]] = rows
    message = Image(height=image.shape[0], width=image.shape[1], encoding=encoding, step=step)
    message.data = array("B", data.tobytes())
    return message


@decoders
@pytest.mark.parametrize("padding", [0, 3, 6])
@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "mono8"])
def test_vectors(decode: Decode, encoding: str, padding: int) -> None:
    image = picture(4, 5, image_codec.CHANNELS[encoding])
    expected = image[..., ::-1] if encoding == "rgb8" else image
    np.testing.assert_array_equal(decode(padded(image, encoding, padding)), expected)


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    encoding=st.sampled_from(sorted(image_codec.CHANNELS)),
    padding=st.integers(0, 7),
    seed=st.integers(0, 99),
)
def test_any_size_and_padding_survives(height: int, width: int, encoding: str, padding: int, seed: int) -> None:
    image = picture(height, width, image_codec.CHANNELS[encoding], seed)
    expected = image[..., ::-1] if encoding == "rgb8" else image
    np.testing.assert_array_equal(image_codec.from_message(padded(image, encoding, padding)), expected)
    np.testing.assert_array_equal(
        image_codec.from_message(image_codec.to_message(image, encoding, 0, "camera")), expected
    )


def test_stamp_frame_and_step() -> None:
    message = image_codec.to_message(picture(2, 3, 3), "bgr8", 1_700_000_000_123_456_789, "camera")
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (1_700_000_000, 123_456_789)
    assert (message.header.frame_id, message.step, len(message.data)) == ("camera", 9, 18)


def test_a_part_of_a_larger_picture_is_sent_whole() -> None:
    part = picture(8, 8, 3)[2:5, 1:4]
    np.testing.assert_array_equal(image_codec.from_message(image_codec.to_message(part, "bgr8", 0, "camera")), part)


@pytest.mark.skipif(image_codec.bridge is not None, reason="cv_bridge decides itself whether it copies")
def test_bgr8_is_received_without_a_copy() -> None:
    message = image_codec.to_message(picture(4, 4, 3), "bgr8", 0, "camera")
    view = image_codec.from_message(message)
    message.data[0] ^= 0xFF
    assert view[0, 0, 0] == message.data[0]


@pytest.mark.parametrize("length", [0, 11, 13, 24])
def test_wrong_length_is_refused(length: int) -> None:
    message = Image(height=2, width=2, encoding="bgr8", step=6, data=array("B", bytes(length)))
    with pytest.raises(ImageError, match=f"{length} bytes of data, allowed: 12"):
        image_codec.from_message(message)


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (Image(height=1, width=2, encoding="bgr8", step=5, data=array("B", bytes(5))), "step = 5 bytes"),
        (Image(height=0, width=0, encoding="mono8", step=0), "no picture"),
        (Image(height=1, width=1, encoding="yuv422", step=2, data=array("B", bytes(2))), "'yuv422' is not handled"),
    ],
)
def test_what_is_no_picture_is_refused(message: Image, line: str) -> None:
    with pytest.raises(ImageError, match=line):
        image_codec.from_message(message)


@pytest.mark.parametrize(
    ("image", "encoding"),
    [
        (np.zeros((2, 2), np.uint8), "bgr8"),
        (np.zeros((2, 2, 4), np.uint8), "rgb8"),
        (np.zeros((2, 2, 3), np.uint8), "mono8"),
        (np.zeros((2, 2, 3), np.float32), "bgr8"),
        (np.zeros((0, 2, 3), np.uint8), "bgr8"),
        (np.zeros((2, 2, 3), np.uint8), "jpeg"),
    ],
)
def test_what_does_not_fit_is_not_sent(image: NDArray[np.uint8], encoding: str) -> None:
    with pytest.raises(ImageError, match=encoding):
        image_codec.to_message(image, encoding, 0, "camera")
