"""What the graph tells of the machine for handshake and heartbeat: how full the bin is, which network decides.

Hears system/node_health (NodeHealth, of the detector) and sensors/state (SensorState).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from myrvm_interfaces.msg import NodeHealth, SensorReading, SensorState
from myrvm_ros.managed_node import HEARTBEAT_TOPIC, ManagedNode

from myrvm_cloud import machine_state
from myrvm_cloud.command_services import given_files
from myrvm_cloud.contract import Model
from myrvm_cloud.rest_client import MachineState
from myrvm_core import profiles
from myrvm_ros import qos

DETECTOR = "detector"


class MachineFacts:
    """Made in the `configure` of its node, released with it; `observe` may be called in any thread."""

    def __init__(self, node: ManagedNode[Any]) -> None:
        self._heard = MachineState(hardware_profile=hardware_profile(sys.argv))
        node.subscription(NodeHealth, HEARTBEAT_TOPIC, self._on_beat, qos.HEARTBEAT)
        node.subscription(SensorState, "sensors/state", self._on_sensors, qos.STATE)

    def observe(self) -> MachineState:
        """As it is now, without the buffer's rows; what was not heard is None."""
        heard = self._heard
        return replace(
            machine_state.observe(), hardware_profile=heard.hardware_profile, bin_percent=heard.bin_percent,
            model=heard.model,
        )  # fmt: skip

    def _on_beat(self, message: NodeHealth) -> None:
        if message.node == DETECTOR:
            self._heard = replace(self._heard, model=model({value.key: value.value for value in message.values}))

    def _on_sensors(self, message: SensorState) -> None:
        self._heard = replace(self._heard, bin_percent=bin_percent(list(message.readings)))


def bin_percent(readings: Sequence[SensorReading]) -> float | None:
    """How full the bin is: by its level, or where there is only a switch, 100 when that says so; None: not known."""
    by_role = {reading.role: reading for reading in readings}
    level, full = by_role.get(SensorReading.ROLE_BIN_LEVEL), by_role.get(SensorReading.ROLE_BIN_FULL)
    if level is not None and level.level == SensorReading.LEVEL_ANALOG:
        return min(100.0, max(0.0, 100.0 * level.value))
    return 100.0 if full is not None and full.level == SensorReading.LEVEL_ACTIVE else None


def model(values: Mapping[str, str]) -> Model | None:
    """The network as the detector's own figures name it; None while it has loaded none."""
    if not values.get("model"):
        return None
    return Model(name=values["model"], version=values.get("model_version", ""), sha256=values.get("model_sha256", ""))


def hardware_profile(arguments: Sequence[str]) -> str:
    """Name of the profile that this process was started with, else of the one that the environment chooses."""
    files = [file for file in given_files(arguments) if file.parent.name == "hardware"]
    return files[-1].stem if files else profiles.chosen()
