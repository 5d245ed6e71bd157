"""The desk's launch file as a `launch_pytest` fixture; skipped where that is not installed.

The `launch_pytest` of Jazzy works with pytest up to 8.3, as it comes with Ubuntu, not with the newer one of the desk.
"""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("launch_pytest", reason="launch_pytest has no wheel; it is there in a real ROS 2")
pytest.importorskip("launch_ros.actions", reason="launch_ros has no wheel; it is there in a real ROS 2")

import launch_pytest
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_pytest.actions import ReadyToTest
from myrvm_interfaces.msg import SystemStatus

import launch
from myrvm_core import graph as graph_file
from myrvm_core import paths
from myrvm_ros import qos


@launch_pytest.fixture
def machine(ros_domain: int) -> Iterator[launch.LaunchDescription]:
    """The machine of sim.launch.py in the test's own domain."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="myrvm-") as folder:
        source = PythonLaunchDescriptionSource(str(paths.home() / "launch" / "sim.launch.py"))
        arguments = {"socket": str(Path(folder) / "cabinet"), "port": str(port), "output": "log"}
        yield launch.LaunchDescription(
            [IncludeLaunchDescription(source, launch_arguments=arguments.items()), ReadyToTest()]
        )


@pytest.mark.launch(fixture=machine)
def test_sim_launch_serves_and_leaves_no_process(machine: Any, graph: Any) -> Iterator[None]:
    heard = graph.listen(SystemStatus, "system/status", qos.STATE)
    settled = (SystemStatus.SERVING, SystemStatus.DEGRADED)
    graph.wait(
        lambda: heard and heard[-1].mode in settled and heard[-1].start_time_s > 0, "a machine that serves", 60.0
    )
    pids = {node.pid for node in heard[-1].nodes}
    assert len(pids) == len(graph_file.load().nodes)
    yield  # launch shuts down here
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
