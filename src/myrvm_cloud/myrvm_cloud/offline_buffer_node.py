"""Node that keeps deposits and telemetry on disk until the server has them; `buffer.DepositBuffer` owns the logic.

Publishes `buffer/status` (BufferStatus). Serves what `buffer_services.SERVICES` lists: `buffer/enqueue`,
`buffer/update`, `buffer/list_open`, `buffer/lease`, `buffer/ack`, `buffer/nack`, `buffer/decide`,
`buffer/enqueue_telemetry`, `buffer/lease_telemetry`, `buffer/ack_telemetry`. All work on the file is done by the
node's worker.

Hears `cloud/status` (CloudStatus): the server tells `clock_keeper` the time where NTP does not; and `health/limits`
(OperatingLimits): the file is made whole while there is power to do it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from myrvm_core.clock import SAVE_PERIOD_S, machine_clock
from myrvm_core.errors import RvmError, StorageError
from myrvm_interfaces.msg import BufferStatus, CloudStatus, NodeHealth, OperatingLimits
from myrvm_ros.limits import Limits
from myrvm_ros.managed_node import Health, ManagedNode, run
from myrvm_ros.stamps import to_message
from rclpy.task import Future

from myrvm_cloud.buffer import DepositBuffer
from myrvm_cloud.buffer_access import Decisions, claimed
from myrvm_cloud.buffer_services import SERVICES, BufferServices
from myrvm_cloud.clock_keeper import ClockKeeper
from myrvm_cloud.settings import OfflineBufferSettings
from myrvm_core import paths
from myrvm_ros import qos

EXPIRE_PERIOD_S = 1.0
PROBE_PERIOD_S = 5.0
CORRECT_PERIOD_S = 5.0
PRUNE_PERIOD_S = 3600.0
WAITING_LIMIT = 100
FIGURES = ("held", "pending", "leased", "acked", "dead", "uncertain", "telemetry", "file_bytes", "salvaged")


class OfflineBufferNode(ManagedNode[OfflineBufferSettings]):
    """See the module."""

    settings_type = OfflineBufferSettings

    def __init__(self) -> None:
        super().__init__("offline_buffer")

    def configure(self) -> None:
        """Open the file, salvaged where it is damaged."""
        file = paths.data() / self.settings.file
        claim = claimed(file)
        claim.__enter__()
        self.on_release(claim.__exit__, None, None, None)
        self._buffer = DepositBuffer(
            file,
            self.settings.telemetry_limit,
            self.settings.keep_acked_days,
            self.now_ns(),
        )
        self.on_release(lambda: self._worker.submit(self._buffer.close).result())
        decisions = Decisions(self._buffer)
        self.on_release(lambda: self._worker.submit(decisions.close).result())
        self._clock_keeper = ClockKeeper(machine_clock(), self._buffer, self.log)
        self._answers = BufferServices(self._buffer, self._clock_keeper, decisions, self.log, self.now_ns)
        self.on_release(self._clock_keeper.save)
        self.timer(SAVE_PERIOD_S, lambda: self._maintain(self._clock_keeper.save))
        self._reported = 0
        self._waiting = 0
        self._status: Any = None
        self._publisher = self.publisher(BufferStatus, "buffer/status", qos.STATE)
        self._report_salvage()

    def activate(self) -> None:
        """Serve."""
        self.on_release(lambda: self._worker.submit(self._checkpoint, 0).result())
        self._serving, self._counting, self._changed_again = True, False, False
        self.on_release(setattr, self, "_serving", False)
        for name, service_type in SERVICES.items():
            self._serve(service_type, f"buffer/{name}", getattr(self._answers, name))
        self.timer(EXPIRE_PERIOD_S, lambda: self._maintain(self._buffer.expire))
        self.timer(PRUNE_PERIOD_S, lambda: self._maintain(self._buffer.prune))
        self.timer(PROBE_PERIOD_S, self._probe)
        self.timer(CORRECT_PERIOD_S, lambda: self._maintain(self._clock_keeper.correct))
        self.subscription(CloudStatus, "cloud/status", self._on_cloud_status, qos.STATE)
        Limits(self, self._on_limits)
        self._changed()

    def health(self) -> Health:
        """WARN with deposits for the technician or after a salvage, ERROR while nothing can be written."""
        status = self._status
        if status is None:
            return Health()
        values: dict[str, float | int | str] = {
            name: getattr(status, name)
            for name in (
                "held",
                "pending",
                "leased",
                "acked",
                "dead",
                "uncertain",
                "telemetry",
                "file_bytes",
                "salvaged",
            )
        }
        if not self._buffer.writable:
            return Health(NodeHealth.ERROR, f"{self._buffer.file} cannot be written: disk full or broken", values)
        if self._buffer.reports:
            return Health(NodeHealth.WARN, str(self._buffer.reports[-1]), values)
        if status.dead or status.uncertain:
            line = f"{status.dead + status.uncertain} deposits wait for a technician (rvm buffer list)"
            return Health(NodeHealth.WARN, line, values)
        return Health(values=values)

    def _on_cloud_status(self, message: CloudStatus) -> None:
        told = message.state == CloudStatus.ONLINE and message.round_trip_s > 0  # else no heartbeat was answered yet
        if told and self._clock_keeper.hear_server(message.clock_offset_s):
            self._maintain(self._clock_keeper.save)

    def _on_limits(self, message: OperatingLimits) -> None:
        if message.level >= OperatingLimits.PAUSED:
            self._maintain(self._checkpoint)

    def _checkpoint(self, _now_ns: int) -> int:
        try:
            self._buffer.checkpoint()
        except StorageError as error:
            self.log.error("log not written back", error=str(error))
        return 0

    # Between the executor and the worker

    def _serve(self, service_type: Any, name: str, handle: Callable[[Any, Any], None]) -> None:
        def handled(request: Any, response: Any) -> Any:
            try:
                handle(request, response)
            except (RvmError, ValueError) as error:
                self._refuse(name, response, str(error))
            return response

        def finished(_: Future) -> None:
            self._waiting -= 1
            self._changed()

        def callback(request: Any, response: Any) -> Any:
            if self._waiting >= WAITING_LIMIT:
                return self._refuse(name, response, f"{WAITING_LIMIT} requests are waiting for the disk already")
            self._waiting += 1
            future = self.run_in_worker(handled, request, response)
            future.add_done_callback(finished)
            return future

        self.service(service_type, name, callback)

    def _refuse(self, name: str, response: Any, problem: str) -> Any:
        self.log.error("request refused", service=name, error=problem)
        if hasattr(response, "message"):
            response.message = problem
        return response

    def _maintain(self, function: Callable[[int], int]) -> None:
        def finished(done: Future) -> None:
            if isinstance(error := done.exception(), StorageError):
                self.log.error("maintenance failed", error=str(error))
            if error or done.result():
                self._changed()

        self.run_in_worker(function, self.now_ns()).add_done_callback(finished)

    def _probe(self) -> None:
        if not self._buffer.writable:
            self._maintain(self._buffer.probe)

    # Figures

    def _changed(self) -> None:
        """Count and publish; one count at a time, and one more where something changed during it."""
        self._changed_again = self._counting
        if self._serving and not self._counting:
            self._counting = True
            self.run_in_worker(self._buffer.status, self.now_ns()).add_done_callback(self._counted)

    def _counted(self, done: Future) -> None:
        self._counting = False
        self._report_salvage()
        if (error := done.exception()) is not None:
            self.log.error("buffer cannot be counted", error=str(error))
        elif self._serving:
            self._status = done.result()
            message = BufferStatus(**vars(self._status))
            message.header.stamp = to_message(self.now_ns())
            self._publisher.publish(message)
        if self._changed_again:
            self._changed()

    def _report_salvage(self) -> None:
        for report in self._buffer.reports[self._reported :]:
            self._reported += 1
            self.log.error(str(report), lost=list(report.lost), aside=str(report.aside))


def main() -> None:
    """Entry point."""
    run(OfflineBufferNode)
