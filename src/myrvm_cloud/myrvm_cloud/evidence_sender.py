"""Which picture of a refused or disputed item the server is still to get: the oldest. No network here.

They are those that the deposit node keeps (`myrvm_core.evidence`), decrypted where they are encrypted: on the way TLS
guards them. What was sent is remembered by name; a name that is lost in a crash is sent again, and kept once.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from myrvm_core.errors import StorageError
from myrvm_core.evidence import Evidence

from myrvm_cloud.contract import PictureKind
from myrvm_core import durable

FILE = "evidence_sent.json"  # in the data folder
DISPUTED_AFTER_S = 600.0  # a deposit whose picture is still there was not settled by itself


@dataclass(frozen=True)
class Picture:
    """One that is to be sent."""

    name: str
    kind: PictureKind
    jpeg: bytes


class EvidenceSender:
    """One thread uses it at a time. The key does not show.

    Args:
        data: the data folder.
        key: of encrypted pictures, None: there is none.
        log: of the node.
    """

    def __init__(self, data: Path, key: bytes | None, log: Any) -> None:
        self._file, self._log = data / FILE, log
        self._folders = {
            PictureKind.REFUSED: Evidence(data / "refused", 0, key),
            PictureKind.DISPUTED: Evidence(data / "unresolved", 0, key),
        }
        self._sent = self._read()
        self._unreadable: set[str] = set()

    def next(self) -> Picture | None:
        """The oldest that was not sent; None: there is none.

        Raises:
            StorageError: the folders cannot be read.
        """
        there: list[tuple[float, str, PictureKind]] = []
        try:
            for kind, evidence in self._folders.items():
                there += [(at_s, name, kind) for name, at_s in evidence.kept()]
        except OSError as error:
            raise StorageError(f"evidence cannot be read: {error}") from error
        names = {name for _, name, _ in there}
        self._sent &= names
        self._unreadable &= names
        old_s = time.time() - DISPUTED_AFTER_S
        for at_s, name, kind in sorted(there):
            if name in self._sent or name in self._unreadable or (kind is PictureKind.DISPUTED and at_s > old_s):
                continue
            if (picture := self._find(name, kind)) is not None:
                return picture
        return None

    def sent(self, picture: Picture) -> None:
        """The server has it, or will never take it.

        Raises:
            StorageError: the disk does not take it; it is not sent again until the next start.
        """
        self._sent.add(picture.name)
        try:
            durable.replace(self._file, json.dumps(sorted(self._sent)).encode())
        except OSError as error:
            raise StorageError(f"{self._file} cannot be written: {error}") from error

    def _find(self, name: str, kind: PictureKind) -> Picture | None:
        try:
            jpeg = self._folders[kind].find(name)
        except StorageError as error:
            self._unreadable.add(name)
            self._log.error("picture not sent", error=str(error))
            return None
        return None if jpeg is None else Picture(name, kind, jpeg)

    def _read(self) -> set[str]:
        try:
            names = json.loads(self._file.read_bytes())
            return {name for name in names if isinstance(name, str)}
        except FileNotFoundError:
            return set()
        except (OSError, ValueError, TypeError) as error:
            self._log.warning("what was sent is not known", file=str(self._file), error=str(error))
            return set()
