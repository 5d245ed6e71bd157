"""The part of the cloud bridge that talks to the server: an asyncio task that never gives up.

What it needs from the buffer and what it learns goes through `Port`; `rest_client` knows the words of the server's
profile, `http_line` carries them, `uplink` what goes beside.

With a profile that is `once`, a deposit whose answer was lost must not be sent again. Such deposits are leased one by
one, and the lease is the intent: a sender that dies leaves it to the buffer to set the deposit aside as uncertain.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from enum import Enum, IntEnum
from typing import Any, Protocol, TypeVar

from myrvm_core.backoff import Backoff
from myrvm_core.deposit_record import DepositRecord
from myrvm_core.errors import StorageError

from myrvm_cloud import contract
from myrvm_cloud.call import Call, CallError, ErrorKind
from myrvm_cloud.http_line import HttpLine, Sink
from myrvm_cloud.rest_client import CommandAnswer, MachineState, RestClient, batches, outcome
from myrvm_cloud.time_limit import within

FAILURES_A_ROUND = 3
LOOK_AGAIN_S = 0.5

A = TypeVar("A")


class State(IntEnum):
    """Numbers of `msg/CloudStatus`."""

    OFFLINE = 1
    CONNECTING = 2
    ONLINE = 3
    UNAUTHORIZED = 4


class Fate(Enum):
    """What becomes of a deposit that is not credited now."""

    AGAIN = "again"
    DEAD = "dead"
    UNCERTAIN = "uncertain"


@dataclass(frozen=True)
class Line:
    """The line to the server as it is now. `forbidden`: the server is there and does not serve this machine (403)."""

    state: State = State.OFFLINE
    last_error: ErrorKind = ErrorKind.NONE
    machine_name: str = ""
    consecutive_failures: int = 0
    round_trip_s: float = 0.0
    clock_offset_s: float = 0.0
    clock_uncertainty_s: float = 0.0
    maintenance: bool = False
    forbidden: bool = False
    credited: int = 0


@dataclass(frozen=True)
class BridgeTimes:
    """Durations in s."""

    heartbeat_s: float
    authorize_s: float
    lease_s: float
    backoff: Backoff


class Deposits(Protocol):
    """Those in the offline buffer. What is awaited fails with StorageError."""

    async def lease(self, limit: int, duration_s: float, once: bool) -> tuple[str, list[DepositRecord]]:
        """Deposits to send; `once`: what is not settled when the lease runs out is uncertain."""
        ...

    async def ack(self, lease_id: str, deposit_ids: Sequence[str]) -> int:
        """These are credited."""
        ...

    async def nack(self, lease_id: str, deposit_ids: Sequence[str], fate: Fate, reason: str) -> int:
        """These are not."""
        ...


class Port(Protocol):
    """The machine as the bridge sees it."""

    @property
    def buffer(self) -> Deposits:
        """What it sends."""
        ...

    def line_changed(self, line: Line) -> None:
        """Tell the graph."""
        ...

    def welcomed(self, answer: contract.HandshakeAnswer) -> None:
        """A handshake succeeded: where events come from may have changed."""
        ...

    def command(self, envelope: str) -> None:
        """A command has come, perhaps again: it is repeated until its outcome was told."""
        ...


@dataclass(frozen=True)
class Leased:
    """Deposits to send, and the calls that send them: each with those that it is about."""

    lease_id: str
    records: list[DepositRecord]
    calls: list[tuple[list[DepositRecord], Call[contract.DepositsAnswer]]]


class Bridge:
    """Keeps the line to one server. All of it is called in one event loop.

    Args:
        client: words of the server's profile.
        http: carries them; opened and closed by `run`.
        port: of the machine.
        times: see there.
        batch_size: deposits in one request, where the profile lets several go.
        line: as it was left.
        log: of the node.
        observe: the machine's state for handshake and heartbeat, without the buffer's rows.
    """

    def __init__(
        self,
        client: RestClient,
        http: HttpLine,
        port: Port,
        times: BridgeTimes,
        batch_size: int,
        line: Line,
        log: Any,
        observe: Callable[[], MachineState] = MachineState,
    ) -> None:
        self.client = client
        self._http = http
        self._port = port
        self._times = times
        self._batch_size = 1 if client.once else batch_size
        self._log = log
        self._line = line
        self._observe = observe
        self._failures = 0
        self._figures = (0, 0, 0)
        self._answers: list[CommandAnswer] = []
        self._next_beat_s = 0.0
        self._welcome = False  # the server has answered a handshake on this line
        self._blocked = False  # what is pending waits for a lease of its session
        self._random = random.Random()
        self._wake = asyncio.Event()
        self._ahead: asyncio.Future[Leased] | None = None
        self._acking: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Serve until cancelled. A post under way is dropped then: its lease runs out."""
        async with self._http:
            try:
                while True:
                    try:
                        await self._round()
                    except (CallError, StorageError) as error:
                        await self._drop_ahead()
                        await asyncio.sleep(self._failed(error))
                    except Exception:  # a defect of ours: the machine serves on, and so does the bridge
                        self._log.exception("cloud bridge round failed")
                        await asyncio.sleep(self._times.backoff.cap_s)
            finally:
                for asked in (self._ahead, self._acking):
                    if asked is not None:
                        asked.cancel()

    def buffer_changed(self, pending: int, dead: int, uncertain: int = 0) -> None:
        """The buffer's figures; pending deposits are sent at once."""
        self._figures = (pending, dead, uncertain)
        if pending:
            self._wake.set()

    def greet_again(self) -> None:
        """What the last handshake has said is not good any more."""
        self._welcome = False
        self.catch_up()

    def catch_up(self) -> None:
        """Ask at once for what the server has for this machine."""
        self._next_beat_s = 0.0
        self._wake.set()

    async def authorize(self, token: str) -> contract.AuthorizeAnswer:
        """Ask who a customer is.

        Raises:
            CallError: the server does not know, was not reached, or has no such call.
        """
        return await self.ask(self.client.authorize(token), self._times.authorize_s)

    async def ask(self, call: Call[A], total_s: float | None = None) -> A:
        """Send a call of `client`; for all that is not the bridge's own business.

        Raises:
            CallError: there is no answer that counts.
        """
        return await self._http.send(call, total_s)

    @property
    def pending(self) -> int:
        """Deposits that wait, as the buffer has told."""
        return self._figures[0]

    async def download(self, url: str, sink: Sink, limit_bytes: int, total_s: float) -> int:
        """A file of the server: see `HttpLine.download`."""
        return await self._http.download(url, sink, limit_bytes, total_s)

    async def _round(self) -> None:
        """Handshake where there is no line, a heartbeat, all that is pending; then wait for more or the next beat."""
        self._next_beat_s = time.monotonic() + self._times.heartbeat_s  # first: a `catch_up` may come meanwhile
        if self._line.state is not State.ONLINE or not self._welcome:
            if self._line.state is State.OFFLINE:
                self._set(state=State.CONNECTING)
            self._welcome = False
            await self._allowing_403(self._handshake())
        await self._allowing_403(self._heartbeat())
        self._set(state=State.ONLINE)
        while time.monotonic() < self._next_beat_s:
            self._wake.clear()
            more = await self._send_deposits()
            self._failures = 0
            self._set(last_error=ErrorKind.REFUSED if self._line.forbidden else ErrorKind.NONE, consecutive_failures=0)
            if not more and self._blocked:
                await asyncio.sleep(LOOK_AGAIN_S)  # each question to the buffer is news of it, which would wake us
            if not more:
                await _first(self._wake.wait(), self._next_beat_s - time.monotonic())

    async def _allowing_403(self, asking: Coroutine[Any, Any, None]) -> None:
        """The server may not serve this machine yet, such as while no technician is assigned: that is no lost line."""
        try:
            await asking
        except CallError as error:
            if not error.forbidden:
                raise
            if not self._line.forbidden:
                self._log.warning("the server does not serve this machine now", error=str(error))
            self._set(forbidden=True)
        else:
            self._set(forbidden=False)

    async def _handshake(self) -> None:
        answer = await self._http.send(self.client.handshake(self._state()))
        self._log.info("server reached", machine_name=answer.machine_name)
        self._http.accepts_gzip = answer.accepts_gzip
        self._set(machine_name=answer.machine_name, maintenance=answer.maintenance)
        self._welcome = True
        self._port.welcomed(answer)

    async def _heartbeat(self) -> None:
        told = list(self._answers)
        began_s = time.monotonic()
        answer = await self._http.send(self.client.heartbeat(self._state(), told))
        ended_s = time.monotonic()
        self._answers = [*self._answers[len(told) :], *answer.refused]
        clock = self._http.clock
        clock.hear(answer.server_time, self.client.time_resolution_s, began_s, ended_s)
        self._set(
            round_trip_s=ended_s - began_s,
            clock_offset_s=clock.offset_s(time.time(), time.monotonic()),
            clock_uncertainty_s=clock.uncertainty_s,
            maintenance=answer.maintenance,
        )
        for command in answer.refused:
            self._log.warning("command refused", command_id=command.command_id, kind=command.kind, why=command.refused)
        for envelope in answer.commands:
            self._port.command(envelope)

    def _state(self) -> MachineState:
        pending, dead, uncertain = self._figures
        return replace(self._observe(), pending=pending, dead=dead, uncertain=uncertain)

    async def _send_deposits(self) -> bool:
        """Lease, post, settle. True where there may be more.

        Raises:
            CallError: some are not credited; they are back in the buffer, or uncertain.
            StorageError: the buffer does not answer; leases run out by themselves.
        """
        leased = await self._lease()
        if not leased.records:
            await self._acked()
        self._blocked = not leased.records and self._figures[0] > 0
        left = {record.deposit_id for record in leased.records}
        failures: list[CallError] = []
        for batch, call in leased.calls:
            try:
                left -= await self._post(leased.lease_id, batch, call)
            except CallError as error:
                failures.append(error)
                if error.kind is not ErrorKind.SERVER or len(failures) == FAILURES_A_ROUND:
                    break
        if left:
            reason = str(failures[-1]) if failures else "the server said nothing about it"
            certain = not self.client.once or (bool(failures) and failures[-1].undone)
            await self._give_back(leased.lease_id, sorted(left), certain, reason)
        if failures:
            raise failures[-1]
        if left:
            raise CallError(ErrorKind.PROTOCOL, f"the server said nothing about {len(left)} deposits")
        return bool(leased.records)

    async def _lease(self) -> Leased:
        """Deposits to send. With a backlog the next are leased meanwhile, unless the lease is the intent to send."""
        asked, self._ahead = self._ahead, None
        leased = await asked if asked is not None else None
        if leased is None or not leased.records:
            leased = await self._ask_lease()
        if len(leased.records) == self._batch_size and not self.client.once:
            self._ahead = asyncio.ensure_future(self._ask_lease())
        return leased

    async def _ask_lease(self) -> Leased:
        """Worded at once: a batch that is leased ahead is ready when the server has answered the one before."""
        lease_id, records = await self._port.buffer.lease(self._batch_size, self._times.lease_s, self.client.once)
        calls = [(batch, self.client.deposits(batch)) for batch in batches(records, self._random)]
        return Leased(lease_id, records, calls)

    async def _drop_ahead(self) -> None:
        """What was leased for later is not sent now; what was credited is acked, whatever has failed since."""
        with contextlib.suppress(StorageError):  # it is sent again, and the server knows it
            await self._acked()
        asked, self._ahead = self._ahead, None
        with contextlib.suppress(StorageError):  # that lease runs out by itself
            leased = await asked if asked is not None else None
            if leased is not None and leased.records:
                ids = [record.deposit_id for record in leased.records]
                await self._port.buffer.nack(leased.lease_id, ids, Fate.AGAIN, "not sent yet")

    async def _give_back(self, lease_id: str, deposit_ids: list[str], certain: bool, reason: str) -> None:
        """`certain`: a second time does no harm."""
        if certain:
            await self._port.buffer.nack(lease_id, deposit_ids, Fate.AGAIN, reason)
            return
        known = f"sent to {self.client.base_url} until {datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}; {reason}"
        self._log.error("not known whether the server has credited it", deposits=deposit_ids, known=known)
        await self._port.buffer.nack(lease_id, deposit_ids, Fate.UNCERTAIN, known)

    async def _post(self, lease_id: str, records: list[DepositRecord], call: Call[contract.DepositsAnswer]) -> set[str]:
        """Post one batch, halves of it where the server refuses the whole; returns the ids that are settled."""
        refused: dict[str, str] = {}
        credited: list[str] = []
        try:
            answer = await self._http.send(call)
        except CallError as error:
            if not (error.body_refused or error.already_done):
                raise
            if len(records) > 1:
                middle = len(records) // 2
                halves = [(half, self.client.deposits(half)) for half in (records[:middle], records[middle:])]
                return set().union(*[await self._post(lease_id, *half) for half in halves])
            if error.already_done:
                credited = [records[0].deposit_id]
            else:
                refused = {records[0].deposit_id: str(error)}
        else:
            result = outcome(records, answer)
            refused, credited = result.refused, result.credited
        if credited:
            await self._acked()
            self._acking = asyncio.ensure_future(self._ack(lease_id, credited))
            if self._ahead is None:
                await self._acked()
        for deposit_id, reason in refused.items():
            self._log.error("deposit refused by the server", deposit_id=deposit_id, reason=reason)
            await self._port.buffer.nack(lease_id, [deposit_id], Fate.DEAD, reason)
        return set(credited) | refused.keys()

    async def _ack(self, lease_id: str, deposit_ids: list[str]) -> None:
        """With a backlog the next batch is posted meanwhile. Where this fails they are sent again, and known there."""
        await self._port.buffer.ack(lease_id, deposit_ids)
        self._set(credited=self._line.credited + len(deposit_ids))

    async def _acked(self) -> None:
        asked, self._acking = self._acking, None
        if asked is not None:
            await asked

    def _failed(self, error: CallError | StorageError) -> float:
        """Note a failed round; returns how long to wait before the next, s."""
        wait_s = self._times.backoff.delay_s(self._failures)
        if isinstance(error, CallError):
            wait_s = max(wait_s, error.retry_after_s or 0.0)
            failures = self._line.consecutive_failures + 1
            self._set(state=_state_after(error), last_error=error.kind, consecutive_failures=failures)
        if self._failures == 0:
            self._log.warning("cloud bridge hindered", error=str(error), retry_s=round(wait_s, 2))
        self._failures += 1
        return wait_s

    def _set(self, **changes: Any) -> None:
        line = replace(self._line, **changes)
        if line != self._line:
            self._line = line
            self._port.line_changed(line)


def _state_after(error: CallError) -> State:
    if error.unauthorized:
        return State.UNAUTHORIZED
    return State.ONLINE if error.forbidden else State.OFFLINE


async def _first(waiting: Coroutine[Any, Any, Any], limit_s: float) -> None:
    """Wait for it or for the time, whichever comes first."""
    try:
        await within(limit_s, waiting)
    except asyncio.TimeoutError:
        return
