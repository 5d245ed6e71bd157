"""The actuator's side for lamps, lock and buzzer.

Serves `actuator/set_output` (SetOutput), publishes `actuator/outputs` (Outputs, latched: what the lines read). Hears
system/status (SystemStatus), deposit/state (DepositState) and health/limits (OperatingLimits); the node hands on what
the sensors tell. `outputs` owns the rules, `output_control` the thread.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from myrvm_core.backoff import Backoff
from myrvm_core.machine_mode import Mode
from myrvm_interfaces.msg import DepositState, OperatingLimits, Output, SensorReading, SensorState, SystemStatus
from myrvm_interfaces.msg import Outputs as OutputsMessage
from myrvm_interfaces.srv import SetOutput
from myrvm_ros.limits import Limits
from myrvm_ros.managed_node import ManagedNode
from rclpy.task import Future

from myrvm_hardware.gpiod_outputs import GpiodOutputs
from myrvm_hardware.output_control import OutputControl
from myrvm_hardware.outputs import Outputs, Refusal
from myrvm_hardware.settings import ActuatorSettings
from myrvm_ros import levels, qos, stamps

KNOWN_MODES = {int(mode) for mode in Mode}
# The light is on before the picture: the deposit node's settle_s is the ring's too.
LOOKING = (DepositState.ITEM_DETECTED, DepositState.CLASSIFYING)


class OutputPanel:
    """Made in `configure` of the actuator; a profile without outputs has none to drive, and says so."""

    def __init__(self, node: ManagedNode[ActuatorSettings]) -> None:
        settings = node.settings
        self._node = node
        self._driver = GpiodOutputs(settings)
        self._outputs = Outputs(self._driver.safe_on, settings.outputs.light_limit_s, settings.interlock_stale_s)
        self._publisher = node.publisher(OutputsMessage, "actuator/outputs", qos.STATE)
        backoff = Backoff(settings.reopen_first_s, settings.reopen_longest_s)
        self._control = OutputControl(self._driver, self._outputs, backoff, self._on_change, node.log)
        self._deposit_state = 0

    @property
    def problem(self) -> str:
        """What is wrong, one line; empty when all is well."""
        return self._control.problem if self._driver.safe_on else ""

    def activate(self) -> None:
        """Drive the outputs until the node is deactivated."""
        node = self._node
        if self._driver.safe_on:
            node.on_release(self._publish_safe)  # after the thread has ended
            node.on_release(self._control.stop)
            self._control.start()
        else:
            self._publish({})
        node.subscription(SystemStatus, "system/status", self._on_status, qos.STATE)
        node.subscription(DepositState, "deposit/state", self._on_deposit, qos.STATE)
        Limits(node, lambda limits: self._control.dark(limits.level >= OperatingLimits.DARK))
        node.service(SetOutput, "actuator/set_output", self._on_set_output)

    def _on_status(self, message: SystemStatus) -> None:
        self._control.mode(Mode(message.mode) if message.mode in KNOWN_MODES else Mode.UNKNOWN)

    def _on_deposit(self, message: DepositState) -> None:
        before, self._deposit_state = self._deposit_state, message.state
        self._control.looking(message.state in LOOKING)
        if before and message.state == DepositState.RETURNING != before:
            self._control.refused()

    def on_sensors(self, message: SensorState) -> None:
        """What the sensors tell, for the door."""
        readings = {reading.role: levels.is_active(reading.level) for reading in message.readings}
        age_s = (self._node.now_ns() - stamps.to_ns(message.header.stamp)) / stamps.NANOSECONDS
        self._control.door(readings.get(SensorReading.ROLE_DOOR), age_s)

    def _on_set_output(self, request: Any, response: Any) -> Future:
        future = Future()

        def answered(refusal: Refusal, why: str, read_back: bool) -> None:
            response.taken, response.refusal = refusal == Refusal.NONE, int(refusal)
            response.message, response.read_back = why, read_back
            self._node.log.info("output", output=request.name, on=request.on, holder=request.holder,
                                technician=request.technician, from_afar=request.from_afar,
                                refusal=refusal.name, why=why)  # fmt: skip
            self._node.call_soon(partial(future.set_result, response))

        self._control.call(
            request.name, request.on, request.duration_s, request.technician, answered, request.from_afar
        )
        return future

    def _on_change(self, levels: dict[str, bool]) -> None:
        self._node.call_soon(partial(self._publish, levels))

    def _publish_safe(self) -> None:
        if not self._control.thread.problem:
            self._publish(self._driver.safe_on)

    def _publish(self, levels: dict[str, bool]) -> None:
        if not self._node.context.ok():
            return
        message = OutputsMessage(
            outputs=[
                Output(name=name, on=on, safe_on=self._driver.safe_on[name]) for name, on in levels.items()
            ]
        )  # fmt: skip
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
