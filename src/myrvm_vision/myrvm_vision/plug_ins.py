"""Plug-ins of a kind, engines or segmenters: classes in an entry point group."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

from myrvm_core.errors import ModelError


def installed(group: str, kind: str) -> dict[str, Any]:
    """The classes of a group by name; `kind` is what an error calls one.

    Raises:
        ModelError: one of them cannot be imported.
    """
    classes: dict[str, Any] = {}
    for point in sorted(entry_points(group=group), key=lambda point: point.name):
        try:
            classes[point.name] = point.load()
        except (ImportError, AttributeError) as error:
            raise ModelError(f"{kind} {point.name!r} ({point.value}) cannot be imported: {error}") from error
    return classes
