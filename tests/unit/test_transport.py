"""Which nodes use shared memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from myrvm_core.graph import load

from myrvm_system import transport


@pytest.mark.parametrize("given", ["fastdds.xml", "fastdds_pictures.xml"])
@pytest.mark.parametrize(("pictures", "chosen"), [(True, "fastdds_pictures.xml"), (False, "fastdds.xml")])
def test_each_node_gets_the_profile_that_it_needs(given: str, pictures: bool, chosen: str) -> None:
    config = Path(os.environ["MYRVM_HOME"]) / "config"
    assert transport.environment(pictures, {transport.VARIABLE: str(config / given)}) == {
        transport.VARIABLE: str(config / chosen)
    }
    assert ("<type>SHM</type>" in (config / chosen).read_text()) is pictures


def test_a_profile_of_the_operators_own_holds_for_all(tmp_path: Path) -> None:
    own = tmp_path / "own.xml"
    own.touch()
    assert transport.environment(True, {transport.VARIABLE: str(own)}) == {}
    assert transport.environment(True, {}) == {}


def test_only_who_exchanges_raw_pictures_has_shared_memory() -> None:
    assert [node.name for node in load().nodes if node.pictures] == ["camera", "detector"]
