"""Fixtures of the conformance tests: the chip that MYRVM_CONFORMANCE_CHIP names, and the record of what was seen."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gpiod
import pytest
from chips import CHIPS, CONFIGFS, TestChip

KIND = os.environ.get("MYRVM_CONFORMANCE_CHIP", "preload")
RESULTS = os.environ.get("MYRVM_CONFORMANCE_RESULTS")


@pytest.fixture(scope="session")
def only_chip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestChip]:
    """One chip for all tests."""
    if KIND == "preload" and "libmyrvm_gpio" not in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("libmyrvm_gpio.so is not preloaded")
    if KIND == "gpio-sim" and not CONFIGFS.is_dir():
        pytest.skip(f"{CONFIGFS} is not there: modprobe gpio-sim, mount configfs")
    chip = CHIPS[KIND](tmp_path_factory.mktemp("chip"))
    try:
        assert gpiod.is_gpiochip_device(chip.path)
        yield chip
    finally:
        chip.close()


@pytest.fixture
def chip(only_chip: TestChip) -> Iterator[TestChip]:
    """A chip as it is after it has been plugged in."""
    yield only_chip
    only_chip.unplug()
    only_chip.plug()


@pytest.fixture
def record(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Write what the test has seen into MYRVM_CONFORMANCE_RESULTS: no times, no numbers of chips."""

    def write(**seen: Any) -> None:
        line = json.dumps({"test": request.node.nodeid.rpartition("/")[2], **seen}, default=str)
        if RESULTS:
            with Path(RESULTS).open("a", encoding="utf-8") as file:
                print(re.sub(r"gpiochip\d+", "gpiochipN", line), file=file)

    return write
