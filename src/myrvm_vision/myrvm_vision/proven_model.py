"""A model on its way into service: found, its hash checked, loaded, held to its promises, proven on golden pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from myrvm_core.errors import ModelError, SettingsError
from myrvm_core.rules import RuleTable
from myrvm_core.verdict import ModelInfo

from myrvm_core import paths
from myrvm_vision import golden, model_store
from myrvm_vision.calibration import Calibration
from myrvm_vision.engine import Engine, EngineDescription, EngineOptions, make_engine, rename
from myrvm_vision.golden import Proof
from myrvm_vision.model_store import ManifestModel, StoredModel
from myrvm_vision.postprocess import Limits
from myrvm_vision.settings import DetectorSettings

MOST_THREADS = 8  # more of them help no network of this size


@dataclass(frozen=True)
class ProvenModel:
    """A model that may serve; `proof` is None where the operator's settings ask for none."""

    engine: Engine
    info: ModelInfo
    calibration: Calibration
    proof: Proof | None


def load(settings: DetectorSettings, table: RuleTable, name: str = "", version: str = "") -> ProvenModel:
    """Load a model and prove it.

    Args:
        settings: which model, by which engine, and how.
        table: rules whose classes it must know.
        name: of another model than the settings name: as `model`, or a path.
        version: of a file that is named by its path.

    Raises:
        ModelError: no such model, not the promised one, or it does not prove itself.
        SettingsError: `class_map` is not allowed, or the rules name a class that the model does not have.
    """
    folder = paths.resolve(settings.models_dir)
    stored = find(settings, folder, name, version)
    limits = Limits(settings.detection_score, settings.detection_overlap)
    trusted = paths.resolve(settings.trusted_dir) if settings.trusted_dir else None
    threads = settings.threads or default_threads()
    engine = make_engine(stored.file, settings.engine, EngineOptions(threads, limits, trusted))
    engine.load()
    try:
        promises = stored.promises
        _check_promises(engine.describe(), promises, stored.file)
        proof = None
        try:
            if promises.golden is not None:
                proof = golden.prove(engine, promises.golden, folder / golden.FOLDER, limits.score)
            named = rename(engine, promises.class_map | parse_class_map(settings.class_map))
            if proof is None and settings.engine_proof != "none":
                proof = golden.find_items(named, folder / golden.FOLDER)
        except ModelError as error:
            raise ModelError(f"{stored.file} ({engine.describe().engine}) does not prove itself: {error}") from error
        table.check_classes(named.describe().class_names)
    except BaseException:
        engine.close()
        raise
    return ProvenModel(named, stored.info, promises.calibration, proof)


def find(settings: DetectorSettings, folder: Path, name: str = "", version: str = "") -> StoredModel:
    """The model's file, its hash checked where one is promised; arguments and errors as in `load`."""
    if "/" in name:
        return model_store.stored_file(paths.resolve(name), version)
    if not name and settings.model_path:
        return model_store.stored_file(paths.resolve(settings.model_path), settings.model_version)
    return model_store.find_stored(folder, name or settings.model)


def parse_class_map(pairs: Sequence[str]) -> dict[str, str]:
    """Our name by the model's, from `theirs=ours`.

    Raises:
        SettingsError: a pair is no such pair.
    """
    parts = [pair.partition("=") for pair in pairs if pair]
    if wrong := [pair for pair in parts if not pair[0].strip() or not pair[2].strip()]:
        raise SettingsError(f"class_map = {''.join(wrong[0])!r} is not allowed: the model's name=our name")
    return {theirs.strip(): ours.strip() for theirs, _, ours in parts}


def default_threads() -> int:
    """One for each core that this process may use."""
    return min(len(os.sched_getaffinity(0)), MOST_THREADS)


def _check_promises(found: EngineDescription, promises: ManifestModel, file: Path) -> None:
    if promises.classes and promises.classes != found.class_names:
        said, known = ", ".join(promises.classes), ", ".join(found.class_names)
        raise ModelError(f"{file} knows the classes {known}; the manifest promises {said}")
    if promises.image_size_px and promises.image_size_px != max(found.size):
        raise ModelError(f"{file} has an input of {max(found.size)} px; the manifest promises {promises.image_size_px}")
