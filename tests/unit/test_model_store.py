from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import toy_network
from myrvm_core.errors import ModelError
from myrvm_vision.engine import make_engine
from myrvm_vision.recognizer import load
from myrvm_vision.settings import DetectorSettings

from myrvm_core import paths
from myrvm_vision import model_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return toy_network.install(tmp_path / "models")


def refused(folder: Path, name: str = "") -> str:
    with pytest.raises(ModelError) as error:
        model_store.find_model(folder, name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_default_and_the_named_model(folder: Path) -> None:
    path, info = model_store.find_model(folder)
    assert path == folder / "toy.onnx"
    assert (info.name, info.version, len(info.sha256)) == ("toy", "1", 64)
    assert model_store.find_model(folder, "toy") == (path, info)


def test_what_is_shipped_is_what_the_manifest_promises() -> None:
    shipped = paths.home() / "models"
    total_bytes = 0
    for model in model_store.read_manifest(shipped).models:
        path, info = model_store.find_model(shipped, model.name)
        engine = make_engine(path)
        engine.load()
        assert engine.describe().class_names == model.classes
        assert info.sha256 == model.sha256
        total_bytes += path.stat().st_size
    assert 0 < total_bytes < 15e6


def test_damaged_cut_and_missing_files_are_refused(folder: Path) -> None:
    file = folder / "toy.onnx"
    whole = file.read_bytes()
    for content in (b"", whole[:-1], whole + b"x"):
        file.write_bytes(content)
        assert "toy.onnx has sha256" in refused(folder)
    file.unlink()
    assert "toy.onnx cannot be read: No such file or directory" in refused(folder)
    assert "has no model 'other'; allowed: toy" in refused(folder, "other")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "manifest.json cannot be read"),
        ("{", "manifest.json: file = '{' is not allowed: Invalid JSON"),
        ("{}", "manifest.json: default = "),
        (
            json.dumps({"default": "a", "models": [{"name": "a", "version": "1", "file": "a", "sha256": "12"}]}),
            "manifest.json: models.0.sha256 = '12' is not allowed",
        ),
    ],
)
def test_a_bad_manifest_is_refused(folder: Path, text: str | None, line: str) -> None:
    (folder / "manifest.json").unlink()
    if text is not None:
        (folder / "manifest.json").write_text(text)
    assert line in refused(folder)


def test_what_is_no_model_is_refused_by_the_engine(tmp_path: Path) -> None:
    for name, content in (("a.onnx", b"not a model"), ("b.onnx", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=rf"{name} is not a model that ONNX Runtime loads") as error:
            make_engine(tmp_path / name).load()
        assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match=r"suffix '.txt' is not a model's; allowed: .engine, .onnx, .pt"):
        make_engine(tmp_path / "a.txt")


def test_a_file_of_the_operator_is_taken_as_it_is_and_hashed(folder: Path, tmp_path: Path) -> None:
    settings = DetectorSettings(
        models_dir=str(tmp_path / "nowhere"), model_path=str(folder / "toy.onnx"), model_version="7"
    )
    with pytest.raises(ModelError, match=r"toy\.onnx \(onnx\) does not prove itself: .*index\.json.* cannot be read"):
        load(settings)
    recognizer = load(settings.model_copy(update={"engine_proof": "none"}))
    assert (recognizer.model.name, recognizer.model.version) == ("toy", "7")
    assert recognizer.model.sha256 == model_store.sha256_of(folder / "toy.onnx")
    look = recognizer.look(toy_network.picture(toy_network.GREEN), 5)
    assert look.ballot.stamp_ns == 5
    assert [found.class_name for found in look.inference.detections] == ["mineral"]
    recognizer.close()
    with pytest.raises(ModelError, match="is not loaded"):
        recognizer.look(np.zeros((4, 4, 3), np.uint8), 0)
