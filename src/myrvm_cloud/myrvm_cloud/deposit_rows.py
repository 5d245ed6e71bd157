"""A deposit as a row of the buffer's table, and back."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from myrvm_core.deposit_record import DepositRecord, Session, SessionKind, Stage
from myrvm_core.errors import StorageError
from myrvm_core.verdict import ModelInfo

from myrvm_cloud import schema

TEXT_LIMIT = 500
STAGE_STATE = {Stage.ACCEPTED: "held", Stage.TAKEN: "pending", Stage.RETURNED: "void", Stage.UNRESOLVED: "dead"}
_DEPOSIT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def check(record: DepositRecord) -> None:
    """StorageError, and why, where a record is none that may be kept."""
    problem = ""
    if not _DEPOSIT_ID.fullmatch(record.deposit_id):
        problem = f"deposit_id = {record.deposit_id!r}, allowed: a UUID in lower case"
    elif record.stage is not Stage.ACCEPTED:
        problem = f"stage = {record.stage.name}, allowed: ACCEPTED"
    elif not 0.0 <= record.score <= 1.0:
        problem = f"score = {record.score}, allowed: 0 .. 1"
    elif record.points < 0:
        problem = f"points = {record.points}, allowed: 0 or more"
    elif record.weight_kg is not None and not 0.0 <= record.weight_kg < 1e6:
        problem = f"weight_kg = {record.weight_kg}, allowed: 0 or more, or not weighed"
    elif record.session.kind in (SessionKind.ACCOUNT, SessionKind.VOUCHER) and not record.session.account_id:
        problem = "account_id is empty, but the session is an account's or a voucher's"
    session, model = record.session, record.model
    texts = (record.class_name, session.session_id, session.account_id, record.boot_id, *vars(model).values())
    if not problem and (long := [text for text in texts if len(text) > TEXT_LIMIT]):
        problem = f"a text of {len(long[0])} characters, allowed: {TEXT_LIMIT}"
    if problem:
        raise StorageError(f"deposit {record.deposit_id!r} is not valid: {problem}")


def row_of(record: DepositRecord, now_ns: int) -> dict[str, Any]:
    """The row of a new record."""
    row: dict[str, Any] = {
        "deposit_id": record.deposit_id,
        "session_kind": int(record.session.kind),
        "session_id": record.session.session_id,
        "account_id": record.session.account_id,
        "session_started_at_ns": record.session.started_at_ns,
        "class_name": record.class_name,
        "score": float(record.score),
        "points": record.points,
        "weight_kg": None if record.weight_kg is None else float(record.weight_kg),
        "accepted_at_ns": record.accepted_at_ns,
        "model_name": record.model.name,
        "model_version": record.model.version,
        "model_sha256": record.model.sha256,
    }
    return row | {
        "crc": schema.crc_of(row),
        "stage": int(record.stage),
        "shown": int(record.shown),
        "state": STAGE_STATE[record.stage],
        "attempts": 0,
        "lease_id": "",
        "leased_at_ns": 0,
        "leased_until_ns": 0,
        "changed_at_ns": now_ns,
        "reason": "",
        "accepted_monotonic_ns": record.accepted_monotonic_ns,
        "boot_id": record.boot_id,
        "clock_synchronised": int(record.clock_synchronised),
        "corrected_at_ns": None,
        "once": 0,
        "exported_at_ns": 0,
    }


def record_of(row: dict[str, Any]) -> DepositRecord | None:
    """None where the row is not as it was written."""
    if schema.crc_of(row) != row["crc"]:
        return None
    try:
        session = Session(
            SessionKind(row["session_kind"]), row["session_id"], row["account_id"], row["session_started_at_ns"]
        )
        return DepositRecord(
            deposit_id=row["deposit_id"],
            session=session,
            class_name=row["class_name"],
            score=row["score"],
            points=row["points"],
            weight_kg=row["weight_kg"],
            accepted_at_ns=row["accepted_at_ns"],
            model=ModelInfo(row["model_name"], row["model_version"], row["model_sha256"]),
            stage=Stage(row["stage"]),
            shown=bool(row["shown"]),
            attempts=row["attempts"],
            accepted_monotonic_ns=row["accepted_monotonic_ns"],
            boot_id=row["boot_id"],
            clock_synchronised=bool(row["clock_synchronised"]),
        )
    except ValueError:
        return None


def as_sent(row: dict[str, Any]) -> DepositRecord | None:
    """With the corrected time in the place of the one that was told then."""
    record = record_of(row)
    if record is None or row["corrected_at_ns"] is None:
        return record
    return replace(record, accepted_at_ns=row["corrected_at_ns"], clock_synchronised=True)
