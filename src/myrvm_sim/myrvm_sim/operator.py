"""A stand-in for the operator's side: keys, and commands signed with them. For the desk, tests and the demo.

`python -m myrvm_sim.operator keys FOLDER` makes two keys and the machine's key ring; `python -m
myrvm_sim.operator sign FOLDER MACHINE KIND PARAMETERS` prints an envelope signed by both. A real operator keeps each
key with another person, off the server.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from myrvm_cloud.command import DOCUMENT_KIND, PURPOSE
from myrvm_core.signing import KeyRing, PublicKey, SigningKey

LIFE_S = 300.0
NAMES = ("operator-a", "operator-b")


class Operator:
    """Signs commands for machines. Its counter is the time in ms, so that it rises over restarts too."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self.keys = list(keys)
        self._counter = 0

    @staticmethod
    def in_folder(folder: Path) -> Operator:
        """With the keys of a folder, made where there are none."""
        return Operator([SigningKey.load_or_make(folder / f"{name}.pem", name) for name in NAMES])

    @property
    def ring(self) -> KeyRing:
        """What a machine trusts."""
        return ring(*self.keys)

    def claims(
        self, machine: str, kind: str, parameters: Mapping[str, Any] | None = None, now_s: float | None = None,
        **changes: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """What is to be signed; `changes` replace claims."""
        now_s = time.time() if now_s is None else now_s
        self._counter = max(self._counter + 1, int(now_s * 1000))
        return {
            "machine": machine, "counter": self._counter, "issued_at": round(now_s, 3),
            "expires_at": round(now_s + LIFE_S, 3), "command_id": str(uuid.uuid4()), "kind": kind,
            "parameters": dict(parameters or {}), **changes,
        }  # fmt: skip

    def sign(self, claims: Mapping[str, Any], keys: int = 1) -> str:
        """An envelope signed by the first so many keys."""
        return " ".join(key.sign(claims, DOCUMENT_KIND) for key in self.keys[:keys])

    def command(self, machine: str, kind: str, parameters: Mapping[str, Any] | None = None, keys: int = 1) -> str:
        """An envelope ready to be sent."""
        return self.sign(self.claims(machine, kind, parameters), keys)


def ring(*keys: SigningKey) -> KeyRing:
    """A ring that lets keys sign commands."""
    return KeyRing(
        keys=tuple(PublicKey(key_id=key.key_id, public=key.public, purposes=frozenset({PURPOSE})) for key in keys)
    )


def as_yaml(keys: KeyRing) -> str:
    """A ring as `config/keys.yaml` has it."""
    rows = [{"key_id": key.key_id, "public": key.public, "purposes": sorted(key.purposes)} for key in keys.keys]
    return yaml.safe_dump({"keys": rows}, sort_keys=False)


def main() -> None:
    """Entry point."""
    match sys.argv[1:]:
        case ["keys", folder]:
            print(as_yaml(Operator.in_folder(Path(folder)).ring), end="")
        case ["sign", folder, machine, kind, *rest] if len(rest) <= 1:
            parameters = json.loads(rest[0]) if rest else {}
            print(Operator.in_folder(Path(folder)).command(machine, kind, parameters, keys=len(NAMES)))
        case _:
            raise SystemExit("usage: operator keys FOLDER | operator sign FOLDER MACHINE KIND [PARAMETERS as JSON]")


if __name__ == "__main__":
    main()
