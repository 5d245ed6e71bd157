"""The graph as commands from afar see it: a Protocol, what was heard of the machine, and waits with a limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from myrvm_core.errors import RvmError
from myrvm_core.machine_mode import Mode

from myrvm_cloud.call import Call
from myrvm_cloud.http_line import Sink
from myrvm_cloud.maintenance import Window
from myrvm_cloud.rest_client import RestClient

A = TypeVar("A")

MANAGE_S = 70.0  # the manager answers when the verb has ended, its own limit is 60 s


class CommandError(RvmError):
    """A command could not be carried out, or not wholly."""


class NotNowError(RvmError):
    """A command is refused because of what the machine is doing or has; nothing was done."""


@dataclass(frozen=True)
class NodeView:
    """A node as the lifecycle manager and its own heartbeat show it."""

    active: bool = False
    ok: bool = False
    error: str = ""


@dataclass(frozen=True)
class MachineState:
    """The machine as it is now; `item_inside` is None while the deposit node is not heard."""

    mode: Mode = Mode.UNKNOWN
    item_inside: bool | None = None
    nodes: Mapping[str, NodeView] = field(default_factory=dict)


class Graph(Protocol):
    """The graph as commands need it. Every wait has a limit."""

    @property
    def state(self) -> MachineState:
        """What was heard last."""
        ...

    async def ask(self, service: str, limit_s: float, **fields: Any) -> Any:
        """The answer of a service; CommandError where there is none in time."""
        ...

    async def set_parameter(self, node: str, name: str, value: str) -> None:
        """Set a ROS parameter; CommandError where the node does not take it."""
        ...

    async def picture(self, timeout_s: float) -> bytes:
        """A JPEG of the chamber as it is now; CommandError where there is none in time."""
        ...

    async def run(self, words: Sequence[str], timeout_s: float) -> None:
        """Run a command of the configuration, no shell; CommandError where it fails."""
        ...

    def show(self, command_id: str, text: str, duration_s: float) -> None:
        """Put a text on the screen."""
        ...

    def announce(self, window: Window | None) -> None:
        """Tell the graph of the maintenance window."""
        ...


class Server(Protocol):
    """The server as commands need it."""

    @property
    def client(self) -> RestClient:
        """Makes the calls."""
        ...

    async def ask(self, call: Call[A], total_s: float | None = None) -> A:
        """Send a call; CallError where no answer counts within `total_s`, by default that of any request."""
        ...

    async def download(self, url: str, sink: Sink, limit_bytes: int, total_s: float) -> int:
        """Fetch a file of this server; see `http_line.HttpLine.download`."""
        ...


async def wait_for(graph: Graph, done: Callable[[MachineState], bool], limit_s: float, look_s: float = 0.1) -> bool:
    """Wait until the graph's state is so, at most `limit_s` seconds; whether it is."""
    until_s = time.monotonic() + limit_s
    while not done(graph.state):
        if time.monotonic() >= until_s:
            return False
        await asyncio.sleep(look_s)
    return True


async def item_gone(graph: Graph, limit_s: float) -> None:
    """Wait until no item is in the machine; CommandError where one stays."""
    if not await wait_for(graph, lambda state: not state.item_inside, limit_s):
        raise CommandError(f"an item is in the machine for more than {limit_s:g} s")


async def manage(graph: Graph, verb: str, node: str = "") -> None:
    """Give the lifecycle manager a verb of ManageSystem by name and wait for its end; CommandError where it fails."""
    answer = await graph.ask("system/manage", MANAGE_S, verb=verb, node=node)
    if not answer.success:
        raise CommandError(f"{verb.lower()} {node}".strip() + f": {answer.message}")
