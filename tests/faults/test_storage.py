"""The offline buffer when its disk is full or its file is damaged, seen through the node."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deposit_messages import deposit, enqueue
from lifecycle_msgs.msg import Transition
from myrvm_interfaces.msg import BufferStatus, NodeHealth
from myrvm_interfaces.srv import EnqueueDeposit, LeaseDeposits
from myrvm_ros.managed_node import HEARTBEAT_TOPIC

from myrvm_ros import qos


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here (needs root)")
    yield disk
    # The node may hold a file for a moment yet: it is ended after this fixture.
    subprocess.run(["umount", "--lazy", disk], check=True)


def level(health: list[NodeHealth]) -> int:
    beats = [beat for beat in health if beat.node == "offline_buffer"]
    return beats[-1].level if beats else -1


def test_a_full_disk_refuses_in_one_line_and_serves_again_when_there_is_room(graph: Any, small_disk: Path) -> None:
    status: list[BufferStatus] = graph.listen(BufferStatus, "buffer/status", qos.STATE)
    health: list[NodeHealth] = graph.listen(NodeHealth, HEARTBEAT_TOPIC, qos.HEARTBEAT)
    graph.bring_up("offline_buffer", file=str(small_disk / "deposits.db"))
    enqueue(graph, range(2))
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(bytes(2_000_000))
    stored = 2
    while True:
        answer = graph.call(EnqueueDeposit, "buffer/enqueue", EnqueueDeposit.Request(record=deposit(stored)))
        if not answer.stored:
            break
        stored += 1
    assert "full" in answer.message
    assert "\n" not in answer.message
    graph.wait(lambda: status and status[-1].writable is False and level(health) == NodeHealth.ERROR, "the alarm")
    filler.unlink()
    graph.wait(lambda: status[-1].writable and level(health) == NodeHealth.OK, "the all-clear")
    enqueue(graph, [stored])
    graph.wait(lambda: status[-1].held == stored - 2 and status[-1].pending == 3, "whole deposits only")


@pytest.mark.parametrize("damage", ["header", "truncated"])
def test_a_damaged_file_is_set_aside_and_its_deposits_are_sent(graph: Any, tmp_path: Path, damage: str) -> None:
    graph.bring_up("offline_buffer")
    ids = enqueue(graph, range(30))
    graph.transition("offline_buffer", Transition.TRANSITION_DEACTIVATE)
    graph.transition("offline_buffer", Transition.TRANSITION_CLEANUP)
    file = tmp_path / "var" / "buffer" / "deposits.db"
    raw = file.read_bytes()
    file.write_bytes(b"\0" * 4096 + raw[4096:] if damage == "header" else raw[:-4096])
    status: list[BufferStatus] = graph.listen(BufferStatus, "buffer/status", qos.STATE)
    assert graph.transition("offline_buffer", Transition.TRANSITION_CONFIGURE)
    assert graph.transition("offline_buffer", Transition.TRANSITION_ACTIVATE)
    graph.wait(lambda: status and status[-1].salvaged > 0, "salvaged deposits")
    saved = status[-1].salvaged
    leased = graph.call(LeaseDeposits, "buffer/lease", LeaseDeposits.Request(limit=500, duration_s=60.0))
    sent = [row.deposit_id for row in leased.records]
    assert sent == [row for row in ids if row in sent]
    assert len(leased.records) == saved
    assert len(list(file.parent.glob("deposits.damaged-*.db"))) == 1
    log = (tmp_path / "offline_buffer.log").read_text()
    assert f"saved {saved} deposits" in log
    lost = [row for row in ids if row not in sent]
    if damage == "header":
        assert lost == []
    for row in lost:
        assert row in log, "a lost deposit whose id is known is named"
    enqueue(graph, [99])


def test_a_file_of_newer_software_is_refused_in_one_line(graph: Any, tmp_path: Path) -> None:
    file = tmp_path / "newer.db"
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    graph.start("offline_buffer", file=str(file))
    assert not graph.transition("offline_buffer", Transition.TRANSITION_CONFIGURE)
    assert "schema version 99, newer than this software" in (tmp_path / "offline_buffer.log").read_text()
