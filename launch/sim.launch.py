"""The machine on a desk: the same nodes, and the simulated cabinet and reference server that they talk to."""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import os
import sys

from launch.actions import DeclareLaunchArgument, ExecuteProcess, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration

from launch import LaunchDescription
from myrvm_core import paths
from myrvm_sim import cabinet_client
from myrvm_system import launch_graph


def generate_launch_description() -> LaunchDescription:
    paths.data().mkdir(parents=True, exist_ok=True)  # for the socket
    socket, port, seed = (LaunchConfiguration(name) for name in ("socket", "port", "seed"))
    api_key = os.environ.get("RVM_API_KEY") or "demo-key"
    server = {"RVM_SERVER_URL": ["http://127.0.0.1:", port], "RVM_API_KEY": api_key}
    gpio, sysfs = [socket, ".gpio"], [socket, ".sys"]
    places = ["--socket", socket, "--gpio", gpio, "--sysfs", sysfs]
    return LaunchDescription(
        [
            *launch_graph.arguments(hardware="desk"),
            DeclareLaunchArgument(
                "socket", default_value=str(paths.data() / "cabinet"), description="Control socket of the cabinet."
            ),
            DeclareLaunchArgument("port", default_value="8400", description="TCP port of the reference server."),
            DeclareLaunchArgument("seed", default_value="0", description="Seed of the simulated cabinet."),
            SetEnvironmentVariable("MYRVM_CABINET", socket),
            SetEnvironmentVariable("MYRVM_GPIO", gpio),
            SetEnvironmentVariable("MYRVM_SYSFS", sysfs),
            SetEnvironmentVariable("LD_PRELOAD", str(cabinet_client.GPIO_LIBRARY)),
            *(SetEnvironmentVariable(name, value) for name, value in server.items()),
            ExecuteProcess(cmd=[sys.executable, "-m", "myrvm_sim.cabinet", *places, "--seed", seed], name="cabinet"),
            ExecuteProcess(
                cmd=[sys.executable, "-m", "myrvm_sim.reference_server", "--port", port], name="reference_server"
            ),
            *launch_graph.nodes(),
        ]
    )
