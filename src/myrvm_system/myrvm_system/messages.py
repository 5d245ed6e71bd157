"""Between the manager's views and the messages of the graph."""

from __future__ import annotations

from builtin_interfaces.msg import Time
from myrvm_interfaces.msg import NodeStatus, SystemStatus

from myrvm_system.manager import SystemView


def status_message(view: SystemView, stamp: Time) -> SystemStatus:
    """The machine as it is to be shown."""
    message = SystemStatus(
        mode=int(view.mode),
        reasons=[getattr(SystemStatus, f"REASON_{reason}") for reason in view.reasons],
        nodes=[
            NodeStatus(
                name=node.name, lifecycle_state=node.state, alive=node.alive, given_up=node.given_up,
                restarts=node.restarts, pid=node.pid, last_error=node.last_error,
            )
            for node in view.nodes
        ],
        start_time_s=view.start_time_s,
    )  # fmt: skip
    message.header.stamp = stamp
    return message
