"""Between `sensor_msgs/Image` and NumPy: bgr8, rgb8 and mono8, rows padded or not.

`cv_bridge` is used where it is installed (ROS from apt), this module's own few lines elsewhere; both are held to the
same vectors by `tests/unit/test_image_codec.py`. Byte order does not matter: every sample is one byte.
"""

from __future__ import annotations

from array import array
from typing import Any

import cv2
import numpy as np
from myrvm_core.errors import ImageError
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from myrvm_ros import stamps

try:
    from cv_bridge import CvBridge  # pyright: ignore[reportMissingImports]
except ImportError:
    bridge: Any = None
else:
    bridge = CvBridge()

CHANNELS = {"bgr8": 3, "rgb8": 3, "mono8": 1}


def to_message(image: NDArray[np.uint8], encoding: str, stamp_ns: int, frame_id: str) -> Image:
    """A message of a picture.

    Args:
        image: height x width x 3, or height x width for mono8; uint8, channels in the order that `encoding` names.
        encoding: bgr8, rgb8 or mono8.
        stamp_ns: capture time, ns since the epoch.
        frame_id: coordinate frame of the camera.

    Raises:
        ImageError: shape or type of the array does not fit the encoding.
    """
    channels = _channels(encoding)
    shape_fits = image.ndim == 2 if channels == 1 else image.ndim == 3 and image.shape[2] == channels
    if image.dtype != np.uint8 or not shape_fits or image.size == 0:
        wanted = "height x width" if channels == 1 else f"height x width x {channels}"
        raise ImageError(f"{encoding} takes a uint8 array of {wanted}, got {image.dtype} {image.shape}")
    message = Image(height=image.shape[0], width=image.shape[1], encoding=encoding, step=image.shape[1] * channels)
    message.header.stamp = stamps.to_message(stamp_ns)
    message.header.frame_id = frame_id
    # rclpy checks each element of any other sequence: 2 ms become half a second.
    data = array("B")
    data.frombytes(np.ascontiguousarray(image).data)
    message.data = data
    return message


def from_message(message: Image) -> NDArray[np.uint8]:
    """The picture in a message: height x width x 3 BGR, or height x width for mono8; uint8.

    A view of the message's data where the encoding allows it (bgr8, mono8): copy before writing or keeping.

    Raises:
        ImageError: unknown encoding, or `height`, `width`, `step` and the length of `data` contradict each other.
    """
    channels = _channels(message.encoding)
    height, width, step = message.height, message.width, message.step
    if height == 0 or width == 0 or step < width * channels:
        raise ImageError(f"image of {width} x {height} px {message.encoding} with step = {step} bytes: no picture")
    if len(message.data) != height * step:
        raise ImageError(
            f"image has {len(message.data)} bytes of data, allowed: {height * step} "
            f"({width} x {height} px {message.encoding}, step = {step} bytes)"
        )
    # cv_bridge counts a row in whole pixels, so that it misreads padding that is no multiple of a pixel.
    if bridge is not None and step % channels == 0:
        return bridge.imgmsg_to_cv2(message, "mono8" if channels == 1 else "bgr8")
    return decode(message)


def to_jpeg(image: NDArray[np.uint8], quality: int, header: Header) -> CompressedImage:
    """A picture, height x width x 3, BGR, as a JPEG of `quality` 1 .. 100."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return CompressedImage(header=header, format="bgr8; jpeg compressed bgr8", data=array("B", data.tobytes()))


def decode(message: Image) -> NDArray[np.uint8]:
    """`from_message` without `cv_bridge` and without the checks."""
    channels = CHANNELS[message.encoding]
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    picture = rows[:, : message.width * channels]
    if channels == 1:
        return picture
    picture = picture.reshape(message.height, message.width, channels)
    return (
        cv2.cvtColor(picture, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False) if message.encoding == "rgb8" else picture
    )


def _channels(encoding: str) -> int:
    if encoding not in CHANNELS:
        raise ImageError(f"encoding = {encoding!r} is not handled; allowed: {', '.join(CHANNELS)}")
    return CHANNELS[encoding]
