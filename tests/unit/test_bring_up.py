"""The bring-up with programs that need no ROS: respawn, order and limits of the end, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from myrvm_core.errors import SettingsError
from myrvm_core.graph import Graph, parse
from myrvm_system.bring_up import BringUp, executable

from myrvm_system import shared_memory

PROGRAM = """#!{python} -S
# A stand-in for a node: says when it begins and ends, and may be stubborn.
import os, signal, sys
name, folder = os.path.basename(sys.argv[0]), os.environ["TEST_FOLDER"]
def note(word):
    with open(os.path.join(folder, "notes"), "a") as file:
        file.write(f"{{name}} {{word}} {{os.getpid()}}\\n")
ENDS = {{signal.SIGINT, signal.SIGTERM}}
signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)  # taken one after the other: a handler can be interrupted by the next
def rest(seconds):
    taken = signal.sigtimedwait(ENDS, seconds)
    if taken:
        note(signal.Signals(taken.si_signo).name)
        if name != "stubborn":
            sys.exit(0)
note("begins " + " ".join(sys.argv[1:]))
while not os.path.exists(os.path.join(folder, name + " sleeps")):
    rest(0.1)
rest(60)
"""


def make(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> Graph:
    marker = folder / "share" / "ament_index" / "resource_index" / "packages" / "tiny"
    marker.parent.mkdir(parents=True)
    marker.touch()
    programs = folder / "lib" / "tiny"
    programs.mkdir(parents=True)
    for name in (*names, "manager"):
        (programs / name).write_text(PROGRAM.format(python=sys.executable))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(folder))
    monkeypatch.setenv("TEST_FOLDER", str(folder))
    monkeypatch.setenv("MYRVM_DATA", str(folder / "var"))
    monkeypatch.setattr(shared_memory.clean, "__defaults__", (folder / "shm", Path("/proc")))
    nodes = {name: {"package": "tiny", "executable": name} for name in names}
    if len(names) > 1:
        nodes[names[1]]["start_after"] = [names[0]]  # pyright: ignore[reportArgumentType]
    return parse({"nodes": nodes, "manager": {"package": "tiny", "executable": "manager"}}, "test")


def notes(folder: Path) -> list[list[str]]:
    file = folder / "notes"
    return [line.split() for line in file.read_text().splitlines()] if file.is_file() else []


def begun(folder: Path, name: str) -> int:
    return sum(note[:2] == [name, "begins"] for note in notes(folder))


def wait(condition: Callable[[], object], what: str, limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"no {what} within {limit_s} s"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_starts_respawns_and_ends_the_manager_first_then_in_reverse_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = make(tmp_path, monkeypatch, "below", "above")
    (tmp_path / "p.yaml").touch()
    with BringUp(graph, [tmp_path / "p.yaml"], {"TEST_FOLDER": str(tmp_path)}, echo=False) as machine:
        assert machine.names == ("lifecycle_manager", "below", "above")
        machine.start()
        wait(lambda: all(begun(tmp_path, name) for name in ("below", "above", "manager")), "start of all")
        assert notes(tmp_path)[0][2:5] == ["--ros-args", "--params-file", str(tmp_path / "p.yaml")]
        killed = machine.pid("below")
        os.kill(killed, signal.SIGKILL)
        wait(lambda: begun(tmp_path, "below") == 2, "respawn")
        assert machine.restarts("below") == 1
        assert machine.restarts("above") == 0
        assert machine.pid("below") not in (0, killed)
        os.kill(machine.pid("above"), signal.SIGTERM)  # exit 0 is an end, too
        wait(lambda: begun(tmp_path, "above") == 2, "respawn after exit 0")
    ends = [note[0] for note in notes(tmp_path) if note[1] == "SIGINT"]
    assert ends == ["manager", "above", "below"]
    assert [machine.pid(name) for name in machine.names] == [0, 0, 0]


@pytest.mark.parametrize("how", ["stopped", "asleep"])
def test_a_manager_that_stands_still_is_replaced_a_node_is_the_managers_business(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BringUp(make(tmp_path, monkeypatch, "below"), echo=False) as machine:
        machine.start()
        wait(lambda: begun(tmp_path, "below") and begun(tmp_path, "manager"), "start")
        node, manager = machine.pid("below"), machine.pid("lifecycle_manager")
        if how == "stopped":
            os.kill(manager, signal.SIGSTOP)
        else:
            (tmp_path / "manager sleeps").touch()
            (tmp_path / "below sleeps").touch()
        wait(lambda: machine.pid("lifecycle_manager") not in (0, manager), "another manager")
        assert machine.pid("below") == node


def test_a_stubborn_process_is_killed_within_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = BringUp(make(tmp_path, monkeypatch, "stubborn"), echo=False)
    with machine:
        machine.start()
        wait(lambda: begun(tmp_path, "stubborn"), "start")
        pid = machine.pid("stubborn")
        machine.stop(limit_s=2.0)
        assert not alive(pid)
    assert [note[1] for note in notes(tmp_path) if note[0] == "stubborn"][1:] == ["SIGINT", "SIGTERM"]


def test_no_orphan_survives_when_the_bring_up_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, monkeypatch, "below", "above")
    (tmp_path / "graph.yaml").write_text(
        "nodes: {below: {package: tiny, executable: below}}\nmanager: {package: tiny, executable: manager}\n"
    )
    program = (
        "import pathlib, time\nfrom myrvm_core import graph\nfrom myrvm_system.bring_up import BringUp\n"
        f"BringUp(graph.load(pathlib.Path({str(tmp_path / 'graph.yaml')!r})), echo=False).start()\ntime.sleep(60)\n"
    )
    starter = subprocess.Popen([sys.executable, "-c", program])
    wait(lambda: begun(tmp_path, "below") and begun(tmp_path, "manager"), "start")
    pids = [int(note[-1]) for note in notes(tmp_path)]
    starter.kill()
    starter.wait()
    wait(lambda: not any(alive(pid) for pid in pids), "the end of all")


def test_an_error_inside_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        with BringUp(make(tmp_path, monkeypatch, "below"), echo=False) as machine:
            machine.start()
            wait(lambda: begun(tmp_path, "below"), "start")
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert not any(alive(int(note[-1])) for note in notes(tmp_path))


def test_a_program_or_package_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make(tmp_path, monkeypatch, "below")
    (tmp_path / "lib" / "tiny" / "below").unlink()
    with pytest.raises(SettingsError, match="lib/tiny/below is no program"):
        BringUp(graph)
    missing = graph.nodes[0].model_copy(update={"package": "nowhere"})
    with pytest.raises(SettingsError, match="package nowhere is not in AMENT_PREFIX_PATH"):
        executable(missing)
