"""Node that keeps the line to the server; `uplink.Uplink` talks to it in a thread of its own, offline is normal.

Publishes `cloud/status` (CloudStatus). Serves `cloud/authorize` (Authorize). Subscribes to `buffer/status`
(BufferStatus); calls `buffer/lease`, `buffer/ack`, `buffer/nack`, `buffer/lease_telemetry`, `buffer/ack_telemetry` and
`deposit/authorized` (CustomerAuthorized). What commands from afar need is in `command_services`.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from myrvm_core.claims import machine_public_key
from myrvm_core.clock import machine_clock
from myrvm_core.environment import identity
from myrvm_core.errors import StorageError
from myrvm_core.evidence import evidence_key
from myrvm_interfaces.msg import BufferStatus, CloudStatus, NodeHealth
from myrvm_interfaces.srv import Authorize, CustomerAuthorized
from myrvm_ros.managed_node import Health, ManagedNode, run
from myrvm_ros.stamps import to_message
from rclpy.task import Future

from myrvm_cloud import contract
from myrvm_cloud.api_key import ApiKey
from myrvm_cloud.bridge import Line, State
from myrvm_cloud.buffer_client import BufferClient
from myrvm_cloud.call import CallError, ErrorKind
from myrvm_cloud.command_desk import CommandDesk
from myrvm_cloud.command_services import command_desk
from myrvm_cloud.connection import Connection
from myrvm_cloud.events import Event, LineChanged, LineState, SessionAuthorized
from myrvm_cloud.evidence_sender import EvidenceSender
from myrvm_cloud.machine_facts import MachineFacts
from myrvm_cloud.rest_client import MachineState
from myrvm_cloud.settings import CloudBridgeSettings
from myrvm_cloud.uplink import Uplink
from myrvm_cloud.uplink_thread import UplinkThread
from myrvm_core import overlay, paths
from myrvm_ros import qos

TOKEN_CHARACTERS = 512
SESSION_S = 5.0
SESSIONS_AT_ONCE = 3


class CloudBridgeNode(ManagedNode[CloudBridgeSettings]):
    """See the module."""

    settings_type = CloudBridgeSettings

    def __init__(self) -> None:
        super().__init__("cloud_bridge")

    def configure(self) -> None:
        """Check what is needed to reach the server; nothing is sent yet."""
        key = ApiKey(self.environment, self.log)
        hardware_id, voucher_key = identity(self.environment).hardware_id, machine_public_key(paths.data())
        self._connection = Connection(self.settings, key, hardware_id, version("myrvm_cloud"), voucher_key)
        self._line, self._since = Line(), to_message(self.now_ns())
        self._events = LineChanged(LineState.OFFLINE)
        self._serving = False
        self._status = self.publisher(CloudStatus, "cloud/status", qos.STATE)
        self._sessions = self.client(CustomerAuthorized, "deposit/authorized")
        self._facts, self._models_wanted = MachineFacts(self), ""
        self._buffer = BufferClient(self)
        self._desk, self._trouble = self._command_desk(), ""
        key = evidence_key(self.environment)
        self._evidence = EvidenceSender(paths.data(), key, self.log) if self.settings.send_evidence else None

    def activate(self) -> None:
        """Start the uplink; it waits for no network."""
        self._serving = True
        self._sessions_asked = 0
        self.on_release(setattr, self, "_serving", False)
        self._publish(replace(self._line, state=State.OFFLINE))
        self._uplink: UplinkThread[Uplink] | None = None
        if self.settings.server_url:
            self._uplink = UplinkThread(
                lambda: self._connection.uplink(self, self._desk, self._evidence, self._line, self.log), self.log
            )
            self._uplink.start()
            self.on_release(self._uplink.stop)
            self.subscription(BufferStatus, "buffer/status", self._buffer_changed, qos.STATE)
        elif (desk := self._desk) is not None:  # no command comes, but a maintenance window still has its end
            alone = UplinkThread(lambda: desk, self.log)
            alone.start()
            self.on_release(alone.stop)
        self.service(Authorize, "cloud/authorize", self._authorize)

    def health(self) -> Health:
        """WARN while offline, ERROR where the key is refused."""
        line, desk = self._line, self._desk
        values: dict[str, float | int | str] = {
            "state": line.state.name,
            "last_error": line.last_error.name,
            "round_trip_s": round(line.round_trip_s, 4),
            "clock_offset_s": round(line.clock_offset_s, 3),
            "clock_uncertainty_s": round(line.clock_uncertainty_s, 3),
            "credited": line.credited,
            "model_wanted": self._models_wanted,
            "events": self._events.state.value,
            "configuration": overlay.summary()[0],
            **(desk.figures if desk else {}),
        }
        problem = self._problem()
        if not problem:
            return Health(values=values)
        refused = line.state is State.UNAUTHORIZED
        return Health(NodeHealth.ERROR if refused else NodeHealth.WARN, problem, values)

    def _problem(self) -> str:
        line, desk = self._line, self._desk
        if not self.settings.server_url:
            return "no server: RVM_SERVER_URL is empty"
        if line.state is State.UNAUTHORIZED:
            return "the server refuses RVM_API_KEY"
        if line.state is not State.ONLINE:
            return f"offline, {line.consecutive_failures} failures in a row"
        if line.forbidden:
            return "the server does not serve this machine now (403)"
        if self._events.state in (LineState.ALARM, LineState.REFUSED):
            return f"no events come from the server: {self._events.reason}"
        return self._trouble or (desk.problem if desk else "")

    def _command_desk(self) -> CommandDesk | None:
        """Of signed commands; a disk that takes nothing keeps no deposit from being credited."""
        if not self._connection.client.signed_commands:
            return None

        def server_offset_ns() -> int | None:
            heard = self._line.state is State.ONLINE and self._line.round_trip_s > 0  # a 403 tells no time
            return round(self._line.clock_offset_s * 1e9) if heard else None

        try:
            return command_desk(self, self.settings.commands, machine_clock(), server_offset_ns)
        except StorageError as error:
            self.log.error("no command is obeyed", error=str(error))
            self._trouble = f"no command is obeyed: {error}"
            return None

    # Messages in

    def _buffer_changed(self, message: BufferStatus) -> None:
        if self._uplink is not None:
            figures = message.pending, message.dead, message.uncertain
            self._uplink.tell(lambda uplink: uplink.bridge.buffer_changed(*figures))

    def _authorize(self, request: Authorize.Request, response: Authorize.Response) -> Any:
        if self._uplink is None or not 1 <= len(request.token) <= TOKEN_CHARACTERS:
            response.reachable = self._uplink is not None and self._line.state is State.ONLINE
            return response
        answered = Future(executor=self.executor)
        token = request.token
        asked = self._uplink.ask(lambda uplink: uplink.bridge.authorize(token))
        asked.add_done_callback(
            lambda done: self.call_soon(lambda: answered.set_result(self._authorized(done, response)))
        )
        return answered

    def _authorized(
        self, done: concurrent.futures.Future[contract.AuthorizeAnswer], response: Authorize.Response
    ) -> Authorize.Response:
        if done.cancelled():
            return response
        error = done.exception()
        if error is None:
            customer = done.result()
            response.authorized = response.reachable = True
            response.account_id = customer.account_id
            response.display_name = customer.display_name
            response.balance_points = customer.balance_points
        elif isinstance(error, CallError):
            # A machine that is refused itself has not been told anything about the customer.
            response.reachable = error.kind is ErrorKind.REFUSED and not error.unauthorized
            self.log.warning("customer not authorized", error=str(error))
        else:
            self.log.error("customer not authorized", error=f"{type(error).__name__}: {error}")
        return response

    # uplink.Machine: called in the uplink's thread

    @property
    def buffer(self) -> BufferClient:
        """See `uplink.Machine`."""
        return self._buffer

    def observe(self) -> MachineState:
        """See `uplink.Machine`."""
        return self._facts.observe()

    def line_changed(self, line: Line) -> None:
        """See `uplink.Machine`."""
        self.call_soon(lambda: self._publish(line))

    def models_wanted(self, models: Sequence[contract.WantedModel]) -> None:
        """See `uplink.Machine`."""
        wanted = ", ".join(f"{model.name} {model.version}" for model in models)[:200]
        if wanted and wanted != self._models_wanted:
            self.log.warning("the server wants another model: it takes a signed update_model", wanted=wanted)
        self._models_wanted = wanted

    def heard(self, event: Event) -> None:
        """See `uplink.Machine`."""
        self.call_soon(lambda: self._on_event(event) if self._serving else None)

    def _on_event(self, event: Event) -> None:
        match event:
            case LineChanged():
                self._events = event
            case SessionAuthorized() if self._sessions_asked < SESSIONS_AT_ONCE:
                self._sessions_asked += 1
                request = CustomerAuthorized.Request(offer_id=event.offer_id, account_id=event.user.id)
                self.call(self._sessions, request, SESSION_S, self._on_session)

    def _on_session(self, response: CustomerAuthorized.Response | None) -> None:
        self._sessions_asked -= 1
        if response is None or not response.started:
            why = "the deposit node does not answer" if response is None else f"refusal {response.refusal}"
            self.log.warning("no session for the customer that the server sent", why=why)

    def _publish(self, line: Line) -> None:
        now = to_message(self.now_ns())
        if line.state is not self._line.state:
            self._since = now
        self._line = line
        if self._serving:
            message = CloudStatus(
                state=int(line.state),
                last_error=int(line.last_error),
                machine_name=line.machine_name,
                consecutive_failures=line.consecutive_failures,
                round_trip_s=line.round_trip_s,
                clock_offset_s=line.clock_offset_s,
                maintenance=line.maintenance,
                credited=line.credited,
                since=self._since,
            )
            message.header.stamp = now
            self._status.publish(message)


def main() -> None:
    """Entry point."""
    run(CloudBridgeNode)
