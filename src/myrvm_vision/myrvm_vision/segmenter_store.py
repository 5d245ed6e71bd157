"""The segmenters that ship: `models/segmenters.json`, and the one file that is to be used, its hash checked."""

from __future__ import annotations

from pathlib import Path

from myrvm_core.errors import ModelError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from myrvm_core import paths
from myrvm_vision.model_store import sha256_of

MANIFEST = "segmenters.json"
DEFAULT = "default"


class ManifestSegmenter(BaseModel):
    """One segmenter; origin, licence and figures, also there, are for people. The first file is the encoder's."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = Field(min_length=1)
    version: str
    files: dict[str, str] = Field(min_length=1)  # name, sha256


class Manifest(BaseModel):
    """The manifest."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    default: str
    segmenters: tuple[ManifestSegmenter, ...]


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest in a folder of models.

    Raises:
        ModelError: it cannot be read, or says something that is not allowed.
    """
    file = folder / MANIFEST
    try:
        return Manifest.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise ModelError(f"{file}: {where} = {str(first['input'])[:80]!r} is not allowed: {first['msg']}") from None


def find(folder: Path, name: str) -> Path:
    """The file to load.

    Args:
        folder: with the manifest and its files.
        name: `default`, a segmenter of the manifest, or else a file, for which no hash vouches.

    Raises:
        ModelError: no such segmenter, or its files are not those that the manifest promises.
    """
    if (own := paths.resolve(name)).is_file():
        return own
    manifest = read_manifest(folder)
    known = {segmenter.name: segmenter for segmenter in manifest.segmenters}
    wanted = manifest.default if name == DEFAULT else name
    if wanted not in known:
        allowed = ", ".join((DEFAULT, *known))
        raise ModelError(f"segmenter {name!r} is neither a file nor in {folder / MANIFEST}; allowed: {allowed}")
    for file, promised in known[wanted].files.items():
        if (actual := sha256_of(folder / file)) != promised:
            raise ModelError(
                f"{folder / file} has sha256 {actual}, the manifest promises {promised}: damaged or exchanged"
            )
    return folder / next(iter(known[wanted].files))


def check_shipped() -> None:
    """Check the segmenters that ship with the installation, hashes too (`rvm check`); errors as in `find`."""
    folder = paths.home() / "models"
    for segmenter in read_manifest(folder).segmenters:
        find(folder, segmenter.name)
