"""Sensors, gate and detector played by a test, for a deposit node with the real offline buffer."""

from __future__ import annotations

from typing import Any

from myrvm_core.deposit import State
from myrvm_interfaces.msg import (
    BufferStatus,
    DepositResult,
    DepositState,
    GateState,
    OperatingLimits,
    SensorEvent,
    SensorReading,
    SensorState,
    SystemStatus,
    Verdict,
)
from myrvm_interfaces.srv import Classify, CommandGate, LeaseDeposits
from myrvm_ros.stamps import to_ns
from sensor_msgs.msg import CompressedImage

from myrvm_ros import qos

# A wait that a test lets run out is short; one that the test itself must keep to is long: the machine may be busy.
JPEG = b"\xff\xd8 the judged frame \xff\xd9"
SHORT = {
    "recover_s": 1.0,
    "settle_s": 0.05,
    "weigh_after_s": 0.1,
    "show_s": 0.2,
    "gate_s": 30.0,
    "drop_s": 2.0,
    "authorize_s": 0.5,
}


class PlayedCabinet:
    """Stand-in for sensor, actuator and detector: services and publishers of the test's node."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        node = graph.node
        self.events = node.create_publisher(SensorEvent, "sensors/events", qos.EVENT)
        self.levels = {SensorReading.ROLE_ENTRY: SensorReading(role=SensorReading.ROLE_ENTRY, level=1)}
        self.weight_kg: float | None = None
        self.watching_since = node.get_clock().now().to_msg()
        self.state = node.create_publisher(SensorState, "sensors/state", qos.STATE)
        self.publish_state()
        self.gate = node.create_publisher(GateState, "actuator/state", qos.STATE)
        self.system = node.create_publisher(SystemStatus, "system/status", qos.STATE)
        self.limits = node.create_publisher(OperatingLimits, "health/limits", qos.STATE)
        self.judged = node.create_publisher(CompressedImage, "detector/judged", qos.STATE)
        node.create_service(Classify, "detector/classify", self._classify)
        node.create_service(CommandGate, "actuator/command", self._command)
        self.states = graph.listen(DepositState, "deposit/state", qos.STATE)
        self.results = graph.listen(DepositResult, "deposit/result", qos.EVENT)
        self.buffer = graph.listen(BufferStatus, "buffer/status", qos.STATE)
        self.verdict = Verdict(outcome=Verdict.ACCEPTED, class_name="mineral", score=0.9)
        self.classified: list[int] = []
        self.commands: list[CommandGate.Request] = []
        self.sequence = 0

    def _classify(self, request: Classify.Request, response: Classify.Response) -> Classify.Response:
        self.classified.append(to_ns(request.item_arrived_at))
        picture = CompressedImage(format="jpeg", data=JPEG)
        picture.header.stamp = self.graph.node.get_clock().now().to_msg()
        self.verdict.frame_stamps = [picture.header.stamp]
        self.judged.publish(picture)
        response.verdict = self.verdict
        return response

    def _command(self, request: CommandGate.Request, response: CommandGate.Response) -> CommandGate.Response:
        self.commands.append(request)
        response.taken = True
        self._gate_says(request, GateState.OUTCOME_RUNNING)
        return response

    def _gate_says(self, command: CommandGate.Request, outcome: int) -> None:
        self.gate.publish(GateState(command_id=command.command_id, verb=command.verb, outcome=outcome))

    def sense(self, role: int, active: bool = True) -> None:
        self.sequence += 1
        level = SensorReading.LEVEL_ACTIVE if active else SensorReading.LEVEL_INACTIVE
        message = SensorEvent(role=role, level=level, sequence=self.sequence)
        message.stamp = self.graph.node.get_clock().now().to_msg()
        self.events.publish(message)
        self.levels[role] = SensorReading(role=role, level=level, stamp=message.stamp)
        self.publish_state()

    def publish_state(self) -> None:
        readings, stamp = list(self.levels.values()), self.graph.node.get_clock().now().to_msg()
        if self.weight_kg is not None:
            role, level = SensorReading.ROLE_WEIGHT, SensorReading.LEVEL_ANALOG
            readings.append(SensorReading(role=role, level=level, value=self.weight_kg, stamp=stamp))
        message = SensorState(watching_since=self.watching_since, readings=readings)
        message.header.stamp = stamp
        self.state.publish(message)

    def weigh(self, weight_kg: float) -> None:
        """The scale shows another weight from now on, however often it is asked."""
        self.weight_kg = weight_kg

    def go_blind(self, item_present: bool) -> None:
        """The sensor node was away, and what happened meanwhile is not known."""
        now = self.graph.node.get_clock().now().to_msg()
        level = SensorReading.LEVEL_ACTIVE if item_present else SensorReading.LEVEL_INACTIVE
        self.levels = {SensorReading.ROLE_ENTRY: SensorReading(role=SensorReading.ROLE_ENTRY, level=level, stamp=now)}
        self.watching_since = now
        self.publish_state()

    def enter(self) -> None:
        self.sense(SensorReading.ROLE_ENTRY)

    def leave(self) -> None:
        self.sense(SensorReading.ROLE_ENTRY, active=False)

    def fall(self) -> None:
        """The item leaves the chamber downwards, and the gate closes behind it."""
        self.leave()
        self.sense(SensorReading.ROLE_DROP)
        self.sense(SensorReading.ROLE_DROP, active=False)
        self.finish()

    def finish(self, outcome: int = GateState.OUTCOME_DONE) -> None:
        """The last movement of the gate ends."""
        self._gate_says(self.commands[-1], outcome)

    def wait_for(self, state: State) -> None:
        self.graph.wait(lambda: self.states and self.states[-1].state == state, f"state {state.name}")

    def wait_for_command(self, count: int = 1) -> CommandGate.Request:
        self.graph.wait(lambda: len(self.commands) >= count, f"gate command {count}")
        return self.commands[-1]

    def wait_for_result(self, count: int = 1) -> DepositResult:
        self.graph.wait(lambda: len(self.results) >= count, f"result {count}")
        return self.results[-1]

    def wait_for_rows(self, **counts: int) -> None:
        def reached() -> bool:
            return bool(self.buffer) and all(getattr(self.buffer[-1], name) == n for name, n in counts.items())

        self.graph.wait(reached, f"rows {counts} in the buffer")

    def kill(self) -> None:
        process = self.graph.processes["deposit"]
        process.kill()
        process.wait()
        self.states.clear()

    def restart(self) -> None:
        self.graph.bring_up("deposit", **SHORT)


def lease(cabinet: PlayedCabinet) -> list[Any]:
    """What would be sent to the server now."""
    return list(
        cabinet.graph.call(LeaseDeposits, "buffer/lease", LeaseDeposits.Request(limit=10, duration_s=60.0)).records
    )
