"""ROS as the nodes see it, in one thread and under a clock that is turned by hand: a thousand crashes in a minute.

`OnBus` put before a node's class gives that node's own code (its `configure`, `activate` and every callback) this bus
in the place of rclpy. What is asked for is done at once, in order; whatever takes time is a timer.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

from myrvm_core.settings import Settings
from rclpy.task import Future

BOOT_S = 1_000.0
STEPS = 20_000  # events in one run of the bus: more is a loop


class Bus:
    """Topics, services and time. `hook(text)` is called at each message and answer."""

    def __init__(self, now_ns: int, hook: Callable[[str], None] = lambda text: None) -> None:
        self.hook = hook
        self.now_s = BOOT_S
        self.log: list[tuple[str, str, dict[str, Any]]] = []
        self._begun_ns = now_ns
        self._subscribers: dict[str, list[Callable[[Any], Any]]] = defaultdict(list)
        self._latched: dict[str, Any] = {}
        self._services: dict[str, Callable[[Any], Any]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._cancelled: set[int] = set()

    def now_ns(self) -> int:
        """ROS time."""
        return self._begun_ns + int((self.now_s - BOOT_S) * 1e9)

    def after(self, delay_s: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back later; returns what cancels it."""
        number = next(self._order)
        heapq.heappush(self._timers, (self.now_s + max(delay_s, 0.0), number, callback))
        return lambda: self._cancelled.add(number)

    def publish(self, topic: str, message: Any) -> None:
        """Give a message to all who listen, in the next step."""
        self._latched[topic] = message
        self.hook(f"topic {topic}")
        for callback in self._subscribers[topic]:
            self.after(0.0, lambda callback=callback: callback(message))

    def subscribe(self, topic: str, callback: Callable[[Any], Any]) -> None:
        """Listen; the last message is heard at once."""
        self._subscribers[topic].append(callback)
        if topic in self._latched:
            self.after(0.0, lambda: callback(self._latched[topic]))

    def serve(self, name: str, service_type: Any, callback: Callable[[Any, Any], Any]) -> None:
        """Answer requests."""
        self._services[name] = lambda request: callback(request, service_type.Response())

    def call(self, name: str, request: Any, done: Callable[[Any | None], None]) -> None:
        """Ask a service; `done` gets the answer in a later step, None where nobody serves."""

        def answered(answer: Any) -> None:
            self.hook(f"answer {name}")
            self.after(0.0, lambda: done(answer))

        def ask() -> None:
            service = self._services.get(name)
            answer = service(request) if service else None
            if isinstance(answer, Future):
                answer.add_done_callback(lambda future: answered(future.result()))
            else:
                answered(answer)

        self.after(0.0, ask)

    def run(self, until: Callable[[], bool] = lambda: False, limit_s: float = 60.0) -> bool:
        """Turn the clock on until the condition holds; False if it did not within `limit_s` of the bus's time."""
        end_s = self.now_s + limit_s
        for _ in range(STEPS):
            if until():
                return True
            if not self._timers or self._timers[0][0] > end_s:
                self.now_s = end_s
                return until()
            due_s, number, callback = heapq.heappop(self._timers)
            self.now_s = max(self.now_s, due_s)
            if number in self._cancelled:
                self._cancelled.discard(number)
            else:
                callback()
        raise AssertionError(f"{STEPS} events in {limit_s} s: the nodes go round in a circle")


class _Log:
    """The node's log as a list."""

    def __init__(self, name: str, lines: list[tuple[str, str, dict[str, Any]]]) -> None:
        self._name, self._lines = name, lines

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda message, **fields: self._lines.append((level, f"{self._name}: {message}", fields))


class OnBus:
    """Put before a `ManagedNode` in the bases of a class: the node runs on a bus. Not one thing of ROS is started."""

    active = False
    executor = None
    environment: dict[str, str] = {}

    def __init__(self, bus: Bus, settings: Settings, name: str) -> None:
        self.bus = bus
        self.settings = settings
        self.log = _Log(name, bus.log)
        self.active = False
        self._released = ExitStack()
        self._worker = SimpleNamespace(submit=self._at_once)

    def begin(self) -> None:
        """Configure and activate."""
        self.configure()  # type: ignore[attr-defined]
        self.active = True
        self.activate()  # type: ignore[attr-defined]

    def end(self) -> None:
        """Deactivate and clean up."""
        self.active = False
        self._released.close()

    @staticmethod
    def _at_once(function: Callable[..., Any], *arguments: Any) -> Any:
        value = function(*arguments)
        return SimpleNamespace(result=lambda: value)

    def on_release(self, release: Callable[..., object], *arguments: Any) -> None:
        self._released.callback(release, *arguments)

    def publisher(self, message_type: Any, topic: str, profile: Any) -> Any:
        return SimpleNamespace(publish=lambda message: self.bus.publish(topic, message))

    def subscription(self, message_type: Any, topic: str, callback: Callable[[Any], Any], profile: Any) -> None:
        self.bus.subscribe(topic, callback)

    def service(self, service_type: Any, name: str, callback: Callable[[Any, Any], Any]) -> None:
        self.bus.serve(name, service_type, callback)

    def client(self, service_type: Any, name: str) -> Any:
        return name

    def call(
        self, client: Any, request: Any, timeout_s: float, done: Callable[[Any | None], None]
    ) -> Callable[[], None]:
        self.bus.call(client, request, done)
        return lambda: None

    def after(self, delay_s: float, callback: Callable[[], None]) -> Callable[[], None]:
        return self.bus.after(delay_s, callback)

    def timer(self, period_s: float, callback: Callable[[], None]) -> None:
        def again() -> None:
            callback()
            self.bus.after(period_s, again)

        self.bus.after(period_s, again)

    def run_in_worker(self, function: Callable[..., Any], *arguments: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.bus.after(0.0, callback)

    def now_ns(self) -> int:
        return self.bus.now_ns()
