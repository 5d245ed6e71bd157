"""Actions for `launch` made from `config/graph.yaml`, for launch/rvm.launch.py and launch/sim.launch.py.

The only module that imports `launch` and `launch_ros`; nothing else here needs them. `launch` keeps the processes
present (respawn), the lifecycle manager keeps the nodes active, exactly as with the desk bring-up.
"""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

from launch import LaunchDescriptionEntity
from myrvm_core import graph as graph_file
from myrvm_core import paths

RESPAWN_DELAY_S = 0.5


def arguments(overrides: str = "") -> list[LaunchDescriptionEntity]:
    """Arguments of both launch files.

    Args:
        overrides: default of the second parameter file; empty for none.
    """
    parameters = str(paths.home() / "config" / "rvm.yaml")
    return [
        DeclareLaunchArgument("parameters", default_value=parameters, description="ROS parameter file."),
        DeclareLaunchArgument(
            "overrides", default_value=overrides or LaunchConfiguration("parameters"),
            description="A second ROS parameter file, whose values win over those of the first.",
        ),
        DeclareLaunchArgument(
            "output", default_value="both", choices=["screen", "log", "both"],
            description="Where the processes' output goes; the JSON logs are in $MYRVM_DATA/logs anyway.",
        ),
    ]  # fmt: skip


def nodes() -> list[LaunchDescriptionEntity]:
    """One `LifecycleNode` with respawn for the manager and each node of the graph."""
    graph = graph_file.load()
    return [
        LifecycleNode(
            package=description.package,
            executable=description.executable,
            name=description.name,
            namespace="",
            parameters=[LaunchConfiguration("parameters"), LaunchConfiguration("overrides")],
            output=LaunchConfiguration("output"),
            respawn=True,
            respawn_delay=RESPAWN_DELAY_S,
            sigterm_timeout="5",
            sigkill_timeout="5",
        )
        for description in (graph.manager, *graph.nodes)
    ]
