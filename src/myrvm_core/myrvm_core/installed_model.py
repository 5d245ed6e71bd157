"""Models that came from afar, in the data folder: `<name>@<version>.onnx`, and `.json` that says what it must be.

The description is written last: a file without one is no model. Whoever uses a model checks its hash each time.
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from myrvm_core import durable, paths
from myrvm_core.errors import ModelError, StorageError

FOLDER = "models"  # in the data folder
SUFFIX, DESCRIPTION, PARTIAL = ".onnx", ".json", ".onnx.partial"
NAME = r"^[A-Za-z0-9._-]{1,100}$"


class InstalledModel(BaseModel):
    """One model; `reference` is its name for the detector's parameter `model`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(pattern=NAME)
    version: str = Field(pattern=NAME)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @property
    def reference(self) -> str:
        """Its name and version; no model of a manifest is called so."""
        return f"{self.name}@{self.version}"

    @property
    def file(self) -> Path:
        """Where it is."""
        return folder() / f"{self.reference}{SUFFIX}"

    @property
    def partial(self) -> Path:
        """Where it is while it comes."""
        return folder() / f"{self.reference}{PARTIAL}"


def folder() -> Path:
    """Where they are."""
    return paths.data() / FOLDER


def find(reference: str) -> InstalledModel | None:
    """What is installed under this name; None: nothing.

    Raises:
        ModelError: its description cannot be read, or describes another model.
    """
    if "/" in reference or "@" not in reference:
        return None
    description = folder() / f"{reference}{DESCRIPTION}"
    try:
        found = InstalledModel.model_validate_json(description.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ModelError(f"{description} cannot be read: {str(error).splitlines()[0]}") from None
    if found.reference != reference:
        raise ModelError(f"{description} describes {found.reference}")
    return found


def install(model: InstalledModel) -> None:
    """Make `partial`, whole and synced, the model.

    Raises:
        StorageError: the disk does not take it.
    """
    try:
        durable.rename(model.partial, model.file)
        described = json.dumps(model.model_dump(), indent=1).encode()
        durable.replace(model.file.with_name(f"{model.reference}{DESCRIPTION}"), described)
    except OSError as error:
        raise StorageError(f"{model.file} cannot be installed: {error}") from error


def remove(reference: str) -> None:
    """Description first, so that what is left after a crash is no model.

    Raises:
        StorageError: the disk does not let it go.
    """
    try:
        for suffix in (DESCRIPTION, SUFFIX, PARTIAL):
            durable.remove(folder() / f"{reference}{suffix}")
    except OSError as error:
        raise StorageError(f"model {reference} cannot be removed: {error}") from error


def prune(count: int) -> None:
    """Keep the newest, and nothing that is half there.

    Raises:
        StorageError: the disk does not let them go.
    """
    newest = sorted(folder().glob(f"*{DESCRIPTION}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    kept = {path.name.removesuffix(DESCRIPTION) for path in newest[:count]}
    for path in folder().glob("*@*"):
        for suffix in (PARTIAL, SUFFIX, DESCRIPTION):
            if path.name.endswith(suffix):
                if (reference := path.name.removesuffix(suffix)) not in kept:
                    remove(reference)
                break
