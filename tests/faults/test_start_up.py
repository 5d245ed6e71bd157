"""A start after a crash: orphans, half-written files, dead sockets, shared memory are found, cleared and reported."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from myrvm_core.errors import SettingsError
from myrvm_interfaces.msg import NodeHealth
from myrvm_ros.managed_node import HEARTBEAT_TOPIC
from myrvm_system.start_up import REPORT, RUN_VARIABLE, clear, environment, report
from tiny_machine import Machine

from myrvm_ros import qos
from myrvm_system import shared_memory

DEAD = f"{2**22 + 1}:1"  # above the kernel's largest pid


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a process that an earlier run might have left, by its MYRVM_RUN."""
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(shared_memory.clean, "__defaults__", (tmp_path / "shm", Path("/proc")))
    processes: list[subprocess.Popen[bytes]] = []

    def start(run: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-S", "-c", "print(1, flush=True); input()"]
        process = subprocess.Popen(
            command, env=os.environ | {RUN_VARIABLE: run}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_only_an_orphan_of_this_data_folder_is_ended(begin: Any, tmp_path: Path) -> None:
    data = tmp_path / "data"
    orphan = begin(f"{DEAD}:{data}")
    others = [begin(f"{DEAD}:{tmp_path / 'other'}"), begin("nonsense"), begin(environment(data)[RUN_VARIABLE])]
    found = clear(data)
    assert [int(name.split()[1]) for name in found.orphans] == [orphan.pid]
    assert orphan.wait(10) == -9
    assert [other.poll() for other in others] == [None, None, None]
    assert report(data) == found
    assert clear(data).orphans == ()


def test_a_launcher_with_the_pid_of_a_dead_one_is_another(begin: Any, tmp_path: Path) -> None:
    orphan = begin(f"{os.getppid()}:1:{tmp_path}")
    assert [int(name.split()[1]) for name in clear(tmp_path).orphans] == [orphan.pid]


def test_nothing_is_started_beside_a_machine_that_lives(begin: Any, tmp_path: Path) -> None:
    launcher = begin("")
    started = Path(f"/proc/{launcher.pid}/stat").read_text().rpartition(")")[2].split()[19]
    node = begin(f"{launcher.pid}:{started}:{tmp_path}")
    with pytest.raises(SettingsError, match=rf"MYRVM_DATA = {tmp_path} is in use: process {node.pid} \(.*\), started"):
        clear(tmp_path)
    assert node.poll() is None


@pytest.mark.usefixtures("begin")
def test_half_written_files_and_dead_sockets_go_whole_ones_stay(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "unresolved").mkdir(parents=True)
    for name in ("session.json", "session.json.partial", "unresolved/a.jpg", "unresolved/b.jpg.partial"):
        (data / name).write_bytes(b"x")
    (tmp_path / "shm" / "fastrtps_dead").write_bytes(b"x")
    with socket.socket(socket.AF_UNIX) as living, socket.socket(socket.AF_UNIX) as dead:
        living.bind(str(data / "living"))
        living.listen()
        dead.bind(str(data / "dead"))
        dead.close()
        found = clear(data)
    assert found.half_written == ("session.json.partial", "unresolved/b.jpg.partial")
    assert (found.sockets, found.shared_memory, found.problems) == (("dead",), ("fastrtps_dead",), ())
    names = {str(path.relative_to(data)) for path in data.rglob("*") if not path.is_dir()}
    assert names == {"session.json", "unresolved/a.jpg", "living", REPORT}
    assert "2 half-written files removed (session.json.partial, unresolved/b.jpg.partial)" in str(found)


def test_a_report_that_cannot_be_read_or_written_is_a_line(begin: Any, tmp_path: Path) -> None:
    assert report(tmp_path).problems == ()
    (tmp_path / "system").write_text("a file where the folder should be")
    assert "report not written" in clear(tmp_path).problems[0]
    (tmp_path / "system").unlink()
    (tmp_path / "system").mkdir()
    (tmp_path / REPORT).write_text("{")
    assert "cannot be read" in report(tmp_path).problems[0]


def test_the_machine_tells_what_its_start_has_found(
    graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: Any
) -> None:
    health: list[NodeHealth] = graph.listen(NodeHealth, HEARTBEAT_TOPIC, qos.HEARTBEAT)
    data = Path(os.environ["MYRVM_DATA"])
    orphan = begin(f"{DEAD}:{data.resolve()}")
    data.mkdir(exist_ok=True)
    (data / "session.json.partial").touch()
    machine = Machine(graph, tmp_path, monkeypatch)
    with machine.bring_up:
        machine.up()

        def told() -> bool:
            beats = [beat for beat in health if beat.node == "lifecycle_manager"]
            values = {value.key: value.value for value in beats[-1].values} if beats else {}
            return (values.get("start_orphans"), values.get("start_half_written")) == ("1", "1")

        machine.wait(told, "what was found")
    assert orphan.wait(10) == -9
    assert "session.json.partial" in (data / "logs" / "lifecycle_manager.jsonl").read_text()
