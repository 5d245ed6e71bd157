"""The sensors: their state, and each debounced edge of one.

Publishes `sensors/state` (myrvm_interfaces/SensorState: at each change, and each `measure_period_s`, at most a second,
as a proof of life for the gate's interlocks) and `sensors/events` (myrvm_interfaces/SensorEvent). `sensor_reader` owns
the thread, `debounce` the logic. While the driver fails, every level is unknown and the node reports an error.
"""

from __future__ import annotations

import time

from myrvm_interfaces.msg import NodeHealth, SensorEvent, SensorReading, SensorState
from myrvm_ros.managed_node import Health, ManagedNode, run

from myrvm_hardware.drivers import SENSOR_DRIVERS, Role, find_driver
from myrvm_hardware.sensor_reader import Report, SensorReader
from myrvm_hardware.settings import SensorSettings
from myrvm_ros import qos, stamps

SILENT_S = 3.0  # a reader reports twice a second or oftener, unless its driver blocks


class SensorNode(ManagedNode[SensorSettings]):
    """The sensor node."""

    settings_type = SensorSettings

    def __init__(self) -> None:
        super().__init__("sensor")

    def configure(self) -> None:
        """Find the driver and make the publishers."""
        driver = find_driver(SENSOR_DRIVERS, self.settings.driver)(self.settings.device, self.settings)
        self._state = self.publisher(SensorState, "sensors/state", qos.STATE)
        self._events = self.publisher(SensorEvent, "sensors/events", qos.EVENT)
        self._readings: dict[Role, SensorReading] = {}
        self._edges = 0
        self._reader = SensorReader(driver, self.settings, lambda: self.call_soon(self._publish), self.log)

    def activate(self) -> None:
        """Start reading; absent hardware is tried again and again, and reported."""
        self.on_release(self._reader.thread.stop)
        self._reader.start()

    def health(self) -> Health:
        """A driver that fails, or blocks, is an error."""
        if not self.active:
            return Health()
        age_s = time.monotonic() - self._reader.reported_s
        values = {
            "edges": self._edges,
            "reopened": max(0, self._reader.thread.opened - 1),
            "last_report_age_s": round(age_s, 2),
        }
        if self._reader.thread.problem:
            return Health(NodeHealth.ERROR, self._reader.thread.problem, values)
        if age_s > SILENT_S:
            return Health(NodeHealth.ERROR, f"sensors do not answer for {age_s:.1f} s", values)
        return Health(values=values)

    def _publish(self) -> None:
        if not self.active:
            return
        for report in self._reader.take():
            for sequence, edge in report.edges:
                self._edges = sequence
                self._events.publish(
                    SensorEvent(
                        stamp=stamps.to_message(edge.stamp_ns),
                        role=int(edge.role),
                        level=_level(edge.active),
                        sequence=sequence,
                    )
                )
            self._update(report)
            state = SensorState(readings=[self._readings[role] for role in sorted(self._readings)])
            state.header.stamp = stamps.to_message(report.stamp_ns)
            state.watching_since = stamps.to_message(report.watching_since_ns)
            self._state.publish(state)

    def _update(self, report: Report) -> None:
        changed_ns = {edge.role: edge.stamp_ns for _, edge in report.edges}
        for role in self._readings.keys() - report.levels.keys() - report.values.keys():
            if self._readings[role].level != SensorReading.LEVEL_UNKNOWN:
                self._set(role, SensorReading.LEVEL_UNKNOWN, 0.0, report.stamp_ns)
        for role, active in report.levels.items():
            if role not in self._readings or self._readings[role].level != _level(active):
                self._set(role, _level(active), 0.0, changed_ns.get(role, report.stamp_ns))
        for role, value in report.values.items():
            self._set(role, SensorReading.LEVEL_ANALOG, value, report.stamp_ns)

    def _set(self, role: Role, level: int, value: float, stamp_ns: int) -> None:
        self._readings[role] = SensorReading(
            role=int(role), level=level, value=value, stamp=stamps.to_message(stamp_ns)
        )


def _level(active: bool) -> int:
    return SensorReading.LEVEL_ACTIVE if active else SensorReading.LEVEL_INACTIVE


def main() -> None:
    """Run the node."""
    run(SensorNode)
