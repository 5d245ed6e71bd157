"""What goes wrong at the chip and the sensors of a cabinet, met by real nodes: one clear line, a defined state, back.

More of it, one node at a time: `tests/graph/test_sensor.py`, `tests/graph/test_actuator.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from myrvm_core.deposit import State
from myrvm_hardware.gpio_lines import Input, Lines, Output
from myrvm_interfaces.msg import DepositState, GateState, NodeHealth, SensorReading, SensorState
from myrvm_interfaces.srv import CommandGate
from myrvm_ros.managed_node import HEARTBEAT_TOPIC
from myrvm_sim.cabinet_client import CabinetClient

from myrvm_ros import qos

CHIP = "myrvm-cabinet"
INACTIVE, UNKNOWN = SensorReading.LEVEL_INACTIVE, SensorReading.LEVEL_UNKNOWN
ENTRY, DROP, BIN_FULL = SensorReading.ROLE_ENTRY, SensorReading.ROLE_DROP, SensorReading.ROLE_BIN_FULL
QUICK = {"reopen_longest_s": 0.5}


class Machine:
    """What the nodes of a graph say."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.health: dict[str, NodeHealth] = {}
        graph.node.create_subscription(NodeHealth, HEARTBEAT_TOPIC, self._on_beat, qos.HEARTBEAT)
        self.sensors: list[SensorState] = graph.listen(SensorState, "sensors/state", qos.STATE)
        self.gate: list[GateState] = graph.listen(GateState, "actuator/state", qos.STATE)

    def _on_beat(self, beat: NodeHealth) -> None:
        self.health[beat.node] = beat

    def wait_health(self, node: str, level: int, message: str = "") -> None:
        def said() -> bool:
            beat = self.health.get(node)
            return beat is not None and beat.level == level and message in beat.message

        self.graph.wait(said, f"health {level} {message!r} of {node}, last {self.health.get(node)}")

    def value(self, node: str, key: str) -> str:
        """One of the figures of a node's health."""
        return next((value.value for value in self.health[node].values if value.key == key), "")

    def wait_level(self, role: int, level: int) -> None:
        def is_so() -> bool:
            if not self.sensors:
                return False
            levels = {reading.role: reading.level for reading in self.sensors[-1].readings}
            return levels.get(role, UNKNOWN) == level

        self.graph.wait(is_so, f"level {level} of role {role}")

    def wait_gate(self, condition: Callable[[GateState], bool], what: str) -> None:
        self.graph.wait(lambda: self.gate and condition(self.gate[-1]), what)

    def command(self, command_id: str, verb: int) -> CommandGate.Response:
        request = CommandGate.Request(command_id=command_id, holder="deposit", verb=verb)
        return self.graph.call(CommandGate, "actuator/command", request)


@pytest.fixture
def machine(graph: Any) -> Machine:
    return Machine(graph)


def is_closed(state: GateState) -> bool:
    return state.position == GateState.POSITION_CLOSED and not state.motor_on


def test_lines_that_another_program_has(machine: Machine, cabinet: CabinetClient) -> None:
    entry = Lines(CHIP, {"entry": "ENTRY"}, consumer="thief")
    entry.open({"entry": Input()})
    motor = Lines(CHIP, {"motor": "MOTOR_BIN"}, consumer="thief")
    motor.open({"motor": Output()})
    machine.graph.bring_up("sensor", "desk", **QUICK)
    machine.graph.bring_up("actuator", "desk", **QUICK)
    in_use = f"GPIO chip {CHIP}: line"
    machine.wait_health("sensor", NodeHealth.ERROR, f"{in_use} ENTRY (entry) is in use by thief")
    machine.wait_health("actuator", NodeHealth.ERROR, f"{in_use} MOTOR_BIN (gate to_bin) is in use by thief")
    machine.wait_level(BIN_FULL, UNKNOWN)
    refused = machine.command("a", CommandGate.Request.ACCEPT)
    assert (refused.taken, refused.refusal) == (False, CommandGate.Request.REFUSED_FAULT)
    assert not cabinet.truth()["moving"]
    entry.close()
    motor.close()
    machine.wait_level(ENTRY, INACTIVE)
    machine.wait_gate(is_closed, "closed gate")
    machine.wait_health("actuator", NodeHealth.OK)


def test_a_chip_that_is_not_there_yet_and_vanishes_under_the_moving_gate(
    machine: Machine, cabinet: CabinetClient
) -> None:
    cabinet.plug_chip(False)
    machine.graph.bring_up("sensor", "desk", **QUICK)
    machine.graph.bring_up("actuator", "desk", **QUICK)
    for node in ("sensor", "actuator"):
        machine.wait_health(node, NodeHealth.ERROR, f"GPIO chip {CHIP} is not there; there are: none")
    cabinet.plug_chip(True)
    machine.wait_level(ENTRY, INACTIVE)
    machine.wait_gate(is_closed, "closed gate")
    machine.wait_health("actuator", NodeHealth.OK)

    assert machine.command("a", CommandGate.Request.RETURN).taken
    machine.graph.wait(lambda: cabinet.truth()["moving"], "movement")
    cabinet.plug_chip(False)
    motor = [entry["detail"] for entry in cabinet.log() if entry["what"] == "motor"]
    assert motor[-1] == "off", "lines of a chip that has gone drive nothing"
    machine.wait_gate(lambda state: state.outcome == GateState.OUTCOME_FAILED, "end of the command")
    machine.wait_health("actuator", NodeHealth.ERROR, f"GPIO chip {CHIP}")
    machine.wait_level(ENTRY, UNKNOWN)
    cabinet.plug_chip(True)
    machine.wait_gate(is_closed, "closed gate")
    machine.wait_level(ENTRY, INACTIVE)


def test_a_drop_without_the_gate_credits_nobody(machine: Machine, cabinet: CabinetClient) -> None:
    states: list[DepositState] = machine.graph.listen(DepositState, "deposit/state", qos.STATE)
    machine.graph.bring_up("sensor", "desk", **QUICK)
    machine.graph.bring_up("offline_buffer")
    machine.graph.bring_up("deposit", recover_s=1.0)
    machine.graph.wait(lambda: states and states[-1].state == State.IDLE, "idle deposit node")
    machine.wait_level(DROP, INACTIVE)
    cabinet.glitch("DROP", 0.2)
    machine.wait_health("deposit", NodeHealth.WARN, "something fell into the bin that the gate has not moved")
    assert machine.value("deposit", "strays") == "1"
    assert states[-1].state == State.IDLE


def test_two_purposes_of_one_line(machine: Machine, cabinet: CabinetClient) -> None:
    machine.graph.start("sensor", device=CHIP, lines='["entry=DROP", "drop=DROP"]')
    assert not machine.graph.transition("sensor", Transition.TRANSITION_CONFIGURE)
    assert "sensor.lines: line DROP is there twice" in machine.graph.log("sensor")
    # By name and by offset the chip has to be asked.
    twice = '["door=DOOR", "hand=2", "emergency=EMERGENCY"]'
    machine.graph.bring_up("actuator", "desk", **QUICK, interlock_lines=twice)
    where = f"GPIO chip {CHIP} ({CHIP}, 24 lines)"
    machine.wait_health("actuator", NodeHealth.ERROR, f"{where}: door and hand are the same line, 2")
