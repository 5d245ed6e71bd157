"""Looks at processes of this machine: has one ended, does it run; and ends exactly the one that was meant.

A pidfd names one process for ever, so a number that the kernel gave to another process is never killed by mistake.
"""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from myrvm_system.manager import Sample


def look(pid: int) -> Sample | None:
    """State and run time of the main thread; None where there is no such process (or only its zombie)."""
    folder = Path("/proc") / str(pid)
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if fields[0] in "ZX":
        return None
    try:
        run_ns = int((folder / "schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):  # a kernel without schedstat: the process's ticks must do
        run_ns = (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return Sample(fields[0], run_ns)


class Processes:
    """The processes that are watched, by node."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[int, int]] = {}  # node: pid, pidfd
        self._poll = select.poll()

    def watch(self, node: str, pid: int) -> None:
        """Watch `pid` as the process of `node`; a process that cannot be seen from here is not watched."""
        if self._files.get(node, (0, -1))[0] == pid:
            return
        self.forget(node)
        try:
            file = os.pidfd_open(pid)
        except OSError:
            return
        self._files[node] = (pid, file)
        self._poll.register(file, select.POLLIN)

    def forget(self, node: str) -> None:
        """Stop watching the process of `node`."""
        _, file = self._files.pop(node, (0, -1))
        if file >= 0:
            self._poll.unregister(file)
            os.close(file)

    def ended(self) -> list[tuple[str, int]]:
        """Nodes whose process has ended since, with its pid; these are forgotten."""
        done = {file for file, _ in self._poll.poll(0)}
        gone = [(node, pid) for node, (pid, file) in self._files.items() if file in done]
        for node, _ in gone:
            self.forget(node)
        return gone

    def kill(self, node: str, pid: int) -> bool:
        """SIGKILL the watched process of `node`; False where it is not watched or not ours to kill."""
        watched, file = self._files.get(node, (0, -1))
        if watched != pid:
            return False
        try:
            signal.pidfd_send_signal(file, signal.SIGKILL)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Forget all."""
        for node in list(self._files):
            self.forget(node)
