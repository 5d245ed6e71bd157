"""Each node through its whole life fifty times in a row: nothing is left behind, no thread, no file, no memory."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from myrvm_sim.cabinet_client import CabinetClient

from myrvm_core import graph as graph_file

LIFE = (
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_CLEANUP,
)
WARM_UP, LIVES = 10, 50
GROWTH_KB = 4_000  # what the allocator may keep over 40 lives; a leaked picture or thread a life is far more
HARDWARE = ("camera", "sensor", "actuator")


def nodes() -> list[str]:
    """The nodes of `config/graph.yaml` that exist."""
    return [
        node.name
        for node in graph_file.load().nodes
        if importlib.util.find_spec(f"{node.package}.{node.executable}_node")
    ]


class Holding:
    """What a process holds."""

    def __init__(self, pid: int) -> None:
        self._process = Path(f"/proc/{pid}")

    def threads(self) -> list[str]:
        return sorted(self._read(task / "comm") for task in (self._process / "task").iterdir())

    def files(self) -> list[str]:
        return sorted(self._target(file) for file in (self._process / "fd").iterdir())

    def memory_kb(self) -> int:
        status = (self._process / "status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    @staticmethod
    def _read(file: Path) -> str:
        try:
            return file.read_text().strip()
        except OSError:  # ended between listing and reading
            return ""

    @staticmethod
    def _target(file: Path) -> str:
        try:
            return str(file.readlink())
        except OSError:
            return ""


@pytest.mark.parametrize("name", nodes())
def test_fifty_lives(graph: Any, cabinet: CabinetClient, name: str) -> None:
    process = graph.start(name, "desk" if name in HARDWARE else "")
    holding = Holding(process.pid)

    def live() -> None:
        for transition in LIFE:
            assert graph.transition(name, transition), f"{transition}: {graph.log(name)}"

    for _ in range(WARM_UP):
        live()
    threads, files, memory_kb = holding.threads(), holding.files(), holding.memory_kb()
    for _ in range(LIVES - WARM_UP):
        live()
    graph.wait(lambda: len(holding.threads()) <= len(threads), f"end of threads: {threads} -> {holding.threads()}")
    graph.wait(lambda: len(holding.files()) <= len(files), f"closed files: {files} -> {holding.files()}")
    print(f"{name}: {len(threads)} threads, {len(files)} files, {holding.memory_kb() - memory_kb:+d} kB")
    assert holding.memory_kb() - memory_kb < GROWTH_KB
