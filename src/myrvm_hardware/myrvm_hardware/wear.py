"""What a gate has done since it was built in, kept on disk: cycles, jams, run time of its motor.

Written now and then and at the end: a cut costs a minute of counting, not the count.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from myrvm_core import durable
from myrvm_hardware.gate import Snapshot

FILE = "gate_wear.json"


@dataclass(frozen=True)
class Wear:
    """Of one gate."""

    cycles: int = 0
    jams: int = 0
    motor_run_time_s: float = 0.0


class WearBook:
    """The counts of all gates.

    Args:
        file: where they are kept.
        log: a file that cannot be read or written is reported, and no reason to stand still.
    """

    def __init__(self, file: Path, log: Any) -> None:
        self._file, self._log = file, log
        self._lock = threading.Lock()  # the last write may meet one on the worker
        self._before = self._read()
        self._now: dict[str, Wear] = {}
        self._written: dict[str, Wear] = dict(self._before)

    def count(self, snapshot: Snapshot) -> Wear:
        """Take the counts of a gate since this object was made; its whole life's."""
        before = self._before.get(snapshot.gate, Wear())
        wear = Wear(
            before.cycles + snapshot.cycles,
            before.jams + snapshot.jams,
            round(before.motor_run_time_s + snapshot.motor_run_time_s, 3),
        )
        self._now[snapshot.gate] = wear
        return wear

    def write(self) -> None:
        """Put the counts on disk, if they have changed."""
        with self._lock:
            counts = {**self._before, **self._now}
            if counts == self._written:
                return
            text = json.dumps({gate: asdict(wear) for gate, wear in counts.items()}, indent=1)
            try:
                durable.replace(self._file, text.encode())
            except OSError as error:
                self._log.warning("wear of the gate cannot be written", file=str(self._file), error=str(error))
                return
            self._written = counts

    def _read(self) -> dict[str, Wear]:
        try:
            counts: Mapping[str, Mapping[str, Any]] = json.loads(self._file.read_bytes())
            return {gate: _wear(values) for gate, values in counts.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            self._log.warning("wear of the gate is counted anew", file=str(self._file), error=str(error))
            return {}


def _wear(values: Mapping[str, Any]) -> Wear:
    wear = Wear(int(values["cycles"]), int(values["jams"]), float(values["motor_run_time_s"]))
    if not (wear.cycles >= 0 and wear.jams >= 0 and 0.0 <= wear.motor_run_time_s < float("inf")):
        raise ValueError(f"{values} is no count")
    return wear
