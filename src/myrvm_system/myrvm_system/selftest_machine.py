"""Carries out what the self-test asks (`selftest`), in the running graph and with a person at the machine.

Hears sensors/state (SensorState), actuator/outputs (Outputs), actuator/state (GateState), system/node_health
(NodeHealth); calls actuator/command (CommandGate), actuator/set_output (SetOutput), camera/capture (Capture).
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from myrvm_interfaces.msg import GateState, NodeHealth
from myrvm_interfaces.srv import Capture, CommandGate, SetOutput
from myrvm_ros.graph_client import GraphClient, GraphError
from myrvm_ros.managed_node import HEARTBEAT_TOPIC

from myrvm_ros import image_codec, qos
from myrvm_system.messages import TOLD, constant_name, facts
from myrvm_system.selftest import (
    PERSON_S,
    Action,
    Drive,
    Driven,
    Facts,
    Look,
    Move,
    Moved,
    TakePicture,
    Unable,
    Wait,
)

HOLDER = "selftest"
HEAR_S = 10.0  # latched topics and a heartbeat of every node are there after so long
LOOK_S = 0.2
CALL_S = 10.0
MOVE_S = 60.0  # the longest movement of a gate, with its retries
PICTURE_S = 5.0
DRIVE_S = 20.0  # an output that nobody switches back does so itself
GATE_TOPIC = re.compile(r"/actuator/(\w+)/state")
WATCHED = ("sensor", "camera", "actuator")


class SelftestMachine:
    """The running graph, and perhaps somebody at it.

    Args:
        client: connected to the graph.
        ask: shows a person what to do; None: nobody is there.
    """

    def __init__(self, client: GraphClient, ask: Callable[[str], None] | None) -> None:
        self._client, self._ask = client, ask
        self._beats: dict[str, NodeHealth] = {}
        for topic, message_type in TOLD.items():
            client.listen(message_type, topic, qos.STATE)
        client.hear(NodeHealth, HEARTBEAT_TOPIC, qos.HEARTBEAT, self._on_beat)
        client.wait(
            lambda: all(topic in client.latest for topic in TOLD) and all(node in self._beats for node in WATCHED),
            HEAR_S,
        )
        self._more_gates = self._find_more_gates()

    def _on_beat(self, beat: NodeHealth) -> None:
        self._beats[beat.node] = beat

    def perform(self, action: Action) -> Any:
        """Do it; what is sent back is told by the action's class. Raises GraphError."""
        match action:
            case Look():
                self._client.wait(lambda: False, LOOK_S)  # what has come meanwhile
                return self._facts()
            case Wait(role, active, prompt):
                return self._wait(role, active, prompt)
            case Drive(name, on):
                return self._drive(name, on)
            case TakePicture():
                return self._brightness()
            case Move(verb, gate):
                return self._move(verb, gate)

    def _facts(self) -> Facts:
        sensors, outputs, gate = (self._client.latest.get(topic) for topic in TOLD)
        seen = facts(self._client.now_ns(), sensors, outputs, gate, self._beats)
        return replace(seen, more_gates=self._more_gates)

    def _wait(self, role: str, active: bool, prompt: str) -> float | Unable | None:
        def done() -> bool:
            return self._facts().levels.get(role) == active

        if done():
            return 0.0
        if self._ask is None:
            return Unable()
        self._ask(prompt)
        began_s = time.monotonic()
        return time.monotonic() - began_s if self._client.wait(done, PERSON_S) else None

    def _drive(self, name: str, on: bool) -> Driven:
        request = SetOutput.Request(name=name, on=on, duration_s=DRIVE_S, holder=HOLDER, technician=True)
        answer = self._client.call(SetOutput, "actuator/set_output", request, CALL_S)
        return Driven(answer.read_back, "" if answer.taken else answer.message)

    def _brightness(self) -> float | str:
        request = Capture.Request(timeout_s=PICTURE_S)
        answer = self._client.call(Capture, "camera/capture", request, PICTURE_S + CALL_S)
        return float(np.mean(image_codec.decode(answer.image))) if answer.success else str(answer.message)

    def _find_more_gates(self) -> tuple[str, ...]:
        topics = (name for name, _ in self._client.node.get_topic_names_and_types())
        names = tuple(found[1] for topic in topics if (found := GATE_TOPIC.fullmatch(topic)))
        for name in names:
            self._client.listen(GateState, _gate_topic(name), qos.STATE)
        return names

    def _gate(self, name: str) -> GateState:
        state: GateState | None = self._client.latest.get(_gate_topic(name))
        if state is None:
            raise GraphError(f"{_gate_topic(name)} is not heard")
        return state

    def _move(self, verb: str, gate: str) -> Moved:
        command_id = str(uuid.uuid4())
        before = self._gate(gate)
        request = CommandGate.Request(
            gate=gate, command_id=command_id, holder=HOLDER, verb=getattr(CommandGate.Request, verb)
        )
        began_s = time.monotonic()
        answer = self._client.call(CommandGate, "actuator/command", request, CALL_S)
        if not answer.taken:
            refusal = constant_name(CommandGate.Request, "REFUSED_", answer.refusal).lower()
            return Moved(0.0, 0.0, f"refused: {refusal} {answer.holder}".strip())

        def ended() -> bool:
            state = self._gate(gate)
            return state.command_id == command_id and state.outcome != GateState.OUTCOME_RUNNING

        in_time = self._client.wait(ended, MOVE_S)
        state = self._gate(gate)
        outcome = constant_name(GateState, "OUTCOME_", state.outcome).lower()
        why = f"{outcome}: {state.fault}" if state.fault else outcome
        problem = "" if outcome == "done" else why if in_time else f"has not ended within {MOVE_S:g} s"
        return Moved(time.monotonic() - began_s, state.motor_run_time_s - before.motor_run_time_s, problem)


def _gate_topic(name: str) -> str:
    return f"actuator/{name}/state" if name else "actuator/state"
