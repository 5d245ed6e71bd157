"""The models that are installed: `models/manifest.json`, and the one file that is to be used, its hash checked."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from myrvm_core.errors import ModelError, StorageError
from myrvm_core.verdict import ModelInfo
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from myrvm_core import durable, installed_model, paths
from myrvm_vision.calibration import Calibration
from myrvm_vision.golden import GoldenFigures


class ManifestModel(BaseModel):
    """One model of the manifest; origin, licence and figures, also there, are for people."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(min_length=1)
    version: str
    file: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    classes: tuple[str, ...] = ()
    calibration: Calibration = Calibration()
    image_size_px: int | None = None
    class_map: dict[str, str] = {}
    golden: GoldenFigures | None = None


@dataclass(frozen=True)
class StoredModel:
    """A model's file and who it is; `promises` are empty where no manifest makes any."""

    file: Path
    info: ModelInfo
    promises: ManifestModel


class Manifest(BaseModel):
    """The manifest."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    default: str
    models: tuple[ManifestModel, ...]


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json` in a folder of models.

    Raises:
        ModelError: it cannot be read, or says something that is not allowed.
    """
    file = folder / "manifest.json"
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise ModelError(f"{file}: {where} = {str(first['input'])[:80]!r} is not allowed: {first['msg']}") from None
    return manifest


def find_model(folder: Path, name: str = "") -> tuple[Path, ModelInfo]:
    """File and identity of a model of the manifest, or of one that came from afar (`myrvm_core.installed_model`).

    Args:
        folder: with `manifest.json` and the files.
        name: of the model, empty for the manifest's default; `name@version` for one that came from afar.

    Raises:
        ModelError: no such model, no such file, or the file is not the one that the manifest promises.
    """
    stored = find_stored(folder, name)
    return stored.file, stored.info


def find_stored(folder: Path, name: str = "") -> StoredModel:
    """The same with what the manifest promises; arguments and errors as in `find_model`."""
    manifest = read_manifest(folder)
    wanted = name or manifest.default
    model = {model.name: model for model in manifest.models}.get(wanted)
    if model is not None:
        return _stored(_checked(folder / model.file, model.sha256), model)
    if (installed := installed_model.find(wanted)) is not None:
        file = _checked(installed.file, installed.sha256)
        return _stored(file, ManifestModel(file=file.name, **installed.model_dump()))
    known = ", ".join(model.name for model in manifest.models) or "none"
    raise ModelError(f"{folder / 'manifest.json'} has no model {wanted!r}; allowed: {known}")


def stored_file(path: Path, version: str) -> StoredModel:
    """An operator's own file (MODEL_PATH): no manifest vouches for it, its hash is in every verdict.

    Raises:
        ModelError: it cannot be read.
    """
    return _stored(path, ManifestModel(name=path.stem, version=version, file=path.name, sha256=sha256_of(path)))


def _stored(file: Path, model: ManifestModel) -> StoredModel:
    return StoredModel(file, ModelInfo(model.name, model.version, model.sha256), model)


def enter(folder: Path, entry: dict[str, Any], default: bool = False) -> None:
    """Put an entry into the manifest, in place of one of the same name.

    Args:
        folder: with `manifest.json`.
        entry: as `ManifestModel`, with figures for people beside it.
        default: whether the model becomes the manifest's default.

    Raises:
        ModelError: the manifest cannot be read.
        StorageError: the disk does not take it.
    """
    read_manifest(folder)
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    others = [one for one in manifest["models"] if one["name"] != entry["name"]]
    manifest |= {"models": [*others, entry]} | ({"default": entry["name"]} if default else {})
    try:
        durable.replace(file, (json.dumps(manifest, indent=2) + "\n").encode())
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error}") from error


def _checked(path: Path, promised: str) -> Path:
    actual = sha256_of(path)
    if actual != promised:
        raise ModelError(f"{path} has sha256 {actual}, the manifest promises {promised}: damaged or exchanged")
    return path


def sha256_of(path: Path) -> str:
    """Hash of a file as 64 hexadecimal digits.

    Raises:
        ModelError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def check_shipped() -> None:
    """Check the models that ship with the installation, hashes too (`rvm check`); errors as in `find_model`."""
    folder = paths.home() / "models"
    for model in read_manifest(folder).models:
        find_model(folder, model.name)
