"""A guest in the running graph, for commands: hears topics, calls services, waits with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import rclpy
from myrvm_core.errors import RvmError
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile


class GraphError(RvmError):
    """The graph does not answer: it is not up, or not in this ROS domain."""


class GraphClient:
    """One node of its own; used by one thread, left with its context."""

    def __init__(self, name: str) -> None:
        self._context = Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node(name, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._clients: dict[str, Any] = {}
        self.latest: dict[str, Any] = {}

    def listen(self, message_type: Any, topic: str, profile: QoSProfile) -> None:
        """Keep the newest message of `topic` in `latest`."""
        self.hear(message_type, topic, profile, lambda message: self.latest.update({topic: message}))

    def hear(self, message_type: Any, topic: str, profile: QoSProfile, heard: Callable[[Any], None]) -> None:
        """Call `heard` with each message of `topic`."""
        self.node.create_subscription(message_type, topic, heard, profile)

    def now_ns(self) -> int:
        """ROS time in nanoseconds."""
        return self.node.get_clock().now().nanoseconds

    def wait(self, done: Callable[[], bool], limit_s: float) -> bool:
        """Handle what comes until `done`, at most `limit_s` seconds; whether it is done."""
        until_s = time.monotonic() + limit_s
        while not (ended := done()) and (left_s := until_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left_s, 0.1))
        return ended

    def call(self, service_type: Any, name: str, request: Any, limit_s: float) -> Any:
        """The answer of a service.

        Raises:
            GraphError: there is no such service, or no answer within `limit_s` seconds.
        """
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = self.node.create_client(service_type, name)
        if not self.wait(client.service_is_ready, limit_s):
            raise GraphError(f"nobody serves {name}: is the graph up, in this ROS domain?")
        future = client.call_async(request)
        if not self.wait(future.done, limit_s):
            client.remove_pending_request(future)
            raise GraphError(f"{name} has not answered within {limit_s:g} s")
        return future.result()

    def __enter__(self) -> GraphClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        with suppress(RuntimeError):
            rclpy.shutdown(context=self._context)
