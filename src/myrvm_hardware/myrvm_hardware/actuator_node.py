"""The gate: takes commands, moves, stops for doors, hands and the emergency stop.

Serves `actuator/command` (myrvm_interfaces/CommandGate; answered at once), publishes `actuator/state`
(myrvm_interfaces/GateState, latched, depth 1: the newest state always carries the end of the last command taken).
Subscribes to `sensors/state`, without which nothing moves. `gate` owns the logic, `gate_control` the thread.
"""

from __future__ import annotations

from typing import Any

from myrvm_interfaces.msg import GateState, NodeHealth, SensorReading, SensorState
from myrvm_interfaces.srv import CommandGate
from myrvm_ros.managed_node import Health, ManagedNode, run

from myrvm_hardware.drivers import GATE_DRIVERS, Direction, EndSwitch, Role, find_driver
from myrvm_hardware.gate import Refusal, Snapshot
from myrvm_hardware.gate_control import GateControl
from myrvm_hardware.output_panel import OutputPanel
from myrvm_hardware.settings import ActuatorSettings
from myrvm_ros import qos, stamps

CHECK_PERIOD_S = 0.25
LEVELS = {SensorReading.LEVEL_ACTIVE: True, SensorReading.LEVEL_INACTIVE: False}
KNOWN_ROLES = {int(role) for role in Role}


class ActuatorNode(ManagedNode[ActuatorSettings]):
    """The actuator node."""

    settings_type = ActuatorSettings

    def __init__(self) -> None:
        super().__init__("actuator")

    def configure(self) -> None:
        """Find the driver and make the publisher."""
        driver = find_driver(GATE_DRIVERS, self.settings.driver)(self.settings.device, self.settings)
        self._state = self.publisher(GateState, "actuator/state", qos.STATE)
        self._snapshot: Snapshot | None = None
        self._published: Snapshot | None = None
        self._control = GateControl(driver, self.settings, self._on_change, self.log)
        self._outputs = OutputPanel(self)

    def activate(self) -> None:
        """Open the driver and close the gate; an absent driver is tried again and again, and reported."""
        self.on_release(self._publish)  # after the thread has ended: the last outcome
        self.on_release(self._control.stop)
        self._control.start()
        self.subscription(SensorState, "sensors/state", self._on_sensors, qos.STATE)
        self.service(CommandGate, "actuator/command", self._on_command)
        self.timer(CHECK_PERIOD_S, self._control.check)
        self._outputs.activate()

    def health(self) -> Health:
        """A jam or a failed driver is an error, an interlock a warning."""
        snapshot = self._snapshot
        if snapshot is None or not self.active:
            return Health()
        values = {
            "cycles": snapshot.cycles,
            "motor_run_time_s": round(snapshot.motor_run_time_s, 1),
            "reopened": max(0, self._control.thread.opened - 1),
        }
        if snapshot.fault:
            return Health(NodeHealth.ERROR, snapshot.fault, values)
        if snapshot.obstacles:
            return Health(NodeHealth.WARN, f"gate is held: {', '.join(snapshot.obstacles)}", values)
        if self._outputs.problem:
            return Health(NodeHealth.WARN, self._outputs.problem, values)
        return Health(values=values)

    def _on_sensors(self, message: SensorState) -> None:
        levels = {
            Role(reading.role): LEVELS.get(reading.level) for reading in message.readings if reading.role in KNOWN_ROLES
        }
        self._control.sensed(levels, (self.now_ns() - stamps.to_ns(message.header.stamp)) / stamps.NANOSECONDS)

    def _on_command(self, request: Any, response: Any) -> Any:
        refusal, response.holder = self._control.command(request.command_id, request.holder, request.verb)
        response.refusal, response.taken = int(refusal), refusal == Refusal.NONE
        self.log.info(
            "gate command",
            command_id=request.command_id,
            verb=request.verb,
            holder=request.holder,
            refusal=refusal.name,
        )
        return response

    def _on_change(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self.call_soon(self._publish_if_active)

    def _publish_if_active(self) -> None:
        if self.active:
            self._publish()

    def _publish(self) -> None:
        snapshot = self._snapshot
        if snapshot is None or snapshot == self._published or not self.context.ok():
            return
        self._published = snapshot
        message = GateState(
            position=_position(snapshot),
            motor_on=snapshot.motor != Direction.OFF,
            command_id=snapshot.command_id,
            verb=snapshot.verb,
            outcome=int(snapshot.outcome),
            cycles=snapshot.cycles,
            motor_run_time_s=snapshot.motor_run_time_s,
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._state.publish(message)


def _position(snapshot: Snapshot) -> int:
    if snapshot.motor != Direction.OFF:
        return GateState.POSITION_MOVING
    if snapshot.position in (None, EndSwitch.BETWEEN):
        return GateState.POSITION_UNKNOWN
    return int(snapshot.position)


def main() -> None:
    """Run the node."""
    run(ActuatorNode)
