"""What every node gets from its base class."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rclpy
from lifecycle_msgs.srv import ChangeState
from myrvm_core.settings import Settings
from myrvm_ros.managed_node import ManagedNode
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

LIMIT_S = 60.0


class EmptySettings(Settings):
    """None."""


class Node(ManagedNode[EmptySettings]):
    settings_type = EmptySettings


class Asking:
    """A node on an executor that this thread spins, and another that may begin to serve."""

    def __init__(self) -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self.node = Node("asking", context=self._context)
        self._other = rclpy.create_node("serving", context=self._context)
        self.client = self.node.create_client(ChangeState, "late_service")
        self.heard: list[int] = []
        self.answers: list[int | None] = []
        for node in (self.node, self._other):
            self._executor.add_node(node)

    def serve(self) -> None:
        """From now on."""

        def answer(request: Any, response: Any) -> Any:
            self.heard.append(request.transition.id)
            response.success = True
            return response

        self._other.create_service(ChangeState, "late_service", answer)

    def ask(self, number: int, timeout_s: float = LIMIT_S) -> Callable[[], None]:
        """`answers` gets the number, or None."""
        request = ChangeState.Request()
        request.transition.id = number

        def done(response: Any) -> None:
            self.answers.append(response and number)

        return self.node.call(self.client, request, timeout_s, done)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Spin until it holds."""
        end_s = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end_s
            self._executor.spin_once(timeout_sec=0.1)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        self._other.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def asking(ros_domain: int) -> Iterator[Asking]:
    asking = Asking()
    yield asking
    asking.close()


def test_requests_wait_for_a_service_that_comes_late_and_keep_their_order(asking: Asking) -> None:
    asking.ask(1)
    withdraw = asking.ask(2)
    asking.ask(3, timeout_s=0.2)
    asking.ask(4)
    withdraw()
    asking.wait(lambda: asking.answers == [None])
    asking.serve()
    asking.ask(5)
    asking.wait(lambda: len(asking.answers) == 4)
    assert asking.answers[1:] == asking.heard == [1, 4, 5]
    withdraw()  # comes too late and does nothing
    asking.ask(6)
    asking.wait(lambda: asking.answers[-1] == 6)


def test_a_request_that_waits_is_forgotten_with_the_activity(asking: Asking) -> None:
    asking.ask(1)
    asking.node.release()
    asking.serve()
    asking.wait(asking.client.service_is_ready)
    asking.ask(2)
    asking.wait(lambda: bool(asking.answers))
    assert asking.answers == asking.heard == [2]


def test_callbacks_from_other_threads_run_in_the_order_of_the_calls(ros_domain: int) -> None:
    context = Context()
    rclpy.init(context=context)
    node = Node("ordered", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    ran: list[int] = []

    def ask() -> None:
        for number in range(200):
            node.call_soon(lambda number=number: ran.append(number))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    end_s = time.monotonic() + 60.0
    while len(ran) < 200 and time.monotonic() < end_s:
        executor.spin_once(timeout_sec=0.1)
    assert ran == list(range(200))
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)
