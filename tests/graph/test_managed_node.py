"""What every node gets from its base class."""

from __future__ import annotations

import threading
import time

import rclpy
from myrvm_core.settings import Settings
from myrvm_ros.managed_node import ManagedNode
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor


class EmptySettings(Settings):
    """None."""


class Node(ManagedNode[EmptySettings]):
    settings_type = EmptySettings


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
