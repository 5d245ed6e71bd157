"""The machine: every node of config/graph.yaml. `ros2 launch launch/rvm.launch.py --show-args` lists the arguments."""
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from launch import LaunchDescription
from myrvm_system import launch_graph


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*launch_graph.arguments(), *launch_graph.nodes()])
