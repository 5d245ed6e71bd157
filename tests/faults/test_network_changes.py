from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOST = Path(__file__).parent / "network_host.py"
LIMIT_S = 240


def unshared(*command: str) -> list[str]:
    return ["unshare", "--net", "--mount", *command]


def why_not() -> str:
    """What this machine lacks for namespaces; empty where it lacks nothing."""
    for program in ("unshare", "nsenter", "ip", "mount"):
        if shutil.which(program) is None:
            return f"no {program}"
    lay = "ip link add rvm-a type veth peer name rvm-b && mount --make-rprivate /"
    tried = subprocess.run(unshared("sh", "-c", lay), capture_output=True, text=True, timeout=30)
    return "" if tried.returncode == 0 else f"network namespaces are not permitted here: {tried.stderr.strip()[:200]}"


def test_the_event_line_comes_back_after_each_change_of_the_network() -> None:
    """Interface down, new address, a name that nobody knows, IPv6 only, a dead IPv6 address."""
    if reason := why_not():
        pytest.skip(reason)
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        unshared(sys.executable, str(HOST)), capture_output=True, text=True, timeout=LIMIT_S, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    changes = [json.loads(line) for line in done.stdout.splitlines()]
    assert [change["what"] for change in changes] == [
        "first",
        "interface down and up",
        "new address",
        "name gone while connected",
        "name gone, then known again",
        "IPv6 only",
        "a dead IPv6 address beside IPv4",
    ]
    assert changes[3]["connections"] == changes[2]["connections"]
