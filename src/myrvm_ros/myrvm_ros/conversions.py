"""Between messages and domain types: the one module that knows both."""

from __future__ import annotations

import math
from array import array
from dataclasses import asdict, fields
from typing import Any

from myrvm_core.deposit_record import DepositRecord, Session, SessionKind, Stage, TelemetryRecord
from myrvm_interfaces import msg

from myrvm_core import verdict as domain
from myrvm_ros.stamps import to_message, to_ns


def box_to_message(box: domain.Box) -> msg.BoundingBox:
    """A box, px."""
    return msg.BoundingBox(x_min=box.x_min, y_min=box.y_min, x_max=box.x_max, y_max=box.y_max)


def box_from_message(message: msg.BoundingBox) -> domain.Box:
    """A box, px."""
    return domain.Box(message.x_min, message.y_min, message.x_max, message.y_max)


def detection_to_message(detection: domain.Detection) -> msg.Detection:
    """One object in one frame."""
    return msg.Detection(
        class_name=detection.class_name,
        class_id=detection.class_id,
        score=detection.score,
        box=box_to_message(detection.box),
    )


def detection_from_message(message: msg.Detection) -> domain.Detection:
    """One object in one frame."""
    return domain.Detection(message.class_name, message.class_id, message.score, box_from_message(message.box))


def model_to_message(model: domain.ModelInfo) -> msg.ModelInfo:
    """Which network decided."""
    return msg.ModelInfo(name=model.name, version=model.version, sha256=model.sha256)


def model_from_message(message: msg.ModelInfo) -> domain.ModelInfo:
    """Which network decided."""
    return domain.ModelInfo(message.name, message.version, message.sha256)


def measures_to_message(measures: domain.ItemMeasures) -> msg.ItemMeasures:
    """What the outline of the item says."""
    return msg.ItemMeasures(**asdict(measures))


def measures_from_message(message: msg.ItemMeasures) -> domain.ItemMeasures:
    """What the outline of the item says."""
    return domain.ItemMeasures(**_fields(message, domain.ItemMeasures))


def barcode_to_message(barcode: domain.Barcode) -> msg.Barcode:
    """A barcode and its product."""
    return msg.Barcode(**asdict(barcode))


def barcode_from_message(message: msg.Barcode) -> domain.Barcode:
    """A barcode and its product."""
    return domain.Barcode(**_fields(message, domain.Barcode))


def _fields(message: Any, kind: type[Any]) -> dict[str, Any]:
    """Fields of a message with the names of a dataclass's; sequences become tuples."""
    values = {field.name: getattr(message, field.name) for field in fields(kind)}
    return {name: tuple(value) if isinstance(value, array) else value for name, value in values.items()}


def verdict_to_message(verdict: domain.Verdict) -> msg.Verdict:
    """A verdict with all that it rests on."""
    times = verdict.times
    return msg.Verdict(
        outcome=int(verdict.outcome),
        reason=int(verdict.reason),
        class_name=verdict.class_name,
        score=verdict.score,
        box=box_to_message(verdict.box),
        votes_for=verdict.votes_for,
        votes_total=verdict.votes_total,
        frame_stamps=[to_message(stamp) for stamp in verdict.frame_stamps_ns],
        model=model_to_message(verdict.model),
        times=msg.StageTimes(
            wait_s=times.wait_s,
            preprocess_s=times.preprocess_s,
            inference_s=times.inference_s,
            postprocess_s=times.postprocess_s,
            total_s=times.total_s,
        ),
        measures=measures_to_message(verdict.measures),
        barcode=barcode_to_message(verdict.barcode),
    )


def verdict_from_message(message: msg.Verdict) -> domain.Verdict:
    """A verdict with all that it rests on. Raises ValueError for a number that is no constant of the message."""
    times = message.times
    return domain.Verdict(
        outcome=domain.Outcome(message.outcome),
        reason=domain.Reason(message.reason),
        class_name=message.class_name,
        score=message.score,
        box=box_from_message(message.box),
        votes_for=message.votes_for,
        votes_total=message.votes_total,
        frame_stamps_ns=tuple(to_ns(stamp) for stamp in message.frame_stamps),
        model=model_from_message(message.model),
        times=domain.StageTimes(
            times.wait_s, times.preprocess_s, times.inference_s, times.postprocess_s, times.total_s
        ),
        measures=measures_from_message(message.measures),
        barcode=barcode_from_message(message.barcode),
    )


def session_to_message(session: Session) -> msg.Session:
    """One visit of one customer."""
    return msg.Session(
        kind=int(session.kind),
        session_id=session.session_id,
        account_id=session.account_id,
        started_at=to_message(session.started_at_ns),
    )


def session_from_message(message: msg.Session) -> Session:
    """One visit of one customer. Raises ValueError for a kind that is no constant of the message."""
    return Session(SessionKind(message.kind), message.session_id, message.account_id, to_ns(message.started_at))


def record_to_message(record: DepositRecord) -> msg.DepositRecord:
    """One accepted item; a weight that was not taken is NaN in the message."""
    return msg.DepositRecord(
        deposit_id=record.deposit_id,
        session=session_to_message(record.session),
        class_name=record.class_name,
        score=record.score,
        points=record.points,
        weight_kg=math.nan if record.weight_kg is None else record.weight_kg,
        accepted_at=to_message(record.accepted_at_ns),
        accepted_monotonic_ns=record.accepted_monotonic_ns,
        boot_id=record.boot_id,
        clock_synchronised=record.clock_synchronised,
        model=model_to_message(record.model),
        stage=int(record.stage),
        shown=record.shown,
        attempts=min(record.attempts, 65_535),
    )


def record_from_message(message: msg.DepositRecord) -> DepositRecord:
    """One accepted item. Raises ValueError for a stage or kind that is no constant of the message."""
    return DepositRecord(
        deposit_id=message.deposit_id,
        session=session_from_message(message.session),
        class_name=message.class_name,
        score=message.score,
        points=message.points,
        weight_kg=None if math.isnan(message.weight_kg) else message.weight_kg,
        accepted_at_ns=to_ns(message.accepted_at),
        accepted_monotonic_ns=message.accepted_monotonic_ns,
        boot_id=message.boot_id,
        clock_synchronised=message.clock_synchronised,
        model=model_from_message(message.model),
        stage=Stage(message.stage),
        shown=message.shown,
        attempts=message.attempts,
    )


def telemetry_from_message(message: msg.TelemetryRecord) -> TelemetryRecord:
    """One measurement."""
    return TelemetryRecord(to_ns(message.stamp), message.source, message.name, message.value)


def telemetry_to_message(record: TelemetryRecord) -> msg.TelemetryRecord:
    """One measurement."""
    return msg.TelemetryRecord(
        stamp=to_message(record.stamp_ns), source=record.source, name=record.name, value=record.value
    )
