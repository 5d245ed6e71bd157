"""The part of the cloud bridge that talks to the server: asyncio in a thread of its own, one pooled aiohttp session.

It never gives up and never blocks the node: what it needs from the buffer and what it learns goes through `Port`.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Protocol, TypeVar

import aiohttp
from myrvm_core.backoff import Backoff
from myrvm_core.deposit_record import DepositRecord
from myrvm_core.errors import StorageError

from myrvm_cloud import contract
from myrvm_cloud.rest_client import ANSWER_BYTES, A, Call, CallError, ErrorKind, RestClient, batches, outcome

REMEMBERED_COMMANDS = 1000
FAILURES_A_ROUND = 3
JOIN_TIMEOUT_S = 5.0

T = TypeVar("T")


class State(IntEnum):
    """Numbers of `msg/CloudStatus`."""

    OFFLINE = 1
    CONNECTING = 2
    ONLINE = 3
    UNAUTHORIZED = 4


@dataclass(frozen=True)
class Line:
    """The line to the server as it is now."""

    state: State = State.OFFLINE
    last_error: ErrorKind = ErrorKind.NONE
    machine_name: str = ""
    consecutive_failures: int = 0
    round_trip_s: float = 0.0
    clock_offset_s: float = 0.0
    maintenance: bool = False
    credited: int = 0


@dataclass(frozen=True)
class BridgeTimes:
    """Durations in s."""

    heartbeat_s: float
    connect_s: float
    read_s: float
    total_s: float
    authorize_s: float
    lease_s: float
    backoff: Backoff


class Port(Protocol):
    """The node as the bridge sees it. Safe to call from the bridge's thread; futures fail with StorageError."""

    def lease(self, limit: int, duration_s: float) -> Future[tuple[str, list[DepositRecord]]]:
        """Deposits to send."""
        ...

    def ack(self, lease_id: str, deposit_ids: Sequence[str]) -> Future[int]:
        """These are credited."""
        ...

    def nack(self, lease_id: str, deposit_ids: Sequence[str], permanent: bool, reason: str) -> Future[int]:
        """These are not."""
        ...

    def line_changed(self, line: Line) -> None:
        """Tell the graph."""
        ...

    def command(self, command: contract.Command) -> None:
        """Tell the graph; the kind is one of `CommandKind`."""
        ...


