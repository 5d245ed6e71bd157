from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import toy_network
from lifecycle_msgs.msg import Transition
from myrvm_interfaces.msg import Detections, NodeHealth, Verdict
from myrvm_interfaces.srv import Classify, LoadModel
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image

from myrvm_ros import image_codec, qos, stamps

NANOSECONDS = 1_000_000_000


class Camera:
    """A stand-in for the camera: publishes one picture again and again while somebody subscribes."""

    def __init__(self, graph: Any) -> None:
        self.picture = toy_network.picture(toy_network.GREY)
        self.behind_ns = 0
        self.stamps_ns: list[int] = []
        self.publisher = graph.node.create_publisher(Image, "camera/image_raw", qos.IMAGE)
        self._timer = graph.node.create_timer(0.02, self._publish)

    def _publish(self) -> None:
        if self.publisher.get_subscription_count():
            stamp_ns = time.time_ns() - self.behind_ns
            self.stamps_ns.append(stamp_ns)
            self.publisher.publish(image_codec.to_message(self.picture, "bgr8", stamp_ns, "camera"))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return toy_network.install(tmp_path / "models")


@pytest.fixture
def camera(graph: Any) -> Camera:
    return Camera(graph)


def classify(graph: Any, arrived_ns: int = 0, timeout_s: float = 30.0) -> Verdict:
    request = Classify.Request(item_arrived_at=stamps.to_message(arrived_ns), timeout_s=timeout_s)
    return graph.call(Classify, "detector/classify", request).verdict


def test_verdicts_of_each_kind(graph: Any, models: Path, camera: Camera) -> None:
    graph.bring_up("detector", models_dir=models, votes=3)
    bright = np.full((320, 320, 3), 255, np.uint8)
    dark = np.zeros((320, 320, 3), np.uint8)
    flat = np.full((320, 320, 3), 120, np.uint8)
    cases = [
        (toy_network.picture(toy_network.GREEN), Verdict.REASON_NONE),
        (toy_network.picture(toy_network.BLUE), Verdict.REASON_NOT_EMPTY),
        (toy_network.picture(toy_network.RED), Verdict.REASON_REFUSED_MATERIAL),
        (toy_network.picture((70, 220, 20)), Verdict.REASON_NOT_SURE),
        (toy_network.picture(toy_network.GREY), Verdict.REASON_NOTHING_SEEN),
        (dark, Verdict.REASON_PICTURE_DARK),
        (bright, Verdict.REASON_PICTURE_OVEREXPOSED),
        (flat, Verdict.REASON_PICTURE_BLURRED),
    ]
    for picture, reason in cases:
        camera.picture = picture
        verdict = classify(graph, time.time_ns())
        assert verdict.reason == reason
        assert verdict.outcome == (Verdict.ACCEPTED if reason == Verdict.REASON_NONE else Verdict.REJECTED)
        assert 2 <= verdict.votes_for == verdict.votes_total <= 3
        assert verdict.model.name == "toy"
        assert len(verdict.model.sha256) == 64
        assert verdict.times.total_s >= verdict.times.inference_s > 0.0


