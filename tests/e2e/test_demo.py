"""The demo as a newcomer runs it, with fewer items: its exit code, its report, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

DEMO = [sys.executable, "-m", "myrvm_sim.demo"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder of the test's own, so that what is left behind is seen; short, as sockets' names must be."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), "MYRVM_DATA": str(folder / "var")}


def children(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


@pytest.mark.timeout(600)
def test_twelve_items_and_the_accounts_agree(folder: Path, environment: dict[str, str]) -> None:
    file = folder / "report.json"
    command = [*DEMO, "--items", "12", "--report", str(file)]
    demo = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "screen, ledger and bin AGREE" in demo.stdout
    assert "\x1b" not in demo.stdout, "plain lines where no terminal is attached"
    report = json.loads(file.read_text())
    assert report["agrees"]
    assert len(report["items"]) == 12
    assert len({item["deposit_id"] for item in report["items"]}) == 12
    assert report["lost"] == report["doubled"] == report["troubles"] == []
    accepted = [item for item in report["items"] if item["outcome"] == "accepted"]
    assert sum(account["credited"] for account in report["accounts"].values()) == 10 * len(accepted) > 0
    assert {item["place"] for item in accepted} == {"bin"}
    assert [incident["incident"] for incident in report["incidents"]] == ["jam", "hand", "kill", "power cut"]
    assert all(incident["survived"] for incident in report["incidents"])
    assert any(item["recovered"] for item in report["items"]), "told after the restart"
    assert (report["tricks"], report["tricks_paid"]) == (1, 0)
    assert report["figures"]["server_down_s"] > 0
    assert not list(folder.glob("myrvm-demo-*")), "nothing is left behind"


@pytest.mark.parametrize(("arguments", "said"), [(["--items", "8"], "serves"), (["--stay"], "The machine is up")])
def test_ctrl_c_ends_everything(arguments: list[str], said: str, environment: dict[str, str]) -> None:
    demo = subprocess.Popen([*DEMO, *arguments], env=environment, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    try:
        line = demo.stdout.readline()
        assert said in line
        started = children(psutil.Process(demo.pid))
        assert len(started) >= 12, "demo, cabinet, server, nine processes of the graph"
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 130
        gone, alive = psutil.wait_procs(started, timeout=30)
        assert not alive
        assert len(gone) == len(started)
    finally:
        demo.kill()
