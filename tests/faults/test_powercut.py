"""Power cuts inside deposits: the short form of `make powercut`, and the proof that a sync left out is seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "powercut"

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler (cc) for the recorder")


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER / program), *arguments], capture_output=True, text=True, timeout=280, check=False
    )


def test_two_hundred_cuts_lose_nothing_and_double_nothing() -> None:
    campaign = run("campaign.py", "--cuts", "200", "--seed", "7")
    assert campaign.returncode == 0, campaign.stdout + campaign.stderr
    assert "200 cuts at" in campaign.stdout


def test_two_cuts_of_real_processes_lose_nothing_and_double_nothing() -> None:
    campaign = run("real.py", "--cuts", "2", "--points", "gate moves,told")
    assert campaign.returncode == 0, campaign.stdout + campaign.stderr
    assert "2 cuts of real processes at 2 points" in campaign.stdout


@pytest.mark.parametrize(
    "left_out",
    [
        ("--synchronous", "OFF"),
        ("--synchronous", "NORMAL"),
        ("--leave-out", "log"),
        ("--leave-out", "session file"),
        ("--leave-out", "data folder"),
        ("--leave-out", "buffer folder"),
        ("--leave-out", "picture"),
        ("--leave-out", "picture folder"),
        ("--seed", "9", "--leave-out", "voucher"),
        ("--seed", "9", "--leave-out", "voucher folder"),
    ],
)
def test_a_sync_that_is_left_out_is_seen(left_out: tuple[str, ...]) -> None:
    campaign = run("campaign.py", "--cuts", "60", *left_out)
    assert campaign.returncode == 1, campaign.stdout + campaign.stderr
    assert " audits do not agree" in campaign.stdout


# The recorder and the disk

SCRIPT = """
import os, shutil, sys
os.chdir(sys.argv[1])
def synced(name, mode="w"):
    with open(name, mode) as file:
        file.write("safe")
        file.flush()
        os.fsync(file.fileno())
synced("safe")
folder = os.open(".", os.O_RDONLY)
os.fsync(folder)
synced("nameless")
with open("safe", "a") as file:
    file.write(" and lost")
os.rename("nameless", "renamed")
shutil.copyfile("safe", "copied")
os.mkdir("new")
os.unlink("safe")
with open("with-o-sync", "wb", buffering=0, opener=lambda name, flags: os.open(name, flags | os.O_DSYNC)) as file:
    file.write(b"safe")
"""


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """A disk that has followed SCRIPT, run in a process of its own."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import disk  # pyright: ignore[reportMissingImports]

    root, log = tmp_path / "root", tmp_path / "log"
    root.mkdir()
    followed = disk.Disk(root)
    subprocess.run([sys.executable, "-c", SCRIPT, root], check=True, env=os.environ | disk.preload(root, log))
    for record in disk.read_log(log):
        followed.follow(record)
    return followed


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() if path.is_file() else "folder" for path in folder.iterdir()}


def test_what_was_synced_is_there_and_nothing_else(recorded: object, tmp_path: Path) -> None:
    import random

    recorded.after_cut(tmp_path / "cut", 0.0, random.Random(1))  # type: ignore[attr-defined]
    assert content(tmp_path / "cut") == {"safe": "safe"}
    recorded.after_cut(tmp_path / "killed", 1.0, random.Random(1))  # type: ignore[attr-defined]
    assert content(tmp_path / "killed") == content(tmp_path / "root") == {
        "renamed": "safe", "copied": "safe and lost", "new": "folder", "with-o-sync": "safe",
    }  # fmt: skip


# The audit

ID = "0199d0c4-5d2e-7a31-9c55-0a4b7f1d2e3f"


def write(folder: Path, credits: int, outcome: int, place: str, state: str) -> list[str]:
    import sqlite3

    (folder / "ledger.json").write_text(json.dumps({"credits": [{"idempotency_key": ID, "points": 10}] * credits}))
    (folder / "screen").write_text(json.dumps({"deposit_id": ID, "outcome": outcome, "points": 10}) + "\n")
    (folder / "gate").write_text(json.dumps({"deposit_id": ID, "place": place}) + "\n")
    connection = sqlite3.connect(folder / "db")
    connection.execute("CREATE TABLE deposits (deposit_id, state, points, shown)")
    connection.execute("INSERT INTO deposits VALUES (?, ?, 10, 1)", (ID, state))
    connection.commit()
    connection.close()
    names = {"ledger": "ledger.json", "buffer": "db", "screen": "screen", "gate": "gate"}
    return [part for name, file in names.items() for part in (f"--{name}", str(folder / file))]


@pytest.mark.parametrize(
    ("credits", "outcome", "place", "state", "problem"),
    [
        (1, 1, "bin", "acked", ""),
        (0, 2, "customer", "void", ""),
        (0, 3, "bin", "dead", ""),
        (0, 1, "bin", "pending", "accepted on the screen, credited 0 times"),
        (2, 1, "bin", "acked", "credited 2 times"),
        (1, 2, "customer", "acked", "shown as returned and credited"),
        (1, 1, "customer", "acked", "credited, but the item is at the customer"),
        (0, 3, "bin", "void", "shown as unresolved, but the buffer has void"),
        (0, 2, "bin", "void", "neither credited nor reported"),
    ],
)
def test_the_audit_compares_four_witnesses(
    tmp_path: Path, credits: int, outcome: int, place: str, state: str, problem: str
) -> None:
    audit = run("audit.py", *write(tmp_path, credits, outcome, place, state))
    assert audit.returncode == bool(problem), audit.stdout + audit.stderr
    assert problem in audit.stdout
