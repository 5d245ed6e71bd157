"""The camera node on a folder of pictures, which can be taken away and given back like a plug."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from myrvm_interfaces.msg import NodeHealth, OperatingLimits
from myrvm_interfaces.srv import Capture
from myrvm_sim.cabinet_client import CabinetClient
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from myrvm_ros import image_codec, qos, stamps

CALIBRATION = """
image_width: 64
image_height: 48
camera_matrix: {rows: 3, cols: 3, data: [60, 0, 32, 0, 60, 24, 0, 0, 1]}
distortion_coefficients: {rows: 1, cols: 5, data: [0.1, -0.2, 0, 0, 0]}
rectification_matrix: {rows: 3, cols: 3, data: [1, 0, 0, 0, 1, 0, 0, 0, 1]}
projection_matrix: {rows: 3, cols: 4, data: [60, 0, 32, 0, 0, 60, 24, 0, 0, 0, 1, 0]}
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), noise)
    return folder


def health(graph: Any) -> list[NodeHealth]:
    return graph.listen(NodeHealth, "system/node_health", qos.HEARTBEAT)


def test_pictures_are_sent_with_the_stamp_of_their_capture(graph: Any, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "camera.yaml").write_text(CALIBRATION)
    graph.bring_up(
        "camera", driver="folder", device=pictures, calibration_file=tmp_path / "camera.yaml", frame_id="chamber"
    )
    images = graph.listen(Image, "camera/image_raw", qos.IMAGE)
    compressed = graph.listen(CompressedImage, "camera/image_raw/compressed", qos.IMAGE)
    infos = graph.listen(CameraInfo, "camera/camera_info", qos.IMAGE)
    started_ns = time.time_ns()

    def all_have_come() -> bool:
        # Each topic drops what comes while nobody takes it: wait for an info whose picture was heard as well.
        told, shown = ({stamps.to_ns(one.header.stamp) for one in heard} for heard in (infos[1:], images))
        return len(images) >= 5 and len(compressed) >= 2 and bool(told & shown)

    graph.wait(all_have_come, "pictures")

    shown = [np.asarray(cv2.imread(str(path))) for path in sorted(pictures.iterdir())]
    for message in images:
        assert (message.encoding, message.header.frame_id) == ("bgr8", "chamber")
        assert any(np.array_equal(image_codec.from_message(message), picture) for picture in shown)
    taken_ns = [stamps.to_ns(message.header.stamp) for message in images]
    assert taken_ns == sorted(set(taken_ns))
    assert started_ns - 5_000_000_000 < taken_ns[0] < taken_ns[-1] <= time.time_ns()
    decoded = cv2.imdecode(np.frombuffer(compressed[-1].data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    assert decoded.shape == (48, 64, 3)
    assert (infos[-1].k[0], infos[-1].width, infos[-1].header.frame_id) == (60.0, 64, "chamber")


def test_capture_gives_one_frame_newer_than_the_request(graph: Any, pictures: Path) -> None:
    graph.bring_up("camera", driver="folder", device=pictures)
    for _ in range(3):
        asked_ns = time.time_ns()
        answer = graph.call(Capture, "camera/capture", Capture.Request(timeout_s=10.0))
        assert answer.success, answer.message
        assert stamps.to_ns(answer.image.header.stamp) >= asked_ns
        assert image_codec.from_message(answer.image).shape == (48, 64, 3)
    refused = graph.call(Capture, "camera/capture", Capture.Request(timeout_s=0.0))
    assert (refused.success, refused.message) == (False, "timeout_s = 0 is not allowed: 0.1 .. 10 s")


def test_an_unplugged_camera_is_reported_and_resumes(graph: Any, pictures: Path) -> None:
    graph.bring_up("camera", driver="folder", device=pictures, lost_after_s=0.5, reopen_longest_s=0.5)
    images = graph.listen(Image, "camera/image_raw", qos.IMAGE)
    beats = health(graph)
    graph.wait(lambda: images and beats and beats[-1].level == NodeHealth.OK, "picture and health")

    pictures.rename(pictures.with_name("unplugged"))
    graph.wait(lambda: beats[-1].level == NodeHealth.ERROR, "error")
    assert "no picture for" in beats[-1].message
    assert str(pictures) in beats[-1].message
    refused = graph.call(Capture, "camera/capture", Capture.Request(timeout_s=0.2))
    assert not refused.success
    assert refused.message.startswith("no picture within 0.2 s: ")
    images.clear()
    count = len(beats)
    graph.wait(lambda: len(beats) > count, "heartbeat")
    assert images == []

    pictures.with_name("unplugged").rename(pictures)
    graph.wait(lambda: images and beats[-1].level == NodeHealth.OK, "picture after the camera is back")
    figures = {value.key: value.value for value in beats[-1].values}
    assert int(figures["reopened"]) >= 1


def test_a_frozen_or_black_camera_is_opened_again_until_it_lives(graph: Any, cabinet: CabinetClient) -> None:
    beats = health(graph)
    hangs = {"identical_frames": 4, "black_frames": 4, "lost_after_s": 0.5, "reopen_longest_s": 0.5}
    graph.bring_up("camera", driver="cabinet", device="''", **hangs)
    for state, line in (("frozen", "the same picture"), ("black", "black pictures"), ("unplugged", "unplugged")):
        graph.wait(lambda: beats and beats[-1].level == NodeHealth.OK, "health")
        cabinet.set_camera(state)
        graph.wait(
            lambda line=line: beats[-1].level == NodeHealth.ERROR and line in beats[-1].message, f"{state}: {line}"
        )
        cabinet.set_camera("live")
    graph.wait(lambda: beats[-1].level == NodeHealth.OK, "health at the end")


def test_an_absent_camera_does_not_hold_up_activation(graph: Any, pictures: Path) -> None:
    absent = pictures.rename(pictures.with_name("absent"))
    beats = health(graph)
    graph.bring_up("camera", driver="folder", device=pictures, reopen_longest_s=0.5)
    graph.wait(lambda: beats and beats[-1].level == NodeHealth.ERROR, "error")
    assert "no picture yet: folder" in beats[-1].message
    absent.rename(pictures)
    graph.wait(lambda: beats[-1].level == NodeHealth.OK, "health after the camera came")


def test_deactivation_answers_who_waits_for_a_picture(graph: Any, tmp_path: Path) -> None:
    graph.bring_up("camera", driver="folder", device=tmp_path / "absent")
    client = graph.node.create_client(Capture, "camera/capture")
    graph.wait(client.service_is_ready, "capture service")
    beats = health(graph)
    waiting: Any = None
    for _ in range(5):
        # Fast DDS may drop the last answer of a service that is destroyed: one of a few has to come.
        beats.clear()
        waiting = client.call_async(Capture.Request(timeout_s=10.0))
        graph.wait(lambda: len(beats) >= 2, "heartbeats: the request has been taken")
        assert graph.transition("camera", Transition.TRANSITION_DEACTIVATE)
        end_s = time.monotonic() + 5.0
        while not waiting.done() and time.monotonic() < end_s:
            graph.spin_once(0.05)
        if waiting.done():
            break
        assert graph.transition("camera", Transition.TRANSITION_ACTIVATE)
        graph.wait(client.service_is_ready, "capture service")
    assert waiting.result().message.startswith("the camera was deactivated")


def test_the_frame_rate_of_the_limits_is_obeyed_and_ends_with_them(graph: Any, pictures: Path) -> None:
    limits = graph.node.create_publisher(OperatingLimits, "health/limits", qos.STATE)
    images = graph.listen(Image, "camera/image_raw", qos.IMAGE)
    graph.bring_up("camera", driver="folder", device=pictures, frame_rate_hz=30.0)
    limits.publish(OperatingLimits(level=OperatingLimits.SLOW, frame_rate_limit_hz=1.0))

    def gaps_s() -> list[float]:
        stamps_ns = [stamps.to_ns(image.header.stamp) for image in images[-3:]]
        return [(later - earlier) / 1e9 for earlier, later in pairwise(stamps_ns)]

    graph.wait(lambda: len(gaps_s()) == 2 and min(gaps_s()) >= 0.5, "slow pictures")  # half a period is Pace's grace
    limits.publish(OperatingLimits())
    graph.wait(lambda: min(gaps_s()) < 0.5, "quick pictures")


@pytest.mark.parametrize(
    ("parameters", "lines"),
    [
        ({"driver": "webcam"}, ["driver = 'webcam' is not installed in myrvm.camera_drivers; allowed: "]),
        (
            {"driver": "folder", "frame_rate_hz": 0.0, "jpeg_quality": "best"},
            ["camera.frame_rate_hz = 0.0 is not allowed: float, 0.1 .. 120 Hz", "camera.jpeg_quality = 'best' is not"],
        ),
    ],
)
def test_garbage_in_the_configuration_stops_configure_with_one_line(
    graph: Any, parameters: dict[str, Any], lines: list[str]
) -> None:
    graph.start("camera", **parameters)
    assert not graph.transition("camera", Transition.TRANSITION_CONFIGURE)
    assert all(line in graph.log("camera") for line in lines)
    assert "Traceback" not in graph.log("camera")
