"""A deposit as a row of the buffer's table, and back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from myrvm_core.deposit_record import DepositRecord, Session, SessionKind, Stage
from myrvm_core.errors import StorageError
from myrvm_core.verdict import ModelInfo

from myrvm_cloud import schema

TEXT_LIMIT = 500
STAGE_STATE = {Stage.ACCEPTED: "held", Stage.TAKEN: "pending", Stage.RETURNED: "void", Stage.UNRESOLVED: "dead"}
# What a record is made of: the content, its CRC, and what may change.
RECORD_COLUMNS = (
    *schema.CONTENT_COLUMNS, "crc", "stage", "shown", "attempts", "accepted_monotonic_ns", "boot_id",
    "clock_synchronised", "corrected_at_ns",
)  # fmt: skip
picked = itemgetter(*RECORD_COLUMNS)  # of a row that is a mapping
_CONTENT_LENGTH = len(schema.CONTENT_COLUMNS)
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


def record_of(row: Sequence[Any], as_sent: bool = False) -> DepositRecord | None:
    """The record in `RECORD_COLUMNS` of a row; None where the row is not as it was written.

    `as_sent`: with the corrected time in the place of the one that was told then.
    """
    if schema.crc_of_content(row[:_CONTENT_LENGTH]) != row[_CONTENT_LENGTH]:
        return None
    # fmt: off
    (
        deposit_id, session_kind, session_id, account_id, session_started_at_ns, class_name, score, points, weight_kg,
        accepted_at_ns, model_name, model_version, model_sha256, _, stage, shown, attempts, accepted_monotonic_ns,
        boot_id, clock_synchronised, corrected_at_ns,
    ) = row
    # fmt: on
    if as_sent and corrected_at_ns is not None:
        accepted_at_ns, clock_synchronised = corrected_at_ns, True
    try:
        return DepositRecord(
            deposit_id=deposit_id,
            session=_session(session_kind, session_id, account_id, session_started_at_ns),
            class_name=class_name,
            score=score,
            points=points,
            weight_kg=weight_kg,
            accepted_at_ns=accepted_at_ns,
            model=_model(model_name, model_version, model_sha256),
            stage=Stage(stage),
            shown=bool(shown),
            attempts=attempts,
            accepted_monotonic_ns=accepted_monotonic_ns,
            boot_id=boot_id,
            clock_synchronised=bool(clock_synchronised),
        )
    except ValueError:
        return None


@lru_cache(maxsize=64)  # neighbours in a backlog share both
def _session(kind: int, session_id: str, account_id: str, started_at_ns: int) -> Session:
    return Session(SessionKind(kind), session_id, account_id, started_at_ns)


@lru_cache(maxsize=8)
def _model(name: str, version: str, sha256: str) -> ModelInfo:
    return ModelInfo(name, version, sha256)
