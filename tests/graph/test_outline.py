"""The detector with the segmenter that ships: outlines in verdicts and in the stream, or why there are none."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import toy_network
from lifecycle_msgs.msg import Transition
from myrvm_interfaces.msg import OperatingLimits, Verdict
from myrvm_interfaces.srv import Classify
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from myrvm_core import paths
from myrvm_ros import image_codec, qos, stamps

OUTLINE = {"outline.camera_height_m": 0.5, "outline.view_width_m": 0.4}


def picture() -> NDArray[np.uint8]:
    """Green as the toy network likes it, with a bottle where it sees one."""
    image = toy_network.picture(toy_network.GREEN)
    cv2.ellipse(image, (160, 160), (42, 95), 0, 0, 360, (60, 255, 60), -1)
    return image


class Camera:
    """A stand-in for the camera: the same picture again and again."""

    def __init__(self, graph: Any) -> None:
        self._publisher = graph.node.create_publisher(Image, "camera/image_raw", qos.IMAGE)
        graph.node.create_timer(0.05, self._publish)

    def _publish(self) -> None:
        self._publisher.publish(image_codec.to_message(picture(), "bgr8", time.time_ns(), "camera"))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return toy_network.install(tmp_path / "models")


@pytest.fixture
def segmenter() -> str:
    return str(next((paths.home() / "models").glob("*.encoder.onnx")))


def classify(graph: Any) -> Verdict:
    request = Classify.Request(item_arrived_at=stamps.to_message(time.time_ns()), timeout_s=30.0)
    return graph.call(Classify, "detector/classify", request).verdict


def test_an_accepted_item_is_measured(graph: Any, models: Path, segmenter: str) -> None:
    Camera(graph)
    graph.bring_up("detector", models_dir=models, votes=1, examine_s=5.0, **OUTLINE, **{"outline.segmenter": segmenter})
    verdict = classify(graph)
    assert verdict.outcome == Verdict.ACCEPTED
    measures = verdict.measures
    assert not measures.skipped
    assert measures.duration_s > 0.0
    assert 0.0 <= measures.mask_score <= 1.0
    assert len(measures.outline_px) >= 6
    assert measures.length_m > measures.width_m > 0.0
    assert len(measures.fingerprint) == 62


def test_without_a_segmenter_nothing_is_measured(graph: Any, models: Path) -> None:
    Camera(graph)
    graph.bring_up("detector", models_dir=models, votes=1)
    measures = classify(graph).measures
    assert math.isnan(measures.length_m)
    assert not measures.skipped


def test_a_segmenter_that_is_not_there_is_refused_in_a_sentence(graph: Any, models: Path) -> None:
    graph.start("detector", models_dir=models, **{"outline.segmenter": "nowhere"})
    assert not graph.transition("detector", Transition.TRANSITION_CONFIGURE)
    assert "segmenters.json" in graph.log("detector")


def test_the_annotated_stream_shows_the_outline(graph: Any, models: Path, segmenter: str) -> None:
    Camera(graph)
    graph.bring_up("detector", models_dir=models, examine_s=5.0, **{"outline.segmenter": segmenter})
    shown = graph.listen(Image, "detector/annotated", qos.IMAGE)
    graph.wait(lambda: bool(shown), "an annotated picture")
    assert (shown[-1].encoding, shown[-1].width, shown[-1].height) == ("bgr8", 320, 320)
    drawn = (image_codec.from_message(shown[-1]) != picture()).any(2)
    assert drawn[150:170, 150:170].mean() > 0.9  # the middle of the item is covered; its box alone has only edges


def test_a_hot_machine_skips_it_and_says_so(graph: Any, models: Path, segmenter: str) -> None:
    Camera(graph)
    limits = graph.node.create_publisher(OperatingLimits, "health/limits", qos.STATE)
    limits.publish(OperatingLimits(level=OperatingLimits.SLOW))
    graph.bring_up("detector", models_dir=models, votes=1, **{"outline.segmenter": segmenter})
    graph.wait(lambda: classify(graph).measures.skipped == "the machine is too hot", "a verdict without a closer look")
