"""The gate as the deposit node sees it: one movement at a time, one answer to each, whatever the actuator does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from myrvm_core.deposit import GateVerb
from myrvm_interfaces.msg import GateState
from myrvm_interfaces.srv import CommandGate
from myrvm_ros.managed_node import ManagedNode
from uuid_utils import uuid7

HOLDER = "deposit"
HOME_AGAIN_S = 3.0  # longer than it takes to offer an item back first


class GateClient:
    """Calls `actuator/command` and matches `actuator/state` to the command that is under way."""

    def __init__(self, node: ManagedNode[Any], answer_s: float, finished: Callable[[bool], None]) -> None:
        self._node = node
        self._client = node.client(CommandGate, "actuator/command")
        self._answer_s = answer_s
        self._finished = finished
        self._command_id = ""
        self._withdraw: Callable[[], None] = lambda: None
        self.running = False
        self._left_open = False  # an interlock has stopped it half way: it does not move again by itself
        self._homing_due = False

    def move(self, verb: GateVerb) -> None:
        """Command a movement; `finished(done)` is called once, when it has ended or was refused."""
        command_id = self._command_id = str(uuid7())

        def answered(response: Any | None) -> None:
            if response is not None and response.taken:
                return
            refusal = "no answer" if response is None else response.refusal
            self._node.log.warning("gate command refused", verb=verb.name, refusal=refusal)
            if refusal == CommandGate.Request.REFUSED_FAULT:
                self._home()
            self._end(command_id, done=False)

        request = CommandGate.Request(command_id=command_id, holder=HOLDER, verb=int(verb))
        self._withdraw = self._node.call(self._client, request, self._answer_s, answered)

    def on_state(self, message: GateState) -> None:
        """Take the actuator's latest state."""
        self.running = message.outcome == GateState.OUTCOME_RUNNING
        ended = message.outcome not in (GateState.OUTCOME_NONE, GateState.OUTCOME_RUNNING)
        restarted = message.command_id == ""  # and has forgotten the command
        closed = message.position == GateState.POSITION_CLOSED
        self._left_open = message.outcome == GateState.OUTCOME_INTERLOCK and not closed
        self._home_later()
        if (message.command_id == self._command_id and ended) or restarted:
            self._end(self._command_id, done=message.outcome == GateState.OUTCOME_DONE)

    def _end(self, command_id: str, done: bool) -> None:
        if self._command_id and self._command_id == command_id:
            self._command_id = ""
            self._withdraw()  # an actuator that has just come must not begin what has ended
            self._finished(done)

    def _home_later(self) -> None:
        if self._left_open and not self._homing_due:
            self._homing_due = True
            self._node.after(HOME_AGAIN_S, self._home_if_left_open)

    def _home_if_left_open(self) -> None:
        self._homing_due = False
        if self._left_open and not self._command_id:
            self._home()
        self._home_later()

    def _home(self) -> None:
        # After a jam the gate takes nothing else; a refusal of this shows in the actuator's own health.
        request = CommandGate.Request(command_id=str(uuid7()), holder=HOLDER, verb=CommandGate.Request.HOME)
        self._node.call(self._client, request, self._answer_s, lambda response: None)
