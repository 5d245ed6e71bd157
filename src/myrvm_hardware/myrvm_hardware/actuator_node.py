"""The gates: take commands, move, stop for doors, hands, the emergency stop and a failing supply.

Serves `actuator/command` (CommandGate; answered at once), publishes `actuator/state` (GateState of the first gate,
latched, depth 1: the newest state always carries the end of the last command taken), `actuator/<name>/state` of a
second gate, and `actuator/interlocks` (SensorState: at each change and each half second). Hears the motor's current and
the entry sensor in `sensors/state`. `gate` owns the movements, `motor_safety` what no motor may do, `gate_control` the
threads.
"""

from __future__ import annotations

import sys
from typing import Any

from myrvm_interfaces.msg import GateState, NodeHealth, SensorReading, SensorState
from myrvm_interfaces.srv import CommandGate
from myrvm_ros.managed_node import Health, ManagedNode, run

from myrvm_core import paths
from myrvm_hardware import wear
from myrvm_hardware.drivers import GATE_DRIVERS, find_driver
from myrvm_hardware.gate import Refusal, Snapshot
from myrvm_hardware.gate_control import GateControl
from myrvm_hardware.gate_messages import gate_state, interlock_state
from myrvm_hardware.output_panel import OutputPanel
from myrvm_hardware.settings import ActuatorSettings
from myrvm_ros import levels, qos

CHECK_PERIOD_S = 0.25
INTERLOCK_PERIOD_S = 0.5
SWITCH_INTERVAL_S = 0.001  # a thread of ours that computes lets the one that watches the interlocks in so soon


class ActuatorNode(ManagedNode[ActuatorSettings]):
    """The actuator node."""

    settings_type = ActuatorSettings

    def __init__(self) -> None:
        super().__init__("actuator")

    def configure(self) -> None:
        """Find the driver and make the publishers."""
        driver = find_driver(GATE_DRIVERS, self.settings.driver)(self.settings.device, self.settings)
        topics = ["actuator/state", *(f"actuator/{gate.name}/state" for gate in self.settings.gates[1:])]
        self._states = {
            gate.name: self.publisher(GateState, topic, qos.STATE)
            for gate, topic in zip(self.settings.gates, topics, strict=True)
        }
        self._interlocks = self.publisher(SensorState, "actuator/interlocks", qos.STATE)
        self._snapshots: dict[str, Snapshot] = {}
        self._published: dict[str, Snapshot] = {}
        self._wear = wear.WearBook(paths.data() / wear.FILE, self.log)
        self._control = GateControl(
            driver, self.settings, self._on_change, self.log, lambda: self.call_soon(self._publish_interlocks)
        )
        self._outputs = OutputPanel(self)

    def activate(self) -> None:
        """Open the driver and close the gates; an absent driver is tried again and again, and reported."""
        self.on_release(self._wear.write)
        self.on_release(self._publish)  # after the threads have ended: the last outcome
        self.on_release(self._publish_interlocks)
        self.on_release(self._control.stop)
        self._control.start()
        self.subscription(SensorState, "sensors/state", self._on_sensors, qos.STATE)
        self.service(CommandGate, "actuator/command", self._on_command)
        self.timer(CHECK_PERIOD_S, self._control.check)
        self.timer(INTERLOCK_PERIOD_S, self._publish_interlocks)
        self.timer(self.settings.wear_period_s, self._write_wear)
        self._outputs.activate()

    def health(self) -> Health:
        """A jam or a failed driver is an error, an interlock a warning."""
        if not self._snapshots or not self.active:
            return Health()
        snapshots = list(self._snapshots.values())
        values = {
            "cycles": sum(snapshot.cycles for snapshot in snapshots),
            "jams": sum(snapshot.jams for snapshot in snapshots),
            "motor_run_time_s": round(sum(snapshot.motor_run_time_s for snapshot in snapshots), 1),
            "reopened": max(0, self._control.thread.opened - 1),
            "interlock_edges_lost": self._control.watch.lost_edges,
            "interlock_thread": "real time" if self._control.watch.real_time else "ordinary",
        }
        if fault := next((snapshot.fault for snapshot in snapshots if snapshot.fault), ""):
            return Health(NodeHealth.ERROR, fault, values)
        if snapshots[0].obstacles:
            return Health(NodeHealth.WARN, f"gate is held: {', '.join(snapshots[0].obstacles)}", values)
        if self._outputs.problem:
            return Health(NodeHealth.WARN, self._outputs.problem, values)
        return Health(values=values)

    def _on_sensors(self, message: SensorState) -> None:
        self._outputs.on_sensors(message)
        for reading in message.readings:
            if reading.role == SensorReading.ROLE_MOTOR_CURRENT and reading.level == SensorReading.LEVEL_ANALOG:
                self._control.measured(reading.value)
            elif reading.role == SensorReading.ROLE_ENTRY:
                self._control.chamber(levels.is_active(reading.level))

    def _on_command(self, request: Any, response: Any) -> Any:
        refusal, response.holder = self._control.command(request.gate, request.command_id, request.holder, request.verb)
        response.refusal, response.taken = int(refusal), refusal == Refusal.NONE
        self.log.info(
            "gate command",
            gate=request.gate,
            command_id=request.command_id,
            verb=request.verb,
            holder=request.holder,
            refusal=refusal.name,
        )
        return response

    def _write_wear(self) -> None:
        self.run_in_worker(self._wear.write)

    def _on_change(self, snapshot: Snapshot) -> None:
        self._snapshots[snapshot.gate] = snapshot
        self.call_soon(self._publish_if_active)

    def _publish_if_active(self) -> None:
        if self.active:
            self._publish()

    def _publish(self) -> None:
        for name, snapshot in dict(self._snapshots).items():
            if snapshot != self._published.get(name) and self.context.ok():
                self._published[name] = snapshot
                self._states[name].publish(gate_state(snapshot, self._wear.count(snapshot), self.now_ns()))

    def _publish_interlocks(self) -> None:
        if self.context.ok():
            self._interlocks.publish(
                interlock_state(self._control.interlocks, self._control.watching_since_ns, self.now_ns())
            )


def main() -> None:
    """Run the node."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    run(ActuatorNode)
