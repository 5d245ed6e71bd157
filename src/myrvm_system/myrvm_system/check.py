"""Every problem of the configuration, one line each, without starting anything (`rvm check`).

Looked at: config/graph.yaml, the ROS parameter files, the environment and config/.env, config/rules.yaml,
config/evidence.yaml, config/policy.yaml, and whatever packages register under the entry point group `myrvm.check` (a
callable without arguments that raises an `RvmError`). The settings classes are those that graph.yaml names.

What is valid goes on to the entry point group `myrvm.check_settings`: a callable that takes the settings of every node,
by name, and raises as above; then to `myrvm.check_files`, the same for files that go bad by themselves, such as a
certificate: no reason to refuse a change from afar. `probe` looks at the machine itself, through `myrvm.probe`: a
callable that takes the same and gives an `Examined` for each thing that it has looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from myrvm_core.configuration import check_settings, settings, settings_class
from myrvm_core.configuration import default_files as default_files
from myrvm_core.errors import RvmError, SettingsError
from myrvm_core.examination import Examined
from myrvm_core.graph import Graph
from myrvm_core.settings import Settings, extra, from_text, nested, read_yaml, validate, walk

from myrvm_core import environment, evidence_table, log, paths, rules
from myrvm_core import graph as graph_file
from myrvm_system import policy

GROUP = "myrvm.check"
FILES = "myrvm.check_files"
PROBES = "myrvm.probe"
KNOWN_VARIABLES = ("HARDWARE_ID", "RVM_API_KEY", "RVM_API_KEY_FILE", "LOG_LEVEL")
KNOWN_PREFIXES = ("MYRVM_", "ROS_", "RMW_", "FASTRTPS_")


def check(files: Sequence[Path]) -> list[str]:
    """Every problem; empty when all is well."""
    problems: list[str] = []
    try:
        graph = graph_file.load()
    except SettingsError as error:
        return list(error.problems)
    classes: dict[str, type[Settings]] = {}
    for description in (*graph.nodes, graph.manager):
        with_problems(problems, lambda node=description: classes.update({node.name: settings_class(node)}))
    for file in files:
        problems += check_parameters(file, classes, graph)
    problems += check_environment(classes)
    with_problems(problems, lambda: policy.load(paths.home() / "config" / "policy.yaml"))
    with_problems(problems, lambda: rules.load(paths.home() / "config" / "rules.yaml", 0.7))
    with_problems(problems, lambda: evidence_table.load(paths.home() / "config" / "evidence.yaml"))
    for point in entry_points(group=GROUP):
        with_problems(problems, point.load())
    if not problems:
        with_problems(problems, lambda: _check_together(settings(files), problems))
    return problems


def _check_together(nodes: Mapping[str, Settings], problems: list[str]) -> None:
    with_problems(problems, lambda: check_settings(nodes))
    for point in entry_points(group=FILES):
        with_problems(problems, partial(point.load(), nodes))


def probe(files: Sequence[Path]) -> Iterator[Examined]:
    """Look at the machine, one line for each thing that the settings name. Raises SettingsError, as `settings`."""
    nodes = settings(files)
    for point in entry_points(group=PROBES):
        yield from point.load()(nodes)


def with_problems(problems: list[str], function: Callable[[], object]) -> None:
    """Call; an `RvmError` becomes lines."""
    try:
        function()
    except SettingsError as error:
        problems += error.problems
    except RvmError as error:
        problems.append(str(error))


def check_parameters(file: Path, classes: Mapping[str, type[Settings]], graph: Graph) -> Iterable[str]:
    """Problems of one ROS parameter file."""
    try:
        sections = read_yaml(file)
    except SettingsError as error:
        return error.problems
    if not isinstance(sections, dict):
        return [f"{file} must be a mapping of nodes to ros__parameters"]
    problems: list[str] = []
    for name, body in sections.items():
        node = str(name).lstrip("/")
        if node not in (*graph.names, graph.manager.name):
            problems.append(f"{file.name}: {name} is no node; allowed: {', '.join((*graph.names, graph.manager.name))}")
        elif not isinstance(body, dict) or not isinstance(body.get("ros__parameters"), dict) or len(body) != 1:
            problems.append(f"{file.name}: {node} must hold one mapping, ros__parameters")
        elif node in classes:
            problems += _refused(classes[node], body["ros__parameters"], f"{file.name}: {node}")
    return problems


def check_environment(classes: Mapping[str, type[Settings]]) -> Iterable[str]:
    """Problems of the process environment and `.env`."""
    problems: list[str] = []
    try:
        variables = environment.environment()
    except SettingsError as error:
        return error.problems
    known: set[str] = set(KNOWN_VARIABLES)
    for node, settings_type in classes.items():
        for name, field, _ in walk(settings_type()):
            variable = extra(field, "env")
            known.add(variable)
            if variable and variables.get(variable):
                value = from_text(field, variables[variable])
                problems += (f"{line} [from {variable}]" for line in _refused(settings_type, {name: value}, node))
    with_problems(problems, lambda: environment.identity(variables))
    level = variables.get("LOG_LEVEL") or "INFO"
    if level.upper() not in log.LEVELS:
        problems.append(f"LOG_LEVEL = {level!r} is not allowed: one of {', '.join(log.LEVELS)}")
    for name in dotenv_values(environment.file()) if environment.file().is_file() else ():
        if name not in known and not name.startswith(KNOWN_PREFIXES):
            problems.append(
                f"{environment.file()}: {name} is not a known name; allowed: {', '.join(sorted(known - {''}))}"
            )
    return problems


def _refused(settings_type: type[Settings], values: Mapping[str, Any], where: str) -> tuple[str, ...]:
    try:
        validate(settings_type, nested(values), where)
    except SettingsError as error:
        return error.problems
    return ()
