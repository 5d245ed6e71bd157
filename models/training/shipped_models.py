"""The manifest of the models that ship, as training writes it: `models/manifest.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MODELS = Path(__file__).resolve().parent.parent


def put(entry: dict[str, Any], folder: Path = MODELS) -> None:
    """Enter a model, in place of one of the same name; it becomes the default."""
    file = folder / "manifest.json"
    others = json.loads(file.read_text())["models"] if file.exists() else []
    models = [entry, *(other for other in others if other["name"] != entry["name"])]
    _write(file, {"default": entry["name"], "models": models})


def change(name: str, fields: dict[str, Any], folder: Path = MODELS) -> None:
    """Set fields of a model that is there.

    Raises:
        KeyError: it is not.
    """
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    entry(name, folder)
    manifest["models"] = [one | fields if one["name"] == name else one for one in manifest["models"]]
    _write(file, manifest)


def entry(name: str = "", folder: Path = MODELS) -> dict[str, Any]:
    """What the manifest says of a model, of its default where no name is given.

    Raises:
        KeyError: it has no such model.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    wanted = name or manifest["default"]
    known = {one["name"]: one for one in manifest["models"]}
    if wanted not in known:
        raise KeyError(f"{folder / 'manifest.json'} has no model {wanted!r}; allowed: {', '.join(known)}")
    return known[wanted]


def _write(file: Path, manifest: dict[str, Any]) -> None:
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(manifest, indent=2) + "\n")
    partial.replace(file)
