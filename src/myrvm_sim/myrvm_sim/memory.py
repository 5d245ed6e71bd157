"""Peak memory of a group of processes: the sum of their proportional set sizes, shared pages counted once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

PERIOD_S = 3.0


def pss_mb(pid: int) -> float:
    """Proportional set size of a process, MB; 0 where it is gone. Source: proc(5), smaps_rollup."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Pss:")), 0.0)


class PeakMemory:
    """Remembers the largest sum; `sample` looks at most each few seconds."""

    def __init__(self, pids: Callable[[], Iterable[int]]) -> None:
        self._pids = pids
        self._due_s = 0.0
        self.peak_mb = 0.0

    def sample(self) -> None:
        """Look, if it is time to."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s = now_s + PERIOD_S
            self.peak_mb = max(self.peak_mb, sum(pss_mb(pid) for pid in self._pids() if pid))
