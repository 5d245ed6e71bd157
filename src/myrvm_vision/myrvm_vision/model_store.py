"""The models that are installed: `models/manifest.json`, and the one file that is to be used, its hash checked."""

from __future__ import annotations

import hashlib
from pathlib import Path

from myrvm_core.errors import ModelError
from myrvm_core.verdict import ModelInfo
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from myrvm_core import installed_model, paths
from myrvm_vision.calibration import Calibration


class ManifestModel(BaseModel):
    """One model of the manifest; origin, licence and figures, also there, are for people."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(min_length=1)
    version: str
    file: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    classes: tuple[str, ...] = ()
    calibration: Calibration = Calibration()


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
    manifest = read_manifest(folder)
    wanted = name or manifest.default
    model = {model.name: model for model in manifest.models}.get(wanted)
    if model is None and (installed := installed_model.find(wanted)) is not None:
        return _checked(installed.file, installed.sha256), ModelInfo(
            installed.name, installed.version, installed.sha256
        )
    if model is None:
        known = ", ".join(model.name for model in manifest.models) or "none"
        raise ModelError(f"{folder / 'manifest.json'} has no model {wanted!r}; allowed: {known}")
    return _checked(folder / model.file, model.sha256), ModelInfo(model.name, model.version, model.sha256)


def find_calibration(folder: Path, name: str = "") -> Calibration:
    """How the scores of a model of the manifest are read; those of one that came from afar stay as they are.

    Raises:
        ModelError: the manifest cannot be read.
    """
    manifest = read_manifest(folder)
    known = {model.name: model.calibration for model in manifest.models}
    return known.get(name or manifest.default, Calibration())


def _checked(path: Path, promised: str) -> Path:
    actual = sha256_of(path)
    if actual != promised:
        raise ModelError(f"{path} has sha256 {actual}, the manifest promises {promised}: damaged or exchanged")
    return path


def named_file(path: Path, version: str) -> tuple[Path, ModelInfo]:
    """An operator's own file (MODEL_PATH): no manifest vouches for it, its hash is in every verdict.

    Raises:
        ModelError: it cannot be read.
    """
    return path, ModelInfo(path.stem, version, sha256_of(path))


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
