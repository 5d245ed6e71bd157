"""One picture in, one decision out: engine, picture quality and rules put together. No ROS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import monotonic, perf_counter

import cv2
import numpy as np
from myrvm_core.errors import ModelError
from myrvm_core.rules import Decision, Findings, RuleTable, separate_items
from myrvm_core.verdict import Detection, ItemMeasures, ModelInfo, Verdict
from myrvm_core.voting import Ballot
from numpy.typing import NDArray

from myrvm_core import paths, rules
from myrvm_vision import outline_examiner, picture_quality, proven_model
from myrvm_vision.barcode_examiner import BarcodeExaminer
from myrvm_vision.calibration import Calibration
from myrvm_vision.engine import Engine, Inference
from myrvm_vision.examination import Examiner, Frame
from myrvm_vision.outline_examiner import OutlineExaminer
from myrvm_vision.picture_quality import QualityLimits
from myrvm_vision.products import ProductTable, from_rows
from myrvm_vision.proven_model import ProvenModel
from myrvm_vision.settings import ChamberSettings, DetectorSettings

OUTLINED = 3  # items of a picture that is watched
COLOURS = {True: (80, 200, 80), False: (60, 60, 220)}  # BGR: an item, a detection too weak to be one


@dataclass(frozen=True)
class Look:
    """What one frame gave; `ballot` is its vote, `outlines` are of its items where they were asked for."""

    inference: Inference
    findings: Findings
    ballot: Ballot
    outlines: tuple[ItemMeasures, ...] = ()


class Recognizer:
    """Looks at frames. Used by one thread at a time."""

    def __init__(
        self,
        engine: Engine,
        model: ModelInfo,
        table: RuleTable,
        quality: QualityLimits,
        settings: DetectorSettings,
        examiners: Sequence[Examiner] = (),
        calibration: Calibration | None = None,
    ) -> None:
        self.model = model
        self._engine = engine
        self._table = table
        self._quality = quality
        self._settings = settings
        self._examiners = examiners
        self._outliner = next((one for one in examiners if isinstance(one, OutlineExaminer)), None)
        self._calibration = calibration or Calibration()

    def look(self, image: NDArray[np.uint8], stamp_ns: int, outlined: bool = False) -> Look:
        """Judge one frame: height x width x 3, BGR, uint8, captured at `stamp_ns` (ROS time).

        Args:
            image: the frame.
            stamp_ns: when it was captured.
            outlined: whether somebody wants to see its items' outlines.

        Raises:
            ModelError: the engine failed.
        """
        found = self._engine.infer(image)
        begun = perf_counter()
        inference = replace(found, detections=self._calibration.applied(found.detections))
        items = separate_items(inference.detections, self._settings.item_score, self._settings.same_item_overlap)
        findings = Findings(items, self._quality.faults(picture_quality.measure(image)))
        decision = self._table.decide(findings)
        judged_s = perf_counter() - begun
        ballot = Ballot(
            stamp_ns, decision, inference.preprocess_s, inference.inference_s, inference.postprocess_s + judged_s
        )
        return Look(inference, findings, ballot, self._outlines(image, items) if outlined else ())

    def _outlines(self, image: NDArray[np.uint8], items: Sequence[Detection]) -> tuple[ItemMeasures, ...]:
        if self._outliner is None or not items:
            return ()
        boxes = [item.box for item in items[:OUTLINED]]
        try:
            return tuple(self._outliner.measure(image, boxes, monotonic() + self._settings.examine_s))
        except ModelError as error:  # the picture is shown without them, and says so
            return (ItemMeasures(skipped=str(error)),)

    def examine(self, frames: Sequence[Frame], verdict: Verdict) -> Verdict:
        """A closer look at an item that the vote accepts: the verdict with what was found, never another outcome.

        Args:
            frames: that voted for it, newest first.
            verdict: of the vote.
        """
        deadline_s = monotonic() + self._settings.examine_s
        for examiner in self._examiners:
            if frames and monotonic() < deadline_s:
                verdict = examiner.examine(frames, verdict, deadline_s)
            else:
                verdict = examiner.skip(verdict, "no time is left" if frames else "no frame shows it")
        return verdict

    def skip(self, verdict: Verdict, why: str) -> Verdict:
        """The verdict with the reason why there was no closer look."""
        for examiner in self._examiners:
            verdict = examiner.skip(verdict, why)
        return verdict

    def other(self, name: str, version: str) -> ProvenModel:
        """Load and prove another model, as `proven_model.load`; touches nothing of this one, so any thread may."""
        return proven_model.load(self._settings, self._table, name, version)

    def exchange(self, model: ProvenModel) -> Engine:
        """Judge the next frame by another model; gives the engine from before, which the caller closes."""
        before, self._engine = self._engine, model.engine
        self.model, self._calibration = model.info, model.calibration
        return before

    def close(self) -> None:
        """Release the model."""
        for examiner in self._examiners:
            examiner.close()
        self._engine.close()


def load(settings: DetectorSettings) -> Recognizer:
    """Everything that `settings` names, the model warmed up and proven.

    Raises:
        ModelError: no such model, not the promised one, or it does not prove itself.
        SettingsError: the rules are not allowed, or name a class that the model does not have.
    """
    table = rules.load(paths.resolve(settings.rules_file), settings.threshold)
    model = proven_model.load(settings, table)
    quality = QualityLimits(settings.dark_below, settings.burnt_out_above, settings.sharpness_below)
    examiners = [*outline_examiner.load(settings), BarcodeExaminer(ProductTable(given=from_rows(settings.products)))]
    return Recognizer(model.engine, model.info, table, quality, settings, examiners, model.calibration)


def chamber_only(image: NDArray[np.uint8], chamber: ChamberSettings) -> NDArray[np.uint8]:
    """A copy of the picture with nothing but the chamber in it, black beside it."""
    height, width = image.shape[:2]
    inside = (
        slice(round(chamber.top * height), round(chamber.bottom * height)),
        slice(round(chamber.left * width), round(chamber.right * width)),
    )
    picture = np.zeros_like(image)
    picture[inside] = image[inside]
    return picture


def annotate(image: NDArray[np.uint8], look: Look) -> NDArray[np.uint8]:
    """A copy of the picture with boxes, classes and scores, outlines, and the frame's decision in the corner."""
    picture = image.copy()
    for measures in look.outlines:
        outline_examiner.draw(picture, measures)
    for detection in look.inference.detections:
        box = detection.box
        colour = COLOURS[detection in look.findings.items]
        corner = (round(box.x_min), round(box.y_min))
        cv2.rectangle(picture, corner, (round(box.x_max), round(box.y_max)), colour, 2)
        _write(picture, f"{detection.class_name} {detection.score:.2f}", (corner[0] + 3, corner[1] + 16), colour)
    decision: Decision = look.ballot.decision
    _write(picture, f"{decision.reason.name} (rule {decision.row})", (8, picture.shape[0] - 10), (255, 255, 255))
    for place, measures in enumerate(look.outlines, start=1):
        text = measures.skipped or outline_examiner.words(measures)
        _write(picture, text, (8, picture.shape[0] - 10 - 18 * place), outline_examiner.CYAN)
    return picture


def _write(picture: NDArray[np.uint8], text: str, corner: tuple[int, int], colour: tuple[int, int, int]) -> None:
    for thickness, shade in ((3, (0, 0, 0)), (1, colour)):
        cv2.putText(picture, text, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.5, shade, thickness, cv2.LINE_AA)
