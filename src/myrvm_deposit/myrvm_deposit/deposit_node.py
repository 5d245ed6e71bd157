"""The `deposit` node: runs one deposit from inserted item to credited account.

Listens to `sensors/events`, `sensors/state`, `actuator/state`, `system/status`; calls `detector/classify`,
`buffer/enqueue`, `buffer/update`, `buffer/list_open`, `actuator/command`, `cloud/authorize`; publishes `deposit/state`,
`deposit/result`; serves `deposit/start_session`, `deposit/end_session`. The logic is `myrvm_core.deposit`.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

from myrvm_core.clock import machine_clock, stamped
from myrvm_core.deposit import (
    Classify,
    DepositMachine,
    Effect,
    Event,
    GateFinished,
    ItemDropped,
    ItemEntered,
    ItemLeft,
    MachineDown,
    MachineUp,
    MoveGate,
    Recovered,
    Show,
    State,
    Store,
    Stored,
    StoreRefused,
    TimedOut,
    Update,
    Updated,
    VerdictGiven,
    Watched,
)
from myrvm_core.deposit_record import DepositRecord
from myrvm_core.errors import StorageError
from myrvm_interfaces.msg import (
    DepositResult,
    DepositState,
    GateState,
    NodeHealth,
    SensorEvent,
    SensorReading,
    SensorState,
    SystemStatus,
)
from myrvm_interfaces.srv import Classify as ClassifyService
from myrvm_interfaces.srv import EnqueueDeposit
from myrvm_ros.conversions import record_to_message, verdict_from_message
from myrvm_ros.managed_node import Health, ManagedNode, run
from myrvm_ros.stamps import to_message, to_ns
from uuid_utils import uuid7

from myrvm_core import paths
from myrvm_deposit.crash_recovery import CrashRecovery
from myrvm_deposit.gate_client import GateClient
from myrvm_deposit.messages import result_message, state_message
from myrvm_deposit.session_file import OpenSession, SessionFile
from myrvm_deposit.session_services import SessionServices
from myrvm_deposit.settings import DepositSettings
from myrvm_deposit.update_sender import UpdateSender
from myrvm_ros import qos

ANSWER_S = 2.0  # a node on the same machine answers within this, or is asked again
SERVING_MODES = (SystemStatus.SERVING, SystemStatus.DEGRADED)


class DepositNode(ManagedNode[DepositSettings]):
    """See the module."""

    settings_type = DepositSettings

    def __init__(self) -> None:
        super().__init__("deposit")

    def configure(self) -> None:
        """Make the publishers and clients."""
        self._state = self.publisher(DepositState, "deposit/state", qos.STATE)
        self._result = self.publisher(DepositResult, "deposit/result", qos.EVENT)
        self._classify = self.client(ClassifyService, "detector/classify")
        self._enqueue = self.client(EnqueueDeposit, "buffer/enqueue")
        self._session_file = SessionFile(paths.data() / "session.json")
        self._time_of_day = machine_clock()

    def activate(self) -> None:
        """Begin by resolving what a crash has left behind."""
        settings = self.settings
        self._machine = DepositMachine(
            settings.timing, settings.points_per_item, settings.donations, settings.return_tries
        )
        self._gate = GateClient(self, ANSWER_S, lambda done: self._handle(GateFinished(done)))
        self._updates = UpdateSender(self, ANSWER_S, self._on_updated)
        self._recovery = CrashRecovery(self, self._machine, self._gate, self._session_file, self._time_of_day, ANSWER_S)
        self._entry_stamp_ns = 0
        self._cancel_deadline = lambda: None
        self.subscription(SensorEvent, "sensors/events", self._on_sensor_event, qos.EVENT)
        self.subscription(SensorState, "sensors/state", self._on_sensor_state, qos.STATE)
        self.subscription(GateState, "actuator/state", self._gate.on_state, qos.STATE)
        self.subscription(SystemStatus, "system/status", self._on_system_status, qos.STATE)
        SessionServices(self, self._machine, self._handle)
        self._publish_state()
        self.after(settings.recover_s, lambda: self._recovery.begin(self._recover))

    def health(self) -> Health:
        """Say what the machine is doing; warn when a customer has to take an item out."""
        if not self.active:
            return Health(message="inactive")
        machine = self._machine
        values: dict[str, float | int | str] = {"state": machine.state.name, "updates_waiting": len(self._updates)}
        if machine.state is State.CLEARING and machine.current and machine.current.returns >= machine.return_tries:
            return Health(NodeHealth.WARN, "an item is stuck in the chamber", values)
        return Health(values=values)

    # Events in

    def _handle(self, event: Event) -> None:
        before = self._machine.state
        effects = self._machine.handle(event, time.monotonic(), self.now_ns())
        self._cancel_deadline()
        if math.isfinite(self._machine.deadline_s):
            remaining_s = self._machine.deadline_s - time.monotonic()
            self._cancel_deadline = self.after(remaining_s, lambda: self._handle(TimedOut()))
        if effects or self._machine.state is not before:
            self._publish_state()
        self._save_session()
        for effect in effects:
            self._carry_out(effect)

    def _on_sensor_event(self, message: SensorEvent) -> None:
        active = message.level == SensorReading.LEVEL_ACTIVE
        if message.role == SensorReading.ROLE_ENTRY:
            self._on_entry(active, to_ns(message.stamp))
        elif message.role == SensorReading.ROLE_DROP and active:
            self._recovery.drops_ns.append(to_ns(message.stamp))
            self._handle(ItemDropped(to_ns(message.stamp)))

    def _on_sensor_state(self, message: SensorState) -> None:
        entry = next((reading for reading in message.readings if reading.role == SensorReading.ROLE_ENTRY), None)
        if entry is None or entry.level == SensorReading.LEVEL_UNKNOWN:
            return
        active = entry.level == SensorReading.LEVEL_ACTIVE
        since_ns = to_ns(message.watching_since)
        if since_ns > self._machine.watching_since_ns:
            self._handle(Watched(since_ns, active))
        # Catches up with an edge that was missed, such as one from before this node was started.
        if active != (self._machine.present is not None):
            self._on_entry(active, to_ns(entry.stamp))

    def _on_entry(self, active: bool, stamp_ns: int) -> None:
        if stamp_ns > self._entry_stamp_ns:
            self._entry_stamp_ns = stamp_ns
            self._handle(ItemEntered(stamp_ns, str(uuid7())) if active else ItemLeft())

    def _on_system_status(self, message: SystemStatus) -> None:
        self._handle(MachineUp() if message.mode in SERVING_MODES else MachineDown())

    # Effects out

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Classify():
                self._ask_for_verdict(effect.item_arrived_at_ns)
            case Store():
                self._store(stamped(effect.record, self._time_of_day.now()))
            case MoveGate():
                self._gate.move(effect.verb)
            case Update():
                self._updates.send(effect)
            case Show():
                self._show(effect)

    def _ask_for_verdict(self, item_arrived_at_ns: int) -> None:
        def answered(response: Any | None) -> None:
            if response is not None:  # otherwise the state's own time-out refuses the item
                self._handle(VerdictGiven(verdict_from_message(response.verdict)))

        limit_s = self.settings.classify_s
        request = ClassifyService.Request(item_arrived_at=to_message(item_arrived_at_ns), timeout_s=0.9 * limit_s)
        self.call(self._classify, request, limit_s, answered)

    def _store(self, record: DepositRecord) -> None:
        def answered(response: Any | None) -> None:
            if response is not None:
                self._handle(Stored() if response.stored else StoreRefused())
            elif self._machine.state is State.RECORDING:
                self._store(record)  # repeating it changes nothing

        if self._updates.full:
            self._handle(StoreRefused())
        else:
            self.call(self._enqueue, EnqueueDeposit.Request(record=record_to_message(record)), ANSWER_S, answered)

    def _recover(self, recovered: Recovered, ended: list[Update]) -> None:
        for update in ended:
            self._updates.send(update)
        self._handle(recovered)

    def _on_updated(self, update: Update, accepted: bool) -> None:
        recovered = self._recovery.shows.pop(update.deposit_id, None)
        current = self._machine.current
        if recovered is not None:
            self._show(recovered, recovered=True)
            self._updates.send(replace(update, shown=True))
        elif not update.shown and current is not None and current.deposit_id == update.deposit_id:
            self._handle(Updated(accepted))

    def _show(self, show: Show, recovered: bool = False) -> None:
        self._result.publish(result_message(show, recovered, self.now_ns()))
        self.log.info(
            "deposit", deposit_id=show.deposit_id, ending=show.ending.name, reason=show.verdict.reason.name,
            class_name=show.verdict.class_name, score=round(show.verdict.score, 3), points=show.points,
            recovered=recovered, duration_s=round(show.duration_s, 3),
        )  # fmt: skip

    def _publish_state(self) -> None:
        self._state.publish(state_message(self._machine, time.monotonic(), self.now_ns()))

    def _save_session(self) -> None:
        machine = self._machine
        opened = None
        if machine.session is not None:
            opened = OpenSession(machine.session, machine.session_items, machine.session_points, self.now_ns())
        if machine.state is not State.RECOVERING:
            try:
                self._session_file.keep(opened)
            except StorageError as error:
                self.log.error("session not saved", error=str(error))


def main() -> None:
    """Run the node."""
    run(DepositNode)
