"""What the demo asks of the reference server: be down, be back, show the ledger."""

from __future__ import annotations

import json
import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from myrvm_core.errors import ServerError

from myrvm_sim.child import child
from myrvm_sim.demo_report import Credit

TIMEOUT_S = 5.0
TOKENS = {"alice": "token-alice", "budi": "token-budi"}


class ServerClient:
    """A reference server that runs at `url`. Every call raises ServerError when it does not answer."""

    def __init__(self, url: str, api_key: str) -> None:
        self.url, self.api_key = url, api_key

    def set_down(self, down: bool) -> None:
        """Cut every connection without an answer, or serve again, the first answer about deposits lost on the way."""
        faults = {"down": True} if down else {"endpoint": "deposits", "cut_after_commit": 1}
        self._ask("/faults", faults)

    def ledger(self) -> list[Credit]:
        """Every credit, oldest first."""
        rows = self._ask("/api/v1/ledger")["credits"]
        return [Credit(row["idempotency_key"], row["account_id"], row["points"]) for row in rows]

    def balance(self, account: str) -> int:
        """Points that an account has."""
        return self._ask("/api/v1/ledger")["balances"].get(account, 0)

    def command(self, envelope: str) -> None:
        """Have a signed command sent to the machine."""
        self._ask("/commands", {"envelope": envelope})

    def outcomes(self) -> dict[str, tuple[str, str]]:
        """How commands ended, by the SHA-256 of their envelopes: status and reason."""
        return {row["digest"]: (row["status"], row["reason"]) for row in self._ask("/reported")["outcomes"]}

    def redeem(self, link: str, token: str) -> str:
        """Redeem a voucher as a customer's app does; what became of it."""
        body = {"document": link.partition("#")[2], "token": token}
        request = urllib.request.Request(f"{self.url}/api/v1/app/redeem", json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)["outcome"]
        except urllib.error.HTTPError as error:
            return f"refused with {error.code}"
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise ServerError(f"reference server {self.url}: {error}") from error

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(self.url + path, None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise ServerError(f"reference server {self.url}{path}: {error}") from error


@contextmanager
def running(database: Path) -> Iterator[ServerClient]:
    """A reference server process on a free port, with a fresh key. Raises RvmError when it does not start."""
    key = secrets.token_hex(16)
    environment = {**os.environ, "RVM_API_KEY": key}
    with child("myrvm_sim.reference_server", "--database", str(database), environment=environment) as url:
        yield ServerClient(url, key)
