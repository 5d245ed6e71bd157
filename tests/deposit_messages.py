"""Deposits as messages, for tests of nodes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from myrvm_interfaces.msg import DepositRecord, ModelInfo, Session
from myrvm_interfaces.srv import EnqueueDeposit, UpdateDeposit


def deposit(number: int, account_id: str = "alice") -> DepositRecord:
    record = DepositRecord(
        deposit_id=str(uuid.UUID(int=number + 1)),
        session=Session(kind=Session.KIND_ACCOUNT, session_id="s", account_id=account_id),
        class_name="mineral",
        score=0.875,
        points=5,
        weight_kg=float("nan"),
        model=ModelInfo(name="net", version="1", sha256="f" * 64),
        stage=DepositRecord.STAGE_ACCEPTED,
    )
    record.accepted_at.sec = 1_700_000_000 + number
    return record


def enqueue(graph: Any, numbers: Sequence[int], **changes: Any) -> list[str]:
    """Put deposits into the buffer as taken and shown."""
    for number in numbers:
        record = deposit(number, **changes)
        answer = graph.call(EnqueueDeposit, "buffer/enqueue", EnqueueDeposit.Request(record=record))
        assert answer.stored, answer.message
        request = UpdateDeposit.Request(deposit_id=record.deposit_id, stage=DepositRecord.STAGE_TAKEN, shown=True)
        answer = graph.call(UpdateDeposit, "buffer/update", request)
        assert answer.updated, answer.message
    return [deposit(number).deposit_id for number in numbers]
