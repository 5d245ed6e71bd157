"""The sensors: their state, and each debounced edge of one.

Publishes `sensors/state` (myrvm_interfaces/SensorState: at each change, and each `report_period_s`, at most a second)
and `sensors/events` (myrvm_interfaces/SensorEvent). `sensor_reader` reads the digital sensors, `analog_sensor` the
others, each on a thread of its own; what the actuator watches comes from `actuator/interlocks` (SensorState). What is
not known is LEVEL_UNKNOWN, and the node's health names it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

from myrvm_core.errors import SettingsError
from myrvm_interfaces.msg import NodeHealth, SensorEvent, SensorReading, SensorState
from myrvm_ros.levels import is_active, to_level
from myrvm_ros.managed_node import Health, ManagedNode, run

from myrvm_hardware import analog_sensor
from myrvm_hardware.drivers import DIGITAL, SENSOR_DRIVERS, Role, find_driver
from myrvm_hardware.interlock_readings import InterlockReadings, Passed, interlock_roles
from myrvm_hardware.sensor_health import Stuck, sentence
from myrvm_hardware.sensor_reader import Report, SensorReader
from myrvm_hardware.settings import SensorSettings
from myrvm_ros import qos, stamps

SILENT_S = 3.0  # a reader reports twice a second or oftener, unless its driver blocks
ROLES = {int(role): role for role in Role}


class SensorNode(ManagedNode[SensorSettings]):
    """The sensor node."""

    settings_type = SensorSettings

    def __init__(self) -> None:
        super().__init__("sensor")

    def configure(self) -> None:
        """Find the drivers and make the publishers."""
        settings = self.settings
        if self.get_parameter("use_sim_time").value:
            raise SettingsError("sensor.use_sim_time = True is not allowed: edges have the time of day")
        driver = find_driver(SENSOR_DRIVERS, settings.driver)(settings.device, settings)
        self._analog = analog_sensor.sensors(settings, lambda: self.call_soon(self._publish), self.log)
        self._state = self.publisher(SensorState, "sensors/state", qos.STATE)
        self._events = self.publisher(SensorEvent, "sensors/events", qos.EVENT)
        self._readings: dict[Role, SensorReading] = {}
        self._own: set[Role] = set()
        self._numbers = itertools.count(1)
        self._edges = 0
        self._watching_since_ns = 0
        self._published_s = 0.0
        self._stuck = Stuck(settings.stuck_after_s)
        roles = interlock_roles("sensor.interlock_roles", settings.interlock_roles)
        self._interlocks = InterlockReadings(roles, settings.interlock_stale_s)
        self._reader = SensorReader(
            driver, settings, lambda: next(self._numbers), lambda: self.call_soon(self._publish), self.log
        )

    def activate(self) -> None:
        """Start reading; absent hardware is tried again and again, and reported."""
        for thread in (self._reader.thread, *(sensor.thread for sensor in self._analog)):
            self.on_release(thread.stop)
        self._reader.start()
        for sensor in self._analog:
            sensor.thread.start()
        self.subscription(SensorState, "actuator/interlocks", self._on_interlocks, qos.STATE)
        self.timer(self.settings.report_period_s, self._check)

    def health(self) -> Health:
        """A driver that fails or blocks is an error; a sensor that is unknown, chatters or sticks a warning."""
        if not self.active:
            return Health()
        age_s = time.monotonic() - self._reader.reported_s
        values = {
            "edges": self._edges,
            "edges_lost": self._reader.lost_edges,
            "samples_refused": sum(sensor.refused for sensor in self._analog),
            "reopened": max(0, self._reader.thread.opened - 1),
            "last_report_age_s": round(age_s, 2),
        }
        if self._reader.thread.problem:
            return Health(NodeHealth.ERROR, self._reader.thread.problem, values)
        if age_s > SILENT_S:
            return Health(NodeHealth.ERROR, f"sensors do not answer for {age_s:.1f} s", values)
        problems = sentence(
            self._reader.chattering,
            self._stuck.names(time.monotonic()),
            [sensor.problem for sensor in self._analog if sensor.problem],
            self._interlocks.unknown,
        )
        return Health(NodeHealth.WARN, problems, values) if problems else Health(values=values)

    def _on_interlocks(self, message: SensorState) -> None:
        self._publish()  # first what came before
        levels = {
            ROLES[reading.role]: Passed(is_active(reading.level), stamps.to_ns(reading.stamp))
            for reading in message.readings
            if reading.role in ROLES
        }
        before = dict(self._interlocks.levels)
        for role, passed in self._interlocks.heard(levels, time.monotonic()):
            self._send_event(next(self._numbers), role, bool(passed.active), passed.stamp_ns)
        if self._interlocks.levels != before:
            self._publish_state()

    def _check(self) -> None:
        now_s = time.monotonic()
        if now_s - self._reader.reported_s > SILENT_S:
            self._update(Report(self.now_ns()))
        if self._interlocks.check(now_s) or now_s - self._published_s >= self.settings.report_period_s:
            self._publish_state()

    def _publish(self) -> None:
        if not self.active:
            return
        for report in self._reader.take():
            for edge in report.edges:
                self._send_event(edge.sequence, edge.role, edge.active, edge.stamp_ns)
            self._update(report)
            self._publish_state(report.stamp_ns)
        if self._analog_changed():
            self._publish_state()

    def _publish_state(self, stamp_ns: int = 0) -> None:
        stamp_ns = stamp_ns or self.now_ns()
        for role, value in self._analog_values():
            self._set(role, _level(role, value), stamp_ns, 0.0 if value is None or role in DIGITAL else value)
        for role, passed in self._interlocks.levels.items():
            self._set(role, _level(role, passed.active), passed.stamp_ns or stamp_ns)
        state = SensorState(readings=[self._readings[role] for role in sorted(self._readings)])
        state.header.stamp = stamps.to_message(stamp_ns)
        state.watching_since = stamps.to_message(self._watching_since_ns)
        self._state.publish(state)
        self._published_s = time.monotonic()

    def _analog_values(self) -> Iterator[tuple[Role, float | None]]:
        for sensor in self._analog:
            yield from sensor.readings().items()

    def _analog_changed(self) -> bool:
        """Whether a reading has become known or unknown, or a digital one has another level."""
        return any(
            role not in self._readings or self._readings[role].level != _level(role, value)
            for role, value in self._analog_values()
        )

    def _send_event(self, sequence: int, role: Role, active: bool, stamp_ns: int) -> None:
        self._edges += 1
        self._events.publish(
            SensorEvent(
                stamp=stamps.to_message(stamp_ns), role=int(role), level=_level(role, active), sequence=sequence
            )
        )

    def _update(self, report: Report) -> None:
        changed_ns = {edge.role: edge.stamp_ns for edge in report.edges}
        self._watching_since_ns = report.watching_since_ns
        self._own |= report.levels.keys()
        self._interlocks.leave(self._own)
        for role in self._own:
            self._set(role, _level(role, report.levels.get(role)), changed_ns.get(role, report.stamp_ns))

    def _set(self, role: Role, level: int, stamp_ns: int, value: float = 0.0) -> None:
        """Take a reading; the stamp of a digital one changes with its level only."""
        before = self._readings.get(role)
        if before is None or before.level != level or level == SensorReading.LEVEL_ANALOG:
            stamp = stamps.to_message(stamp_ns)
            self._readings[role] = SensorReading(role=int(role), level=level, value=value, stamp=stamp)
            self._stuck.see(role, is_active(level), time.monotonic())


def _level(role: Role, value: float | None) -> int:
    if value is not None and role not in DIGITAL:
        return SensorReading.LEVEL_ANALOG
    return to_level(None if value is None else bool(value))


def main() -> None:
    """Run the node."""
    run(SensorNode)
