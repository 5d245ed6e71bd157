"""Who may write the buffer's file: one process at a time, each decision of a technician with a line in an audit log.

The node holds the claim as long as it is configured. `rvm buffer` takes it where the node does not run, and asks the
node where it does. The kernel frees the claim of a process that has died.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from myrvm_core.clock import machine_clock
from myrvm_core.errors import StorageError
from myrvm_core.signing import SigningKey

from myrvm_cloud.audit_log import AuditLog
from myrvm_cloud.buffer import Decision, DepositBuffer
from myrvm_core import durable, paths

CLAIM_S = 5.0  # a command holds it for a moment
AUDIT_KIND = "deposits"
NAME_CHARACTERS = 100


class InUseError(StorageError):
    """Another process holds the buffer."""


@contextmanager
def claimed(file: Path, limit_s: float = CLAIM_S) -> Iterator[None]:
    """Hold the buffer's file.

    Raises:
        InUseError: another process has held it for `limit_s` seconds.
        StorageError: the folder cannot be written.
    """
    try:
        durable.make_folder(file.parent)
        lock = file.with_name(file.name + ".claim").open("a")
    except OSError as error:
        raise StorageError(f"{file} cannot be used: {error}") from error
    until_s = time.monotonic() + limit_s
    with lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until_s:
                    raise InUseError(f"{file} is in use by another process") from None
                time.sleep(0.02)
        yield


def machine_key() -> SigningKey:
    """The machine's own key, made where there is none; StorageError where it cannot be."""
    return SigningKey.load_or_make(paths.data() / "identity" / "machine.pem")


def audit_folder() -> Path:
    """Where decisions are written."""
    return paths.data() / "audit" / "buffer"


class Decisions:
    """Decides about deposits; whoever has the claim has one.

    Args:
        buffer: of which.
        open_audit: makes the log; called at the first decision.
    """

    def __init__(self, buffer: DepositBuffer, open_audit: Callable[[], AuditLog] | None = None) -> None:
        self._buffer = buffer
        self._open_audit = open_audit or _open_audit
        self._audit: AuditLog | None = None

    def decide(self, decision: Decision, deposit_ids: Sequence[str], who: str, reason: str, now_ns: int) -> list[str]:
        """Decide; returns the ids of those that were in a state for it.

        Raises:
            StorageError: nobody is named, or the buffer or the audit log cannot be written; nothing has changed.
        """
        if not 1 <= len(who) <= NAME_CHARACTERS:
            raise StorageError(f"a decision by {who[:NAME_CHARACTERS]!r}; allowed: a name of 1 to 100 characters")
        if self._audit is None:
            self._audit = self._open_audit()
        audit = self._audit

        def write(decided: list[str]) -> None:
            facts = {"decision": decision.name.lower(), "who": who, "reason": reason[:500], "count": len(decided)}
            which = {"first": decided[0], "last": decided[-1]} if decision is Decision.EXPORTED else {"ids": decided}
            audit.append(AUDIT_KIND, facts | which)

        return self._buffer.decide(decision, deposit_ids, f"{decision.name.lower()} by {who}: {reason}", now_ns, write)

    def close(self) -> None:
        """Sign the end of the audit log."""
        if self._audit is not None:
            self._audit.close()
            self._audit = None


def _open_audit() -> AuditLog:
    clock = machine_clock()
    return AuditLog(audit_folder(), machine_key(), lambda: (clock.now().time_ns / 1e9, clock.now().synchronised))
