"""Node that keeps the line to the server; `bridge.Bridge` talks to it in a thread of its own, offline is normal.

Publishes `cloud/status` (CloudStatus) and `cloud/command` (CloudCommand). Serves `cloud/authorize` (Authorize).
Subscribes to `buffer/status` (BufferStatus); calls `buffer/lease`, `buffer/ack` and `buffer/nack`.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from myrvm_core.backoff import Backoff
from myrvm_core.deposit_record import DepositRecord
from myrvm_core.environment import identity
from myrvm_core.errors import StorageError
from myrvm_interfaces.msg import BufferStatus, CloudCommand, CloudStatus, NodeHealth
from myrvm_interfaces.srv import AckDeposits, Authorize, LeaseDeposits, NackDeposits
from myrvm_ros.managed_node import Health, ManagedNode, run
from myrvm_ros.stamps import to_message
from rclpy.client import Client
from rclpy.task import Future

from myrvm_cloud import contract
from myrvm_cloud.bridge import Bridge, BridgeTimes, Line, State
from myrvm_cloud.rest_client import CallError, ErrorKind, RestClient
from myrvm_cloud.settings import CloudBridgeSettings
from myrvm_ros import conversions, qos

BUFFER_TIMEOUT_S = 10.0
TOKEN_CHARACTERS = 512


class CloudBridgeNode(ManagedNode[CloudBridgeSettings]):
    """See the module."""

    settings_type = CloudBridgeSettings

    def __init__(self) -> None:
        super().__init__("cloud_bridge")

    def configure(self) -> None:
        """Check what is needed to reach the server; nothing is sent yet."""
        self._rest = RestClient(self.settings.server_url, identity(self.environment), version("myrvm_cloud"))
        self._line, self._since = Line(), to_message(self.now_ns())
        self._status = self.publisher(CloudStatus, "cloud/status", qos.STATE)
        self._commands = self.publisher(CloudCommand, "cloud/command", qos.EVENT)
        self._buffer = {
            kind: self.client(kind, name)
            for kind, name in (
                (LeaseDeposits, "buffer/lease"),
                (AckDeposits, "buffer/ack"),
                (NackDeposits, "buffer/nack"),
            )
        }

    def activate(self) -> None:
        """Start the bridge; it waits for no network."""
        self._serving = True
        self.on_release(setattr, self, "_serving", False)
        self._publish(replace(self._line, state=State.OFFLINE))
        self._bridge = None
        if self.settings.server_url:
            settings = self.settings
            times = BridgeTimes(
                heartbeat_s=settings.heartbeat_interval_s,
                connect_s=settings.connect_timeout_s,
                read_s=settings.read_timeout_s,
                total_s=settings.total_timeout_s,
                authorize_s=settings.authorize_timeout_s,
                lease_s=settings.lease_s,
                backoff=Backoff(settings.backoff_base_s, settings.backoff_cap_s),
            )
            self._bridge = Bridge(self._rest, self, times, settings.batch_size, self._line, self.log)
            self._bridge.start()
            self.on_release(self._bridge.stop)
            self.subscription(BufferStatus, "buffer/status", self._buffer_changed, qos.STATE)
        self.service(Authorize, "cloud/authorize", self._authorize)

    def health(self) -> Health:
        """WARN while offline, ERROR where the key is refused."""
        line = self._line
        values: dict[str, float | int | str] = {
            "state": line.state.name,
            "last_error": line.last_error.name,
            "round_trip_s": round(line.round_trip_s, 4),
            "clock_offset_s": round(line.clock_offset_s, 3),
            "credited": line.credited,
        }
        if not self.settings.server_url:
            return Health(NodeHealth.WARN, "no server: RVM_SERVER_URL is empty", values)
        if line.state is State.UNAUTHORIZED:
            return Health(NodeHealth.ERROR, "the server refuses RVM_API_KEY", values)
        if line.state is not State.ONLINE:
            return Health(NodeHealth.WARN, f"offline, {line.consecutive_failures} failures in a row", values)
        return Health(values=values)

    # Messages in

    def _buffer_changed(self, message: BufferStatus) -> None:
        if self._bridge is not None:
            self._bridge.buffer_changed(message.pending, message.dead)

    def _authorize(self, request: Authorize.Request, response: Authorize.Response) -> Any:
        if self._bridge is None or not 1 <= len(request.token) <= TOKEN_CHARACTERS:
            response.reachable = self._bridge is not None and self._line.state is State.ONLINE
            return response
        answered = Future(executor=self.executor)
        asked = self._bridge.authorize(request.token)
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

    # bridge.Port: called from the bridge's thread

    def lease(self, limit: int, duration_s: float) -> concurrent.futures.Future[tuple[str, list[DepositRecord]]]:
        """See `bridge.Port`."""

        def taken(response: LeaseDeposits.Response) -> tuple[str, list[DepositRecord]]:
            return response.lease_id, [conversions.record_from_message(record) for record in response.records]

        return self._ask(LeaseDeposits, LeaseDeposits.Request(limit=limit, duration_s=duration_s), taken)

    def ack(self, lease_id: str, deposit_ids: Sequence[str]) -> concurrent.futures.Future[int]:
        """See `bridge.Port`."""
        request = AckDeposits.Request(lease_id=lease_id, deposit_ids=list(deposit_ids))
        return self._ask(AckDeposits, request, lambda response: response.acked)

    def nack(
        self, lease_id: str, deposit_ids: Sequence[str], permanent: bool, reason: str
    ) -> concurrent.futures.Future[int]:
        """See `bridge.Port`."""
        request = NackDeposits.Request(
            lease_id=lease_id, deposit_ids=list(deposit_ids), permanent=permanent, reason=reason
        )
        return self._ask(NackDeposits, request, lambda response: response.updated)

    def line_changed(self, line: Line) -> None:
        """See `bridge.Port`."""
        self.call_soon(lambda: self._publish(line))

    def command(self, command: contract.Command) -> None:
        """See `bridge.Port`."""
        message = CloudCommand(
            stamp=to_message(self.now_ns()),
            command_id=command.command_id,
            kind=getattr(CloudCommand, contract.CommandKind(command.kind).value),
            node_name=command.node_name,
            text=command.text,
        )
        self.call_soon(lambda: self._commands.publish(message) if self._serving else None)

    def _ask(self, kind: type, request: Any, convert: Callable[[Any], Any]) -> concurrent.futures.Future[Any]:
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()
        client: Client = self._buffer[kind]

        def done(response: Any | None) -> None:
            if answer.cancelled():
                return
            if response is None:
                answer.set_exception(StorageError(f"{client.srv_name} did not answer within {BUFFER_TIMEOUT_S} s"))
                return
            try:
                answer.set_result(convert(response))
            except ValueError as error:
                answer.set_exception(StorageError(f"{client.srv_name} answered nonsense: {error}"))

        self.call_soon(lambda: self.call(client, request, BUFFER_TIMEOUT_S, done) if self._serving else None)
        return answer

    def _publish(self, line: Line) -> None:
        now = to_message(self.now_ns())
        if line.state is not self._line.state:
            self._since = now
        self._line = line
        if self._serving:
            message = CloudStatus(**vars(line) | {"state": int(line.state), "last_error": int(line.last_error)})
            message.header.stamp, message.since = now, self._since
            self._status.publish(message)


def main() -> None:
    """Entry point."""
    run(CloudBridgeNode)
