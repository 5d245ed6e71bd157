"""The whole machine for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from myrvm_sim.desk import Options
from whole_machine import Machine, whole_machine


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine that serves, for all tests of a file."""
    with whole_machine(Options()) as built:
        yield built
