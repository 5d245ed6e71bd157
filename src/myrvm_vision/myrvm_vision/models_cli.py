"""`rvm model`: build a TensorRT engine on this device, enter an operator's own model, prove one. No node need run."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from myrvm_core.errors import ModelError, StorageError

from myrvm_core import durable, paths, rules
from myrvm_vision import golden, model_store, proven_model, tensorrt_builder
from myrvm_vision.engine import EngineOptions, make_engine
from myrvm_vision.settings import DetectorSettings

app = typer.Typer(help="The recognition networks of this machine.", no_args_is_help=True)
BUILT = ".engine"
HALF_TOLERANCE = 0.1  # of the scores of an engine that calculates with half precision

Folder = Annotated[str, typer.Option("--models", help="Folder of manifest.json.")]


@app.command()
def build(
    model: Annotated[str, typer.Argument(help="Of the manifest; its default where none is named.")] = "",
    half: Annotated[bool, typer.Option("--fp16", help="Half precision: faster, scores move a little.")] = False,
    default: Annotated[bool, typer.Option("--default", help="Make it the manifest's default.")] = False,
    models: Folder = "models",
) -> None:
    """Build a TensorRT engine from an ONNX model, prove it on the golden pictures, enter it in the manifest."""
    folder = paths.resolve(models)
    stored = model_store.find_stored(folder, model)
    content, built = tensorrt_builder.build(stored.file, half)
    figures = stored.promises.golden or _figures(stored.file, folder)
    if half:
        figures = figures.model_copy(update={"tolerance": max(figures.tolerance, HALF_TOLERANCE)})
    entry = stored.promises.model_dump(mode="json") | {
        "name": f"{stored.info.name}-tensorrt", "golden": figures.model_dump(mode="json"), "built": built,
    }  # fmt: skip
    print(_enter(folder, entry, content, BUILT, default))


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help=".onnx, or .pt from the trusted folder.")],
    name: Annotated[str, typer.Option(help="In the manifest; the file's where none is given.")] = "",
    version: Annotated[str, typer.Option(help="As verdicts show it.")] = "1",
    class_map: Annotated[list[str], typer.Option(help="The model's name=our name; may be repeated.")] = [],  # noqa: B006
    default: Annotated[bool, typer.Option("--default", help="Make it the manifest's default.")] = False,
    models: Folder = "models",
) -> None:
    """Enter an operator's own model in the manifest, with what it finds in the golden pictures as its figures."""
    folder = paths.resolve(models)
    figures = _figures(file, folder)
    entry = {
        "name": name or file.stem, "version": version, "golden": figures.model_dump(mode="json"),
        "class_map": proven_model.parse_class_map(class_map),
    }  # fmt: skip
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}") from error
    print(_enter(folder, entry, content, file.suffix, default))


@app.command()
def prove(
    model: Annotated[str, typer.Argument(help="Of the manifest, or a path; what the parameters name by default.")] = "",
    engine: Annotated[str, typer.Option(help="Another engine than the suffix names.")] = "auto",
    models: Folder = "models",
) -> None:
    """Load a model as the detector would and prove it on the golden pictures."""
    settings = DetectorSettings(models_dir=models, engine=engine)
    print(_prove(settings, model))


def _figures(file: Path, folder: Path) -> golden.GoldenFigures:
    engine = make_engine(file, options=EngineOptions(trusted_folder=paths.resolve(DetectorSettings().trusted_dir)))
    engine.load()
    try:
        return golden.measure(engine, folder / golden.FOLDER)
    finally:
        engine.close()


def _prove(settings: DetectorSettings, model: str) -> str:
    table = rules.load(paths.resolve(settings.rules_file), settings.threshold)
    proven = proven_model.load(settings, table, model)
    proven.engine.close()
    return f"{proven.info.name} {proven.info.version} by {proven.engine.describe().engine}: {proven.proof}"


def _enter(folder: Path, entry: dict[str, Any], content: bytes, suffix: str, default: bool) -> str:
    """Prove it in a folder of its own, which has nothing else of the manifest, then keep it; one line that says so."""
    name = entry["name"]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".trial-") as place:
        trial = Path(place)
        file = trial / f"{name}{suffix}"
        file.write_bytes(content)
        entry |= {"file": file.name, "sha256": model_store.sha256_of(file)}
        (trial / golden.FOLDER).symlink_to((folder / golden.FOLDER).resolve())
        (trial / "manifest.json").write_text(json.dumps({"default": name, "models": [entry]}))
        line = _prove(DetectorSettings(models_dir=str(trial.resolve())), name)
    try:
        durable.replace(folder / f"{name}{suffix}", content)
    except OSError as error:
        raise StorageError(f"{folder / file.name} cannot be written: {error}") from error
    model_store.enter(folder, entry, default)
    return f"{line}\nentered in {folder / 'manifest.json'}" + ("" if default else f"; use it with model: {name}")
