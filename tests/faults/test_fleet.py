"""The fleet's short form: machines lose their server at one moment, and nothing of their customers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "soak"))
import fleet  # pyright: ignore[reportMissingImports]


async def test_twenty_machines_survive_their_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "START_WITHIN_S", 2.0)
    monkeypatch.setattr(fleet, "AWAY_S", 2.0)
    monkeypatch.setattr(fleet, "ITEM_EVERY_S", 1.0)
    monkeypatch.setattr(fleet, "ITEM_TO_ITEM_S", 0.5)
    found = await fleet.play(20, 0.3, tmp_path)
    assert found.problems == []
