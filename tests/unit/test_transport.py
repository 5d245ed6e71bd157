"""Which nodes use shared memory, and keep the memory that they have."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from myrvm_core.graph import load

from myrvm_system import transport


@pytest.mark.parametrize("given", ["fastdds.xml", "fastdds_pictures.xml"])
@pytest.mark.parametrize(("pictures", "chosen"), [(True, "fastdds_pictures.xml"), (False, "fastdds.xml")])
def test_each_node_gets_the_profile_that_it_needs(given: str, pictures: bool, chosen: str) -> None:
    config = Path(os.environ["MYRVM_HOME"]) / "config"
    found = transport.environment(pictures, {transport.VARIABLE: str(config / given)})
    assert found == {transport.VARIABLE: str(config / chosen)} | (transport.PICTURE_MEMORY if pictures else {})
    assert ("<type>SHM</type>" in (config / chosen).read_text()) is pictures


def test_a_profile_of_the_operators_own_holds_for_all(tmp_path: Path) -> None:
    own = tmp_path / "own.xml"
    own.touch()
    assert transport.environment(True, {transport.VARIABLE: str(own)}) == transport.PICTURE_MEMORY


def test_memory_of_the_operators_own_holds() -> None:
    own = dict.fromkeys(transport.PICTURE_MEMORY, "1")
    assert transport.environment(True, own) == {}
    assert transport.environment(True, {}) == transport.PICTURE_MEMORY
    assert transport.environment(False, {}) == {}


def test_a_process_that_copies_pictures_keeps_its_memory() -> None:
    code = (
        "import resource\n"
        "def copy(): a = [bytes(921_600) for _ in range(5)]\n"
        "[copy() for _ in range(20)]\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "[copy() for _ in range(100)]\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)"
    )
    environments = ({}, transport.environment(True, {}))
    plain, kept = (
        int(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout)
        for environment in environments
    )
    assert kept < plain / 10, (kept, plain)


def test_only_who_exchanges_raw_pictures_has_shared_memory() -> None:
    assert [node.name for node in load().nodes if node.pictures] == ["camera", "detector"]
