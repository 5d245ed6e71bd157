"""A machine and a server in network namespaces of their own, joined by a cable, and what happens to networks.

`unshare --net --mount python SCRIPT` is the machine; it starts itself with `server` in a second namespace (`play`).
Names are resolved by an /etc/hosts of its own. Needs root.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import structlog

HOST = "server.test"
MACHINE_4, MOVED_4, SERVER_4 = "10.9.0.1", "10.9.0.77", "10.9.0.2"
MACHINE_6, SERVER_6, NOBODY_6 = "fd00:9::1", "fd00:9::2", "fd00:9::dead"
LIMIT_S = 40.0

Change = Callable[[], Awaitable[None]]


def sh(*command: str) -> None:
    subprocess.run(command, check=True, timeout=20)


def cable(server: int) -> None:
    """Lay a cable to the namespace of the process `server`."""
    there = ("nsenter", "--net", f"--target={server}")
    sh("ip", "link", "set", "lo", "up")
    sh("ip", "link", "add", "machine", "type", "veth", "peer", "name", "server")
    sh("ip", "link", "set", "server", "netns", str(server))
    sh(*there, "ip", "addr", "add", f"{SERVER_4}/24", "dev", "server")
    sh(*there, "ip", "addr", "add", f"{SERVER_6}/64", "dev", "server", "nodad")
    sh(*there, "ip", "link", "set", "server", "up")
    plug_in()


def plug_in(address: str = MACHINE_4) -> None:
    sh("ip", "addr", "flush", "dev", "machine")
    sh("ip", "link", "set", "machine", "up")
    sh("ip", "addr", "add", f"{address}/24", "dev", "machine")
    sh("ip", "addr", "add", f"{MACHINE_6}/64", "dev", "machine", "nodad")


class Names:
    """The machine's /etc/hosts."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def know(self, *addresses: str) -> None:
        """The server has these addresses from now on."""
        self._file.write_text("".join(f"{address} {HOST}\n" for address in addresses))


def changes(
    names: Names, end_lines: Change, lost: Change, quiet: Change | None = None
) -> dict[str, tuple[Change, str]]:
    """What happens to the network, in this order, and the machine's address after it.

    Args:
        names: of the machine.
        end_lines: the server ends all connections.
        lost: wait until the machine has noticed that its line is gone.
        quiet: wait and see that it holds; None: a name that goes while connected is left out.
    """

    async def first() -> None:
        names.know(SERVER_4)

    async def down_and_up() -> None:
        sh("ip", "link", "set", "machine", "down")
        await lost()
        plug_in()

    async def moved() -> None:
        plug_in(MOVED_4)

    async def nobody_knows() -> None:
        names.know()
        if quiet is not None:
            await quiet()

    async def gone() -> None:
        names.know()
        await end_lines()
        await lost()
        names.know(SERVER_4)

    async def six_only() -> None:
        names.know(SERVER_6)
        sh("ip", "-4", "addr", "flush", "dev", "machine")

    async def dead_six() -> None:
        plug_in()
        names.know(NOBODY_6, SERVER_4)
        await end_lines()

    made: dict[str, tuple[Change, str]] = {
        "first": (first, MACHINE_4),
        "interface down and up": (down_and_up, MACHINE_4),
        "new address": (moved, MOVED_4),
    }
    if quiet is not None:
        made["name gone while connected"] = (nobody_knows, MOVED_4)
    return made | {
        "name gone, then known again": (gone, MOVED_4),
        "IPv6 only": (six_only, MACHINE_6),
        "a dead IPv6 address beside IPv4": (dead_six, MACHINE_4),
    }


def play(
    script: str,
    serve: Callable[[Path], Coroutine[Any, Any, None]],
    machine: Callable[[Path, Names], Coroutine[Any, Any, None]],
    prepare: Callable[[Path], object] = lambda _: None,
) -> None:
    """Be the machine of `script`, or with `server FOLDER` as arguments its server, which prints `ready`.

    `prepare(folder)` is called before the server starts; both sides have the folder.
    """
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    if sys.argv[1:2] == ["server"]:
        asyncio.run(serve(Path(sys.argv[2])))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hosts, resolver = folder / "hosts", folder / "resolv.conf"
        hosts.touch()
        resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")  # where nobody answers
        sh("mount", "--make-rprivate", "/")
        sh("mount", "--bind", str(hosts), "/etc/hosts")
        sh("mount", "--bind", str(resolver), "/etc/resolv.conf")
        prepare(folder)
        command = ["unshare", "--net", sys.executable, script, "server", name]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            cable(server.pid)
            asyncio.run(machine(folder, Names(hosts)))
        finally:
            server.kill()
            server.wait()
