"""All that goes between the machine and its server, in one event loop: deposits, events, commands, measurements.

`Bridge` keeps the line and has deposits credited; beside it run the WebSocket on which events come, the desk that obeys
signed commands, and what tells the server of their outcomes and sends measurements. None of these holds up deposits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from myrvm_core.backoff import Backoff
from myrvm_core.deposit_record import TelemetryRecord
from myrvm_core.errors import RvmError, ServerError

from myrvm_cloud import contract
from myrvm_cloud.bridge import Bridge, Deposits, Line, Port, State
from myrvm_cloud.call import Call, CallError, NotOfferedError
from myrvm_cloud.command_check import Reason
from myrvm_cloud.command_desk import CommandDesk
from myrvm_cloud.event_line import EventLine
from myrvm_cloud.events import (
    CatchUp,
    CommandDocument,
    CommandRefused,
    ConfigUpdate,
    Event,
    LineChanged,
    LineState,
    Maintenance,
    Malformed,
    PeerError,
    SessionAuthorized,
)
from myrvm_cloud.evidence_sender import EvidenceSender
from myrvm_cloud.rest_client import MachineState
from myrvm_cloud.time_limit import within

LOOK_S = 0.5
BACKOFF = Backoff(1.0, 60.0)
OUTCOMES_AT_ONCE = 100
FETCH_S = 600.0  # between two questions for what the server keeps
FETCH_SOON_S = 20.0  # while no network is loaded yet
EVIDENCE_S = 5.0  # between two pictures
PICTURE_S = 60.0


class Buffer(Deposits, Protocol):
    """The offline buffer. What is awaited fails with StorageError."""

    async def lease_telemetry(self) -> tuple[str, list[TelemetryRecord]]:
        """Measurements under an id made once; the same until they are acknowledged. An empty id: none."""
        ...

    async def ack_telemetry(self, batch_id: str) -> None:
        """The server has them."""
        ...


class Machine(Protocol):
    """The graph as the uplink sees it."""

    @property
    def buffer(self) -> Buffer:
        """Where deposits and measurements wait."""
        ...

    def observe(self) -> MachineState:
        """The machine as it is now, without the buffer's rows."""
        ...

    def line_changed(self, line: Line) -> None:
        """Tell the graph."""
        ...

    def models_wanted(self, models: Sequence[contract.WantedModel]) -> None:
        """The server would have these run; empty: it is as it should be."""
        ...

    def heard(self, event: Event) -> None:
        """An event that the graph should know: a customer, a result, something to show, the state of the WebSocket."""
        ...


