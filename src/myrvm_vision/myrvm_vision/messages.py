"""Messages that only the detector sends."""

from __future__ import annotations

from myrvm_core.verdict import ModelInfo
from myrvm_interfaces.msg import Detections
from myrvm_ros.conversions import detection_to_message, model_to_message
from sensor_msgs.msg import CompressedImage, Image

from myrvm_ros import image_codec, stamps
from myrvm_vision import recognizer
from myrvm_vision.recognizer import Look
from myrvm_vision.settings import ChamberSettings

JUDGED_QUALITY = 80  # of the JPEG


def detections_message(look: Look, frame: Image, model: ModelInfo) -> Detections:
    """All that was found in one frame."""
    return Detections(
        header=frame.header,
        image_width_px=frame.width,
        image_height_px=frame.height,
        model=model_to_message(model),
        inference_s=look.inference.inference_s,
        detections=[detection_to_message(found) for found in look.inference.detections],
    )


def annotated_message(look: Look, frame: Image) -> Image:
    """The frame with all that was found drawn into it."""
    picture = recognizer.annotate(image_codec.from_message(frame), look)
    return image_codec.to_message(picture, "bgr8", stamps.to_ns(frame.header.stamp), frame.header.frame_id)


def judged_message(frame: Image, chamber: ChamberSettings) -> CompressedImage:
    """The frame's picture of the chamber as JPEG."""
    picture = recognizer.chamber_only(image_codec.from_message(frame), chamber)
    return image_codec.to_jpeg(picture, JUDGED_QUALITY, frame.header)
