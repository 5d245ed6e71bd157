"""Everything outside the disk: customers, bottles, gate, sensors, screen and server. A power cut does not undo it.

`Truth` is changed by events only, and each event is a mark in the recorder's log: what was true at a cut is the events
before it. `World` plays customers, cabinet and server to the nodes on a bus, and starts the nodes on a folder.
"""

from __future__ import annotations

import json
import os
import random
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from bus import BOOT_S, Bus, OnBus
from myrvm_cloud.offline_buffer_node import OfflineBufferNode
from myrvm_cloud.settings import OfflineBufferSettings
from myrvm_core.clock import MachineClock
from myrvm_core.deposit import State
from myrvm_core.deposit_record import SessionKind
from myrvm_deposit.deposit_node import DepositNode
from myrvm_deposit.settings import DepositSettings
from myrvm_interfaces.msg import (
    CloudStatus,
    DepositResult,
    DepositState,
    GateState,
    OperatingLimits,
    SensorEvent,
    SensorReading,
    SensorState,
    SystemStatus,
    Verdict,
    Voucher,
)
from myrvm_interfaces.srv import (
    AckDeposits,
    Authorize,
    Classify,
    CommandGate,
    EndSession,
    LeaseDeposits,
    StartSession,
)
from myrvm_ros.stamps import to_message
from sensor_msgs.msg import CompressedImage

from myrvm_cloud import offline_buffer_node
from myrvm_deposit import deposit_node, session_services, stray_watch, voucher_desk

START_NS = 1_764_035_739_000_000_000
JPEG = b"\xff\xd8 a picture of 2 kB \xff\xd9" * 80
DOWN_S = 20.0  # a cut, and the machine starts again

# What an item does: how it is judged, what it does when the gate moves, whether its owner takes it back.
KINDS = {
    "good": 12,
    "refused": 3,
    "jams": 2,  # accepted, stays in the chamber
    "unseen": 1,  # accepted, falls past the drop sensor
    "taken_out": 1,  # accepted, its owner takes it while it is being written down
}


@dataclass
class Item:
    """A bottle. `place`: chamber, bin or customer."""

    kind: str
    place: str = "chamber"
    deposit_id: str = ""


@dataclass
class Truth:
    """What has happened outside the disk."""

    items: list[Item] = field(default_factory=list)
    shown: list[dict[str, Any]] = field(default_factory=list)
    ledger: dict[str, int] = field(default_factory=dict)
    credits: int = 0
    session_id: str = ""
    ended_sessions: set[str] = field(default_factory=set)
    vouchers: dict[str, set[str]] = field(default_factory=dict)  # sessions for one, and the documents that were shown
    moving: bool = False  # the gate, towards the bin
    state: str = ""
    now_ns: int = START_NS  # of the machine's clock, roughly

    def apply(self, event: dict[str, Any]) -> None:
        """Take one event."""
        what = event["event"]
        if what == "item":
            self.items.append(Item(event["kind"]))
        elif what == "place":
            item = self.items[event["item"]]
            item.place, item.deposit_id = event["place"], event["deposit_id"] or item.deposit_id
        elif what == "shown":
            self.shown.append(event)
        elif what == "credited":
            self.credits += event["deposit_id"] not in self.ledger
            self.ledger[event["deposit_id"]] = event["points"]
        elif what == "session":
            if self.session_id:
                self.ended_sessions.add(self.session_id)
            self.session_id = event["session_id"]
            if event["voucher"]:
                self.vouchers[self.session_id] = set()
        elif what == "voucher":
            self.vouchers[event["voucher_id"]].add(event["document"])
        elif what == "ended":
            self.ended_sessions.add(event["session_id"])
        elif what == "leaving":
            self.session_id = ""  # may be open or not
        elif what == "gate":
            self.moving = event["moving"]
        elif what == "state":
            self.state, self.now_ns = event["state"], event["now_ns"]
            if self.state == "IDLE" and self.session_id:
                self.ended_sessions.add(self.session_id)
                self.session_id = ""

    def items_of(self, session_id: str) -> set[str]:
        """Deposits that the customer of a session was shown as accepted."""
        return {shown["deposit_id"] for shown in self.shown
                if shown["session_id"] == session_id and shown["outcome"] == DepositResult.ACCEPTED}  # fmt: skip

    @property
    def in_chamber(self) -> int | None:
        """Number of the item in the chamber."""
        return next((number for number, item in enumerate(self.items) if item.place == "chamber"), None)


