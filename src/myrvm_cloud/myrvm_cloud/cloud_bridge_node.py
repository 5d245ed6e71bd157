"""Node that keeps the line to the server; `bridge.Bridge` talks to it, `bridge_thread` runs it, offline is normal.

Publishes `cloud/status` (CloudStatus) and `cloud/command` (CloudCommand). Serves `cloud/authorize` (Authorize).
Subscribes to `buffer/status` (BufferStatus); calls `buffer/lease`, `buffer/ack` and `buffer/nack`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from myrvm_core.claims import machine_public_key
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
from myrvm_cloud.api_key import ApiKey
from myrvm_cloud.bridge import Fate, Line, State
from myrvm_cloud.bridge_thread import BridgeThread
from myrvm_cloud.call import CallError, ErrorKind
from myrvm_cloud.connection import Connection
from myrvm_cloud.settings import CloudBridgeSettings
from myrvm_core import paths
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
        key = ApiKey(self.environment, self.log)
        hardware_id, voucher_key = identity(self.environment).hardware_id, machine_public_key(paths.data())
        self._connection = Connection(self.settings, key, hardware_id, version("myrvm_cloud"), voucher_key)
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
            self._bridge = BridgeThread(lambda: self._connection.bridge(self, self._line, self.log), self.log)
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
            "clock_uncertainty_s": round(line.clock_uncertainty_s, 3),
            "credited": line.credited,
        }
        if not self.settings.server_url:
            return Health(NodeHealth.WARN, "no server: RVM_SERVER_URL is empty", values)
        if line.state is State.UNAUTHORIZED:
            return Health(NodeHealth.ERROR, "the server refuses RVM_API_KEY", values)
        if line.state is not State.ONLINE:
            return Health(NodeHealth.WARN, f"offline, {line.consecutive_failures} failures in a row", values)
        if line.forbidden:
            return Health(NodeHealth.WARN, "the server does not serve this machine now (403)", values)
        return Health(values=values)

    # Messages in

    def _buffer_changed(self, message: BufferStatus) -> None:
        if self._bridge is not None:
            figures = message.pending, message.dead, message.uncertain
            self._bridge.tell(lambda bridge: bridge.buffer_changed(*figures))

    def _authorize(self, request: Authorize.Request, response: Authorize.Response) -> Any:
        if self._bridge is None or not 1 <= len(request.token) <= TOKEN_CHARACTERS:
            response.reachable = self._bridge is not None and self._line.state is State.ONLINE
            return response
        answered = Future(executor=self.executor)
        token = request.token
        asked = self._bridge.ask(lambda bridge: bridge.authorize(token))
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

    # bridge.Port: called in the bridge's thread

    async def lease(self, limit: int, duration_s: float, once: bool) -> tuple[str, list[DepositRecord]]:
        """See `bridge.Port`."""
        response = await self._ask(LeaseDeposits, limit=limit, duration_s=duration_s, once=once)
        try:
            return response.lease_id, [conversions.record_from_message(record) for record in response.records]
        except ValueError as error:
            raise StorageError(f"buffer/lease answered nonsense: {error}") from error

    async def ack(self, lease_id: str, deposit_ids: Sequence[str]) -> int:
        """See `bridge.Port`."""
        return (await self._ask(AckDeposits, lease_id=lease_id, deposit_ids=list(deposit_ids))).acked

    async def nack(self, lease_id: str, deposit_ids: Sequence[str], fate: Fate, reason: str) -> int:
        """See `bridge.Port`."""
        response = await self._ask(
            NackDeposits,
            lease_id=lease_id,
            deposit_ids=list(deposit_ids),
            permanent=fate is Fate.DEAD,
            uncertain=fate is Fate.UNCERTAIN,
            reason=reason,
        )
        return response.updated

    def welcomed(self, answer: contract.HandshakeAnswer) -> None:
        """See `bridge.Port`."""

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

    async def _ask(self, kind: Any, **fields: Any) -> Any:
        """Ask the buffer. Raises StorageError where it does not answer."""
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()
        client: Client = self._buffer[kind]

        def done(response: Any | None) -> None:
            if not answer.cancelled():
                answer.set_result(response)

        request = kind.Request(**fields)
        self.call_soon(lambda: self.call(client, request, BUFFER_TIMEOUT_S, done) if self._serving else None)
        response = await asyncio.wrap_future(answer)
        if response is None:
            raise StorageError(f"{client.srv_name} did not answer within {BUFFER_TIMEOUT_S} s")
        return response

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
