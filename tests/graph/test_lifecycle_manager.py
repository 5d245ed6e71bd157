"""The lifecycle manager and the bring-up with real processes: tiny nodes, killed, stopped, refused, meddled with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from myrvm_interfaces.msg import SystemStatus
from myrvm_interfaces.srv import ManageSystem
from tiny_machine import NAMES, PARAMETERS, Machine


@pytest.fixture
def machine(graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    built = Machine(graph, tmp_path, monkeypatch)
    try:
        yield built
    finally:
        built.bring_up.stop()


def test_comes_up_in_order_and_a_killed_node_comes_back_with_those_that_follow_it(machine: Machine) -> None:
    machine.up()
    notes = machine.notes()
    assert notes.index("base activate") < notes.index("follower configure")
    assert machine._heard[-1].start_time_s > 0
    machine.forget()
    old = machine.bring_up.pid("base")
    os.kill(old, signal.SIGKILL)
    machine.wait_mode(SystemStatus.OUT_OF_ORDER)
    assert list(machine._heard[-1].reasons) == [SystemStatus.REASON_BUFFER]
    machine.wait(lambda: machine.replaced("base", old), "a new base")
    machine.wait(lambda: machine.notes()[-1:] == ["follower activate"], "follower again")
    machine.wait_mode(SystemStatus.SERVING)
    assert machine.notes() == ["base configure", "base activate", "follower deactivate", "follower activate"]
    assert (machine.node("base").restarts, machine.node("other").restarts) == (1, 0)
    assert machine.bring_up.restarts("base") == 1


def test_a_manager_that_hears_no_node_is_started_anew(
    graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parameters = PARAMETERS.replace("heartbeat_timeout_s", "appear_timeout_s: 4.0, heartbeat_timeout_s")
    machine = Machine(graph, tmp_path, monkeypatch, parameters=parameters)
    programs = {name: machine.programs / name for name in NAMES}
    speaking = {name: file.read_text() for name, file in programs.items()}
    for file in programs.values():
        file.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(1000)\n")
    try:
        machine.bring_up.start()
        machine.wait(lambda: machine.bring_up.restarts("lifecycle_manager") == 1, "a new manager")
        for name, file in programs.items():
            file.write_text(speaking[name])
            os.kill(machine.bring_up.pid(name), signal.SIGKILL)
        machine.wait_mode(SystemStatus.SERVING)
    finally:
        machine.bring_up.stop()


def test_a_stopped_process_is_replaced_and_a_killed_manager_adopts_the_nodes_as_they_are(machine: Machine) -> None:
    machine.up()
    old = machine.bring_up.pid("other")
    os.kill(old, signal.SIGSTOP)
    machine.wait(lambda: machine.replaced("other", old), "a new process in place of the stopped one")
    machine.wait_mode(SystemStatus.SERVING)
    machine.forget()
    processes = {name: machine.bring_up.pid(name) for name in ("base", "follower", "other")}
    seen = len(machine._heard)
    os.kill(machine.bring_up.pid("lifecycle_manager"), signal.SIGKILL)
    machine.wait(lambda: len(machine._heard) > seen and machine.mode == SystemStatus.SERVING, "adoption")
    assert machine.notes() == []
    assert {name: machine.node(name).pid for name in processes} == processes


def test_a_node_that_cannot_be_configured_is_given_up_loudly_and_restart_clears_that(machine: Machine) -> None:
    (machine.programs / "base.refuse").touch()
    machine.bring_up.start()
    machine.wait(lambda: machine.node("base") and machine.node("base").given_up, "giving up")
    machine.wait_mode(SystemStatus.OUT_OF_ORDER)
    assert machine.notes().count("base configure") == 3  # the first and `limit` more
    assert "no device here" in machine.node("base").last_error
    log = (Path(os.environ["MYRVM_DATA"]) / "logs" / "lifecycle_manager.jsonl").read_text()
    assert any("given up" in line and '"level": "error"' in line for line in log.splitlines())
    (machine.programs / "base.refuse").unlink()
    answer = machine.manage(ManageSystem.Request.RESTART, "base")
    assert (answer.success, answer.message) == (True, "")
    machine.wait_mode(SystemStatus.SERVING)
    refused = machine.manage(ManageSystem.Request.RESTART, "nobody")
    assert not refused.success
    assert "'nobody'" in refused.message


def test_verbs_and_an_outsider_who_is_not_fought(machine: Machine) -> None:
    machine.up()
    machine.forget()
    assert machine.manage(ManageSystem.Request.PAUSE).success
    machine.wait_mode(SystemStatus.PAUSED)
    notes = machine.notes()
    assert notes.index("follower deactivate") < notes.index("base deactivate")
    assert machine.manage(ManageSystem.Request.RESUME).success
    machine.wait_mode(SystemStatus.SERVING)

    machine.forget()
    assert machine.graph.transition("follower", Transition.TRANSITION_DEACTIVATE)
    machine.wait_mode(SystemStatus.OUT_OF_ORDER)
    until = time.monotonic() + 3
    machine.wait(lambda: time.monotonic() > until, "three heartbeats")
    assert machine.notes() == ["follower deactivate"]
    assert "outsider" in machine.node("follower").last_error
    assert machine.manage(ManageSystem.Request.RESUME).success
    machine.wait_mode(SystemStatus.SERVING)

    old = machine.bring_up.pid("other")
    assert machine.graph.transition("other", Transition.TRANSITION_ACTIVE_SHUTDOWN)
    machine.wait(lambda: machine.replaced("other", old), "a new process after the outsider's shutdown")

    assert machine.manage(ManageSystem.Request.RESET).success
    machine.wait_mode(SystemStatus.STOPPED)
    assert {node.lifecycle_state for node in machine._heard[-1].nodes} == {1}
    assert machine.manage(ManageSystem.Request.STARTUP).success
    processes = {name: machine.bring_up.pid(name) for name in ("base", "follower", "other")}
    assert machine.manage(ManageSystem.Request.SHUTDOWN).success
    machine.wait(lambda: all(machine.bring_up.pid(name) not in (0, pid) for name, pid in processes.items()), "respawn")
    machine.wait_mode(SystemStatus.STOPPED)
    assert machine.manage(ManageSystem.Request.STARTUP).success
    machine.wait_mode(SystemStatus.SERVING)


def test_ctrl_c_and_kill_leave_no_process(machine: Machine, tmp_path: Path) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        program = "from myrvm_system.cli import main; main()"
        command = [sys.executable, "-c", program, "up", "--parameters", str(machine.parameters)]
        with (tmp_path / "up.log").open("wb") as output:
            rvm = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        heard = len(machine._heard)
        machine.wait(
            lambda since=heard: len(machine._heard) > since and machine.mode == SystemStatus.SERVING, "serving"
        )
        processes = [node.pid for node in machine._heard[-1].nodes]
        assert len(set(processes) - {0}) == 3
        rvm.send_signal(number)
        rvm.wait(timeout=60)
        machine.wait(lambda pids=processes: not any(alive(pid) for pid in pids), "the end of all")
        if number == signal.SIGINT:
            assert rvm.returncode == 0
            assert "all ended" in (tmp_path / "up.log").read_text()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
