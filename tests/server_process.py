"""The reference server as a process of a test: started, broken, killed and started again on the same port and file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

API_KEY = "key-that-must-not-be-logged"
LIMIT_S = 60.0


class ServerProcess:
    """One reference server; `url` is known after the first `start`."""

    def __init__(self, folder: Path, profile: str = "myrvm") -> None:
        self.folder = folder
        self.profile = profile
        self.url = ""
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> str:
        """Start, or start again with the same port and accounts; returns the URL once it answers."""
        ready = self.folder / "server.url"
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "myrvm_sim.reference_server", "--port", str(self._port)]
        command += ["--profile", self.profile]
        command += ["--database", str(self.folder / "server.db"), "--ready-file", str(ready)]
        with (self.folder / "server.log").open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"RVM_API_KEY": API_KEY}
            )
        end = time.monotonic() + LIMIT_S
        while not ready.exists():
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < end, f"no server within {LIMIT_S} s"
            time.sleep(0.02)
        self.url = ready.read_text()
        self._port = int(self.url.rsplit(":", 1)[1])
        return self.url

    def stop(self) -> int:
        """End it with SIGTERM; returns its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(LIMIT_S)

    def faults(self, **faults: Any) -> None:
        """Switch faults on; all others off."""
        self._post("/faults", faults)

    def command(self, envelope: str) -> None:
        """Have a signed command sent to the machines."""
        self._post("/commands", {"envelope": envelope})

    def publish(self, channel: str, event: str, data: Any) -> None:
        """Send an event to those who listen to a channel."""
        self._post("/reverb/events", {"channel": channel, "event": event, "data": data})

    def outcomes(self) -> dict[str, str]:
        """How commands ended, by their id."""
        with urllib.request.urlopen(self.url + "/reported", timeout=LIMIT_S) as answer:
            return {row["command_id"]: row["status"] for row in json.load(answer)["outcomes"]}

    def ledger(self) -> dict[str, Any]:
        """Credits and balances."""
        with urllib.request.urlopen(self.url + "/api/v1/ledger", timeout=LIMIT_S) as answer:
            return json.load(answer)

    def credited(self) -> list[str]:
        """Ids of credited deposits, in order; one that was credited twice, twice."""
        if self.profile == "myrvm":
            return [row["idempotency_key"] for row in self.ledger()["credits"]]
        return [row["session_id"] for row in self.ledger()["transactions"]]

    def _post(self, path: str, body: dict[str, Any]) -> None:
        request = urllib.request.Request(self.url + path, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=LIMIT_S) as answer:
            answer.read()

    def close(self) -> None:
        """End it, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
