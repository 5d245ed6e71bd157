"""Kills under a lying network: the short form of `make chaos`, and the proof that a doubled deposit is seen."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "soak"

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler (cc) for the recorder")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FOLDER / "chaos.py"), *arguments], capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [("--kills", "20"), ("--kills", "20", "--profile", "myrvm-server"), ("--kills", "4", "--nodes")],
    ids=["keys", "no keys", "real nodes"],
)
def test_kills_under_a_lying_network_lose_nothing_and_double_nothing(arguments: tuple[str, ...]) -> None:
    campaign = run("--seed", "11", *arguments)
    assert campaign.returncode == 0, campaign.stdout + campaign.stderr
    assert re.search(r"profile \S+: (20|4) kills", campaign.stdout)
    assert "0 lost, 0 doubled, 0 problems" in campaign.stdout


@pytest.mark.parametrize(
    ("defect", "arguments"),
    [("doubled", ("--profile", "myrvm-server")), ("forgotten", ()), ("server forgotten", ())],
)
def test_a_defect_is_seen(defect: str, arguments: tuple[str, ...]) -> None:
    # Whether twelve kills hit the moment that shows it is chance, and timing: a few series, until one has.
    series = (run("--kills", "12", "--seed", str(seed), "--defect", defect, *arguments) for seed in range(8))
    campaign = next((campaign for campaign in series if campaign.returncode == 1), None)
    assert campaign is not None, "not seen in eight series"
    assert "problems" in campaign.stdout
    assert "0 lost, 0 doubled, 0 problems" not in campaign.stdout
