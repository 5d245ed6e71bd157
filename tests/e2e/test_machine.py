"""The whole machine, killed, unplugged and cut off in the middle of deposits: nothing lost, nothing doubled."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from myrvm_interfaces.msg import CloudStatus, DepositResult, DepositState, SystemStatus
from myrvm_sim.physics import Kind

from myrvm_core import graph as graph_file

GRAPH = graph_file.load()
NODES = (*GRAPH.names, GRAPH.manager.name)
# As /proc/net/udp writes 127.0.0.1 and 239.255.0.1, which is joined on the loopback.
LOOPBACK, DISCOVERY_GROUP = "0100007F", "0100FFEF"


@pytest.mark.parametrize("state", [DepositState.CLASSIFYING, DepositState.ACCEPTING])
@pytest.mark.parametrize("node", NODES)
def test_a_node_killed_during_a_deposit_comes_back_and_nothing_is_lost(machine: Any, node: str, state: int) -> None:
    machine.wait_serving()
    killed: list[int] = []

    def kill(message: DepositState) -> None:
        pid = machine.desk.machine.pid(node)
        if message.state == state and not killed and pid:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    machine.customer.on_state = kill
    for _ in range(6):  # a picture may be refused before the state is reached
        machine.insert(Kind.MINERAL)
        if killed:
            break
    machine.customer.on_state = lambda _: None
    assert killed, "the state was never reached"
    machine.wait(lambda: machine.desk.machine.pid(node) not in (0, killed[0]), f"a new {node}")
    machine.wait_serving()
    machine.insert(Kind.NOT_EMPTY)
    machine.audit()


def test_only_nodes_that_exchange_pictures_use_shared_memory_and_none_listens_outside_the_machine(machine: Any) -> None:
    machine.wait_serving()
    listening = Path("/proc/net/udp").read_text().splitlines()[1:]
    for node in (*GRAPH.nodes, GRAPH.manager):
        pid = machine.desk.machine.pid(node.name)
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert ("/dev/shm/fastrtps_" in maps) is node.pictures, node.name
        opened = (str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir())
        inodes = {name.removeprefix("socket:[").removesuffix("]") for name in opened if name.startswith("socket:[")}
        addresses = {line.split()[1].split(":")[0] for line in listening if line.split()[9] in inodes}
        assert addresses <= {LOOPBACK, DISCOVERY_GROUP}, node.name


def test_without_a_camera_the_machine_is_out_of_order_and_says_why(machine: Any) -> None:
    machine.wait_serving()
    machine.desk.cabinet.set_camera("unplugged")
    try:
        status, camera = machine.customer, SystemStatus.REASON_CAMERA
        machine.wait(
            lambda: status.status.mode == SystemStatus.OUT_OF_ORDER and camera in status.status.reasons, "OUT_OF_ORDER"
        )
        machine.wait(lambda: machine.customer.state.state == DepositState.OUT_OF_ORDER, "no deposits")
    finally:
        machine.desk.cabinet.set_camera("live")
    machine.wait_serving()
    machine.insert(Kind.NOT_EMPTY)


def test_without_a_server_the_machine_serves_and_credits_later(machine: Any) -> None:
    machine.wait_serving()
    machine.desk.server.set_down(True)
    try:
        machine.wait(lambda: machine.customer.cloud.state != CloudStatus.ONLINE, "the loss of the server")
        machine.wait(lambda: machine.customer.status.mode == SystemStatus.DEGRADED, "DEGRADED")
        assert list(machine.customer.status.reasons) == [SystemStatus.REASON_CLOUD]
        outcomes = [machine.insert(Kind.MINERAL).outcome for _ in range(3)]
        assert DepositResult.ACCEPTED in outcomes
        machine.wait(lambda: machine.customer.buffer.pending + machine.customer.buffer.leased > 0, "rows that wait")
    finally:
        machine.desk.server.set_down(False)
    machine.wait_serving()
    machine.audit()


def test_a_door_opened_while_the_gate_moves_stops_it_and_the_machine_goes_on_once_it_is_closed(machine: Any) -> None:
    machine.wait_serving()
    opened: list[int] = []

    def open_door(message: DepositState) -> None:
        if message.state == DepositState.ACCEPTING and not opened:
            opened.append(message.state)
            machine.desk.cabinet.set_door(True)

    machine.customer.on_state = open_door
    known: set[str] = set()
    for _ in range(6):  # a picture may be refused before the gate moves
        machine.wait_ready()
        known = set(machine.customer.results)
        machine.desk.cabinet.insert(Kind.MINERAL)
        machine.wait(lambda known=known: opened or set(machine.customer.results) - known, "a gate that moves")
        if opened:
            break
    assert opened
    machine.customer.on_state = lambda _: None
    stopped = (DepositState.RETURNING, DepositState.CLEARING, DepositState.SETTLING, DepositState.SHOWING)
    machine.wait(lambda: machine.customer.state.state in stopped, "a stopped gate")
    machine.desk.cabinet.set_door(False)
    machine.wait(lambda: set(machine.customer.results) - known, "a result")
    machine.wait_ready()
    machine.insert(Kind.NOT_EMPTY)
    machine.audit()
