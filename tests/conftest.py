"""Fixtures for all tests: a ROS domain of the test's own, also when two clones are tested at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from myrvm_core.domain_id import claim_domain
from node_graph import cabinet, graph  # noqa: F401  # fixtures for every folder
from nut_server import nut_supply  # noqa: F401
from server_process import ServerProcess

from myrvm_system import transport

# The verdict of a run depends neither on the machine's speed nor on chance; `pytest --hypothesis-profile=explore`
# looks for new examples.
STEADY = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
hypothesis_settings.register_profile("steady", derandomize=True, **STEADY)  # pyright: ignore[reportArgumentType]
hypothesis_settings.register_profile("explore", **STEADY)  # pyright: ignore[reportArgumentType]
hypothesis_settings.load_profile("steady")

GPIO_LIBRARY = Path(sys.prefix) / "lib" / "libmyrvm_gpio.so"


def pytest_configure(config: pytest.Config) -> None:
    """Begin anew with the simulated GPIO chip's library, which has to be loaded before everything else.

    The tests look at pictures, so their process and the single nodes that they start have the profile for that.
    """
    os.environ.update(transport.environment(True, os.environ))
    if GPIO_LIBRARY.is_file() and str(GPIO_LIBRARY) not in os.environ.get("LD_PRELOAD", ""):
        os.environ["LD_PRELOAD"] = f"{GPIO_LIBRARY} {os.environ.get('LD_PRELOAD', '')}".strip()
        capture: Any = config.pluginmanager.getplugin("capturemanager")
        if capture:
            capture.stop_global_capturing()
        os.execv(sys.executable, sys.orig_argv)


@pytest.fixture
def ros_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A free ROS domain, and data and environment files in the test's own folder."""
    with claim_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        monkeypatch.setenv("MYRVM_DATA", str(tmp_path / "var"))
        monkeypatch.setenv("MYRVM_ENV_FILE", os.devnull)
        yield domain


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A running reference server."""
    process = ServerProcess(tmp_path)
    try:
        process.start()
        yield process
    finally:
        process.close()
