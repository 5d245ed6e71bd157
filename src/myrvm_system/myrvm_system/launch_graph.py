"""Actions for `launch` made from `config/graph.yaml`, for launch/rvm.launch.py and launch/sim.launch.py.

The only module that imports `launch` and `launch_ros`; nothing else here needs them. `launch` keeps the processes
present (respawn), the lifecycle manager keeps the nodes active, exactly as with the desk bring-up.
"""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import os
from typing import Any

from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from myrvm_core.configuration import local_file
from myrvm_core.graph import Graph

from launch import LaunchDescriptionEntity
from myrvm_core import graph as graph_file
from myrvm_core import paths, profiles
from myrvm_system import start_up, transport

RESPAWN_DELAY_S = 0.5


def arguments(hardware: str = "") -> list[LaunchDescriptionEntity]:
    """Arguments of both launch files.

    Args:
        hardware: the default profile; empty: the one that the environment chooses.
    """
    parameters = str(paths.home() / "config" / "rvm.yaml")
    return [
        DeclareLaunchArgument("parameters", default_value=parameters, description="ROS parameter file."),
        DeclareLaunchArgument(
            "hardware", default_value=hardware or profiles.chosen(), choices=profiles.names(),
            description="Profile, config/hardware/<name>.yaml: its values win over those of the parameter file.",
        ),
        DeclareLaunchArgument(
            "overrides", default_value=str(local_file()) if local_file().is_file() else profile(),
            description="One more ROS parameter file, whose values win over the profile's [local.yaml of the data].",
        ),
        DeclareLaunchArgument(
            "output", default_value="both", choices=["screen", "log", "both"],
            description="Where the processes' output goes; the JSON logs are in $MYRVM_DATA/logs anyway.",
        ),
    ]  # fmt: skip


def profile() -> list[Any]:
    """The parameter file of the profile that the argument `hardware` names."""
    return [f"{paths.home() / 'config' / 'hardware'}/", LaunchConfiguration("hardware"), ".yaml"]


def nodes() -> list[LaunchDescriptionEntity]:
    """Clear what earlier runs have left; then a `LifecycleNode` with respawn for the manager and each node."""
    graph = graph_file.load()
    data = paths.data()
    return [
        OpaqueFunction(function=lambda context: [LogInfo(msg=str(start_up.clear(data)))]),
        *_nodes(graph, start_up.environment(data)),
    ]


def _nodes(graph: Graph, environment: dict[str, str]) -> list[LaunchDescriptionEntity]:
    return [
        LifecycleNode(
            package=description.package,
            executable=description.executable,
            name=description.name,
            namespace="",
            parameters=[LaunchConfiguration("parameters"), profile(), LaunchConfiguration("overrides")],
            additional_env=environment | transport.environment(description.pictures, os.environ),
            output=LaunchConfiguration("output"),
            respawn=True,
            respawn_delay=RESPAWN_DELAY_S,
            sigterm_timeout="5",
            sigkill_timeout="5",
        )
        for description in (graph.manager, *graph.nodes)
    ]
