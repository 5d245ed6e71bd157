"""The detector: looks at camera frames and says whether an item is accepted.

Serves `detector/classify` (myrvm_interfaces/Classify), a vote over frames captured after the item arrived, and
`detector/load_model` (`model_swap`).
Publishes `detector/detections` (myrvm_interfaces/Detections) and `detector/annotated` (sensor_msgs/Image) while
somebody listens and no item is classified, and `detector/judged` (sensor_msgs/CompressedImage, latched): the newest
frame that voted and shows an item, only the chamber. Subscribes `camera/image_raw` (sensor_msgs/Image) while needed.
Obeys `health/limits` (myrvm_interfaces/OperatingLimits): a hot machine looks less often for those who only listen.
`recognizer` judges a frame, `myrvm_core.voting` counts; what the vote accepts is examined once more (`examination`).
"""

from __future__ import annotations

import math
from dataclasses import replace
from time import monotonic
from typing import Any, cast

from myrvm_core.errors import ImageError, ModelError
from myrvm_core.verdict import Outcome, Reason, Verdict
from myrvm_core.voting import Vote
from myrvm_interfaces.msg import Detections, NodeHealth, OperatingLimits
from myrvm_interfaces.srv import Classify
from myrvm_ros.limits import Limits
from myrvm_ros.managed_node import Health, ManagedNode, run
from rclpy.subscription import Subscription
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage, Image

from myrvm_ros import conversions, image_codec, qos, stamps
from myrvm_vision import recognizer
from myrvm_vision.classification import Request, allowed_s, summary
from myrvm_vision.engine import Engine
from myrvm_vision.messages import annotated_message, detections_message, judged_message
from myrvm_vision.model_swap import ModelSwap
from myrvm_vision.proven_model import ProvenModel
from myrvm_vision.recognizer import Look
from myrvm_vision.settings import DetectorSettings

LISTENERS_PERIOD_S = 0.5
EXAMINED_WITHIN = 2.0  # times examine_s
WAITING_LIMIT = 4  # there is one chamber: more requests at once are a defect of somebody else's


