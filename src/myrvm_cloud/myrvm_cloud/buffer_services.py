"""What the buffer answers: one method a service, called on the node's worker with a request and a response to fill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from myrvm_core.deposit_record import Stage
from myrvm_core.errors import StorageError
from myrvm_interfaces.srv import (
    AckDeposits,
    AckTelemetry,
    DecideDeposits,
    EnqueueDeposit,
    EnqueueTelemetry,
    LeaseDeposits,
    LeaseTelemetry,
    ListOpenDeposits,
    NackDeposits,
    UpdateDeposit,
)
from myrvm_ros.stamps import NANOSECONDS

from myrvm_cloud.buffer import Decision, DepositBuffer
from myrvm_cloud.buffer_access import Decisions
from myrvm_cloud.clock_keeper import ClockKeeper
from myrvm_ros import conversions

LEASE_LIMIT = 500
LEASE_DURATION_S = (1.0, 600.0)
TELEMETRY_LIMIT = 100
DECIDE_LIMIT = 500
SERVICES: dict[str, Any] = {
    "enqueue": EnqueueDeposit,
    "update": UpdateDeposit,
    "list_open": ListOpenDeposits,
    "lease": LeaseDeposits,
    "ack": AckDeposits,
    "nack": NackDeposits,
    "decide": DecideDeposits,
    "enqueue_telemetry": EnqueueTelemetry,
    "lease_telemetry": LeaseTelemetry,
    "ack_telemetry": AckTelemetry,
}


class BufferServices:
    """Each raises StorageError, or ValueError for a request that makes no sense."""

    def __init__(
        self,
        buffer: DepositBuffer,
        clock_keeper: ClockKeeper,
        decisions: Decisions,
        log: Any,
        now_ns: Callable[[], int],
    ) -> None:
        self._buffer, self._clock_keeper, self._decisions = buffer, clock_keeper, decisions
        self._log, self._now_ns = log, now_ns

    def enqueue(self, request: EnqueueDeposit.Request, response: EnqueueDeposit.Response) -> None:
        """Keep an accepted deposit."""
        self._buffer.enqueue(conversions.record_from_message(request.record), self._now_ns())
        response.stored = True

    def update(self, request: UpdateDeposit.Request, response: UpdateDeposit.Response) -> None:
        """Move a deposit on."""
        self._buffer.update(request.deposit_id, Stage(request.stage), request.shown, self._now_ns())
        response.updated = True

    def list_open(self, _: ListOpenDeposits.Request, response: ListOpenDeposits.Response) -> None:
        """Say what a crash may have left behind."""
        response.records = [conversions.record_to_message(record) for record in self._buffer.list_open()]

    def lease(self, request: LeaseDeposits.Request, response: LeaseDeposits.Response) -> None:
        """Hand deposits to the sender."""
        limit = min(max(request.limit, 1), LEASE_LIMIT)
        duration_s = min(max(request.duration_s, LEASE_DURATION_S[0]), LEASE_DURATION_S[1])
        self._clock_keeper.correct()  # what is sent now keeps its time
        response.lease_id, records = self._buffer.lease(
            limit, int(duration_s * NANOSECONDS), self._now_ns(), request.once
        )
        response.records = [conversions.record_to_message(record) for record in records]

    def ack(self, request: AckDeposits.Request, response: AckDeposits.Response) -> None:
        """The server has them."""
        response.acked = self._buffer.ack(list(request.deposit_ids), self._now_ns())

    def nack(self, request: NackDeposits.Request, response: NackDeposits.Response) -> None:
        """The server does not have them, or nobody knows."""
        deposit_ids = list(request.deposit_ids)
        response.updated = self._buffer.nack(
            request.lease_id, deposit_ids, request.permanent, request.reason, self._now_ns(), request.uncertain
        )
        if response.updated and (request.permanent or request.uncertain):
            event = "deposits sent without an answer" if request.uncertain else "deposits refused by the server"
            self._log.warning(event, deposits=deposit_ids, reason=request.reason)

    def decide(self, request: DecideDeposits.Request, response: DecideDeposits.Response) -> None:
        """A technician decides."""
        deposit_ids = list(request.deposit_ids)
        if not 1 <= len(deposit_ids) <= DECIDE_LIMIT:
            raise StorageError(f"a decision about {len(deposit_ids)} deposits; allowed: 1 .. {DECIDE_LIMIT}")
        decision = Decision(request.decision)
        response.decided = self._decisions.decide(decision, deposit_ids, request.who, request.reason, self._now_ns())
        self._log.info("decided", decision=decision.name.lower(), count=len(response.decided), who=request.who)

    def enqueue_telemetry(self, request: EnqueueTelemetry.Request, response: EnqueueTelemetry.Response) -> None:
        """Keep measurements."""
        records = [conversions.telemetry_from_message(record) for record in list(request.records)[:TELEMETRY_LIMIT]]
        response.dropped = self._buffer.enqueue_telemetry(records)
        response.stored = len(records)

    def lease_telemetry(self, request: LeaseTelemetry.Request, response: LeaseTelemetry.Response) -> None:
        """Hand measurements to the sender."""
        limit = min(max(request.limit, 1), TELEMETRY_LIMIT)
        response.batch_id, records = self._buffer.lease_telemetry(limit)
        response.records = [conversions.telemetry_to_message(record) for record in records]

    def ack_telemetry(self, request: AckTelemetry.Request, response: AckTelemetry.Response) -> None:
        """The server has them."""
        response.acked = self._buffer.ack_telemetry(request.batch_id)
