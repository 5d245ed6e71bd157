"""The sensor node on the simulated cabinet."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import Transition
from myrvm_interfaces.msg import NodeHealth, SensorEvent, SensorReading, SensorState
from myrvm_sim.cabinet_client import CabinetClient, running
from myrvm_sim.physics import Kind

from myrvm_ros import qos, stamps

ACTIVE, INACTIVE = SensorReading.LEVEL_ACTIVE, SensorReading.LEVEL_INACTIVE
UNKNOWN, ANALOG = SensorReading.LEVEL_UNKNOWN, SensorReading.LEVEL_ANALOG


def levels(state: SensorState) -> dict[int, int]:
    return {reading.role: reading.level for reading in state.readings}


def test_edges_become_events_and_state(graph: Any, cabinet: CabinetClient) -> None:
    graph.bring_up("sensor", driver="cabinet", device="''")
    states = graph.listen(SensorState, "sensors/state", qos.STATE)
    events = graph.listen(SensorEvent, "sensors/events", qos.EVENT)
    graph.wait(lambda: states, "state")
    assert levels(states[-1])[SensorReading.ROLE_DOOR] == INACTIVE

    before_ns = time.time_ns()
    cabinet.set_door(True)
    graph.wait(lambda: levels(states[-1])[SensorReading.ROLE_DOOR] == ACTIVE, "open door")
    cabinet.set_door(False)
    graph.wait(lambda: levels(states[-1])[SensorReading.ROLE_DOOR] == INACTIVE, "closed door")
    graph.wait(lambda: len(events) >= 2, "events")
    assert [(event.role, event.level) for event in events] == [
        (SensorReading.ROLE_DOOR, ACTIVE),
        (SensorReading.ROLE_DOOR, INACTIVE),
    ]
    assert [event.sequence for event in events] == [1, 2]
    stamps_ns = [stamps.to_ns(event.stamp) for event in events]
    assert before_ns <= stamps_ns[0] < stamps_ns[1] <= time.time_ns()
    door = next(reading for reading in states[-1].readings if reading.role == SensorReading.ROLE_DOOR)
    assert stamps.to_ns(door.stamp) == stamps_ns[1]

    item = cabinet.insert(Kind.MINERAL)
    graph.wait(
        lambda: any(event.role == SensorReading.ROLE_ENTRY and event.level == ACTIVE for event in events), "item"
    )

    def weight() -> SensorReading:
        return next(reading for reading in states[-1].readings if reading.role == SensorReading.ROLE_WEIGHT)

    graph.wait(lambda: abs(weight().value - item["weight_kg"]) < 0.01, "weight")
    assert weight().level == ANALOG


def test_the_state_is_sent_again_as_a_proof_of_life(graph: Any, cabinet: CabinetClient) -> None:
    graph.bring_up("sensor", driver="cabinet", device="''", measure_period_s=0.3)
    states = graph.listen(SensorState, "sensors/state", qos.STATE)
    graph.wait(lambda: len(states) >= 4, "states without a change")
    sent_ns = [stamps.to_ns(state.header.stamp) for state in states]
    assert sent_ns == sorted(set(sent_ns))


def test_an_absent_chip_does_not_hold_up_activation(graph: Any) -> None:
    beats = graph.listen(NodeHealth, "system/node_health", qos.HEARTBEAT)
    graph.bring_up("sensor", driver="gpiod", device="/dev/gpiochip99")
    graph.wait(lambda: beats and beats[-1].level == NodeHealth.ERROR, "error")
    assert beats[-1].message == "GPIO chip /dev/gpiochip99 is not there"


def test_lost_sensors_are_unknown_until_they_are_back(graph: Any, tmp_path: Path) -> None:
    states = graph.listen(SensorState, "sensors/state", qos.STATE)
    events = graph.listen(SensorEvent, "sensors/events", qos.EVENT)
    beats = graph.listen(NodeHealth, "system/node_health", qos.HEARTBEAT)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cabinet"
        with running(path):
            graph.bring_up("sensor", driver="cabinet", device=path, reopen_longest_s=0.5)
            graph.wait(lambda: states and beats and beats[-1].level == NodeHealth.OK, "state and health")
            known = levels(states[-1])
        graph.wait(lambda: set(levels(states[-1]).values()) == {UNKNOWN}, "unknown levels")
        graph.wait(lambda: beats[-1].level == NodeHealth.ERROR, "error")
        assert str(path) in beats[-1].message
        with running(path), CabinetClient(path) as cabinet:
            cabinet.set_door(True)
            graph.wait(lambda: levels(states[-1]) == known | {SensorReading.ROLE_DOOR: ACTIVE}, "levels again")
            graph.wait(lambda: beats[-1].level == NodeHealth.OK, "health again")
            graph.wait(lambda: events, "the edge that nobody saw")
            assert (events[-1].role, events[-1].level) == (SensorReading.ROLE_DOOR, ACTIVE)


def test_garbage_in_the_configuration_stops_configure_with_one_line(graph: Any) -> None:
    graph.start("sensor", lines='["entry=1", "exit=2"]', debounce_s="[0.1, 0.2]")
    assert not graph.transition("sensor", Transition.TRANSITION_CONFIGURE)
    assert "sensor.lines: 'exit' in 'exit=2' is not known; allowed: entry, drop, door" in graph.log("sensor")
    assert "Traceback" not in graph.log("sensor")
