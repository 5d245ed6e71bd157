"""Debian's `upsd` with a dummy supply, for tests of what stands behind Network UPS Tools."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

UPSD, DUMMY = Path("/lib/nut/upsd"), Path("/lib/nut/dummy-ups")  # Debian's package nut-server


class Supply:
    """A supply of a running server; its driver reads the file again once a second."""

    def __init__(self, folder: Path, port: int) -> None:
        self.device = f"ups@127.0.0.1:{port}"
        self._folder = folder
        self.show("OL", 100)

    def show(self, status: str, charge_percent: int) -> None:
        """What the supply says from now on, such as `OB LB` (on battery, battery low)."""
        fresh = self._folder / "ups.fresh"
        fresh.write_text(f"ups.status: {status}\nbattery.charge: {charge_percent}\n")
        fresh.chmod(0o640)
        fresh.replace(self._folder / "ups.dev")

    def log(self) -> str:
        """What the server and its driver printed."""
        return (self._folder / "log").read_text(errors="replace")


@pytest.fixture
def nut_supply(tmp_path: Path) -> Iterator[Supply]:
    """A server with a supply on mains, its battery full."""
    if not (UPSD.is_file() and DUMMY.is_file()):
        pytest.skip("needs upsd and dummy-ups: apt-get install nut-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path / "nut"
    folder.mkdir()
    (folder / "ups.conf").write_text(
        f"[ups]\n  driver = dummy-ups\n  port = {folder / 'ups.dev'}\n  mode = dummy-loop\n  pollinterval = 1\n"
    )
    (folder / "upsd.conf").write_text(f"LISTEN 127.0.0.1 {port}\n")
    (folder / "upsd.users").write_text("")
    supply = Supply(folder, port)
    for file in folder.iterdir():
        file.chmod(0o640)
    folders = dict.fromkeys(("NUT_CONFPATH", "NUT_STATEPATH", "NUT_ALTPIDPATH"), str(folder))
    environment = {**os.environ, **folders}
    user = ["-u", "root"] if os.geteuid() == 0 else []
    with (folder / "log").open("wb") as output:
        processes = [
            subprocess.Popen(command, env=environment, stdout=output, stderr=output)
            for command in ([str(DUMMY), "-F", "-a", "ups", *user], [str(UPSD), "-F", *user])
        ]
    try:
        yield supply
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)