def truth_of(marks: Iterable[str]) -> Truth:
    """What the marks tell."""
    truth = Truth()
    for text in marks:
        if text.startswith("{"):
            truth.apply(json.loads(text))
    return truth


class Kernel:
    """The clocks of a machine on a bus; each start is another boot."""

    def __init__(self, bus: Bus, seed: int) -> None:
        self._bus = bus
        self.boot_id = str(UUID(int=random.Random(seed).getrandbits(128)))

    def time_ns(self) -> int:
        return self._bus.now_ns()

    def boottime_ns(self) -> int:
        return int(self._bus.now_s * 1e9)

    def synchronised(self) -> bool:
        return False


class BufferOnBus(OnBus, OfflineBufferNode):
    """The offline buffer on a bus."""


class DepositOnBus(OnBus, DepositNode):
    """The deposit node on a bus."""


class World:
    """Plays all that is not a node.

    Args:
        data: the machine's data folder.
        seed: of the customers.
        mark: called with each event.
        truth: what happened before.
        now_ns: the machine's clock at its start.
    """

    def __init__(
        self, data: Path, seed: int, mark: Callable[[str], None], truth: Truth | None = None, now_ns: int = START_NS
    ) -> None:
        self.truth = truth or Truth()
        self.bus = Bus(now_ns, mark)
        self._mark = mark
        self._chance = random.Random(seed)
        self._gate = GateState(position=GateState.POSITION_CLOSED)
        self._sequence = 0
        self._deposit_id = ""
        self._state = DepositState.RECOVERING
        self._entered_ns = 0
        self.answers_lost = 0.2
        os.environ["MYRVM_DATA"] = str(data)
        for module in (deposit_node, session_services, stray_watch, voucher_desk):
            module.time = SimpleNamespace(monotonic=lambda: self.bus.now_s)  # type: ignore[attr-defined]
        bus = self.bus
        kernel = Kernel(bus, seed)
        for module in (deposit_node, offline_buffer_node):
            module.machine_clock = lambda: MachineClock(kernel, data / "clock.json")  # type: ignore[attr-defined]
        bus.serve("detector/classify", Classify, self._classify)
        bus.serve("actuator/command", CommandGate, self._command)
        bus.serve("cloud/authorize", Authorize, self._authorize)
        bus.subscribe("deposit/result", self._on_result)
        bus.subscribe("deposit/state", self._on_state)
        bus.subscribe("deposit/voucher", self._on_voucher)
        bus.publish("system/status", SystemStatus(mode=SystemStatus.SERVING))
        bus.publish("actuator/state", self._gate)
        bus.publish("cloud/status", CloudStatus(state=CloudStatus.ONLINE, round_trip_s=0.05))
        self._sense()
        self.buffer = BufferOnBus(bus, OfflineBufferSettings(), "offline_buffer")
        self.deposit = DepositOnBus(bus, DepositSettings(vouchers="always"), "deposit")
        self.buffer.begin()
        self.deposit.begin()
        bus.after(1.0, self._send)

    def end(self) -> None:
        """Stop the nodes as SIGTERM does."""
        self.deposit.end()
        self.buffer.end()

    def _happens(self, event: str, **fields: Any) -> None:
        self.truth.apply({"event": event, **fields})
        self._mark(json.dumps({"event": event, **fields}))

    # Customers

    def visit(self) -> None:
        """One customer: comes, brings items, goes, or just leaves."""
        who = self._chance.choice([*SessionKind, SessionKind.VOUCHER])
        session_id = ""
        if self._chance.random() < 0.3:  # the supply went and came back: the log is written into the file
            for level in (OperatingLimits.PAUSED, OperatingLimits.NORMAL):
                self.bus.publish("health/limits", OperatingLimits(level=level))
                self.bus.run(limit_s=1.0)
        if who is not SessionKind.NONE:
            answers: list[Any] = []
            request = StartSession.Request(kind=who, token="alice" if who is SessionKind.ACCOUNT else "")
            self.bus.call("deposit/start_session", request, answers.append)
            self.bus.run(lambda: bool(answers))
            session_id = answers[0].session.session_id if answers and answers[0].started else ""
            if session_id:
                self._happens("session", session_id=session_id, voucher=who is SessionKind.VOUCHER)
        for _ in range(self._chance.randint(1, 3)):
            self.insert(self._chance.choices(list(KINDS), list(KINDS.values()))[0])
        if session_id and self._chance.random() < 0.7:
            answers = []
            self._happens("leaving")
            self.bus.call("deposit/end_session", EndSession.Request(session_id=session_id), answers.append)
            self.bus.run(lambda: bool(answers))
            self._happens("ended", session_id=session_id)
        elif session_id:
            self._happens("leaving")
            self.bus.run(lambda: self._state == DepositState.IDLE, 70.0)

    def insert(self, kind: str) -> None:
        """Put an item in and wait until it is dealt with."""
        known = len(self.truth.shown)
        self._happens("item", kind=kind)
        self._sense(SensorReading.ROLE_ENTRY)
        ready = (DepositState.IDLE, DepositState.SESSION)
        self.bus.run(lambda: len(self.truth.shown) > known and self._state in ready and self.truth.in_chamber is None)
        if self._chance.random() < 0.3:
            self.bus.run(limit_s=self._chance.random() * 3.0)

    def settle(self) -> None:
        """Wait until nothing more happens and the server has all."""
        self.answers_lost = 0.0
        self.bus.run(lambda: self._state in (DepositState.IDLE, DepositState.SESSION), 120.0)
        self.bus.run(limit_s=8.0)

    # Cabinet

    def _move(self, place: str) -> None:
        number = self.truth.in_chamber
        if number is not None:
            self._happens("place", item=number, place=place, deposit_id=self._deposit_id)
            self._sense(SensorReading.ROLE_ENTRY, active=False)

    def _sense(self, role: int = 0, active: bool = True) -> None:
        stamp = to_message(self.bus.now_ns())
        if role:
            self._sequence += 1
            level = SensorReading.LEVEL_ACTIVE if active else SensorReading.LEVEL_INACTIVE
            self.bus.publish(
                "sensors/events", SensorEvent(role=role, level=level, stamp=stamp, sequence=self._sequence)
            )
        entry = SensorReading.LEVEL_INACTIVE if self.truth.in_chamber is None else SensorReading.LEVEL_ACTIVE
        if role == SensorReading.ROLE_ENTRY or not self._entered_ns:
            self._entered_ns = self.bus.now_ns()
        message = SensorState(
            watching_since=to_message(self.bus.now_ns() if self.bus.now_s == BOOT_S else self._watching_ns),
            readings=[
                SensorReading(role=SensorReading.ROLE_ENTRY, level=entry, stamp=to_message(self._entered_ns)),
                SensorReading(role=SensorReading.ROLE_DROP, level=SensorReading.LEVEL_INACTIVE, stamp=stamp),
            ],
        )
        if self.bus.now_s == BOOT_S:
            self._watching_ns = self.bus.now_ns()
        self.bus.publish("sensors/state", message)

    def _classify(self, request: Classify.Request, response: Classify.Response) -> Classify.Response:
        number = self.truth.in_chamber
        kind = self.truth.items[number].kind if number is not None else "refused"
        if kind == "refused":
            response.verdict = Verdict(
                outcome=Verdict.REJECTED, reason=Verdict.REASON_NOT_EMPTY, class_name="not_empty", score=0.8
            )
        else:
            stamp = to_message(self.bus.now_ns())
            response.verdict = Verdict(
                outcome=Verdict.ACCEPTED, class_name="mineral", score=0.9, frame_stamps=[stamp]
            )  # fmt: skip
            picture = CompressedImage(format="jpeg", data=array("B", JPEG))
            picture.header.stamp = stamp
            self.bus.publish("detector/judged", picture)
        if kind == "taken_out":
            self.bus.after(0.0005, lambda: self._move("customer"))
        return response

    def _command(self, request: CommandGate.Request, response: CommandGate.Response) -> CommandGate.Response:
        response.taken = True
        self._gate = GateState(command_id=request.command_id, verb=request.verb, outcome=GateState.OUTCOME_RUNNING)
        self.bus.publish("actuator/state", self._gate)
        number = self.truth.in_chamber
        kind = self.truth.items[number].kind if number is not None else ""
        if request.verb == CommandGate.Request.ACCEPT:
            self._happens("gate", moving=True)
            if kind in ("good", "refused", "unseen"):
                self.bus.after(0.3, lambda: self._fall(kind != "unseen"))
        elif request.verb == CommandGate.Request.RETURN:
            self.bus.after(0.5, lambda: self._move("customer"))
        self.bus.after(0.6, lambda: self._gate_done(request))
        return response

    def _fall(self, seen: bool) -> None:
        if self.truth.in_chamber is None:
            return
        self._move("bin")
        if seen:
            self._sense(SensorReading.ROLE_DROP)
            self._sense(SensorReading.ROLE_DROP, active=False)

    def _gate_done(self, request: CommandGate.Request) -> None:
        self._happens("gate", moving=False)
        self._gate = GateState(
            command_id=request.command_id, verb=request.verb, outcome=GateState.OUTCOME_DONE,
            position=GateState.POSITION_CLOSED,
        )  # fmt: skip
        self.bus.publish("actuator/state", self._gate)

    # Screen

    def _on_result(self, result: DepositResult) -> None:
        self._happens(
            "shown", deposit_id=result.deposit_id, outcome=result.outcome, points=result.points,
            recovered=result.recovered, session_id=result.session.session_id,
        )  # fmt: skip

    def _on_voucher(self, message: Voucher) -> None:
        if message.voucher_id:
            self._happens("voucher", voucher_id=message.voucher_id, document=message.link)

    def _on_state(self, message: DepositState) -> None:
        self._state = message.state
        self._deposit_id = message.deposit_id or self._deposit_id
        self._happens("state", state=State(message.state).name, now_ns=self.bus.now_ns())

    # Server

    def _authorize(self, request: Authorize.Request, response: Authorize.Response) -> Authorize.Response:
        response.reachable = response.authorized = True
        response.account_id = request.token
        return response

    def _send(self) -> None:
        def leased(answer: Any) -> None:
            for record in answer.records:
                self._happens("credited", deposit_id=record.deposit_id, points=record.points)
            if answer.records and self._chance.random() >= self.answers_lost:
                ids = [record.deposit_id for record in answer.records]
                self.bus.call("buffer/ack", AckDeposits.Request(deposit_ids=ids), lambda _: None)
            self.bus.after(1.0, self._send)

        self.bus.call("buffer/lease", LeaseDeposits.Request(limit=10, duration_s=3.0), leased)


def after_the_cut(data: Path, truth: Truth, seed: int, now_ns: int, mark: Callable[[str], None]) -> World:
    """The machine starts again on what the cut has left. An item in a gate that was moving may have fallen."""
    chance = random.Random(seed)
    number = truth.in_chamber
    if truth.moving and number is not None and truth.items[number].kind != "jams" and chance.random() < 0.5:
        truth.apply({"event": "place", "item": number, "place": "bin", "deposit_id": ""})
    truth.moving = False
    return World(data, seed, mark, truth, now_ns)
