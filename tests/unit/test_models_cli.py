"""`rvm model`: an engine is built, an operator's model entered, each proven before the manifest names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fake_tensorrt
import pytest
import toy_network
from myrvm_core.errors import ModelError
from myrvm_vision.models_cli import app
from myrvm_vision.proven_model import load
from myrvm_vision.settings import DetectorSettings
from typer.testing import CliRunner

from myrvm_core import paths, rules
from myrvm_vision import golden, model_store, tensorrt_engine

TABLE = rules.load(paths.home() / "config" / "rules.yaml", 0.7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return toy_network.install(tmp_path / "models")


def run(folder: Path, *words: str) -> str:
    result = CliRunner().invoke(app, [*words, "--models", str(folder)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_engine_is_built_proven_and_entered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = fake_tensorrt.install(monkeypatch)
    line = run(folder, "build", "toy", "--fp16")
    assert "toy-tensorrt 1 by tensorrt: 3 boxes in 4 golden pictures" in line
    assert "use it with model: toy-tensorrt" in line
    read = manifest(folder)
    assert (read["default"], [model["name"] for model in read["models"]]) == ("toy", ["toy", "toy-tensorrt"])
    built = read["models"][1]["built"]
    assert (built["from"], built["tensorrt"], built["gpu"]) == ("toy.onnx", "10.3.0", fake_tensorrt.GPU)
    assert (built["half"], read["models"][1]["golden"]["tolerance"]) == (True, 0.1)
    assert files(folder) == {"manifest.json", "toy.onnx", "toy-tensorrt.engine", golden.FOLDER}
    metadata, _ = tensorrt_engine.read(folder / "toy-tensorrt.engine")
    assert metadata["built"] == built
    assert metadata["names"] == str(dict(enumerate(toy_network.CLASSES)))
    assert run(folder, "build", "--default").count("entered in") == 1
    model = load(DetectorSettings(models_dir=str(folder)), TABLE)
    assert (model.info.name, model.engine.describe().engine) == ("toy-tensorrt", "tensorrt")
    model.engine.close()
    assert (gpu.blocks, gpu.streams) == ({}, set())


def test_an_engine_that_finds_nothing_is_not_entered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tensorrt.install(monkeypatch)
    toy_network.build(folder / "blind.onnx", strength=0.0)
    blind = (folder / "blind.onnx").read_bytes()
    monkeypatch.setattr(
        fake_tensorrt.Builder,
        "build_serialized_network",
        lambda *_: fake_tensorrt.PREFIX + blind,  # as it was seen on an Orin: it loads, and detects nothing
    )
    before = manifest(folder)
    with pytest.raises(ModelError, match=r"does not prove itself: golden picture .* is expected"):
        run(folder, "build", "toy")
    assert manifest(folder) == before
    assert files(folder) == {"manifest.json", "toy.onnx", "blind.onnx", golden.FOLDER}


@pytest.mark.parametrize(
    ("version", "words", "sentence"),
    [
        ("8.6.1", [], "TensorRT 8.6.1 is installed; 10 or later is needed"),
        ("10.2.0", [], "TensorRT 10.2.0 builds engines that give wrong results"),
        ("10.3.0", ["unknown"], "has no model 'unknown'; allowed: toy"),
    ],
)
def test_what_cannot_be_built(
    version: str, words: list[str], sentence: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tensorrt.install(monkeypatch, version)
    with pytest.raises(ModelError, match=sentence):
        run(folder, "build", *words)


def test_without_tensorrt_one_sentence_says_so(folder: Path) -> None:
    with pytest.raises(ModelError, match="TensorRT is not installed"):
        run(folder, "build")


def test_an_operators_model_gets_figures(folder: Path, tmp_path: Path) -> None:
    toy_network.build(tmp_path / "best.onnx", strength=1.1)
    assert "best 7 by onnx: 3 boxes" in run(folder, "add", str(tmp_path / "best.onnx"), "--version", "7", "--default")
    assert manifest(folder)["default"] == "best"
    entry = model_store.find_stored(folder).promises
    assert entry.golden is not None
    assert entry.golden.pictures["mineral.png"][0][1] == pytest.approx(0.745 * 1.1, abs=0.01)
    assert "best 7 by onnx" in run(folder, "prove")
    assert "toy 1 by onnx" in run(folder, "prove", "toy")
    toy_network.build(tmp_path / "blind.onnx", strength=0.0)
    with pytest.raises(ModelError, match="nothing is found in the 4 golden pictures"):
        run(folder, "add", str(tmp_path / "blind.onnx"))
    with pytest.raises(ModelError, match=r"missing\.onnx does not exist"):
        run(folder, "add", str(tmp_path / "missing.onnx"))
    assert [model["name"] for model in manifest(folder)["models"]] == ["toy", "best"]
