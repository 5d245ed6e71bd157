"""Brings the graph up and keeps it up; `myrvm_system.manager` decides, this node carries facts in and requests out.

Hears system/node_health (NodeHealth), cloud/status (CloudStatus), health/limits (OperatingLimits), deposit/state
(DepositState); publishes system/status (SystemStatus, latched); serves system/manage (ManageSystem); calls
`<node>/change_state` (lifecycle_msgs/ChangeState) of every node; runs the command that switches the machine off.
A managed node itself, that configures and activates itself: one way for settings, heartbeat and outsiders.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lifecycle_msgs.srv import ChangeState
from myrvm_core.clock import LinuxKernel
from myrvm_core.errors import SettingsError
from myrvm_core.machine_mode import Mode
from myrvm_interfaces.msg import CloudStatus, DepositState, NodeHealth, SystemStatus
from myrvm_interfaces.srv import ManageSystem
from myrvm_ros.limits import Limits
from myrvm_ros.managed_node import HEARTBEAT_TOPIC, Health, ManagedNode, run
from myrvm_ros.stamps import to_ns
from rclpy.task import Future

from myrvm_core import graph as graph_file
from myrvm_core import paths, program
from myrvm_ros import qos
from myrvm_system import start_up
from myrvm_system.manager import Beat, Kill, Manager, Probe, Request, SystemView, Verb
from myrvm_system.messages import status_message
from myrvm_system.policy import Cause, LimitLevel
from myrvm_system.power_off import PowerOff, Step
from myrvm_system.process import Processes, look
from myrvm_system.settings import ManagerSettings
from myrvm_system.standing_order import FILE, KEPT_VERBS, Order, OrderFile

TICK_S = 0.2
WITHOUT_ITEM = (DepositState.IDLE, DepositState.SESSION, DepositState.OUT_OF_ORDER)


class LifecycleManagerNode(ManagedNode[ManagerSettings]):
    """The manager of `config/graph.yaml`."""

    settings_type = ManagerSettings

    def __init__(self) -> None:
        super().__init__("lifecycle_manager")
        start = self.create_timer(0.0, lambda: (start.cancel(), self.trigger_configure(), self.trigger_activate()))

    def configure(self) -> None:
        """Read the graph and meet its nodes."""
        graph = graph_file.load()
        self._order_file = OrderFile(paths.data() / FILE)
        self._order = self._order_file.read()
        self._problem = self._order_file.problem
        if self._problem:
            self.log.error("standing order", error=self._problem)
        self._found = start_up.report()
        if any(self._found.counts.values()):
            self.log.warning("found at the start", at=self._found.at, what=str(self._found))
        self._boot_id = LinuxKernel().boot_id
        self._manager = Manager(graph, self.settings, time.monotonic(), self._order.verb)
        self._power_off = PowerOff(
            self.settings, self._boot_id != "" and self._order.switched_off_boot == self._boot_id
        )
        self._deposit_state = DepositState.IDLE
        self._processes = Processes()
        self.on_release(self._processes.close)
        self._change_state = {name: self.client(ChangeState, f"{name}/change_state") for name in graph.names}
        self._status = self.publisher(SystemStatus, "system/status", qos.STATE)
        self._shown: SystemView | None = None
        self._waiting: tuple[Future, float, Verb] | None = None

    def activate(self) -> None:
        """Begin to hear and to act."""
        self.subscription(NodeHealth, HEARTBEAT_TOPIC, self._on_heartbeat, qos.HEARTBEAT)
        self.subscription(CloudStatus, "cloud/status", self._on_cloud, qos.STATE)
        self.subscription(DepositState, "deposit/state", self._on_deposit_state, qos.STATE)
        self._limits = Limits(self, lambda _: None)  # read at each tick
        self.service(ManageSystem, "system/manage", self._on_manage)
        self.timer(TICK_S, self._act)
        self._act()

    def health(self) -> Health:
        """The mode by name, what the start has found; a warning where an order is not kept or not carried out."""
        view = self._manager.view()
        mode = f"{view.mode.name.lower()} {' '.join(view.reasons)}".strip()
        values = dict[str, float | int | str](self._found.counts)
        if self._problem:
            return Health(NodeHealth.WARN, f"{mode}; {self._problem}", values)
        return Health(message=mode, values=values)

    def _on_heartbeat(self, message: NodeHealth) -> None:
        beat = Beat(
            message.node, message.pid, to_ns(message.started_at), to_ns(message.header.stamp),
            message.lifecycle_state, message.level, message.message,
        )  # fmt: skip
        if message.node in self._change_state:
            self._manager.heard(time.monotonic(), beat)
            self._processes.watch(message.node, message.pid)
            self._act()

    def _on_cloud(self, message: CloudStatus) -> None:
        self._manager.cloud(message.state == CloudStatus.ONLINE)
        self._act()

    def _on_deposit_state(self, message: DepositState) -> None:
        self._deposit_state = message.state
        self._act()

    def _on_manage(self, request: ManageSystem.Request, response: ManageSystem.Response) -> Any:
        try:
            verb = Verb(request.verb)
            self._manager.check(verb, request.node)
        except ValueError:
            response.message = f"verb = {request.verb} is not allowed: {', '.join(f'{v.value} {v.name}' for v in Verb)}"
            return response
        except SettingsError as error:
            response.message = str(error)
            return response
        self.log.info("verb", verb=verb.name, about=request.node)
        future = Future()

        def kept() -> None:
            self._end_verb(False, f"replaced by {verb.name}")
            self._waiting = (future, time.monotonic() + self.settings.manage_timeout_s, verb)
            self._manager.command(time.monotonic(), verb, request.node)
            self._act()

        if verb == Verb.RESTART:
            kept()
        else:  # first on disk, then obeyed: a verb that was confirmed survives whatever comes
            self._problem = ""
            self._keep(replace(self._order, verb=verb if verb in KEPT_VERBS else None), kept)
        return future

    def _keep(self, order: Order, then: Callable[[], None]) -> None:
        """Put the order on disk, then go on: a full disk keeps nobody from pausing."""

        def written(done: Future) -> None:
            if (error := done.exception()) is not None:
                self._problem = f"order is not kept: {error}"
                self.log.error("standing order", error=self._problem)
            then()

        self._order = order
        self.run_in_worker(self._order_file.write, order).add_done_callback(written)

    def _end_verb(self, success: bool, message: str) -> None:
        if self._waiting is not None:
            future, self._waiting = self._waiting[0], None
            future.set_result(ManageSystem.Response(success=success, message=message))

    def _act(self) -> None:
        now_s = time.monotonic()
        limits = self._limits.current
        self._manager.limits(LimitLevel(limits.level), tuple(Cause(cause) for cause in limits.causes))
        self._go_on_with_power_off(now_s, None if self._limits.silent else LimitLevel(limits.level))
        for name, pid in self._processes.ended():
            self._manager.ended(now_s, name, pid)
        for action in self._manager.decide(now_s):
            if isinstance(action, Request):
                self._ask(now_s, action)
            elif isinstance(action, Probe):
                self._kill(self._manager.probed(now_s, action.node, look(action.pid)))
        self._report(now_s)
        if self._manager.hears_nobody(now_s) and start_up.RUN_VARIABLE in os.environ:
            # Seen in one of 100 restarts: the new one's transport hears nothing, though all nodes speak.
            self.log.critical("no node is heard: ends, so that the launcher starts it anew")
            raise SystemExit(1)

    def _go_on_with_power_off(self, now_s: float, level: LimitLevel | None) -> None:
        item_inside = self._manager.customers_served and self._deposit_state not in WITHOUT_ITEM
        stopped = self._manager.switching_off and self._manager.at_rest
        step = self._power_off.decide(now_s, level, item_inside, stopped)
        if step is None:
            return
        self.log.warning("switching off", step=step.value, why=self._limits.current.message)
        if step is Step.SERVING:
            self._problem = ""
            self._manager.serve_again()
            self._keep(replace(self._order, switched_off_boot=""), lambda: None)
        elif step is Step.STOPPING:
            self._end_verb(False, "the machine is switched off")
            self._manager.switch_off()
        elif step is Step.OFF and self._power_off.take_order():
            self._keep(replace(self._order, switched_off_boot=self._boot_id), self._run_power_off_command)

    def _run_power_off_command(self) -> None:
        def ran(done: Future) -> None:
            if (error := done.exception()) is not None:
                self._problem = f"machine is not switched off: {error}"
                self.log.error("command failed", error=str(error))

        words = self.settings.power_off_command
        self.log.warning("command", words=words)
        self.run_in_worker(program.run, words, paths.data()).add_done_callback(ran)

    def _ask(self, now_s: float, request: Request) -> None:
        client = self._change_state[request.node]
        if not client.service_is_ready():
            return  # asked again at the next tick
        self._manager.sent(now_s, request, self.now_ns())
        call = ChangeState.Request()
        call.transition.id = int(request.transition)

        def answered(response: Any) -> None:
            success = None if response is None else bool(response.success)
            self._manager.answered(time.monotonic(), request, success, self.now_ns())
            self._act()

        self.call(client, call, self.settings.transition_timeout_s, answered)

    def _kill(self, kill: Kill | None) -> None:
        if kill is not None and not self._processes.kill(kill.node, kill.pid):
            self.log.error("process cannot be killed from here", about=kill.node, pid=kill.pid)

    def _report(self, now_s: float) -> None:
        for event in self._manager.events:
            getattr(self.log, event.level)(event.message, **event.fields)
        self._manager.events.clear()
        view = self._manager.view()
        if view != self._shown:
            before = self._shown
            if (
                before is None
                or view.mode != before.mode
                or (view.mode != Mode.STARTING and view.reasons != before.reasons)
            ):
                self.log.info("mode", mode=view.mode.name, reasons=list(view.reasons))
            self._shown = view
            self._status.publish(status_message(view, self.get_clock().now().to_msg()))
        if self._waiting is not None:
            _, until_s, verb = self._waiting
            outcome = self._manager.outcome()
            if outcome is None and now_s > until_s:
                wrong = [f"{node.name}: {node.last_error or 'under way'}" for node in view.nodes if node.state != 3]
                limit = f"{self.settings.manage_timeout_s:g} s"
                outcome = False, f"{verb.name} has not ended within {limit}: {'; '.join(wrong)}"
            if outcome is not None:
                self._end_verb(*outcome)


def main() -> None:
    """Run the node."""
    run(LifecycleManagerNode)
