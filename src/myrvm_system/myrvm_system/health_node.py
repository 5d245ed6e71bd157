"""Publishes /diagnostics (diagnostic_msgs/DiagnosticArray): the machine's resources and every node, once a second.

Hears system/node_health (NodeHealth). `myrvm_system.health` measures and judges.
"""

from __future__ import annotations

import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from myrvm_interfaces.msg import NodeHealth
from myrvm_ros.managed_node import HEARTBEAT_TOPIC, Health, ManagedNode, run

from myrvm_core import environment, paths
from myrvm_core import graph as graph_file
from myrvm_ros import qos
from myrvm_system.health import Finding, Heartbeat, Level, Monitor, Nodes
from myrvm_system.settings import HealthSettings


class HealthNode(ManagedNode[HealthSettings]):
    """The health monitor."""

    settings_type = HealthSettings

    def __init__(self) -> None:
        super().__init__("health")

    def configure(self) -> None:
        """Measure from now on."""
        graph = graph_file.load()
        self._hardware_id = environment.identity(self.environment).hardware_id
        self._monitor = Monitor(self.settings, paths.data())
        self._nodes = Nodes((graph.manager.name, *graph.names), self.settings.stale_after_s, time.monotonic())
        self._diagnostics = self.publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
        self._worst = Finding("", Level.OK, "ok")

    def activate(self) -> None:
        """Publish from now on."""
        self.subscription(NodeHealth, HEARTBEAT_TOPIC, self._on_heartbeat, qos.HEARTBEAT)
        self.timer(self.settings.period_s, self._look)

    def health(self) -> Health:
        """The worst resource speaks for the machine; this node itself is well."""
        if self._worst.level == Level.OK:
            return Health()
        return Health(NodeHealth.WARN, f"{self._worst.name}: {self._worst.message}")

    def _on_heartbeat(self, message: NodeHealth) -> None:
        values = {value.key: value.value for value in message.values}
        self._nodes.heard(Heartbeat(message.node, time.monotonic(), message.level, message.message, values))

    def _look(self) -> None:
        resources = self._monitor.look()
        self._worst = max(resources, key=lambda finding: finding.level)
        message = DiagnosticArray(
            status=[self._status("machine", finding) for finding in resources]
            + [self._status("nodes", finding) for finding in self._nodes.findings(time.monotonic())]
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)

    def _status(self, group: str, finding: Finding) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=bytes([finding.level]),
            name=f"{group}: {finding.name}",
            message=finding.message,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=name, value=value) for name, value in finding.values.items()],
        )


def main() -> None:
    """Run the node."""
    run(HealthNode)
