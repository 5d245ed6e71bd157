"""The demo's incidents: makes each happen to an item, and reads in the cabinet's log how it went."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable

from myrvm_interfaces.msg import DepositState, GateState

from myrvm_sim.customer import Customer
from myrvm_sim.demo_report import Happened
from myrvm_sim.desk import Desk
from myrvm_sim.physics import Jam
from myrvm_sim.protocol import Answer
from myrvm_sim.scenario import Incident

KILLED = "deposit"
HAND_S = 1.0  # how long the hand stays in the gate


class Incidents:
    """Each incident waits for the next item that the gate takes, so that a refused item does not cancel it."""

    def __init__(self, running: Desk, customer: Customer, say: Callable[[str], None]) -> None:
        self._desk, self._customer, self._say = running, customer, say
        self._waiting: deque[Incident] = deque()
        self._under_way: Incident | None = None
        self._begun_s = 0.0
        self._hand_until_s: float | None = None
        self._log_length = 0
        self.happened: list[Happened] = []
        customer.on_gate = self._on_gate

    def missing(self) -> list[str]:
        """Incidents that never came to pass, a line each."""
        return [f"{incident.value} did not happen: no item was accepted any more" for incident in self._waiting]

    def before(self, incident: Incident | None) -> None:
        """Before an item is put in: `incident` is to happen from here on."""
        if incident:
            self._waiting.append(incident)
        self._log_length = len(self._desk.cabinet.log())
        if self._waiting and self._waiting[0] is Incident.JAM:
            self._begin("the flap is wedged")
            self._desk.cabinet.stick(Jam.SOFT)

    def after(self, item: int) -> None:
        """After the customer was told about an item."""
        incident, self._under_way = self._under_way, None
        if incident is None:
            return
        entries = self._desk.cabinet.log()[self._log_length :]
        told_s = time.monotonic() - self._begun_s
        seen, survived = {
            Incident.JAM: _jam,
            Incident.HAND: _hand,
            Incident.KILL: lambda _: (f"node {KILLED} killed (-9); told {told_s:.1f} s later", True),
            Incident.POWER_CUT: lambda _: (f"all processes killed (-9) at once; told {told_s:.1f} s later", True),
        }[incident](entries)
        self.happened.append(Happened(incident.value, item, seen, survived))

    def meanwhile(self) -> None:
        """Called now and then while the demo waits: the hand goes away."""
        if self._hand_until_s is not None and time.monotonic() > self._hand_until_s:
            self._hand_until_s = None
            self._desk.cabinet.set_hand(inside=False)

    def _begin(self, text: str) -> None:
        self._under_way, self._begun_s = self._waiting.popleft(), time.monotonic()
        self._say(text)

    def _on_gate(self, gate: GateState) -> None:
        accepting = self._customer.state.state == DepositState.ACCEPTING
        if not (gate.motor_on and accepting and self._waiting) or self._under_way:
            return
        machine = self._desk.machine
        if self._waiting[0] is Incident.HAND:
            self._begin("a hand reaches into the moving gate")
            self._desk.cabinet.set_hand(inside=True)
            self._hand_until_s = time.monotonic() + HAND_S
        elif self._waiting[0] is Incident.KILL:
            self._begin(f"node {KILLED} is killed (-9) while the gate moves")
            _kill(machine.pid(KILLED))
        elif self._waiting[0] is Incident.POWER_CUT:
            self._begin("every process of the machine is killed (-9) at once while the gate moves")
            _kill(*[machine.pid(name) for name in machine.names])


def _kill(*pids: int) -> None:
    for pid in pids:
        if pid:  # 0: between two lives
            os.kill(pid, signal.SIGKILL)


def _jam(entries: list[Answer]) -> tuple[str, bool]:
    freed = any(entry["what"] == "freed" for entry in entries)
    return "jammed, backed off, went on" if freed else "did not come free", freed


def _hand(entries: list[Answer]) -> tuple[str, bool]:
    reached_ns = next(entry["at_ns"] for entry in entries if entry["what"] == "hand")
    off_ns = [
        entry["at_ns"]
        for entry in entries
        if entry["what"] == "motor" and entry["detail"] == "off" and entry["at_ns"] >= reached_ns
    ]
    caught = any("hand" in entry["detail"] for entry in entries if entry["what"] == "jam")
    if not off_ns or caught:
        return "the hand was caught", False
    return f"motor off {(off_ns[0] - reached_ns) / 1e6:.1f} ms after the hand", True