class Uplink:
    """Made and run in one event loop.

    Args:
        bridge: makes the bridge with its port.
        events: makes the WebSocket's line to what the server's handshake has named; None where it can have none.
        machine: the graph.
        desk: of commands; None where the server's profile has none that are signed.
        telemetry_s: between two looks for measurements.
        log: of the node.
        evidence: pictures for the server; None: they stay here.
    """

    def __init__(
        self,
        bridge: Callable[[Port], Bridge],
        events: Callable[[contract.WebSocketAccess], EventLine | None],
        machine: Machine,
        desk: CommandDesk | None,
        telemetry_s: float,
        log: Any,
        evidence: EvidenceSender | None = None,
    ) -> None:
        self._evidence = evidence
        self._machine, self._desk, self._telemetry_s, self._log = machine, desk, telemetry_s, log
        self._make_events = events
        self._access: contract.WebSocketAccess | None = None
        self._access_changed = asyncio.Event()
        self._greeted = asyncio.Event()
        self._online = asyncio.Event()
        self.bridge = bridge(self)
        if desk is not None:
            desk.reach(self.bridge)

    async def run(self) -> None:
        """Until cancelled."""
        kept: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
            "bridge": self.bridge.run, "events": self._hear_events, "measurements": self._send_telemetry,
            "what the server keeps": self._fetch_kept,
        }  # fmt: skip
        if (desk := self._desk) is not None:
            kept |= {"commands": desk.run, "outcomes": lambda: self._tell_outcomes(desk)}
        if (evidence := self._evidence) is not None:
            kept["evidence"] = lambda: self._send_evidence(evidence)
        await _together([self._keep(what, serve) for what, serve in kept.items()])

    async def _keep(self, what: str, serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin again where a defect of ours ends it: none of these takes the others with it."""
        failures = 0
        while True:
            try:
                await serve()
            except Exception:
                self._log.exception("uplink failed", what=what)
            else:
                return
            await asyncio.sleep(BACKOFF.delay_s(failures))
            failures += 1

    # bridge.Port

    @property
    def buffer(self) -> Deposits:
        """See `bridge.Port`."""
        return self._machine.buffer

    def line_changed(self, line: Line) -> None:
        """See `bridge.Port`."""
        (self._online.set if line.state is State.ONLINE else self._online.clear)()
        self._machine.line_changed(line)

    def welcomed(self, answer: contract.HandshakeAnswer) -> None:
        """See `bridge.Port`."""
        self._greeted.set()
        if answer.websocket is not None and answer.websocket != self._access:
            self._access = answer.websocket
            self._access_changed.set()

    def command(self, envelope: str) -> None:
        """See `bridge.Port`."""
        if self._desk is not None:
            self._desk.receive(envelope)

    # Events

    async def _hear_events(self) -> None:
        """Listen to where the last handshake has sent us."""
        listening: asyncio.Future[None] | None = None
        try:
            while True:
                await self._access_changed.wait()
                self._access_changed.clear()
                if listening is not None:
                    await _end(listening)
                listening = asyncio.ensure_future(self._keep("event line", self._listen))
        finally:
            if listening is not None:
                await _end(listening)

    async def _listen(self) -> None:
        """To one line, until the next handshake names another."""
        assert self._access is not None
        if (line := self._make_events(self._access)) is not None:
            await _together([line.run(), self._hand_on(line)])

    async def _hand_on(self, line: EventLine) -> None:
        async for event in line:
            self._take(event)

    def _take(self, event: Event) -> None:
        match event:
            case CommandDocument() | ConfigUpdate() | Maintenance():
                self.command(event.document)
            case CatchUp():
                self.bridge.catch_up()
            case CommandRefused():
                self._log.warning("command refused", command=event.command, request=event.request_id, why=event.reason)
                self._turned_away(Reason.SIGNATURE, event.reason)
            case Malformed():  # the line has logged it
                self._turned_away(Reason.SHAPE, event.reason)
            case PeerError():
                self._log.warning("the server complains", code=event.code, message=event.message)
            case LineChanged():
                self._log.info("event line", state=event.state.value, reason=event.reason)
                if event.state is LineState.REFUSED:
                    self.bridge.greet_again()
                self._machine.heard(event)
            case SessionAuthorized():
                self._log.info("customer came by the server", session_id=event.session_id)
                self._machine.heard(event)
            case _:
                self._log.debug("event that nobody here needs", event=type(event).__name__)

    def _turned_away(self, reason: Reason, line: str) -> None:
        if self._desk is not None:
            self._desk.turned_away(reason, line)

    # What the server keeps for this machine

    async def _fetch_kept(self) -> None:
        """After each handshake, and now and then: the configuration, and which networks should run."""
        failures, pause_s = 0, FETCH_S
        while True:
            with suppress(asyncio.TimeoutError):
                await within(pause_s, self._greeted.wait())
            await self._online.wait()
            self._greeted.clear()
            try:
                if self._desk is not None:
                    await self._fetch_configuration(self._desk)
                pause_s = FETCH_S if await self._fetch_models() else FETCH_SOON_S
                failures = 0
            except RvmError as error:
                failures = await self._back_off("configuration and models", error, failures)
                self._greeted.set()

    async def _fetch_configuration(self, desk: CommandDesk) -> None:
        with suppress(NotOfferedError):
            answer = await self.bridge.ask(self.bridge.client.configuration())
            if answer.document:
                desk.offer(answer.document)

    async def _fetch_models(self) -> bool:
        """What is wanted is told, not installed: that takes a signed `update_model`. False: nothing runs yet."""
        if (running := self._machine.observe().model) is None:
            return False
        answer = await self.bridge.ask(self.bridge.client.models(running))
        self._machine.models_wanted([model for model in answer.models if model.sha256 != running.sha256])
        return True

    # What is sent beside the deposits

    async def _tell_outcomes(self, desk: CommandDesk) -> None:
        failures = 0
        while True:
            await self._online.wait()
            outcomes = desk.outcomes()[:OUTCOMES_AT_ONCE]
            if not outcomes:
                await asyncio.sleep(LOOK_S)
                continue
            bodies = [contract.CommandOutcome.model_validate(outcome.model_dump(mode="json")) for outcome in outcomes]
            try:
                answer = await self.bridge.ask(self.bridge.client.command_outcomes(bodies))
                await desk.confirmed(answer.recorded)
                if not {body.digest for body in bodies}.intersection(answer.recorded):
                    raise ServerError("the server has recorded none of them")
                failures = 0
            except NotOfferedError:
                return
            except RvmError as error:
                failures = await self._back_off("outcomes of commands", error, failures)

    async def _send_telemetry(self) -> None:
        failures = 0
        while True:
            await asyncio.sleep(self._telemetry_s)
            await self._online.wait()
            try:
                batch_id, records = await self._machine.buffer.lease_telemetry()
                while batch_id:
                    await self._send_or_drop(
                        partial(self.bridge.client.telemetry, batch_id, records),
                        "measurements dropped: the server does not take them",
                        batch=batch_id,
                    )
                    await self._machine.buffer.ack_telemetry(batch_id)
                    batch_id, records = await self._machine.buffer.lease_telemetry()
                failures = 0
            except RvmError as error:
                failures = await self._back_off("measurements", error, failures)

    async def _send_evidence(self, evidence: EvidenceSender) -> None:
        """One picture at a time, while no deposit waits."""
        failures = 0
        while True:
            await asyncio.sleep(EVIDENCE_S)
            await self._online.wait()
            if self.bridge.pending:
                continue
            try:
                if (picture := await asyncio.to_thread(evidence.next)) is not None:
                    await self._send_or_drop(
                        partial(self.bridge.client.picture, picture.name, picture.kind, picture.jpeg),
                        "picture not sent: the server does not take it",
                        PICTURE_S,
                        name=picture.name,
                    )
                    await asyncio.to_thread(evidence.sent, picture)
                failures = 0
            except RvmError as error:
                failures = await self._back_off("pictures", error, failures)

    async def _send_or_drop(
        self, call: Callable[[], Call[Any]], dropped: str, total_s: float | None = None, **which: str
    ) -> None:
        """What the server will never take blocks nothing later: it is dropped, with this line in the log."""
        try:
            await self.bridge.ask(call(), total_s)
        except (CallError, ValueError) as error:
            if isinstance(error, CallError) and not error.body_refused:
                raise
            self._log.error(dropped, **which, error=str(error))

    async def _back_off(self, what: str, error: RvmError, failures: int) -> int:
        if failures == 0:
            self._log.warning("not sent now", what=what, error=str(error))
        await asyncio.sleep(BACKOFF.delay_s(failures))
        return failures + 1


async def _together(coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all; when one fails or the owner cancels, end the others before this returns."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _end(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
