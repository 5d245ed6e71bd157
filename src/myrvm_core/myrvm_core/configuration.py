"""The settings of every node on this machine: ROS parameter files, what was changed from afar, the environment.

Which files count: `default_files`; what was changed: `overlay`. `rvm check` says what is wrong with them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from myrvm_core import environment, overlay, paths, profiles
from myrvm_core import graph as graph_file
from myrvm_core.errors import RvmError, SettingsError
from myrvm_core.graph import NodeDescription
from myrvm_core.settings import Settings, extra, from_text, merged, nested, read_yaml, validate, walk

SETTINGS_CHECKS = "myrvm.check_settings"


def default_files(hardware: str = "") -> list[Path]:
    """The parameter files of this machine, later ones win: rvm.yaml, a hardware profile's, and its own `local_file`.

    Args:
        hardware: name of the profile; empty: the one that the environment chooses.

    Raises:
        SettingsError: there is no such profile.
    """
    files = [paths.home() / "config" / "rvm.yaml", profiles.file(hardware or profiles.chosen())]
    return [*files, *(file for file in [local_file()] if file.is_file())]


def local_file() -> Path:
    """Where a machine keeps values of its own, such as the calibration of its scale; it need not be there."""
    return paths.data() / "local.yaml"


def settings_class(description: NodeDescription) -> type[Settings]:
    """The settings class that graph.yaml names for a node.

    Raises:
        SettingsError: there is no such class.
    """
    module, _, name = description.settings.partition(":")
    where = f"graph.yaml: {description.name}.settings = {description.settings!r}"
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(f"{where} is not allowed: module:Class ({error})") from error
    if not (isinstance(found, type) and issubclass(found, Settings)):
        raise SettingsError(f"{where} is not allowed: a subclass of myrvm_core.settings.Settings")
    return found


def parameters(files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """What ROS parameter files give each node, groups as mappings; a later file counts before an earlier one.

    Raises:
        SettingsError: a file cannot be read, or is no parameter file.
    """
    given: dict[str, dict[str, Any]] = {}
    for file in files:
        try:
            content: dict[str, Any] = read_yaml(file) or {}
            for name, body in content.items():
                section: dict[str, Any] = dict(body["ros__parameters"])
                node = name.lstrip("/")
                given[node] = merged(given.get(node), section)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise SettingsError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    return given


def settings(files: Sequence[Path], changed: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Settings]:
    """The settings of every node: the files in their order, what was changed from afar, then the environment.

    Args:
        files: ROS parameter files, later ones win.
        changed: by node, then by dotted name; None: what counts on this machine (`overlay`).

    Raises:
        SettingsError: a value is not allowed; `check` says all of them.
    """
    graph, variables, given = graph_file.load(), environment.environment(), parameters(files)
    if changed is None:
        changed = overlay.OverlayFile().read().current.parameters
    found: dict[str, Settings] = {}
    for description in (*graph.nodes, graph.manager):
        settings_type = settings_class(description)
        values = merged(given.get(description.name, {}), changed.get(description.name, {}))
        for name, field, _ in walk(settings_type()):
            if text := variables.get(extra(field, "env")):
                values = merged(values, nested({name: from_text(field, text)}))
        found[description.name] = validate(settings_type, nested(values), description.name)
    return found


def check_settings(nodes: Mapping[str, Settings]) -> None:
    """Whether the settings of all nodes go together, as the entry points `myrvm.check_settings` judge.

    Raises:
        SettingsError: they do not; one line a problem.
    """
    problems: list[str] = []
    for point in entry_points(group=SETTINGS_CHECKS):
        try:
            point.load()(nodes)
        except SettingsError as error:
            problems += error.problems
        except RvmError as error:
            problems.append(str(error))
    if problems:
        raise SettingsError(*problems)
