"""A customer of the machine: an ordinary ROS node that opens sessions and reads what the screen would show."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import rclpy
from myrvm_core.errors import RvmError
from myrvm_interfaces.msg import (
    BufferStatus,
    CloudStatus,
    DepositResult,
    DepositState,
    GateState,
    Session,
    SystemStatus,
    Voucher,
)
from myrvm_interfaces.srv import DismissVoucher, EndSession, StartSession
from myrvm_ros.stamps import to_ns
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from myrvm_ros import qos

READY_STATES = (DepositState.IDLE, DepositState.SESSION, DepositState.SHOWING)
CALL_S = 5.0


class Customer:
    """Watches the machine and talks to it; spins only while it waits. A context manager."""

    def __init__(self) -> None:
        self.status = SystemStatus()
        self.cloud = CloudStatus()
        self.buffer = BufferStatus()
        self.state = DepositState()
        self.results: dict[str, DepositResult] = {}  # by deposit_id: a result may be told again after a crash
        self.vouchers: dict[str, Voucher] = {}  # by voucher_id, which is the session's
        self.told_again = 0
        self.decided_ns: dict[str, int] = {}  # deposit_id: ROS time at which the verdict was there
        self.on_state: Callable[[DepositState], None] = lambda _: None
        self.on_gate: Callable[[GateState], None] = lambda _: None
        self.meanwhile: Callable[[], None] = lambda: None
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("customer", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        subscriptions: Any = (
            (SystemStatus, "system/status", qos.STATE, lambda message: setattr(self, "status", message)),
            (CloudStatus, "cloud/status", qos.STATE, lambda message: setattr(self, "cloud", message)),
            (Voucher, "deposit/voucher", qos.STATE, self._on_voucher),
            (BufferStatus, "buffer/status", qos.STATE, lambda message: setattr(self, "buffer", message)),
            (GateState, "actuator/state", qos.STATE, lambda message: self.on_gate(message)),
            (DepositState, "deposit/state", qos.EVENT, self._on_state),
            (DepositResult, "deposit/result", qos.EVENT, self._on_result),
        )
        for message_type, topic, profile, callback in subscriptions:
            self._node.create_subscription(message_type, topic, callback, profile)
        self._start = self._node.create_client(StartSession, "deposit/start_session")
        self._dismiss = self._node.create_client(DismissVoucher, "deposit/dismiss_voucher")
        self._end = self._node.create_client(EndSession, "deposit/end_session")

    def wait(self, condition: Callable[[], Any], what: str, limit_s: float) -> None:
        """Watch until the condition holds.

        Raises:
            RvmError: it did not within `limit_s` seconds.
        """
        end_s = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end_s:
                raise RvmError(f"{what} did not come within {limit_s:g} s ({self._describe()})")
            self._executor.spin_once(timeout_sec=0.05)
            self.meanwhile()

    def start_session(self, token: str) -> Session:
        """Open a session; an empty token donates. Raises RvmError when the machine refuses."""
        kind = Session.KIND_ACCOUNT if token else Session.KIND_DONATION
        answer = self._call(self._start, StartSession.Request(kind=kind, token=token))
        if not answer.started:
            raise RvmError(f"the machine opens no session: refusal {answer.refusal} of StartSession")
        return answer.session

    def start_offline_session(self, token: str) -> Session:
        """Open a session whose items will be on a voucher, since nobody can say whose token it is now.

        Raises:
            RvmError: the machine refuses.
        """
        request = StartSession.Request(kind=Session.KIND_ACCOUNT, token=token, or_voucher=True)
        answer = self._call(self._start, request)
        if not answer.started:
            raise RvmError(f"the machine opens no session: refusal {answer.refusal} of StartSession")
        return answer.session

    def end_session(self, session: Session) -> tuple[int, int]:
        """End a session: items and points as the machine counts them. Raises RvmError when there is none."""
        answer = self._call(self._end, EndSession.Request(session_id=session.session_id))
        if not answer.ended:
            raise RvmError(f"session {session.session_id} was not open any more")
        return answer.items, answer.points

    def take_voucher(self, voucher_id: str) -> None:
        """The customer has photographed the voucher: it leaves the screen. Raises RvmError when it was not there."""
        answer = self._call(self._dismiss, DismissVoucher.Request(voucher_id=voucher_id))
        if not answer.dismissed:
            raise RvmError(f"voucher {voucher_id} was not on the screen")

    def _call(self, client: Any, request: Any) -> Any:
        self.wait(client.service_is_ready, client.srv_name, CALL_S)
        future = client.call_async(request)
        self.wait(future.done, f"the answer of {client.srv_name}", CALL_S * 2)
        return future.result()

    def _on_state(self, message: DepositState) -> None:
        self.state = message
        waiting = (DepositState.ITEM_DETECTED, DepositState.CLASSIFYING)
        if message.deposit_id and message.state not in waiting:
            self.decided_ns.setdefault(message.deposit_id, to_ns(message.header.stamp))
        self.on_state(message)

    def _on_voucher(self, message: Voucher) -> None:
        if message.voucher_id:
            self.vouchers[message.voucher_id] = message

    def _on_result(self, message: DepositResult) -> None:
        if message.deposit_id in self.results:
            self.told_again += 1
        else:
            self.results[message.deposit_id] = message

    def _describe(self) -> str:
        nodes = [f"{node.name}: {node.last_error}" for node in self.status.nodes if node.last_error]
        return "; ".join([f"system mode {self.status.mode}", f"deposit state {self.state.state}", *nodes])

    def __enter__(self) -> Customer:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)
