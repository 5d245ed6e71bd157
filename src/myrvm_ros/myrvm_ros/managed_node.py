"""The lifecycle node that every node here is: settings in, resources released in reverse order, a heartbeat out.

A node overrides `configure` (build) and `activate` (start). Whatever these create through the helpers below, or hand
to `on_release`, is destroyed by the mirror transition in reverse order, also when they fail half way. Slow work goes
to `run_in_worker`, calls to other nodes through `call`: no callback blocks, so one thread serves each node.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import rclpy
from diagnostic_msgs.msg import KeyValue
from lifecycle_msgs.msg import State
from myrvm_core.environment import environment
from myrvm_core.errors import RvmError
from myrvm_core.settings import Settings
from myrvm_interfaces.msg import NodeHealth
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.client import Client
from rclpy.clock import Clock, ClockType  # pyright: ignore[reportPrivateImportUsage]  # where Humble has it
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.task import Future
from rclpy.timer import Timer

from myrvm_core import log, paths
from myrvm_ros import qos
from myrvm_ros.parameters import Parameters

HEARTBEAT_TOPIC = "system/node_health"
LOG_LEVEL = "log_level"  # a parameter of every node
HEARTBEAT_PERIOD_S = 1.0
LOOK_S = 0.05  # for a service that is not discovered yet
DELIVERY_S = 0.1  # an answer sent so long ago has reached its caller
HEARTBEAT_UNCONFIGURED_S = 0.2  # a new process is noticed soon
RCLError: type[Exception] = rclpy_implementation.RCLError
InvalidHandle: type[Exception] = rclpy_implementation.InvalidHandle

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Health:
    """How a node feels: a level of `NodeHealth`, one line for a person, its own figures (unit in the name)."""

    level: int = NodeHealth.OK
    message: str = "ok"
    values: dict[str, float | int | str] = field(default_factory=dict)


class ManagedNode(LifecycleNode, Generic[S]):
    """Base class of all nodes."""

    settings_type: ClassVar[type[Settings]]
    settings: S
    _worker: ThreadPoolExecutor

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(name, **options)
        self.environment = environment()
        level = self.environment.get("LOG_LEVEL") or "INFO"
        self.log = log.configure(name, paths.data() / "logs", level)
        self.declare_parameter(LOG_LEVEL, level.upper(), ParameterDescriptor(description="What is logged from now on."))
        self.add_on_set_parameters_callback(self._take_log_level)
        self._settings_parameters = Parameters(self, self.settings_type, self.environment)
        self._configured = ExitStack()
        self._active = ExitStack()
        self._phase = self._configured
        self._answered_s = -DELIVERY_S
        self._monotonic = Clock(clock_type=ClockType.STEADY_TIME)
        self._pending: set[Timer] = set()  # one-shot timers that have not fired
        self._undiscovered: dict[Client, list[Callable[[], None]]] = {}  # requests that wait for their service
        self._failure = ""
        self._soon: deque[Callable[[], None]] = deque()
        self._answer_impossible_transitions()
        self._started_at = self.get_clock().now().to_msg()
        self._heartbeat = self.create_publisher(NodeHealth, HEARTBEAT_TOPIC, qos.HEARTBEAT)
        self._heartbeat_timer = self.create_timer(HEARTBEAT_UNCONFIGURED_S, self._beat, clock=self._monotonic)

    def _take_log_level(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == LOG_LEVEL:
                if parameter.value not in log.LEVELS:
                    return SetParametersResult(successful=False, reason=f"one of {', '.join(log.LEVELS)}")
                log.set_level(parameter.value)
        return SetParametersResult(successful=True)

    # What a node overrides

    def configure(self) -> None:
        """Build what the node needs from `self.settings`. Raise an `RvmError` to refuse."""

    def activate(self) -> None:
        """Start. Publishers made in `configure` already send. Raise an `RvmError` to refuse."""

    def health(self) -> Health:
        """The node's own state for its heartbeat; called once a second while the node is configured."""
        return Health()

    # What a node uses; everything made here is destroyed by the mirror transition

    def on_release(self, release: Callable[..., object], *arguments: Any) -> None:
        """Call `release(*arguments)` in the mirror of the present transition."""
        self._phase.callback(release, *arguments)

    def publisher(self, message_type: Any, topic: str, profile: QoSProfile) -> Publisher:
        """A publisher that sends only while the node is active."""
        publisher = self.create_lifecycle_publisher(message_type, topic, profile)
        self.on_release(self.destroy_lifecycle_publisher, publisher)
        return publisher

    def subscription(self, message_type: Any, topic: str, callback: Callable[[Any], Any], profile: QoSProfile) -> None:
        """Call `callback` with each message."""
        self.on_release(self.destroy_subscription, self.create_subscription(message_type, topic, callback, profile))

    def service(self, service_type: Any, name: str, callback: Callable[[Any, Any], Any]) -> None:
        """Serve requests; `callback(request, response)` returns the response, or a `Future` of it (`run_in_worker`).

        A future is answered when it is done. Prefer it to `async def`: while a coroutine waits, rclpy's executor spins
        at full speed and holds back every other callback of the node.
        """
        service = self.create_service(service_type, name, callback)
        send_now = service.send_response

        def send(response: Any, header: Any) -> None:
            send_now(response, header)
            self._answered_s = time.monotonic()

        def send_when_done(response: Any, header: Any) -> None:
            if isinstance(response, Future):
                response.add_done_callback(lambda done: self._answer(send, done, header))
            else:
                send(response, header)

        service.send_response = send_when_done
        self.on_release(self._destroy_service, service)

    def _destroy_service(self, service: Any) -> None:
        if time.monotonic() - self._answered_s < DELIVERY_S:
            time.sleep(DELIVERY_S)  # Fast DDS drops what a destroyed writer has not delivered yet
        self.destroy_service(service)

    def _answer(self, send: Callable[[Any, Any], None], done: Future, header: Any) -> None:
        if done.cancelled():
            return
        try:
            send(done.result(), header)
        except InvalidHandle:
            self.log.debug("the service was released before its answer was ready")
        except Exception:  # the caller times out; the node lives
            self.log.exception("request failed")

    def client(self, service_type: Any, name: str) -> Client:
        """A client for `call`."""
        client = self.create_client(service_type, name)
        self.on_release(self.destroy_client, client)
        return client

    def timer(self, period_s: float, callback: Callable[[], None]) -> None:
        """Call `callback` each `period_s` seconds."""
        self.on_release(self.destroy_timer, self.create_timer(period_s, callback, clock=self._monotonic))

    def after(self, delay_s: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` once, in `delay_s` seconds, unless deactivated before. Returns what cancels it."""

        def fire() -> None:
            cancel()
            callback()

        def cancel() -> None:
            if timer in self._pending:
                self._pending.remove(timer)
                self.destroy_timer(timer)

        timer = self.create_timer(max(delay_s, 1e-3), fire, clock=self._monotonic)
        self._pending.add(timer)
        return cancel

    def call(
        self, client: Client, request: Any, timeout_s: float, done: Callable[[Any | None], None]
    ) -> Callable[[], None]:
        """Call a service; `done` gets the response, or None where there was none within `timeout_s` seconds.

        A request to a service that is not discovered yet would be lost: it waits for that, in the order of the calls.
        Returns what withdraws it as long as it waits so; `done` is not called then.
        """
        future: Future | None = None

        def send() -> None:
            nonlocal future
            future = client.call_async(request)
            future.add_done_callback(answered)

        def answered(answer: Future) -> None:
            if not answer.cancelled():
                stop_clock()
                done(answer.result())

        def expire() -> None:
            if future is None:
                withdraw()
            else:
                client.remove_pending_request(future)
                future.cancel()
            done(None)

        def withdraw() -> None:
            if send in (waiting := self._undiscovered.get(client, [])):
                waiting.remove(send)
                stop_clock()

        stop_clock = self.after(timeout_s, expire)
        if client in self._undiscovered:
            self._undiscovered[client].append(send)
        else:
            self._undiscovered[client] = [send]
            self._send_discovered(client)
        return withdraw

    def _send_discovered(self, client: Client) -> None:
        if self._undiscovered[client] and not client.service_is_ready():
            self.after(LOOK_S, lambda: self._send_discovered(client))
        else:
            for send in self._undiscovered.pop(client):
                send()

    def run_in_worker(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Run `function` on the node's worker thread. A service callback may return the future (`service`)."""
        future = Future(executor=self.executor)
        worker_future = self._worker.submit(function, *arguments)

        def finished(_: Any) -> None:
            # The executor's thread completes the future: its callbacks touch ROS entities.
            self.call_soon(lambda: self._complete(future, worker_future))

        worker_future.add_done_callback(finished)
        return future

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Run `callback` on the executor's thread, in the order of the calls; safe to call from any thread."""
        if self.executor is not None:
            self._soon.append(callback)
            # rclpy runs the newest task first; the queue keeps the order in which they were asked for.
            self.executor.create_task(lambda: self._soon.popleft()())

    @staticmethod
    def _complete(future: Future, worker_future: Any) -> None:
        error = worker_future.exception()
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(worker_future.result())

    def now_ns(self) -> int:
        """ROS time in nanoseconds."""
        return self.get_clock().now().nanoseconds

    @property
    def state_id(self) -> int:
        """`lifecycle_msgs/State` id."""
        return self._state_machine.current_state[0]

    @property
    def active(self) -> bool:
        """Whether the node is active."""
        return self.state_id == State.PRIMARY_STATE_ACTIVE

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read and check the parameters, then `configure`."""

        def build() -> None:
            self.settings = self._settings_parameters.read()  # pyright: ignore[reportAttributeAccessIssue]
            self._worker = ThreadPoolExecutor(1, thread_name_prefix=self.get_name())
            self.on_release(self._worker.shutdown)
            self.configure()

        result = self._attempt("configure", self._configured, build)
        if result == TransitionCallbackReturn.SUCCESS:
            self._heartbeat_timer.timer_period_ns = round(HEARTBEAT_PERIOD_S * 1e9)
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Let publishers send, then `activate`."""
        super().on_activate(state)
        result = self._attempt("activate", self._active, self.activate)
        if result != TransitionCallbackReturn.SUCCESS:
            super().on_deactivate(state)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release what `activate` made."""
        result = self._release("deactivate", self._active)
        super().on_deactivate(state)
        return result

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release what `configure` made."""
        return self._release("cleanup", self._configured)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything; the process ends."""
        self.release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release everything; the node may be configured again."""
        self.release()
        return TransitionCallbackReturn.SUCCESS

    def release(self) -> None:
        """Release everything, whatever the state."""
        self._release("deactivate", self._active)
        self._release("cleanup", self._configured)

    def _cancel_pending(self) -> None:
        self._undiscovered.clear()
        while self._pending:
            self.destroy_timer(self._pending.pop())

    def _answer_impossible_transitions(self) -> None:
        # rclpy raises through the executor when a stranger asks for a transition that the state does not have.
        service = self._service_change_state
        change_state = service.callback

        def guarded(request: Any, response: Any) -> Any:
            try:
                return change_state(request, response)
            except RCLError as error:
                self.log.warning("transition impossible", transition=request.transition.id, error=str(error))
                response.success = False
                return response

        service.callback = guarded

    def _attempt(self, transition: str, phase: ExitStack, build: Callable[[], None]) -> TransitionCallbackReturn:
        self._phase = phase
        try:
            build()
        except RvmError as error:
            self._failure = str(error)
            self.log.error("transition refused", transition=transition, error=str(error))
            self._release(transition, phase)
            return TransitionCallbackReturn.FAILURE
        except Exception as error:  # a defect of ours: say all that is known, stay alive, hold nothing
            self._failure = f"{type(error).__name__}: {error}"
            self.log.exception("transition failed", transition=transition)
            self._release(transition, phase)
            return TransitionCallbackReturn.ERROR
        self._failure = ""
        # What is made between transitions (a timer, a call) belongs to the activity.
        self._phase = self._active
        self.log.info("transition done", transition=transition)
        return TransitionCallbackReturn.SUCCESS

    def _release(self, transition: str, phase: ExitStack) -> TransitionCallbackReturn:
        try:
            phase.close()
        except Exception:  # ExitStack has called every release before it raises
            self.log.exception("release failed", transition=transition)
            return TransitionCallbackReturn.ERROR
        finally:
            self._cancel_pending()  # last: a release may have called
        return TransitionCallbackReturn.SUCCESS

    def _beat(self) -> None:
        state = self.state_id
        configured = state in (State.PRIMARY_STATE_INACTIVE, State.PRIMARY_STATE_ACTIVE)
        if configured:
            health = self.health()
        elif self._failure:
            health = Health(NodeHealth.ERROR, self._failure)
        else:
            health = Health(message="not configured")
        message = NodeHealth(
            node=self.get_name(),
            pid=os.getpid(),
            started_at=self._started_at,
            lifecycle_state=state,
            level=health.level,
            message=health.message,
            values=[KeyValue(key=name, value=str(value)) for name, value in health.values.items()],
        )
        message.header.stamp = self.get_clock().now().to_msg()
        self._heartbeat.publish(message)


def run(node_type: Callable[[], ManagedNode[Any]]) -> None:
    """The `main()` of a node: spin until it is shut down or the process is told to stop, then release everything."""
    rclpy.init()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    executor = SingleThreadedExecutor()
    node = node_type()
    executor.add_node(node)
    gc.freeze()  # what is loaded by now stays: the collector need not look at it again and again
    try:
        while node.state_id != State.PRIMARY_STATE_FINALIZED:
            executor.spin_once()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except RCLError:  # a signal has shut the context down between two steps of the executor
        if rclpy.ok():  # pyright: ignore[reportPrivateImportUsage]
            raise
    finally:
        node.release()
        executor.shutdown(timeout_sec=0.0)  # nothing else runs in this thread
        node.destroy_node()
        rclpy.try_shutdown()  # pyright: ignore[reportPrivateImportUsage]