def test_the_judged_picture_shows_an_item_and_only_the_chamber(graph: Any, models: Path, camera: Camera) -> None:
    judged: list[CompressedImage] = graph.listen(CompressedImage, "detector/judged", qos.STATE)
    graph.bring_up("detector", models_dir=models, votes=3, **{"chamber.left": 0.5})
    camera.picture = toy_network.picture(toy_network.GREY)
    assert classify(graph, time.time_ns()).reason == Verdict.REASON_NOTHING_SEEN
    for colour in (toy_network.BLUE, toy_network.GREEN):  # refused, accepted
        seen = len(judged)
        camera.picture = toy_network.picture(colour)
        stamps_ns = {stamps.to_ns(stamp) for stamp in classify(graph, time.time_ns()).frame_stamps}
        graph.wait(lambda seen=seen: len(judged) > seen, "a picture")
        assert len(judged) == seen + 1
        assert stamps.to_ns(judged[-1].header.stamp) in stamps_ns
        picture = cv2.imdecode(np.frombuffer(bytes(judged[-1].data), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        width = picture.shape[1]
        assert picture[:, : width // 2 - 8].max() < 10
        assert np.abs(picture[:, width // 2 + 8 :].mean(axis=(0, 1)) - colour).max() < 5


def test_no_frame_older_than_the_item_votes(graph: Any, models: Path, camera: Camera) -> None:
    graph.bring_up("detector", models_dir=models, votes=3)
    camera.picture = toy_network.picture(toy_network.GREEN)
    camera.behind_ns = 200_000_000
    for _ in range(5):
        arrived_ns = time.time_ns()
        verdict = classify(graph, arrived_ns)
        voted_ns = [stamps.to_ns(stamp) for stamp in verdict.frame_stamps]
        assert verdict.outcome == Verdict.ACCEPTED
        assert min(voted_ns) >= arrived_ns
        assert sorted(set(voted_ns)) == voted_ns
        assert set(voted_ns) <= set(camera.stamps_ns)
        assert 0.0 < verdict.times.wait_s <= verdict.times.total_s


def test_only_old_frames_or_none_is_no_picture(graph: Any, models: Path, camera: Camera) -> None:
    graph.bring_up("detector", models_dir=models)
    camera.behind_ns = 3600 * NANOSECONDS
    asked = 0
    while not camera.stamps_ns:  # a busy machine may take longer than one request to find the camera
        old = classify(graph, time.time_ns(), timeout_s=0.5)
        assert (old.outcome, old.reason, old.votes_total) == (Verdict.REJECTED, Verdict.REASON_NO_PICTURE, 0)
        asked += 1
        assert asked < 50, graph.logs()
    graph.node.destroy_publisher(camera.publisher)
    graph.node.destroy_timer(camera._timer)
    none = classify(graph, time.time_ns(), timeout_s=0.5)
    assert (none.outcome, none.reason) == (Verdict.REJECTED, Verdict.REASON_NO_PICTURE)


def test_broken_frames_do_not_vote_and_do_not_hurt(graph: Any, models: Path, camera: Camera) -> None:
    graph.bring_up("detector", models_dir=models, votes=1)
    broken = Image(height=10, width=10, encoding="bgr8", step=30)
    garbage = graph.node.create_timer(0.01, lambda: _publish_garbage(camera, broken))
    verdict = classify(graph, time.time_ns(), timeout_s=0.4)
    assert verdict.reason in (Verdict.REASON_NO_PICTURE, Verdict.REASON_NOTHING_SEEN)
    graph.node.destroy_timer(garbage)
    camera.picture = toy_network.picture(toy_network.GREEN)
    assert classify(graph, time.time_ns()).outcome == Verdict.ACCEPTED


def _publish_garbage(camera: Camera, message: Image) -> None:
    message.header.stamp = stamps.to_message(time.time_ns())
    camera.publisher.publish(message)


def test_frames_are_taken_only_while_wanted_and_detections_only_when_heard(
    graph: Any, models: Path, camera: Camera
) -> None:
    graph.bring_up("detector", models_dir=models)
    camera.picture = toy_network.picture(toy_network.RED)
    assert classify(graph, time.time_ns()).reason == Verdict.REASON_REFUSED_MATERIAL
    graph.wait(lambda: camera.publisher.get_subscription_count() == 0, "end of the subscription")
    detections = graph.listen(Detections, "detector/detections", qos.IMAGE)
    annotated = graph.listen(Image, "detector/annotated", qos.IMAGE)
    graph.wait(lambda: len(detections) >= 2 and annotated, "detections and annotated pictures")
    assert detections[-1].detections[0].class_name == "soda"
    assert (detections[-1].image_width_px, detections[-1].model.name) == (320, "toy")
    assert stamps.to_ns(detections[-1].header.stamp) in camera.stamps_ns
    assert not np.array_equal(image_codec.from_message(annotated[-1]), camera.picture)


def test_engine_that_fails_is_a_verdict_and_a_health_error(graph: Any, tmp_path: Path, camera: Camera) -> None:
    models = toy_network.install(tmp_path / "models", fails_on_bright=True)
    health = graph.listen(NodeHealth, "system/node_health", qos.HEARTBEAT)
    graph.bring_up("detector", models_dir=models, votes=1)
    camera.picture = np.full((320, 320, 3), 250, np.uint8)
    assert classify(graph, time.time_ns()).reason == Verdict.REASON_ENGINE_FAILED
    graph.wait(lambda: health and health[-1].level == NodeHealth.ERROR, "health error")
    assert "engine failed" in health[-1].message
    camera.picture = toy_network.picture(toy_network.GREEN)
    assert classify(graph, time.time_ns()).outcome == Verdict.ACCEPTED
    graph.wait(lambda: health[-1].level == NodeHealth.OK, "health ok again")


def test_who_waits_for_a_verdict_gets_one_when_the_detector_is_deactivated(graph: Any, models: Path) -> None:
    graph.bring_up("detector", models_dir=models)
    client = graph.node.create_client(Classify, "detector/classify")
    graph.wait(client.service_is_ready, "detector/classify")
    future = client.call_async(Classify.Request(item_arrived_at=stamps.to_message(time.time_ns()), timeout_s=30.0))
    graph.wait(lambda: graph.node.count_subscribers("camera/image_raw"), "a detector that waits for a picture")
    assert graph.transition("detector", Transition.TRANSITION_DEACTIVATE)
    graph.wait(future.done, "an answer")
    assert future.result().verdict.reason == Verdict.REASON_NO_PICTURE


def set_texts(graph: Any, **values: str) -> None:
    parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    answer = graph.call(SetParameters, "detector/set_parameters", SetParameters.Request(parameters=parameters))
    assert all(result.successful for result in answer.results)


def test_bad_models_rules_and_values_are_refused_with_one_line(graph: Any, models: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    toy_network.install(wrong)
    with (wrong / "toy.onnx").open("ab") as file:
        file.write(b"x")
    table = tmp_path / "rules.yaml"
    table.write_text("rules: [{reason: NOT_EMPTY, classes: [soada]}, {reason: NOT_A_BOTTLE}]")
    graph.start("detector", models_dir=wrong)
    assert not graph.transition("detector", Transition.TRANSITION_CONFIGURE)
    assert "toy.onnx has sha256" in graph.log("detector")
    assert "Traceback" not in graph.log("detector")
    set_texts(graph, models_dir=str(models), rules_file=str(table))
    assert not graph.transition("detector", Transition.TRANSITION_CONFIGURE)
    assert "row 1.classes = 'soada' is not allowed: the model knows mineral" in graph.log("detector")
    set_texts(graph, rules_file="config/rules.yaml")
    assert graph.transition("detector", Transition.TRANSITION_CONFIGURE)
    assert "Traceback" not in graph.log("detector")


def load_model(graph: Any, model: str = "", version: str = "") -> Any:
    return graph.call(LoadModel, "detector/load_model", LoadModel.Request(model=model, version=version))


def test_models_take_over_between_frames_while_items_are_classified(graph: Any, models: Path, camera: Camera) -> None:
    others = [models / f"other{number}.onnx" for number in range(2)]
    for number, other in enumerate(others):
        toy_network.build(other, strength=1.0 + 0.01 * number)
    (models / "none.onnx").write_bytes(b"no model")
    graph.bring_up("detector", models_dir=models, votes=3, engine_proof="none")
    camera.picture = toy_network.picture(toy_network.GREEN)
    classifier = graph.node.create_client(Classify, "detector/classify")
    loader = graph.node.create_client(LoadModel, "detector/load_model")
    graph.wait(lambda: classifier.service_is_ready() and loader.service_is_ready(), "the services")
    verdicts: list[Any] = []
    serving = {"toy"}
    for round_number in range(12):
        name = ("toy", str(others[0]), str(others[1]), str(models / "none.onnx"))[round_number % 4]
        loading = loader.call_async(LoadModel.Request(model=name, version=str(round_number)))
        while not loading.done():  # one item after the other, without a pause
            request = Classify.Request(item_arrived_at=stamps.to_message(time.time_ns()), timeout_s=30.0)
            pending = classifier.call_async(request)
            graph.wait(pending.done, "a verdict")
            verdicts.append(pending.result().verdict)
        answer = loading.result()
        assert answer.success == (round_number % 4 != 3)
        if answer.success:
            serving = {answer.serving.name}
        else:
            assert "none.onnx is not a model that ONNX Runtime loads" in answer.message
            assert answer.message.endswith("; other1 stays")
        assert {answer.serving.name} == serving
        assert classify(graph, time.time_ns()).model.name == answer.serving.name
    for verdict in verdicts:
        assert (verdict.outcome, verdict.reason) == (Verdict.ACCEPTED, Verdict.REASON_NONE)
        assert 2 <= verdict.votes_for == verdict.votes_total <= 3
    assert {verdict.model.name for verdict in verdicts} >= {"toy", "other0", "other1"}


def test_a_model_that_does_not_prove_itself_does_not_take_over(graph: Any, models: Path, camera: Camera) -> None:
    blind = models / "blind.onnx"
    toy_network.build(blind, strength=0.0)
    graph.bring_up("detector", models_dir=models)
    answer = load_model(graph, str(blind))
    assert not answer.success
    assert "does not prove itself: finds 0 of 3 items in 4 golden pictures, 25% are needed; toy stays" in answer.message
    assert not load_model(graph, "unknown").success
    camera.picture = toy_network.picture(toy_network.GREEN)
    assert classify(graph, time.time_ns()).model.name == "toy"
    answer = load_model(graph)
    assert (answer.success, answer.serving.name) == (True, "toy")
    assert "toy 1 serves; 3 boxes in 4 golden pictures" in answer.message
