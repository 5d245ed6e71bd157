"""One screen of the running machine (`rvm status`): what the latched topics say, drawn with rich.

Hears system/status (SystemStatus), cloud/status (CloudStatus), buffer/status (BufferStatus), deposit/state
(DepositState), actuator/state (GateState), actuator/outputs (Outputs), health/limits (OperatingLimits),
system/node_health (NodeHealth), /diagnostics (DiagnosticArray).
Sends nothing. Which configuration counts it reads from the machine's own file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from myrvm_core.machine_mode import Mode
from myrvm_interfaces.msg import (
    BufferStatus,
    CloudStatus,
    DepositState,
    GateState,
    NodeHealth,
    OperatingLimits,
    Outputs,
    SystemStatus,
)
from myrvm_ros.limits import LIMITS_TOPIC
from myrvm_ros.managed_node import HEARTBEAT_TOPIC
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from myrvm_core import overlay
from myrvm_ros import qos
from myrvm_system.manager import State
from myrvm_system.messages import constant_name

COLOURS = {
    Mode.SERVING: "green", Mode.DEGRADED: "yellow", Mode.PAUSED: "yellow", Mode.STARTING: "cyan",
    Mode.STOPPING: "cyan", Mode.STOPPED: "red", Mode.OUT_OF_ORDER: "red", Mode.MAINTENANCE: "yellow",
}  # fmt: skip
LEVELS = {0: ("ok", "green"), 1: ("warn", "yellow"), 2: ("error", "red"), 3: ("stale", "magenta")}
TOPICS: dict[str, tuple[Any, Any]] = {
    "system/status": (SystemStatus, qos.STATE),
    "cloud/status": (CloudStatus, qos.STATE),
    "buffer/status": (BufferStatus, qos.STATE),
    "deposit/state": (DepositState, qos.STATE),
    "actuator/state": (GateState, qos.STATE),
    "actuator/outputs": (Outputs, qos.STATE),
    LIMITS_TOPIC: (OperatingLimits, qos.STATE),
    "/diagnostics": (DiagnosticArray, qos.DIAGNOSTICS),
}
SETTLE_S = 4.0  # `--once` waits so long for a heartbeat of every node


class Screen:
    """The newest message of each topic, and the picture made of them."""

    def __init__(self) -> None:
        self.latest: dict[str, Any] = {}
        self.beats: dict[str, NodeHealth] = {}

    def heard(self, beat: NodeHealth) -> None:
        """Keep a heartbeat."""
        self.beats[beat.node] = beat

    def draw(self) -> Group:
        """What is known now."""
        return Group(self._headline(), self._nodes(), self._resources())

    def _headline(self) -> Table:
        table = Table.grid(padding=(0, 2))
        status: SystemStatus | None = self.latest.get("system/status")
        if status is None:
            table.add_row("machine", Text("no lifecycle manager heard: is the graph up? (rvm up)", style="red"))
            return table
        mode = Mode(status.mode)
        reasons = ", ".join(constant_name(SystemStatus, "REASON_", reason) for reason in status.reasons)
        started = f"all active {status.start_time_s:.1f} s after the start" if status.start_time_s else ""
        table.add_row("machine", Text(f"{mode.name} {reasons}".strip(), style=f"bold {COLOURS[mode]}"), started)
        if (limits := self.latest.get(LIMITS_TOPIC)) and limits.level:
            table.add_row(
                "limits", Text(constant_name(OperatingLimits, "", limits.level), style="yellow"), limits.message
            )
        if cloud := self.latest.get("cloud/status"):
            line = f"round trip {cloud.round_trip_s * 1e3:.0f} ms, failures in a row {cloud.consecutive_failures}"
            table.add_row("server", constant_name(CloudStatus, "", cloud.state), line)
        if buffer := self.latest.get("buffer/status"):
            waiting = buffer.pending + buffer.leased
            line = f"{buffer.acked} credited, {waiting} to be sent, {buffer.dead} for the technician"
            table.add_row("deposits", line, "" if buffer.writable else Text("buffer not writable", style="red"))
        if deposit := self.latest.get("deposit/state"):
            table.add_row("deposit", constant_name(DepositState, "", deposit.state), deposit.deposit_id)
        if gate := self.latest.get("actuator/state"):
            table.add_row("gate", *_gate(gate))
        if outputs := self.latest.get("actuator/outputs"):
            table.add_row("outputs on", ", ".join(output.name for output in outputs.outputs if output.on) or "none")
        words, well = overlay.summary()
        table.add_row("configuration", Text(words, style="" if well else "red"), "rvm config tells more")
        return table

    def _nodes(self) -> Table:
        table = Table("node", "state", "pid", "restarts", "health", "says", box=None, pad_edge=False)
        status: SystemStatus | None = self.latest.get("system/status")
        for node in status.nodes if status else ():
            beat = self.beats.get(node.name)
            word, colour = LEVELS[beat.level if beat else 3]
            state = "given up" if node.given_up else State(node.lifecycle_state).name.lower()
            says = beat.message if beat else ""
            if node.last_error:  # also of a node that is well again: why it was restarted
                says = f"ok (before: {node.last_error})" if beat and not beat.level else node.last_error
            style = "" if node.alive and node.lifecycle_state == State.ACTIVE else "red"
            table.add_row(node.name, Text(state, style=style), str(node.pid or "-"), str(node.restarts),
                          Text(word, style=colour), says)  # fmt: skip
        return table

    def _resources(self) -> Table:
        table = Table("resource", "level", "", box=None, pad_edge=False)
        diagnostics: DiagnosticArray | None = self.latest.get("/diagnostics")
        for status in diagnostics.status if diagnostics else ():
            group, _, name = status.name.partition(": ")
            if group == "machine":
                word, colour = LEVELS[int.from_bytes(status.level, "little")]
                table.add_row(name, Text(word, style=colour), status.message)
        return table


def _gate(gate: GateState) -> tuple[Text, str]:
    why = gate.fault or ", ".join(gate.obstacles)
    colour = "red" if gate.fault else "yellow" if why else ""
    position = constant_name(GateState, "POSITION_", gate.position).lower()
    life = f"{gate.lifetime_cycles} cycles and {gate.lifetime_motor_run_time_s / 3600:.1f} h of motor in its life"
    return Text(why or position, style=colour), f"{life}, {gate.jams} jams since the start"


def show(console: Console, once: bool, limit_s: float) -> bool:
    """Show the screen until Ctrl-C, or once. False where no manager was heard within `limit_s` seconds."""
    screen = Screen()
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("rvm_status", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        for topic, (message_type, profile) in TOPICS.items():
            node.create_subscription(message_type, topic, _keep(screen, topic), profile)
        node.create_subscription(NodeHealth, HEARTBEAT_TOPIC, screen.heard, qos.HEARTBEAT)
        _spin(executor, lambda: "system/status" in screen.latest, limit_s)
        if once:
            _spin(executor, lambda: _complete(screen), SETTLE_S)
            console.print(screen.draw())
        else:
            with Live(screen.draw(), console=console, auto_refresh=False, screen=console.is_terminal) as live:
                while context.ok():
                    _spin(executor, lambda: False, 0.5)
                    live.update(screen.draw(), refresh=True)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        executor.shutdown(timeout_sec=1.0)
        node.destroy_node()
        with suppress(RuntimeError):
            rclpy.shutdown(context=context)
    return "system/status" in screen.latest


def _keep(screen: Screen, topic: str) -> Callable[[Any], None]:
    return lambda message: screen.latest.update({topic: message})


def _complete(screen: Screen) -> bool:
    status = screen.latest.get("system/status")
    return (
        status is not None
        and "/diagnostics" in screen.latest
        and all(node.name in screen.beats for node in status.nodes)
    )


def _spin(executor: SingleThreadedExecutor, done: Callable[[], bool], limit_s: float) -> None:
    until_s = time.monotonic() + limit_s
    while not done() and (left_s := until_s - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=left_s)
