"""The actuator node, alone with the simulated cabinet, where a wrong order jams."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from myrvm_hardware.wear import FILE
from myrvm_interfaces.msg import GateState, NodeHealth, SensorReading, SensorState
from myrvm_interfaces.srv import CommandGate
from myrvm_sim.cabinet_client import CabinetClient
from myrvm_sim.physics import Jam, Kind, Place

from myrvm_ros import qos

Request = CommandGate.Request
# The gate stays open so long that a test which interferes meets it under way, also on a busy machine.
QUICK = {"return_open_s": 4.0, "dwell_s": 1.5, "reopen_longest_s": 0.5}


class Machine:
    """An actuator node, and what it says."""

    def __init__(self, graph: Any, cabinet: CabinetClient) -> None:
        self.graph = graph
        self.states: list[GateState] = graph.listen(GateState, "actuator/state", qos.STATE)
        self.interlocks: list[SensorState] = graph.listen(SensorState, "actuator/interlocks", qos.STATE)
        self.beats: list[NodeHealth] = []
        graph.node.create_subscription(NodeHealth, "system/node_health", self._on_beat, qos.HEARTBEAT)
        graph.bring_up("actuator", "desk", **QUICK)
        self.wait(lambda state: state.position == GateState.POSITION_CLOSED and not state.motor_on, "closed gate")
        graph.wait(cabinet.chamber_is_free, "gate at rest")
        graph.wait(lambda: self.beats and self.beats[-1].level == NodeHealth.OK, "gate that is not held")

    def _on_beat(self, beat: NodeHealth) -> None:
        if beat.node == "actuator":
            self.beats.append(beat)

    def command(self, command_id: str, verb: int) -> Any:
        request = Request(command_id=command_id, holder="deposit", verb=verb)
        return self.graph.call(CommandGate, "actuator/command", request)

    def wait(self, condition: Any, what: str) -> GateState:
        self.graph.wait(lambda: self.states and condition(self.states[-1]), what)
        return self.states[-1]

    def outcome(self, command_id: str) -> int:
        return self.wait(
            lambda state: state.command_id == command_id and state.outcome != GateState.OUTCOME_RUNNING,
            f"end of command {command_id}",
        ).outcome


@pytest.fixture
def machine(graph: Any, cabinet: CabinetClient) -> Machine:
    return Machine(graph, cabinet)


def test_an_item_goes_into_the_bin_and_another_back(machine: Machine, cabinet: CabinetClient) -> None:
    number = cabinet.insert(Kind.MINERAL)["number"]
    assert machine.command("a", Request.ACCEPT).taken
    busy = machine.command("b", Request.RETURN)
    assert (busy.taken, busy.refusal, busy.holder) == (False, Request.REFUSED_BUSY, "deposit")
    assert machine.outcome("a") == GateState.OUTCOME_DONE
    assert place(cabinet, number) == Place.BIN.value

    machine.graph.wait(cabinet.chamber_is_free, "free chamber")
    number = cabinet.insert(Kind.SODA)["number"]
    assert machine.command("c", Request.RETURN).taken
    assert machine.outcome("c") == GateState.OUTCOME_DONE
    assert place(cabinet, number) != Place.BIN.value
    assert not machine.states[-1].motor_on
    assert machine.states[-1].cycles >= 4


def place(cabinet: CabinetClient, number: int) -> str:
    return next(item["place"] for item in cabinet.truth()["items"] if item["number"] == number)


def level(machine: Machine, role: int) -> int:
    return next(reading.level for reading in machine.interlocks[-1].readings if reading.role == role)


def motor_is_off(cabinet: CabinetClient) -> bool:
    """At the motor itself; the flap may coast on for a moment."""
    return [entry["detail"] for entry in cabinet.log() if entry["what"] == "motor"][-1] == "off"


def test_an_open_door_stops_the_gate_and_home_closes_it(machine: Machine, cabinet: CabinetClient) -> None:
    assert machine.command("a", Request.ACCEPT).taken
    machine.wait(lambda state: state.motor_on, "motor")
    cabinet.set_door(True)
    assert machine.outcome("a") == GateState.OUTCOME_INTERLOCK
    machine.graph.wait(lambda: level(machine, SensorReading.ROLE_DOOR) == SensorReading.LEVEL_ACTIVE, "open door")
    assert not machine.states[-1].motor_on
    assert motor_is_off(cabinet)
    assert machine.command("b", Request.HOME).refusal == Request.REFUSED_INTERLOCK
    machine.graph.wait(lambda: machine.beats[-1].level == NodeHealth.WARN, "warning")
    assert machine.beats[-1].message == "gate is held: door is open"
    cabinet.set_door(False)
    machine.graph.wait(lambda: level(machine, SensorReading.ROLE_DOOR) == SensorReading.LEVEL_INACTIVE, "shut door")
    machine.interlocks.clear()
    machine.graph.wait(lambda: len(machine.interlocks) > 2, "interlocks that are told again")
    machine.graph.wait(lambda: machine.command("c", Request.HOME).taken, "home taken")
    assert machine.outcome("c") == GateState.OUTCOME_DONE


def test_an_open_gate_stays_open_and_does_not_close_on_a_hand(machine: Machine, cabinet: CabinetClient) -> None:
    assert machine.command("a", Request.OPEN).taken
    assert machine.outcome("a") == GateState.OUTCOME_DONE
    assert machine.states[-1].position == GateState.POSITION_CUSTOMER
    cabinet.set_hand(True)
    machine.wait(lambda state: list(state.obstacles) == ["hand is in the gate"], "hand")
    assert machine.command("b", Request.CLOSE).refusal == Request.REFUSED_INTERLOCK
    cabinet.set_hand(False)
    machine.graph.wait(lambda: machine.command("c", Request.CLOSE).taken, "close taken")
    assert machine.outcome("c") == GateState.OUTCOME_DONE
    assert machine.states[-1].position == GateState.POSITION_CLOSED


def test_a_jam_is_reported_and_only_home_is_taken(machine: Machine, cabinet: CabinetClient) -> None:
    cabinet.stick(Jam.HARD)
    assert machine.command("a", Request.ACCEPT).taken
    assert machine.outcome("a") == GateState.OUTCOME_JAMMED
    assert machine.command("b", Request.ACCEPT).refusal == Request.REFUSED_FAULT
    machine.graph.wait(lambda: machine.beats[-1].level == NodeHealth.ERROR, "error")
    assert machine.beats[-1].message == "gate jams on its way to bin: home it"
    cabinet.stick(None)
    assert machine.command("c", Request.HOME).taken
    assert machine.outcome("c") == GateState.OUTCOME_DONE
    machine.graph.wait(lambda: machine.beats[-1].level == NodeHealth.OK, "health")


def test_the_motor_is_off_whatever_ends_the_movement(machine: Machine, cabinet: CabinetClient) -> None:
    def moving() -> bool:
        return cabinet.truth()["moving"]

    graph, process = machine.graph, machine.graph.processes["actuator"]
    assert machine.command("a", Request.RETURN).taken
    graph.wait(moving, "movement")
    assert machine.command("b", Request.STOP).taken
    assert motor_is_off(cabinet)
    assert machine.outcome("a") == GateState.OUTCOME_CANCELLED

    assert machine.command("c", Request.HOME).taken
    assert machine.outcome("c") == GateState.OUTCOME_DONE
    assert machine.command("d", Request.RETURN).taken
    graph.wait(moving, "movement")
    assert graph.transition("actuator", Transition.TRANSITION_DEACTIVATE)
    assert motor_is_off(cabinet)
    assert machine.outcome("d") == GateState.OUTCOME_CANCELLED
    assert level(machine, SensorReading.ROLE_HAND) == SensorReading.LEVEL_UNKNOWN, "nobody watches any more"
    wear = json.loads((graph.folder / "var" / FILE).read_text())["gate"]
    assert wear["motor_run_time_s"] == pytest.approx(machine.states[-1].lifetime_motor_run_time_s)
    assert wear["motor_run_time_s"] > 0.0

    assert graph.transition("actuator", Transition.TRANSITION_ACTIVATE)
    machine.wait(
        lambda state: state.position == GateState.POSITION_CLOSED and not state.motor_on, "gate homed by itself"
    )
    assert machine.command("e", Request.RETURN).taken
    graph.wait(moving, "movement")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30.0) == 0, graph.log("actuator")
    assert motor_is_off(cabinet)
    assert "Traceback" not in graph.log("actuator")


def test_a_killed_node_leaves_no_motor_on(machine: Machine, cabinet: CabinetClient) -> None:
    assert machine.command("a", Request.RETURN).taken
    machine.graph.wait(lambda: cabinet.truth()["moving"], "movement")
    machine.graph.processes["actuator"].kill()
    machine.graph.wait(lambda: motor_is_off(cabinet), "motor off")


def test_a_second_gate_has_a_state_of_its_own_and_holds_the_first(graph: Any, cabinet: CabinetClient) -> None:
    """Nothing is wired to its lines."""
    first = graph.listen(GateState, "actuator/state", qos.STATE)
    second = graph.listen(GateState, "actuator/upper/state", qos.STATE)
    settings = {
        "name": "upper",
        "travel_limit_s": 0.2,
        "motor_lines": '["to_bin=SPARE1", "to_customer=SPARE2"]',
        "switch_lines": '["closed=SPARE3", "bin=SPARE4", "customer=SPARE5"]',
    }
    graph.bring_up("actuator", "desk", **{f"second_gate.{name}": value for name, value in settings.items()})
    graph.wait(lambda: second and second[-1].fault not in ("", "the gate is not open"), "fault of the second gate")
    graph.wait(lambda: first and first[-1].position == GateState.POSITION_CLOSED, "closed first gate")
    assert (first[-1].gate, first[-1].fault, second[-1].gate) == ("gate", "", "upper")

    def ask(gate: str, verb: int) -> Any:
        request = Request(gate=gate, command_id=f"{gate}{verb}", holder="test", verb=verb)
        return graph.call(CommandGate, "actuator/command", request)

    answer = ask("", Request.ACCEPT)
    assert (answer.refusal, answer.holder) == (Request.REFUSED_BUSY, "gate upper, which is not closed")
    assert ask("upper", Request.ACCEPT).refusal == Request.REFUSED_FAULT
    assert ask("cellar", Request.HOME).refusal == Request.REFUSED_UNKNOWN


def test_an_absent_chip_does_not_hold_up_activation(graph: Any) -> None:
    beats = graph.listen(NodeHealth, "system/node_health", qos.HEARTBEAT)
    graph.bring_up("actuator", driver="gpiod", device="/dev/gpiochip99")
    graph.wait(lambda: beats and beats[-1].level == NodeHealth.ERROR, "error")
    assert beats[-1].message == "GPIO chip /dev/gpiochip99 is not there"
    refused = graph.call(CommandGate, "actuator/command", Request(command_id="a", holder="test", verb=Request.ACCEPT))
    assert refused.refusal == Request.REFUSED_FAULT


def test_garbage_in_the_configuration_stops_configure_with_one_line(graph: Any) -> None:
    graph.start("actuator", motor_lines='["to_bin=1", "to_bin=2"]')
    assert not graph.transition("actuator", Transition.TRANSITION_CONFIGURE)
    assert "actuator.motor_lines: to_bin is there twice (1 and 2)" in graph.log("actuator")
    assert "Traceback" not in graph.log("actuator")
