"""The launch files under the real `launch` and `launch_ros`; skipped where these are not importable."""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("launch.actions", reason="launch has no wheel; it is there in a real ROS 2")
pytest.importorskip("launch_ros.actions", reason="launch_ros has no wheel; it is there in a real ROS 2")

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import LifecycleNode
from myrvm_interfaces.msg import SystemStatus

import launch
from myrvm_core import graph as graph_file
from myrvm_core import paths
from myrvm_ros import qos


def description(name: str) -> launch.LaunchDescription:
    specification = importlib.util.spec_from_file_location(name.replace(".", "_"), paths.home() / "launch" / name)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.generate_launch_description()


@pytest.mark.parametrize("name", ["rvm.launch.py", "sim.launch.py"])
def test_every_argument_is_described_and_every_node_is_there(name: str) -> None:
    entities = description(name).entities
    arguments = [entity for entity in entities if isinstance(entity, DeclareLaunchArgument)]
    assert {"parameters", "hardware", "overrides", "output"} <= {argument.name for argument in arguments}
    assert all(len(str(argument.description)) > 15 for argument in arguments)
    nodes = [entity for entity in entities if isinstance(entity, LifecycleNode)]
    assert len(nodes) == len(graph_file.load().nodes) + 1


def test_sim_launch_serves_respawns_and_ends_clean(graph: Any, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    heard = graph.listen(SystemStatus, "system/status", qos.STATE)
    arguments = {"socket": str(tmp_path / "cabinet"), "port": str(port), "output": "log"}
    source = PythonLaunchDescriptionSource(str(paths.home() / "launch" / "sim.launch.py"))
    service = launch.LaunchService(noninteractive=True)
    service.include_launch_description(
        launch.LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments.items())])
    )
    pids: set[int] = set()

    def settled() -> bool:
        return bool(heard) and heard[-1].mode in (SystemStatus.SERVING, SystemStatus.DEGRADED)

    async def check() -> None:
        running = asyncio.get_running_loop().create_task(service.run_async())
        try:
            await until(graph, settled, "the machine to serve")
            killed = next(node.pid for node in heard[-1].nodes if node.name == "health")
            os.kill(killed, signal.SIGKILL)
            await until(graph, lambda: replaced(heard[-1], killed), "health to be active again")
            await until(graph, settled, "the machine to serve again")
            pids.update(node.pid for node in heard[-1].nodes)
        finally:
            await service.shutdown()
            await asyncio.wait_for(running, 60.0)

    asyncio.run(check())
    assert len(pids) == len(graph_file.load().nodes)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def replaced(status: SystemStatus, killed: int) -> bool:
    node = next(node for node in status.nodes if node.name == "health")
    return node.pid not in (0, killed) and node.lifecycle_state == 3


async def until(graph: Any, condition: Any, what: str, limit_s: float = 60.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"waited {limit_s} s for {what}"
        graph.spin_once()
        await asyncio.sleep(0.02)
