"""The graph as `config/graph.yaml` describes it: nodes, order, what depends on what, restart policy."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field

from myrvm_core import paths
from myrvm_core.backoff import Backoff
from myrvm_core.errors import SettingsError
from myrvm_core.settings import read_yaml, validate


class RestartPolicy(BaseModel):
    """At most `limit` restarts within `window_s` seconds, each after a wait of full jitter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: int = Field(default=5, ge=0, le=1000)
    window_s: float = Field(default=60.0, gt=0.0, le=86_400.0)
    backoff_s: tuple[float, float] = (0.2, 5.0)

    @property
    def backoff(self) -> Backoff:
        """The waits between restarts."""
        return Backoff(*self.backoff_s)


class NodeDescription(BaseModel):
    """One node: where its program is and what it stands on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    package: str
    executable: str
    settings: str = Field(default="", pattern=r"^([A-Za-z_][\w.]*:[A-Za-z_]\w*)?$")  # module:Class, free of ROS
    start_after: tuple[str, ...] = ()
    restart_with: tuple[str, ...] = ()
    essential: bool = True
    serves_customers: bool = False
    watches: bool = False
    pictures: bool = False
    reason: str = ""
    restart: RestartPolicy = RestartPolicy()


class Graph(BaseModel):
    """All nodes, in the order of the file, and the manager."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: tuple[NodeDescription, ...]
    manager: NodeDescription

    def node(self, name: str) -> NodeDescription:
        """The node called `name`; KeyError if there is none."""
        return {node.name: node for node in self.nodes}[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all managed nodes, in the order of the file."""
        return tuple(node.name for node in self.nodes)

    def layers(self) -> list[list[str]]:
        """Bring-up order: the nodes of a layer may start together once all layers before it are active."""
        sorter = TopologicalSorter({node.name: node.start_after for node in self.nodes})
        sorter.prepare()
        layers: list[list[str]] = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=self.names.index)
            layers.append(ready)
            sorter.done(*ready)
        return layers

    def restarted_with(self, name: str) -> list[str]:
        """Nodes to activate again after `name` was restarted, in bring-up order, those that follow from others too."""
        affected: set[str] = {name}
        order = [node for layer in self.layers() for node in layer]
        for other in order:
            if affected.intersection(self.node(other).restart_with):
                affected.add(other)
        return [other for other in order if other in affected and other != name]


def load(file: Path | None = None) -> Graph:
    """Read `config/graph.yaml`, or `file`.

    Raises:
        SettingsError: the file is not there, not YAML, or describes no graph that can be started.
    """
    file = file or paths.home() / "config" / "graph.yaml"
    return parse(read_yaml(file), str(file))


class _File(BaseModel):
    """The file as it is written: the same settings for all nodes come once, under `defaults`."""

    model_config = ConfigDict(extra="forbid")

    nodes: dict[str, dict[str, Any]]
    manager: dict[str, Any]
    defaults: dict[str, Any] = {}


def parse(raw: Any, where: str) -> Graph:
    """Build a graph from the parsed file; errors as in `load`."""
    if not isinstance(raw, dict):
        raise SettingsError(f"{where} = {raw!r} is not allowed: a mapping with 'nodes' and 'manager'")
    file = validate(_File, cast("dict[str, Any]", raw), where)
    nodes: list[NodeDescription] = []
    problems: list[str] = []
    bodies = {name: {**file.defaults, **body, "name": name} for name, body in file.nodes.items()}
    bodies["manager"] = {"name": "lifecycle_manager", **file.manager}
    for name, body in bodies.items():
        try:
            nodes.append(validate(NodeDescription, body, f"{where}: {name}"))
        except SettingsError as error:
            problems += error.problems
    names = list(file.nodes)
    for node in nodes:
        for other in (*node.start_after, *node.restart_with):
            if other not in names:
                problems.append(f"{where}: {node.name} names {other!r}; allowed: {', '.join(names)}")
    if problems:
        raise SettingsError(*problems)
    graph = Graph(nodes=tuple(nodes[:-1]), manager=nodes[-1])
    try:
        graph.layers()
    except CycleError as error:
        raise SettingsError(f"{where}: start_after goes round in a circle: {' -> '.join(error.args[1])}") from error
    return graph


def mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart, for the docs; dotted arrows say what restarts with what."""
    lines = ["flowchart LR", f"    {graph.manager.name}[[{graph.manager.name}]]"]
    for node in graph.nodes:
        lines.append(f"    {node.name}[{node.name}]" if node.essential else f"    {node.name}([{node.name}])")
    for node in graph.nodes:
        lines += [f"    {other} --> {node.name}" for other in node.start_after]
        lines += [f"    {other} -. restart .-> {node.name}" for other in node.restart_with]
    return "\n".join(lines) + "\n"