class DetectorNode(ManagedNode[DetectorSettings]):
    """The detector node."""

    settings_type = DetectorSettings

    def __init__(self) -> None:
        super().__init__("detector")

    def configure(self) -> None:
        """Load and warm up the model, read the rules."""
        self._recognizer = recognizer.load(self.settings)
        self.on_release(self._recognizer.close)
        self._detections = self.publisher(Detections, "detector/detections", qos.IMAGE)
        self._annotated = self.publisher(Image, "detector/annotated", qos.IMAGE)
        self._judged = self.publisher(CompressedImage, "detector/judged", qos.STATE)
        self._engine_failure, self._last_verdict_s = "", 0.0
        self._verdicts = self._skipped = 0
        self.log.info("model loaded", model=self._recognizer.model.name, version=self._recognizer.model.version)

    def activate(self) -> None:
        """Serve."""
        self._requests: list[Request] = []
        self._newest: Image | None = None
        self._serving = True
        self._looking = False
        self._next_stream_s = 0.0
        self._camera: Subscription | None = None
        Limits(self, self._obey)
        self._swap = ModelSwap(self, self._recognizer, self._exchange, lambda: self._looking)
        self.service(Classify, "detector/classify", self._classify)
        self.on_release(self._stop)  # before the service goes: who waits gets an answer
        self.timer(LISTENERS_PERIOD_S, self._listen_where_wanted)

    def health(self) -> Health:
        """An engine that failed is an error until it works again."""
        model = self._recognizer.model
        values: dict[str, float | int | str] = {
            "model": model.name, "model_version": model.version, "model_sha256": model.sha256,
            "verdicts": self._verdicts, "frames_skipped": self._skipped,
            "last_verdict_s": round(self._last_verdict_s, 3),
        }  # fmt: skip
        if self._engine_failure:
            return Health(NodeHealth.ERROR, f"engine failed: {self._engine_failure}", values)
        return Health(values=values)

    # Frames: only while somebody wants them, since receiving 15 a second costs 5 % of a core (docs/recognition.md)

    def _obey(self, limits: OperatingLimits) -> None:
        slow = limits.level >= OperatingLimits.SLOW
        self._stream_hz = min(self.settings.stream_hz, self.settings.slow_stream_hz if slow else math.inf)
        self._too_hot = slow

    def _streaming(self) -> bool:
        return bool(self._detections.get_subscription_count() or self._annotated.get_subscription_count())

    def _listen_where_wanted(self) -> None:
        if not self._requests and not self._streaming():
            self._stop_listening()
        elif self._camera is None:
            self._camera = self.create_subscription(Image, "camera/image_raw", self._frame, qos.IMAGE)

    def _stop_listening(self) -> None:
        if self._camera is not None:
            self.destroy_subscription(self._camera)
        self._camera = self._newest = None

    def _frame(self, message: Image) -> None:
        self._skipped += self._newest is not None
        self._newest = message
        self._look()

    def _look(self) -> None:
        """Hand the newest frame to the worker, unless that is busy or nobody wants this frame."""
        message = self._newest
        if message is None or self._looking:
            return
        self._newest = None
        stamp_ns = stamps.to_ns(message.header.stamp)
        voters = [request for request in self._requests if request.wants(stamp_ns)]
        if not voters and (self._requests or not self._streaming() or monotonic() < self._next_stream_s):
            return
        for request in voters:
            request.last_ns = stamp_ns
            request.wait_s = request.wait_s or monotonic() - request.begun_s
        self._next_stream_s = monotonic() + 1.0 / self._stream_hz
        self._looking = True
        watched = not voters and not self._too_hot and self._annotated.get_subscription_count() > 0
        looked = self.run_in_worker(self._judge, message, stamp_ns, watched)
        looked.add_done_callback(lambda done: self._looked(done, message, voters))

    def _judge(self, message: Image, stamp_ns: int, watched: bool) -> Look:
        return self._recognizer.look(image_codec.from_message(message), stamp_ns, outlined=watched)

    def _looked(self, done: Future, message: Image, voters: list[Request]) -> None:
        self._looking = False
        if not self._serving:
            return
        error = done.exception()
        if isinstance(error, ImageError):
            self.log.warning("frame skipped", error=str(error))
        elif isinstance(error, ModelError):
            self._fail(str(error), voters)
        else:
            self._count(cast(Look, done.result()), message, voters)
        self._swap.between_frames()
        self._listen_where_wanted()
        self._look()

    def _exchange(self, model: ProvenModel) -> Engine:
        for request in self._requests:
            request.restart(self.settings.votes)
        return self._recognizer.exchange(model)

    def _count(self, look: Look, message: Image, voters: list[Request]) -> None:
        self._engine_failure = ""
        for request in (voter for voter in voters if not voter.closed):
            request.add(message, look)
            if request.vote.closed:
                self._close(request)
        if not voters and not self._requests:
            self._publish(look, message)

    def _publish(self, look: Look, message: Image) -> None:
        if self._detections.get_subscription_count():
            self._detections.publish(detections_message(look, message, self._recognizer.model))
        if self._annotated.get_subscription_count():
            self._annotated.publish(annotated_message(look, message))

    # Requests

    def _classify(self, asked: Any, _: Any) -> Future:
        arrived_ns = stamps.to_ns(asked.item_arrived_at) or self.now_ns()
        request = Request(arrived_ns, Vote(self.settings.votes), Future(), monotonic())
        if len(self._requests) >= WAITING_LIMIT:
            self.log.warning("too many items at once", limit=WAITING_LIMIT)
            self._answer_with(request, request.vote.verdict(self._recognizer.model, 0.0, 0.0))
            return request.answer
        timeout_s = allowed_s(asked.timeout_s, self.settings.vote_timeout_s)
        self._requests.append(request)
        request.cancel = self.after(timeout_s, lambda: self._close(request))
        self._listen_where_wanted()
        self._look()
        return request.answer

    def _close(self, request: Request) -> None:
        """The vote is over: give its verdict, one that accepts after a closer look."""
        request.cancel()
        request.closed = True
        total_s = monotonic() - request.begun_s
        verdict = request.vote.verdict(self._recognizer.model, request.wait_s or total_s, total_s)
        if verdict.outcome is not Outcome.ACCEPTED or not self._serving:
            self._finish(request, verdict)
            return

        def skipped(why: str) -> None:
            self._examined(request, self._recognizer.skip(verdict, why))

        def examined(done: Future) -> None:
            error = done.exception()
            skipped(str(error)) if error else self._examined(request, cast(Verdict, done.result()))

        # A second time-out: the worker may hang, and what the item lacks in evidence is for the deposit to judge.
        request.cancel = self.after(EXAMINED_WITHIN * self.settings.examine_s, lambda: skipped("it took too long"))
        self.run_in_worker(self._examine, request, verdict).add_done_callback(examined)

    def _examine(self, request: Request, verdict: Verdict) -> Verdict:
        if self._too_hot:
            return self._recognizer.skip(verdict, "the machine is too hot")
        return self._recognizer.examine(request.frames(verdict.reason, image_codec.from_message), verdict)

    def _examined(self, request: Request, verdict: Verdict) -> None:
        times = replace(verdict.times, total_s=monotonic() - request.begun_s)
        self._finish(request, replace(verdict, times=times))

    def _fail(self, error: str, voters: list[Request]) -> None:
        self._engine_failure = error
        self.log.error("engine failed", error=error)
        for request in voters:
            self._finish(request, Verdict(Outcome.REJECTED, Reason.ENGINE_FAILED, model=self._recognizer.model))

    def _finish(self, request: Request, verdict: Verdict) -> None:
        if request not in self._requests:
            return
        self._requests.remove(request)
        request.cancel()
        self._verdicts, self._last_verdict_s = self._verdicts + 1, verdict.times.total_s
        judged = request.shown()
        if judged is not None and self._judged.get_subscription_count():
            self._judged.publish(judged_message(judged, self.settings.chamber))
        self._answer_with(request, verdict)

    def _answer_with(self, request: Request, verdict: Verdict) -> None:
        request.answer.set_result(Classify.Response(verdict=conversions.verdict_to_message(verdict)))
        self.log.info("verdict", **summary(verdict))

    def _stop(self) -> None:
        self._serving = False
        self._stop_listening()
        for request in list(self._requests):
            self._close(request)


def main() -> None:
    """Run the node."""
    run(DetectorNode)
