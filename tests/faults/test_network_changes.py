"""The network changes under the event line and under the deposits, in network namespaces of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HOST = Path(__file__).parent / "network_host.py"
DEPOSITS_HOST = HOST.with_name("network_deposits_host.py")
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


def played(host: Path) -> list[dict[str, Any]]:
    """What a host has told, a line each."""
    if reason := why_not():
        pytest.skip(reason)
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        unshared(sys.executable, str(host)), capture_output=True, text=True, timeout=LIMIT_S, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_event_line_comes_back_after_each_change_of_the_network() -> None:
    """Interface down, new address, a name that nobody knows, IPv6 only, a dead IPv6 address."""
    changes = played(HOST)
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


def test_deposits_go_on_after_each_change_of_the_network_and_the_books_agree() -> None:
    """The same, under REST over TLS while customers bring items all the time; the server says where they came from."""
    *changes, books = played(DEPOSITS_HOST)
    assert [(change["what"], change["peer"]) for change in changes] == [
        ("first", "10.9.0.1"),
        ("interface down and up", "10.9.0.1"),
        ("new address", "10.9.0.77"),
        ("name gone, then known again", "10.9.0.77"),
        ("IPv6 only", "fd00:9::1"),
        ("a dead IPv6 address beside IPv4", "10.9.0.1"),
    ]
    assert all(change["came"] > 0 for change in changes)
    assert (books["lost"], books["strange"]) == (0, 0)
    assert books["acked"] == books["brought"] == sum(change["came"] for change in changes)
    assert books["points"] == 5 * books["brought"], "none is doubled"