class Bridge:
    """Keeps the line to one server. `start` and `stop` are called by the node."""

    def __init__(
        self, client: RestClient, port: Port, times: BridgeTimes, batch_size: int, line: Line, log: Any
    ) -> None:
        self._client = client
        self._port = port
        self._times = times
        self._batch_size = batch_size
        self._log = log
        self._line = line
        self._failures = 0
        self._figures = (0, 0)
        self._received: OrderedDict[str, None] = OrderedDict()
        self._confirm: list[str] = []
        self._random = random.Random()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="cloud", daemon=True)

    # From the node's thread

    def start(self) -> None:
        """Begin; returns at once, whatever the network does."""
        self._thread.start()
        self._started.wait(JOIN_TIMEOUT_S)

    def stop(self) -> None:
        """End and join. A post under way is dropped: its lease runs out, its keys make a repetition harmless."""
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(JOIN_TIMEOUT_S)
        if self._thread.is_alive():
            self._log.error("the thread of the cloud bridge does not end", limit_s=JOIN_TIMEOUT_S)

    def buffer_changed(self, pending: int, dead: int) -> None:
        """The buffer's figures; pending deposits are sent at once."""

        def take() -> None:
            self._figures = (pending, dead)
            if pending:
                self._wake.set()

        self._loop.call_soon_threadsafe(take)

    def authorize(self, token: str) -> Future[contract.AuthorizeAnswer]:
        """Ask who a customer is. The future fails with CallError."""
        call = self._client.authorize(token)
        return asyncio.run_coroutine_threadsafe(self._send(call, self._times.authorize_s), self._loop)

    # On the bridge's own thread

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._task = asyncio.ensure_future(self._serve())
        try:
            await self._task
        except asyncio.CancelledError:
            self._log.debug("cloud bridge stopped")

    async def _serve(self) -> None:
        timeout = aiohttp.ClientTimeout(
            total=self._times.total_s, sock_connect=self._times.connect_s, sock_read=self._times.read_s
        )
        connector = aiohttp.TCPConnector(limit=4)
        async with aiohttp.ClientSession(
            connector=connector, timeout=timeout, headers=self._client.headers, cookie_jar=aiohttp.DummyCookieJar()
        ) as self._session:
            self._started.set()
            while True:
                try:
                    await self._round()
                except (CallError, StorageError) as error:
                    await asyncio.sleep(self._failed(error))
                except Exception:  # a defect of ours: the machine serves on, and so does the bridge
                    self._log.exception("cloud bridge round failed")
                    await asyncio.sleep(self._times.backoff.cap_s)

    async def _round(self) -> None:
        """Handshake where there is no line, a heartbeat, all that is pending; then wait for more or the next beat."""
        if self._line.state is not State.ONLINE:
            if self._line.state is State.OFFLINE:
                self._set(state=State.CONNECTING)
            answer = await self._send(self._client.handshake())
            self._log.info("server reached", machine_name=answer.machine_name)
            self._set(machine_name=answer.machine_name, maintenance=answer.maintenance)
        await self._heartbeat()
        self._set(state=State.ONLINE)
        next_beat = time.monotonic() + self._times.heartbeat_s
        while time.monotonic() < next_beat:
            self._wake.clear()
            more = await self._send_deposits()
            self._failures = 0
            self._set(last_error=ErrorKind.NONE, consecutive_failures=0)
            if not more:
                await _first(self._wake.wait(), next_beat - time.monotonic())

    async def _heartbeat(self) -> None:
        confirm = list(self._confirm)
        began, began_monotonic = time.time(), time.monotonic()
        answer = await self._send(self._client.heartbeat(*self._figures, confirm))
        round_trip_s = time.monotonic() - began_monotonic
        self._confirm = self._confirm[len(confirm) :]
        self._set(
            round_trip_s=round_trip_s,
            clock_offset_s=answer.server_time - (began + round_trip_s / 2),
            maintenance=answer.maintenance,
        )
        for command in answer.commands:
            self._take(command)

    def _take(self, command: contract.Command) -> None:
        if command.command_id not in self._confirm:
            self._confirm.append(command.command_id)
        if command.command_id in self._received:
            return
        self._received[command.command_id] = None
        if len(self._received) > REMEMBERED_COMMANDS:
            self._received.popitem(last=False)
        if command.kind not in set(contract.CommandKind):
            self._log.warning("command not allowed", command_id=command.command_id, kind=command.kind)
            return
        self._log.info("command received", command_id=command.command_id, kind=command.kind)
        self._port.command(command)

    async def _send_deposits(self) -> bool:
        """Lease, post, settle. True where a full batch went through, so that there may be more.

        Raises:
            CallError: some are not credited; they are back in the buffer.
            StorageError: the buffer does not answer; leases run out by themselves.
        """
        lease_id, records = await asyncio.wrap_future(self._port.lease(self._batch_size, self._times.lease_s))
        left = {record.deposit_id for record in records}
        failures: list[CallError] = []
        for batch in batches(records, self._random):
            try:
                left -= await self._post(lease_id, batch)
            except CallError as error:
                failures.append(error)
                if error.kind is not ErrorKind.SERVER or len(failures) == FAILURES_A_ROUND:
                    break
        if left:
            reason = str(failures[-1]) if failures else "the server said nothing about it"
            await asyncio.wrap_future(self._port.nack(lease_id, sorted(left), False, reason))
        if failures:
            raise failures[-1]
        if left:
            raise CallError(ErrorKind.PROTOCOL, f"/edge/deposits said nothing about {len(left)} deposits")
        return len(records) == self._batch_size

    async def _post(self, lease_id: str, records: list[DepositRecord]) -> set[str]:
        """Post one batch, halves of it where the server refuses the whole; returns the ids that are settled."""
        try:
            answer = await self._send(self._client.deposits(records))
        except CallError as error:
            if not error.body_refused:
                raise
            if len(records) > 1:
                middle = len(records) // 2
                return await self._post(lease_id, records[:middle]) | await self._post(lease_id, records[middle:])
            refused = {records[0].deposit_id: str(error)}
            credited: list[str] = []
        else:
            result = outcome(records, answer)
            refused, credited = result.refused, result.credited
        if credited:
            await asyncio.wrap_future(self._port.ack(lease_id, credited))
            self._set(credited=self._line.credited + len(credited))
        for deposit_id, reason in refused.items():
            self._log.error("deposit refused by the server", deposit_id=deposit_id, reason=reason)
            await asyncio.wrap_future(self._port.nack(lease_id, [deposit_id], True, reason))
        return set(credited) | refused.keys()

    async def _send(self, call: Call[A], total_s: float | None = None) -> A:
        timeout = aiohttp.ClientTimeout(
            total=total_s or self._times.total_s, sock_connect=self._times.connect_s, sock_read=self._times.read_s
        )
        try:
            async with self._session.post(
                self._client.base_url + call.path,
                data=call.body,
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                body = bytearray()
                async for chunk in response.content.iter_chunked(65_536):
                    body += chunk
                    if len(body) > ANSWER_BYTES:
                        line = f"{call.path} answered with more than {ANSWER_BYTES} bytes"
                        raise CallError(ErrorKind.PROTOCOL, line)
                return call.judge(response.status, response.headers, bytes(body))
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
            line = f"{call.path}: no answer in HTTP: {type(error).__name__}"
            raise CallError(ErrorKind.PROTOCOL, line) from error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            line = f"{call.path}: server not reached: {type(error).__name__} {error}".strip()
            raise CallError(ErrorKind.NETWORK, line) from error

    def _failed(self, error: CallError | StorageError) -> float:
        """Note a failed round; returns how long to wait before the next, s."""
        wait_s = self._times.backoff.delay_s(self._failures)
        if isinstance(error, CallError):
            wait_s = max(wait_s, error.retry_after_s or 0.0)
            state = State.UNAUTHORIZED if error.unauthorized else State.OFFLINE
            failures = self._line.consecutive_failures + 1
            self._set(state=state, last_error=error.kind, consecutive_failures=failures)
        if self._failures == 0:
            self._log.warning("cloud bridge hindered", error=str(error), retry_s=round(wait_s, 2))
        self._failures += 1
        return wait_s

    def _set(self, **changes: Any) -> None:
        line = replace(self._line, **changes)
        if line != self._line:
            self._line = line
            self._port.line_changed(line)


async def _first(waiting: Coroutine[Any, Any, Any], limit_s: float) -> None:
    """Wait for it or for the time, whichever comes first."""
    try:
        await asyncio.wait_for(waiting, limit_s)
    except asyncio.TimeoutError:
        return
