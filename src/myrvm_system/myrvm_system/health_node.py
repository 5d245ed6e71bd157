"""Watches the machine, and says what it may do.

Publishes /diagnostics (diagnostic_msgs/DiagnosticArray), resources and nodes, once a period, and health/limits
(OperatingLimits, latched), once a second and at each change. Hears system/node_health (NodeHealth) and, for the power,
sensors/state (SensorState), for the network cloud/status (CloudStatus); for the short self-test after a start, which it
makes of what it hears, also system/status, actuator/state and actuator/outputs; serves the same again as
system/selftest (RunSelftest). `myrvm_system.health` and, on the worker, `myrvm_system.devices` measure,
`myrvm_system.policy` judges.
"""

from __future__ import annotations

import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from myrvm_core.clock import Trust, machine_clock
from myrvm_interfaces.msg import (
    CloudStatus,
    GateState,
    NodeHealth,
    OperatingLimits,
    Outputs,
    SensorReading,
    SensorState,
    SystemStatus,
)
from myrvm_interfaces.srv import RunSelftest
from myrvm_ros.limits import LIMITS_PERIOD_S, LIMITS_TOPIC
from myrvm_ros.managed_node import HEARTBEAT_TOPIC, Health, ManagedNode, run
from rclpy.task import Future

from myrvm_core import environment, paths
from myrvm_core import graph as graph_file
from myrvm_ros import qos
from myrvm_system import policy, selftest
from myrvm_system.board import Board, installed_jtop
from myrvm_system.devices import LOOK_PERIOD_S, Devices, Line
from myrvm_system.health import Finding, Heartbeat, Level, Monitor, Nodes, Power
from myrvm_system.messages import facts
from myrvm_system.settings import HealthSettings

SENSORS_STALE_S = 10.0  # the sensors say nothing any more: the power is not known
STARTED = (SystemStatus.SERVING, SystemStatus.DEGRADED, SystemStatus.OUT_OF_ORDER)
HELD_UP_S = 2.0  # a look so late means that this process was held up


