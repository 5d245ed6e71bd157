"""The open session on disk, so that a customer's visit survives a restart of the node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from myrvm_core.deposit import DepositMachine
from myrvm_core.deposit_record import Session
from myrvm_core.errors import StorageError
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from myrvm_core import durable


@dataclass(frozen=True)
class OpenSession:
    """The session and what it has brought so far.

    `seen_at_ns` is the ROS time of the last change, `counted` the last deposit that is in `items` and `points`.
    """

    session: Session
    items: int
    points: int
    seen_at_ns: int
    counted: str = ""


_ADAPTER = TypeAdapter(OpenSession)


def open_session(machine: DepositMachine, now_ns: int) -> OpenSession | None:
    """What is to be on disk: a session that only waits for its last item has ended, and does not come back."""
    if machine.session is None or machine.ending_session:
        return None
    return OpenSession(machine.session, machine.session_items, machine.session_points, now_ns, machine.last_counted)


class SessionFile:
    """One small file, replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: OpenSession | None = None
        self._known = False  # what is on disk

    def keep(self, opened: OpenSession | None) -> None:
        """`write`, unless nothing but the time has changed since the last call."""
        kept = self._kept
        if kept is not None and opened is not None:
            kept = replace(kept, seen_at_ns=opened.seen_at_ns)
        if opened != kept or not self._known:
            self._known = False
            self.write(opened)
            self._kept, self._known = opened, True

    def write(self, opened: OpenSession | None) -> None:
        """Replace the file, or remove it where no session is open: a session that has ended never comes back.

        Raises:
            StorageError: the disk does not take it.
        """
        try:
            if opened is not None:
                durable.replace(self._path, _ADAPTER.dump_json(opened))
            elif self._path.exists():
                durable.remove(self._path)
        except OSError as error:
            raise StorageError(f"session file {self._path} cannot be written: {error}") from error

    def read(self, now_ns: int, longest_s: float) -> OpenSession | None:
        """The session that was open, unless it was left more than `longest_s` ago or the file is unreadable."""
        try:
            opened = _ADAPTER.validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return None
        return opened if 0 <= now_ns - opened.seen_at_ns <= longest_s * 1e9 else None
