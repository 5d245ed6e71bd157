"""Messages that only the deposit node sends."""

from __future__ import annotations

import math

from myrvm_core.deposit import DepositMachine, Show
from myrvm_core.deposit_record import Session
from myrvm_interfaces.msg import DepositResult, DepositState
from myrvm_ros.conversions import session_to_message, verdict_to_message
from myrvm_ros.stamps import to_message


def result_message(show: Show, recovered: bool, now_ns: int) -> DepositResult:
    """What the customer is told."""
    message = DepositResult(
        deposit_id=show.deposit_id,
        session=session_to_message(show.session),
        outcome=int(show.ending),
        verdict=verdict_to_message(show.verdict),
        points=show.points,
        recovered=recovered,
        duration_s=show.duration_s,
    )
    message.header.stamp = to_message(now_ns)
    return message


def state_message(machine: DepositMachine, now_s: float, now_ns: int) -> DepositState:
    """Where the machine is; `now_s` is monotonic, `now_ns` ROS time."""
    message = DepositState(
        state=int(machine.state),
        deposit_id=machine.current.deposit_id if machine.current else "",
        session=session_to_message(machine.session or Session()),
        session_items=machine.session_items,
        session_points=machine.session_points,
    )
    if math.isfinite(machine.deadline_s):
        message.deadline = to_message(now_ns + int((machine.deadline_s - now_s) * 1e9))
    message.header.stamp = to_message(now_ns)
    return message
