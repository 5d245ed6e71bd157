"""The machine's vouchers on disk: what each session has brought, the signed document, whether it is still to be shown.

One file a voucher, `<voucher_id>.json`, replaced as a whole. A deposit is written down before the customer is told of
it, so after a crash, when it is told again, it is written down again and is still there once. A document is on disk
before anybody sees it, and is never made twice. What has expired long ago goes, and the oldest of too many that have
been shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

from myrvm_core.deposit_record import Session
from myrvm_core.errors import StorageError
from myrvm_core.signing import SigningKey
from myrvm_core.voucher import Voucher, digest
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from myrvm_core import durable

KEPT_AFTER_EXPIRY_S = 30 * 86_400.0
KEPT = 2000  # vouchers that have been shown; about 2 kB each, in memory and on disk


@dataclass(frozen=True)
class Entry:
    """One voucher: the points of its deposits by their ids; `document` is empty until it is signed."""

    session: Session
    points: Mapping[str, int] = field(default_factory=dict)
    document: str = ""
    issued_at_s: int = 0
    expires_at_s: int = 0
    dismissed: bool = False


_ADAPTER = TypeAdapter(Entry)


class VoucherBook:
    """The vouchers of one machine. `load` comes first.

    Args:
        folder: of the files.
        machine: its HARDWARE_ID.
        lifetime_s: of a voucher.
    """

    def __init__(self, folder: Path, machine: str, lifetime_s: float) -> None:
        self._folder, self._machine, self._lifetime_s = folder, machine, lifetime_s
        self._entries: dict[str, Entry] = {}

    def load(self, epoch_s: float) -> list[str]:
        """Read what is on disk, and `prune`. Returns a line for each file that is damaged.

        Raises:
            StorageError: the disk does not let an old file go.
        """
        damaged: list[str] = []
        self._entries.clear()
        for file in sorted(self._folder.glob("*.json")):
            try:
                entry = _ADAPTER.validate_json(file.read_bytes())
            except (OSError, ValidationError) as error:
                damaged.append(f"voucher file {file} cannot be read: {str(error).splitlines()[0]}")
            else:
                self._entries[entry.session.session_id] = entry
        self.prune(epoch_s)
        return damaged

    def prune(self, epoch_s: float) -> None:
        """Delete what has expired long ago, and of more than `KEPT` that have been shown the oldest.

        Raises:
            StorageError: the disk does not let a file go; it is tried again.
        """
        over = [name for name, entry in self._entries.items() if entry.dismissed][:-KEPT]
        for name, entry in self._entries.items():
            if entry.document and entry.expires_at_s + KEPT_AFTER_EXPIRY_S < epoch_s:
                over.append(name)
        for name in dict.fromkeys(over):
            file = self._file(name)
            try:
                durable.remove(file)
            except OSError as error:
                raise StorageError(f"voucher file {file} cannot be removed: {error}") from error
            del self._entries[name]

    def count(self, session: Session, deposit_id: str, points: int) -> bool:
        """Write down that a deposit is in the bin. False where the voucher is signed without it: that is a defect.

        Raises:
            StorageError: the disk does not take it; it counts as long as the process lives.
        """
        entry = self._entries.get(session.session_id) or Entry(session)
        if deposit_id in entry.points:
            return True
        if entry.document:
            return False
        self._entries[session.session_id] = entry = replace(entry, points={**entry.points, deposit_id: points})
        self._write(entry)
        return True

    @property
    def unsigned(self) -> list[str]:
        """Vouchers that have deposits and no document."""
        return [voucher_id for voucher_id, entry in self._entries.items() if not entry.document]

    def signed(self, voucher_id: str) -> bool:
        """Whether nothing can be added to it any more."""
        return voucher_id in self._entries and self._entries[voucher_id].document != ""

    def sign(self, voucher_id: str, key: SigningKey, epoch_s: float) -> None:
        """Make the document of a voucher that has none, and put it on disk.

        Raises:
            StorageError: the disk does not take it; nobody has seen it, so it may be made anew.
        """
        entry = self._entries[voucher_id]
        voucher = Voucher(
            voucher_id=voucher_id,
            machine=self._machine,
            items=len(entry.points),
            points=sum(entry.points.values()),
            deposits=digest(entry.points),
            issued_at=int(epoch_s),
            expires_at=int(epoch_s + self._lifetime_s),
        )
        signed = replace(
            entry, document=voucher.sign(key), issued_at_s=voucher.issued_at, expires_at_s=voucher.expires_at
        )
        self._write(signed)
        self._entries[voucher_id] = signed

    def newest(self) -> Entry | None:
        """The last signed one that was not dismissed."""
        waiting = [entry for entry in self._entries.values() if entry.document and not entry.dismissed]
        return max(waiting, key=lambda entry: entry.issued_at_s, default=None)

    def dismiss(self, voucher_id: str) -> None:
        """It is not shown any more.

        Raises:
            StorageError: the disk does not take it; it may be shown again after a restart.
        """
        self._entries[voucher_id] = entry = replace(self._entries[voucher_id], dismissed=True)
        self._write(entry)

    def _write(self, entry: Entry) -> None:
        file = self._file(entry.session.session_id)
        try:
            durable.replace(file, _ADAPTER.dump_json(entry), mode=0o600)
        except OSError as error:
            raise StorageError(f"voucher file {file} cannot be written: {error}") from error

    def _file(self, voucher_id: str) -> Path:
        return self._folder / f"{voucher_id}.json"
