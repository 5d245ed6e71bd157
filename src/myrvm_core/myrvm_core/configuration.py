"""The settings of every node as this machine has them: ROS parameter files in their order, then the environment.

Which files count: `default_files`. `rvm check` says what is wrong with them.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from myrvm_core import environment, paths, profiles
from myrvm_core import graph as graph_file
from myrvm_core.errors import SettingsError
from myrvm_core.graph import NodeDescription
from myrvm_core.settings import Settings, extra, from_text, merged, nested, read_yaml, validate, walk


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


def settings(files: Sequence[Path]) -> dict[str, Settings]:
    """The settings of every node: the files in their order, then the environment.

    Raises:
        SettingsError: a value is not allowed; `check` says all of them.
    """
    graph, variables, given = graph_file.load(), environment.environment(), parameters(files)
    found: dict[str, Settings] = {}
    for description in (*graph.nodes, graph.manager):
        settings_type = settings_class(description)
        values = given.get(description.name, {})
        for name, field, _ in walk(settings_type()):
            if text := variables.get(extra(field, "env")):
                values = merged(values, nested({name: from_text(field, text)}))
        found[description.name] = validate(settings_type, nested(values), description.name)
    return found
