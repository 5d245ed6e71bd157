"""The `deposit` node: runs one deposit from inserted item to credited account.

Listens to `sensors/events`, `sensors/state`, `actuator/state`, `system/status`, `health/limits`, `detector/judged`,
`cloud/status` (the server's time);
calls `detector/classify`, `buffer/enqueue`, `buffer/update`, `buffer/list_open`, `buffer/enqueue_telemetry`,
`actuator/command`, `cloud/authorize`; publishes `deposit/state`, `deposit/result`, `deposit/voucher`, `deposit/offer`;
serves `deposit/start_session`, `deposit/authorized`, `deposit/end_session`, `deposit/dismiss_voucher`. The logic is
`myrvm_core.deposit`.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

from myrvm_core.clock import machine_clock, stamped
from myrvm_core.deposit import (
    Classify,
    Effect,
    Ending,
    Event,
    GateFinished,
    MachineDown,
    MachineUp,
    MoveGate,
    Recovered,
    ReportFlag,
    ReportStray,
    Show,
    State,
    Store,
    Stored,
    StoreRefused,
    TimedOut,
    Update,
    Updated,
    VerdictGiven,
)
from myrvm_core.deposit_record import DepositRecord, Stage
from myrvm_core.errors import StorageError
from myrvm_core.verdict import Outcome, Reason, Verdict
from myrvm_interfaces.msg import DepositResult, DepositState, GateState, NodeHealth, OperatingLimits, SystemStatus
from myrvm_interfaces.srv import Classify as ClassifyService
from myrvm_interfaces.srv import EnqueueDeposit
from myrvm_ros.conversions import record_to_message, verdict_from_message
from myrvm_ros.limits import Limits
from myrvm_ros.managed_node import Health, ManagedNode, run
from myrvm_ros.stamps import to_message

from myrvm_core import paths
from myrvm_deposit.crash_recovery import CrashRecovery
from myrvm_deposit.gate_client import GateClient
from myrvm_deposit.machine import make_machine
from myrvm_deposit.machine_identity import MachineIdentity
from myrvm_deposit.messages import result_message, state_message
from myrvm_deposit.offer_desk import OfferDesk
from myrvm_deposit.picture_keeper import PictureKeeper
from myrvm_deposit.senses import Senses
from myrvm_deposit.session_file import SessionFile, open_session
from myrvm_deposit.session_services import SessionServices
from myrvm_deposit.settings import DepositSettings
from myrvm_deposit.stray_watch import StrayWatch
from myrvm_deposit.update_sender import UpdateSender
from myrvm_deposit.voucher_desk import VoucherDesk
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
        self._identity = MachineIdentity(self, self._time_of_day)
        self._vouchers = VoucherDesk(self, self._identity)
        self._offers = OfferDesk(self, self._identity)

    def activate(self) -> None:
        """Begin by resolving what a crash has left behind."""
        settings = self.settings
        self._machine = make_machine(settings)
        self._gate = GateClient(self, ANSWER_S, lambda done: self._handle(GateFinished(done)))
        self._updates = UpdateSender(self, ANSWER_S, self._on_updated)
        self._recovery = CrashRecovery(
            self, self._machine, self._gate, self._session_file, self._vouchers.signed, self._time_of_day, ANSWER_S
        )
        self._vouchers.begin(self._machine, self._recovery.shows)
        self._pictures = PictureKeeper(
            self, paths.data() / "unresolved", int(settings.pictures_mb * 1e6), settings.keep_refused_pictures
        )
        self._verdict = Verdict(Outcome.REJECTED, Reason.NO_PICTURE)
        self._causes: set[str] = set()
        self._strays = StrayWatch(self, ANSWER_S)
        self._cancel_deadline = lambda: None
        Senses(self, self._machine, self._handle, self._recovery.drops_ns.append)
        Limits(self, lambda limits: self._hold("limits", limits.level >= OperatingLimits.PAUSED))
        self.subscription(GateState, "actuator/state", self._gate.on_state, qos.STATE)
        self.subscription(SystemStatus, "system/status", self._on_system_status, qos.STATE)
        self._offers.begin()
        self._identity.begin(lambda: (self._offers.renew(), self._vouchers.look()))
        SessionServices(self, self._machine, self._handle, self._vouchers, self._offers, self._identity)
        self._publish_state()
        self.after(settings.recover_s, lambda: self._recovery.begin(self._recover))

    def health(self) -> Health:
        """Say what the machine is doing; warn when a customer has to take an item out."""
        if not self.active:
            return Health(message="inactive")
        machine = self._machine
        values: dict[str, float | int | str] = {
            "state": machine.state.name, "updates_waiting": len(self._updates), "strays": self._strays.count,
            "flags": self._strays.flags,
        }  # fmt: skip
        if self._strays.warning:
            return Health(NodeHealth.WARN, self._strays.warning, values)
        if machine.state is State.CLEARING and machine.current and machine.current.returns >= machine.return_tries:
            return Health(NodeHealth.WARN, "an item is stuck in the chamber", values)
        if self._vouchers.undated:
            return Health(NodeHealth.WARN, "vouchers wait until the server or NTP tells the time of day", values)
        return Health(values=values)

    # Events in

    def _handle(self, event: Event) -> None:
        before = self._machine.state
        effects = self._machine.handle(event, time.monotonic(), self.now_ns())
        self._cancel_deadline()
        if math.isfinite(self._machine.deadline_s):
            remaining_s = self._machine.deadline_s - time.monotonic()
            self._cancel_deadline = self.after(remaining_s, lambda: self._handle(TimedOut()))
        self._save_session()  # before anybody is told of it
        if effects or self._machine.state is not before:
            self._publish_state()
        for effect in effects:
            self._carry_out(effect)
        self._vouchers.look()

    def _on_system_status(self, message: SystemStatus) -> None:
        self._hold("system", message.mode not in SERVING_MODES)

    def _hold(self, cause: str, held: bool) -> None:
        """Take no new item while there is a cause; the one in the machine is finished."""
        (self._causes.add if held else self._causes.discard)(cause)
        self._handle(MachineDown() if self._causes else MachineUp())

    # Effects out

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Classify():
                self._ask_for_verdict(effect.item_arrived_at_ns)
            case Store():
                record = stamped(effect.record, self._time_of_day.now())
                self._pictures.keep(record.deposit_id, self._verdict, lambda: self._store(record))
            case MoveGate():
                self._gate.move(effect.verb)
            case Update():
                self._update(effect)
            case Show():
                self._show(effect)
            case ReportStray() | ReportFlag():
                self._strays.report(effect)

    def _ask_for_verdict(self, item_arrived_at_ns: int) -> None:
        def answered(response: Any | None) -> None:
            if response is not None:  # otherwise the state's own time-out refuses the item
                self._verdict = verdict = verdict_from_message(response.verdict)
                self._pictures.keep_refused(verdict)
                self._handle(VerdictGiven(verdict))

        limit_s = self.settings.classify_s
        # Only pictures of an item at rest, under the light that the actuator switches on when it arrives.
        at_rest_ns = item_arrived_at_ns + round(self.settings.settle_s * 1e9)
        request = ClassifyService.Request(item_arrived_at=to_message(at_rest_ns), timeout_s=0.9 * limit_s)
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
        if recovered is not None and not accepted:  # the buffer says otherwise; a technician has to look
            recovered = replace(recovered, ending=Ending.UNRESOLVED, points=0)
        current = self._machine.current
        if update.stage is not Stage.UNRESOLVED:
            self._pictures.forget(update.deposit_id)
        if recovered is not None:
            self._show(recovered, recovered=True)
            self._update(replace(update, shown=True))
            self._vouchers.look()
        elif not update.shown and current is not None and current.deposit_id == update.deposit_id:
            self._handle(Updated(accepted))

    def _update(self, update: Update) -> None:
        if not (update.shown and update.deposit_id in self._vouchers.unwritten):
            self._updates.send(update)

    def _show(self, show: Show, recovered: bool = False) -> None:
        self._vouchers.count(show)
        self._result.publish(result_message(show, recovered, self.now_ns()))
        self.log.info(
            "deposit", deposit_id=show.deposit_id, ending=show.ending.name, reason=show.verdict.reason.name,
            class_name=show.verdict.class_name, score=round(show.verdict.score, 3), points=show.points,
            recovered=recovered, duration_s=round(show.duration_s, 3),
        )  # fmt: skip

    def _publish_state(self) -> None:
        self._state.publish(state_message(self._machine, time.monotonic(), self.now_ns()))

    def _save_session(self) -> None:
        if self._machine.state is not State.RECOVERING:
            try:
                self._session_file.keep(open_session(self._machine, self.now_ns()))
            except StorageError as error:
                self.log.error("session not saved", error=str(error))


def main() -> None:
    """Run the node."""
    run(DepositNode)
