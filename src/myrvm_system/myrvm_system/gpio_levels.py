"""Levels of the lines that our nodes hold, as the nodes tell them: nobody but its owner can read a line in use.

Hears sensors/state (SensorState), actuator/outputs (Outputs), actuator/state (GateState).
"""

from __future__ import annotations

from myrvm_interfaces.msg import GateState
from myrvm_ros.graph_client import GraphClient

from myrvm_ros import qos
from myrvm_system.gpio_view import Purpose
from myrvm_system.messages import TOLD, facts

DISCOVERY_S, HEAR_S = 1.0, 10.0
MOTOR = ("to_bin", "to_customer")
SWITCHES = ("closed", "bin", "customer")


class Levels:
    """What the nodes say now."""

    def __init__(self, client: GraphClient) -> None:
        self._client = client
        for topic, message_type in TOLD.items():
            client.listen(message_type, topic, qos.STATE)

    def hear(self, in_use: bool) -> None:
        """Wait until every topic was heard; not long where no node is up. `in_use`: somebody holds our lines."""
        if not self._client.wait(self._complete, DISCOVERY_S) and (in_use or self._published()):
            self._client.wait(self._complete, HEAR_S)

    def _complete(self) -> bool:
        return len(self._client.latest) == len(TOLD)

    def _published(self) -> bool:
        return any(self._client.node.count_publishers(topic) for topic in TOLD)

    def of(self, purpose: Purpose) -> bool | None:
        """Whether the line of `purpose` is active; None where no node says so."""
        latest, group, name = self._client.latest, purpose.group, purpose.name
        gate: GateState | None = latest.get("actuator/state")
        known = facts(self._client.now_ns(), latest.get("sensors/state"), latest.get("actuator/outputs"), gate, {})
        if group == "outputs":
            return (known.outputs or {}).get(name)
        if not group and name in known.levels:
            return known.levels[name]
        if group or gate is None or gate.motor_on:  # a second gate tells elsewhere
            return None
        if name in MOTOR:
            return False
        known_position = known.gate not in ("UNKNOWN", "MOVING")
        return known.gate == name.upper() if name in SWITCHES and known_position else None
