"""The messages of the gates and the interlocks, from what `gate_control` knows."""

from __future__ import annotations

from collections.abc import Mapping

from myrvm_interfaces.msg import GateState, SensorReading, SensorState

from myrvm_hardware.drivers import Direction, EndSwitch, Role
from myrvm_hardware.gate import Snapshot
from myrvm_hardware.gate_control import InterlockLevel
from myrvm_hardware.kernel_clock import since_epoch_ns
from myrvm_hardware.wear import Wear
from myrvm_ros import levels, stamps


def gate_state(snapshot: Snapshot, wear: Wear, now_ns: int) -> GateState:
    """A gate; `wear` is that of its whole life."""
    message = GateState(
        gate=snapshot.gate,
        position=_position(snapshot),
        motor_on=snapshot.motor != Direction.OFF,
        command_id=snapshot.command_id,
        verb=snapshot.verb,
        outcome=int(snapshot.outcome),
        cycles=snapshot.cycles,
        motor_run_time_s=snapshot.motor_run_time_s,
        jams=snapshot.jams,
        lifetime_cycles=wear.cycles,
        lifetime_motor_run_time_s=wear.motor_run_time_s,
        fault=snapshot.fault,
        obstacles=list(snapshot.obstacles),
    )
    message.header.stamp = stamps.to_message(now_ns)
    return message


def interlock_state(interlocks: Mapping[Role, InterlockLevel], watching_since_ns: int, now_ns: int) -> SensorState:
    """All interlocks; `watching_since_ns` on the kernel's clock, 0: nobody watches."""
    message = SensorState(
        readings=[
            SensorReading(
                role=int(role),
                level=levels.to_level(level.active),
                stamp=stamps.to_message(since_epoch_ns(level.since_ns) if level.since_ns else now_ns),
            )
            for role, level in interlocks.items()
        ]
    )
    message.header.stamp = stamps.to_message(now_ns)
    message.watching_since = stamps.to_message(since_epoch_ns(watching_since_ns) if watching_since_ns else 0)
    return message


def _position(snapshot: Snapshot) -> int:
    if snapshot.motor != Direction.OFF:
        return GateState.POSITION_MOVING
    if snapshot.position is None or snapshot.position >= EndSwitch.BETWEEN:
        return GateState.POSITION_UNKNOWN
    return int(snapshot.position)
