"""What the deposit node does first after a start: asks the buffer and the sensors, and lets `recovery` decide."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from myrvm_core.clock import MachineClock
from myrvm_core.deposit import ENDING_OF_STAGE, DepositMachine, Recovered, Show, Update
from myrvm_core.deposit_record import DepositRecord, Stage
from myrvm_core.verdict import Outcome, Reason, Verdict
from myrvm_interfaces.srv import ListOpenDeposits
from myrvm_ros.conversions import record_from_message
from myrvm_ros.managed_node import ManagedNode

from myrvm_deposit.gate_client import GateClient
from myrvm_deposit.recovery import resolve
from myrvm_deposit.session_file import SessionFile
from myrvm_deposit.settings import DepositSettings

ASK_AGAIN_S = 0.3
DROPS = 100  # as many as `sensors/events` keeps


class CrashRecovery:
    """Waits until sensors, gate and buffer have answered, however long it takes: no item is taken before."""

    def __init__(
        self,
        node: ManagedNode[DepositSettings],
        machine: DepositMachine,
        gate: GateClient,
        session_file: SessionFile,
        over: Callable[[str], bool],
        clock: MachineClock,
        answer_s: float,
    ) -> None:
        self._node, self._machine, self._gate, self._session_file = node, machine, gate, session_file
        self._over = over  # a session that ended although its file is still there
        self._clock, self._answer_s = clock, answer_s
        self._list_open = node.client(ListOpenDeposits, "buffer/list_open")
        self.drops_ns: deque[int] = deque(maxlen=DROPS)
        self.shows: dict[str, Show] = {}  # to be told once the end of the deposit is on disk

    def begin(self, done: Callable[[Recovered, list[Update]], None]) -> None:
        """Call `done` with what is to be done, once."""

        def answered(response: Any | None) -> None:
            if response is None:
                self._node.after(ASK_AGAIN_S, lambda: self.begin(done))
            else:
                done(*self._decide([record_from_message(record) for record in response.records]))

        if self._gate.running or not self._machine.watching_since_ns:
            self._node.after(ASK_AGAIN_S, lambda: self.begin(done))
        else:
            self._node.call(self._list_open, ListOpenDeposits.Request(), self._answer_s, answered)

    def _decide(self, records: list[DepositRecord]) -> tuple[Recovered, list[Update]]:
        # Drops bear the time of the kernel's clock, which may have been set since: compare on that one.
        records = [replace(record, accepted_at_ns=self._kernel_time_of(record)) for record in records]
        machine = self._machine
        resolution = resolve(records, self.drops_ns, machine.present is not None, machine.watching_since_ns)
        opened = self._session_file.read(self._node.now_ns(), self._node.settings.session_s)
        if opened is not None and self._over(opened.session.session_id):
            opened = None
        session, items, points = (opened.session, opened.items, opened.points) if opened else (None, 0, 0)
        # Deposits are told in the order in which they were made: those up to the last one counted are counted.
        ids = [record.deposit_id for record in records]
        last = opened.counted if opened else ""
        counted = ids[: ids.index(last) + 1] if last in ids else []
        for record, stage in resolution.ended:
            self._node.log.warning("deposit recovered", deposit_id=record.deposit_id, stage=stage.name)
            credited = record.points if stage is Stage.TAKEN else 0
            verdict = Verdict(Outcome.ACCEPTED, Reason.NONE, record.class_name, record.score, model=record.model)
            self.shows[record.deposit_id] = Show(
                record.deposit_id, record.session, ENDING_OF_STAGE[stage], verdict, credited, duration_s=0.0
            )
            if credited and record.session == session and record.deposit_id not in counted:
                items, points, last = items + 1, points + credited, record.deposit_id
        ended = [Update(record.deposit_id, stage) for record, stage in resolution.ended]
        return Recovered(session, items, points, resolution.present, resolution.blind, last), ended

    def _kernel_time_of(self, record: DepositRecord) -> int:
        time_ns = self._clock.kernel_time_of(record.accepted_monotonic_ns, record.boot_id)
        return record.accepted_at_ns if time_ns is None else time_ns
