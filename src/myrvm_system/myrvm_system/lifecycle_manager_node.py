"""Brings the graph up and keeps it up; `myrvm_system.manager` decides, this node carries facts in and requests out.

Hears system/node_health (NodeHealth), cloud/status (CloudStatus); publishes system/status (SystemStatus, latched);
serves system/manage (ManageSystem); calls `<node>/change_state` (lifecycle_msgs/ChangeState) of every node.
A managed node itself, that configures and activates itself: one way for settings, heartbeat and outsiders.
"""

from __future__ import annotations

import time
from typing import Any

from lifecycle_msgs.srv import ChangeState
from myrvm_core.errors import SettingsError
from myrvm_interfaces.msg import CloudStatus, NodeHealth, NodeStatus, SystemStatus
from myrvm_interfaces.srv import ManageSystem
from myrvm_ros.managed_node import HEARTBEAT_TOPIC, Health, ManagedNode, run
from myrvm_ros.stamps import to_ns
from rclpy.task import Future

from myrvm_core import graph as graph_file
from myrvm_ros import qos
from myrvm_system.manager import Beat, Kill, Manager, Mode, Probe, Request, SystemView, Verb
from myrvm_system.process import Processes, look
from myrvm_system.settings import ManagerSettings

TICK_S = 0.2


class LifecycleManagerNode(ManagedNode[ManagerSettings]):
    """The manager of `config/graph.yaml`."""

    settings_type = ManagerSettings

    def __init__(self) -> None:
        super().__init__("lifecycle_manager")
        start = self.create_timer(0.0, lambda: (start.cancel(), self.trigger_configure(), self.trigger_activate()))

    def configure(self) -> None:
        """Read the graph and meet its nodes."""
        graph = graph_file.load()
        self._manager = Manager(graph, self.settings, time.monotonic())
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
        self.service(ManageSystem, "system/manage", self._on_manage)
        self.timer(TICK_S, self._act)
        self._act()

    def health(self) -> Health:
        """The mode by name."""
        view = self._manager.view()
        return Health(message=f"{view.mode.name.lower()} {' '.join(view.reasons)}".strip())

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

    def _on_manage(self, request: ManageSystem.Request, response: ManageSystem.Response) -> Any:
        try:
            verb = Verb(request.verb)
            self._manager.command(time.monotonic(), verb, request.node)
        except ValueError:
            response.message = f"verb = {request.verb} is not allowed: {', '.join(f'{v.value} {v.name}' for v in Verb)}"
            return response
        except SettingsError as error:
            response.message = str(error)
            return response
        self.log.info("verb", verb=verb.name, about=request.node)
        self._end_verb(False, f"replaced by {verb.name}")
        future = Future()
        self._waiting = (future, time.monotonic() + self.settings.manage_timeout_s, verb)
        self._act()
        return future

    def _end_verb(self, success: bool, message: str) -> None:
        if self._waiting is not None:
            future, self._waiting = self._waiting[0], None
            future.set_result(ManageSystem.Response(success=success, message=message))

    def _act(self) -> None:
        now_s = time.monotonic()
        for name, pid in self._processes.ended():
            self._manager.ended(now_s, name, pid)
        for action in self._manager.decide(now_s):
            if isinstance(action, Request):
                self._ask(now_s, action)
            elif isinstance(action, Probe):
                self._kill(self._manager.probed(now_s, action.node, look(action.pid)))
        self._report(now_s)

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
            self._status.publish(self._to_message(view))
        if self._waiting is not None:
            _, until_s, verb = self._waiting
            outcome = self._manager.outcome()
            if outcome is None and now_s > until_s:
                wrong = [f"{node.name}: {node.last_error or 'under way'}" for node in view.nodes if node.state != 3]
                limit = f"{self.settings.manage_timeout_s:g} s"
                outcome = False, f"{verb.name} has not ended within {limit}: {'; '.join(wrong)}"
            if outcome is not None:
                self._end_verb(*outcome)

    def _to_message(self, view: SystemView) -> SystemStatus:
        message = SystemStatus(
            mode=int(view.mode),
            reasons=[getattr(SystemStatus, f"REASON_{reason}") for reason in view.reasons],
            nodes=[
                NodeStatus(
                    name=node.name, lifecycle_state=node.state, alive=node.alive, given_up=node.given_up,
                    restarts=node.restarts, pid=node.pid, last_error=node.last_error,
                )
                for node in view.nodes
            ],
            start_time_s=view.start_time_s,
        )  # fmt: skip
        message.header.stamp = self.get_clock().now().to_msg()
        return message


def main() -> None:
    """Run the node."""
    run(LifecycleManagerNode)
