"""What runs beside the deposits ends nothing else when it fails, and hears what the server sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog
from myrvm_cloud.bridge import Line, State
from myrvm_cloud.call import CallError, ErrorKind
from myrvm_cloud.command_check import Reason
from myrvm_cloud.events import (
    CatchUp,
    CommandDocument,
    CommandRefused,
    Event,
    LineChanged,
    LineState,
    Malformed,
    SessionAuthorized,
    User,
)
from myrvm_cloud.evidence_sender import EvidenceSender
from myrvm_cloud.rest_client import MachineState, MyrvmClient
from myrvm_cloud.uplink import Uplink
from myrvm_core.evidence import Evidence

from myrvm_cloud import contract, uplink

RUNNING = contract.Model(name="rvm", version="1", sha256="1" * 64)
WANTED = contract.WantedModel(name="rvm", version="2", sha256="2" * 64)
ACCESS = contract.WebSocketAccess(url="ws://127.0.0.1:1/ws/rvm-7")
SESSION = SessionAuthorized(user=User(id="alice"), offer_id="x" * 22)
BAD = (CommandRefused("GIT_PULL", "1", "not signed"), Malformed("a message that is none"))
EVENTS = (LineChanged(LineState.SUBSCRIBED), *BAD, CommandDocument("a.b.c"), CatchUp("connected"), SESSION)


class PlayedLine:
    """A stand-in for an event line: says its events, then stays silent."""

    def __init__(self) -> None:
        self.ended = False

    async def run(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.ended = True

    async def __aiter__(self) -> AsyncIterator[Event]:
        for event in EVENTS:
            yield event
        await asyncio.Event().wait()


class PlayedBridge:
    """A stand-in for the bridge: counts, and does not do anything."""

    def __init__(self) -> None:
        self.runs = self.caught_up = 0
        self.pending = 1
        self.client = MyrvmClient("https://host", "rvm-7", "0.1.0")
        self.asked: list[Any] = []
        self.refuse: list[CallError] = []

    async def ask(self, call: Any, total_s: float | None = None) -> Any:
        if call.name == "/edge/configuration":
            return contract.ConfigurationAnswer(document="kept.b.c")
        if call.name == "/edge/models":
            return contract.ModelsAnswer(models=[WANTED, WANTED.model_copy(update={"sha256": RUNNING.sha256})])
        self.asked.append(call)
        if self.refuse:
            raise self.refuse.pop(0)
        return None

    async def run(self) -> None:
        self.runs += 1
        await asyncio.Event().wait()

    def catch_up(self) -> None:
        self.caught_up += 1


class PlayedMachine:
    """A stand-in for the graph whose buffer is broken in a way that nobody expects."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.wanted: list[list[contract.WantedModel]] = []
        self.asked = 0

    @property
    def buffer(self) -> Any:
        return self

    async def lease_telemetry(self) -> Any:
        self.asked += 1
        raise ZeroDivisionError

    def line_changed(self, line: Line) -> None:
        """See `uplink.Machine`."""

    def observe(self) -> MachineState:
        return MachineState(model=RUNNING)

    def models_wanted(self, models: Any) -> None:
        self.wanted.append(list(models))

    def heard(self, event: Event) -> None:
        self.told.append(event)


class PlayedDesk:
    """A stand-in for the desk of commands."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.offered: list[str] = []
        self.refused: list[tuple[Reason, str]] = []

    def offer(self, document: str) -> None:
        self.offered.append(document)

    def receive(self, envelope: str) -> bool:
        self.received.append(envelope)
        return True

    def reach(self, server: Any) -> None:
        """See `CommandDesk`."""

    def turned_away(self, reason: Reason, line: str) -> None:
        self.refused.append((reason, line))

    def outcomes(self) -> tuple[()]:
        return ()

    async def run(self) -> None:
        await asyncio.Event().wait()


async def until(condition: Any) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError


async def test_events_reach_whom_they_are_for_and_a_defect_beside_them_ends_nothing(monkeypatch: Any) -> None:
    monkeypatch.setattr(uplink, "BACKOFF", uplink.Backoff(0.01, 0.01))
    bridge, machine, desk, lines = PlayedBridge(), PlayedMachine(), PlayedDesk(), [PlayedLine(), PlayedLine()]
    made = iter(lines)
    link = Uplink(
        lambda port: bridge, lambda access: next(made), machine, desk, 0.01, structlog.get_logger()  # type: ignore
    )  # fmt: skip
    running = asyncio.ensure_future(link.run())
    link.line_changed(Line(state=State.ONLINE))
    answer = contract.HandshakeAnswer(machine_name="RVM", server_time=0.0, websocket=ACCESS)
    link.welcomed(answer)
    await until(lambda: len(machine.told) == 2 and machine.asked > 3)
    assert machine.told == [LineChanged(LineState.SUBSCRIBED), SESSION]
    await until(lambda: machine.wanted)
    assert (desk.offered, machine.wanted) == (["kept.b.c"], [[WANTED]]), "once a handshake"
    assert (desk.received, bridge.caught_up, bridge.runs) == (["a.b.c"], 1, 1)
    assert desk.refused == [(Reason.SIGNATURE, "not signed"), (Reason.SHAPE, "a message that is none")]
    link.welcomed(answer)  # the same again: nothing changes
    await asyncio.sleep(0.02)
    assert not lines[0].ended
    link.welcomed(answer.model_copy(update={"websocket": ACCESS.model_copy(update={"url": "ws://127.0.0.1:2/ws"})}))
    await until(lambda: lines[0].ended and len(machine.told) == 4)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert lines[1].ended


async def test_pictures_go_one_by_one_while_no_deposit_waits(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(uplink, "BACKOFF", uplink.Backoff(0.01, 0.01))
    monkeypatch.setattr(uplink, "EVIDENCE_S", 0.01)
    pictures = Evidence(tmp_path / "refused", 10_000_000)
    for name in ("a", "b", "too-large", "c"):
        pictures.keep(name, b"\xff\xd8" + bytes(5_000_000 if name == "too-large" else 10))
    bridge, machine = PlayedBridge(), PlayedMachine()
    evidence = EvidenceSender(tmp_path, None, structlog.get_logger())
    link = Uplink(
        lambda port: bridge, lambda access: None, machine, None, 60.0, structlog.get_logger(), evidence  # type: ignore
    )  # fmt: skip
    running = asyncio.ensure_future(link.run())
    link.line_changed(Line(state=State.ONLINE))
    await asyncio.sleep(0.1)
    assert bridge.asked == [], "a deposit waits"
    bridge.refuse = [
        CallError(ErrorKind.NETWORK, "not reached"),
        CallError(ErrorKind.REFUSED, "will never be taken", 422),
    ]
    bridge.pending = 0
    await until(lambda: len(bridge.asked) == 4)
    sent = [call.path.partition("upload_id=")[2] for call in bridge.asked]
    assert sent == ["a&kind=refused", "a&kind=refused", "b&kind=refused", "c&kind=refused"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