class HealthNode(ManagedNode[HealthSettings]):
    """The health monitor."""

    settings_type = HealthSettings

    def __init__(self) -> None:
        super().__init__("health")

    def configure(self) -> None:
        """Measure from now on."""
        settings = self.settings
        graph = graph_file.load()
        self._hardware_id = environment.identity(self.environment).hardware_id
        sysfs = paths.resolve(settings.sysfs_root)
        table = policy.load(paths.resolve(settings.policy_file))
        board = Board(sysfs, self.log, jtop=installed_jtop() if settings.sysfs_root == "/sys" else None)
        self.on_release(board.close)
        clock = machine_clock()
        self._monitor = Monitor(
            settings, policy.Policy(table), board, lambda: clock.now().trust is not Trust.GUESSED, paths.data()
        )
        self._devices = Devices(clock, paths.data(), sysfs)
        self._machine_clock = clock
        self._start_test = selftest.StartTest(self._hardware_id, clock.now().time_ns)
        self._beats: dict[str, NodeHealth] = {}
        self._newest: dict[type[Any], Any] = {}
        self._device_findings: list[Finding] = []
        self._line: Line | None = None
        names = (graph.manager.name, *graph.names)
        self._nodes = Nodes(names, settings.stale_after_s, settings.period_s + HELD_UP_S, time.monotonic())
        self._diagnostics = self.publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
        self._limits = self.publisher(OperatingLimits, LIMITS_TOPIC, qos.STATE)
        self._power, self._power_heard_s = Power(), 0.0
        self._level = policy.LimitLevel.NORMAL
        self._worst = Finding("", Level.OK, "ok")

    def activate(self) -> None:
        """Publish from now on."""
        self.subscription(NodeHealth, HEARTBEAT_TOPIC, self._on_heartbeat, qos.HEARTBEAT)
        self.subscription(SensorState, "sensors/state", self._on_sensors, qos.STATE)
        self.subscription(CloudStatus, "cloud/status", self._on_cloud_status, qos.STATE)
        self.subscription(SystemStatus, "system/status", self._keep, qos.STATE)
        self.subscription(GateState, "actuator/state", self._keep, qos.STATE)
        self.subscription(Outputs, "actuator/outputs", self._keep, qos.STATE)
        self.service(RunSelftest, "system/selftest", self._on_selftest)
        self.timer(self.settings.period_s, self._look)
        self.timer(LOOK_PERIOD_S, self._look_at_devices)
        self._look_at_devices()
        self.timer(LIMITS_PERIOD_S, self._publish_limits)

    def health(self) -> Health:
        """The worst resource speaks for the machine; this node itself is well."""
        values: dict[str, float | int | str] = {"limits": self._level.name}
        if self._worst.level == Level.OK:
            return Health(values=values)
        return Health(NodeHealth.WARN, f"{self._worst.name}: {self._worst.message}", values)

    def _on_heartbeat(self, message: NodeHealth) -> None:
        values = {value.key: value.value for value in message.values}
        self._beats[message.node] = message
        self._nodes.heard(Heartbeat(message.node, time.monotonic(), message.level, message.message, values))

    def _keep(self, message: Any) -> None:
        self._newest[type(message)] = message

    def _on_sensors(self, message: SensorState) -> None:
        self._keep(message)
        self._power_heard_s = time.monotonic()
        power = power_of(message)
        if power != self._power:
            self._power = power
            self._judged(self._monitor.judge(self._power_heard_s, power))

    def _look(self) -> None:
        now_s = time.monotonic()
        if now_s - self._power_heard_s > SENSORS_STALE_S:
            self._power = Power()
        resources = self._monitor.look(now_s, self._power, self._devices.wear_percent) + self._device_findings
        self._judged(self._monitor.limits)
        self._worst = max(resources, key=lambda finding: finding.level)
        message = DiagnosticArray(
            status=[self._status("machine", finding) for finding in resources]
            + [self._status("nodes", finding) for finding in self._nodes.findings(now_s)]
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(message)
        self._test_start(now_s)

    def _test_start(self, now_s: float) -> None:
        status: SystemStatus | None = self._newest.get(SystemStatus)
        if status is None or status.mode not in STARTED:
            return
        report = self._start_test.look(self._facts(), now_s, self._machine_clock.now().time_ns)
        if report is None:
            return
        (self.log.warning if report.failed else self.log.info)("self-test", kind=report.kind, failed=report.failed)

        def kept(done: Future) -> None:
            if (error := done.exception()) is not None:
                self.log.error("self-test report not kept", error=str(error))

        self.run_in_worker(selftest.keep, report, paths.data() / "selftest").add_done_callback(kept)

    def _facts(self) -> selftest.Facts:
        newest = self._newest
        return facts(self.now_ns(), newest.get(SensorState), newest.get(Outputs), newest.get(GateState), self._beats)

    def _on_selftest(self, _: RunSelftest.Request, response: RunSelftest.Response) -> RunSelftest.Response:
        now, seen = selftest.utc(self._machine_clock.now().time_ns), self._facts()
        report = selftest.Report(self._hardware_id, selftest.SHORT, now, now)
        selftest.run(report, selftest.short_checks(), lambda _: seen, time.monotonic, lambda _: None)
        response.success, response.report = not report.failed, report.as_json()
        response.message = ", ".join(report.failed)
        return response

    def _on_cloud_status(self, message: CloudStatus) -> None:
        states = {CloudStatus.ONLINE: "ONLINE", CloudStatus.CONNECTING: "CONNECTING", CloudStatus.OFFLINE: "OFFLINE"}
        errors = {CloudStatus.ERROR_NETWORK: "NETWORK", CloudStatus.ERROR_SERVER: "SERVER",
                  CloudStatus.ERROR_REFUSED: "REFUSED", CloudStatus.ERROR_PROTOCOL: "PROTOCOL"}  # fmt: skip
        self._line = Line(states.get(message.state, "UNAUTHORIZED"), errors.get(message.last_error, ""))

    def _look_at_devices(self) -> None:
        def looked(done: Future) -> None:
            if (error := done.exception()) is not None:
                self.log.error("devices not looked at", error=str(error))
            self._device_findings = done.result() or [] if error is None else []

        self.run_in_worker(self._devices.look, self._line).add_done_callback(looked)

    def _judged(self, limits: policy.Limits) -> None:
        if limits.level == self._level:
            return
        level, before, self._level = limits.level, self._level, limits.level
        write = self.log.warning if level > before else self.log.info
        write("limits", limits=level.name, before=before.name, why=limits.message)
        self._publish_limits()

    def _publish_limits(self) -> None:
        limits = self._monitor.limits
        message = OperatingLimits(
            level=int(limits.level), causes=[int(cause) for cause in limits.causes],
            frame_rate_limit_hz=limits.frame_rate_limit_hz, message=limits.message,
        )  # fmt: skip
        message.header.stamp = self.get_clock().now().to_msg()
        self._limits.publish(message)

    def _status(self, group: str, finding: Finding) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=bytes([finding.level]),
            name=f"{group}: {finding.name}",
            message=finding.message,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=name, value=value) for name, value in finding.values.items()],
        )


def power_of(message: SensorState) -> Power:
    """What the sensors say of the power; a role that is not there, or not known, is None."""
    known = {one.role: one for one in message.readings if one.level != SensorReading.LEVEL_UNKNOWN}

    def active(role: int) -> bool | None:
        return known[role].level == SensorReading.LEVEL_ACTIVE if role in known else None

    battery = known.get(SensorReading.ROLE_BATTERY)
    return Power(
        active(SensorReading.ROLE_ON_BATTERY),
        battery.value if battery is not None else None,
        active(SensorReading.ROLE_BATTERY_LOW),
        active(SensorReading.ROLE_POWER_FAIL),
    )


def main() -> None:
    """Run the node."""
    run(HealthNode)
