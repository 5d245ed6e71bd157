"""Which models serve: only those that keep what is promised of them and prove themselves on golden pictures."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fake_tensorrt
import numpy as np
import onnx
import psutil
import pytest
import toy_network
from exploit import Exploit
from myrvm_cloud.config_update import patchable
from myrvm_core.errors import ModelError, SettingsError
from myrvm_core.rules import RuleTable
from myrvm_vision.engine import EngineOptions, make_engine
from myrvm_vision.golden import GoldenFigures
from myrvm_vision.proven_model import ProvenModel, load, parse_class_map
from myrvm_vision.settings import DetectorSettings
from onnx import numpy_helper

from myrvm_core import paths, rules
from myrvm_vision import golden, model_store, recognizer

TABLE = rules.load(paths.home() / "config" / "rules.yaml", 0.7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return toy_network.install(tmp_path / "models")


def proven(folder: Path, table: RuleTable = TABLE, name: str = "", **settings: Any) -> ProvenModel:
    return load(DetectorSettings(models_dir=str(folder), **settings), table, name)


def refused(folder: Path, table: RuleTable = TABLE, name: str = "", **settings: Any) -> str:
    with pytest.raises(ModelError) as error:
        proven(folder, table, name, **settings)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500
    return str(error.value)


def changed_entry(folder: Path, **fields: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["models"][0] |= fields
    (folder / "manifest.json").write_text(json.dumps(manifest))


def changed_network(folder: Path, change: Callable[[onnx.ModelProto], None], **fields: Any) -> None:
    """Change the network and promise it: its hash is right, what it does may not be."""
    file = folder / "toy.onnx"
    network = onnx.load(file)
    change(network)
    onnx.save(network, file)
    changed_entry(folder, sha256=model_store.sha256_of(file), **fields)


def metadata(**values: str) -> Callable[[onnx.ModelProto], None]:
    def change(network: onnx.ModelProto) -> None:
        kept = {one.key: one.value for one in network.metadata_props}
        onnx.helper.set_model_props(network, {name: value for name, value in (kept | values).items() if value})

    return change


def weights(factor: float) -> Callable[[onnx.ModelProto], None]:
    def change(network: onnx.ModelProto) -> None:
        (stored,) = (one for one in network.graph.initializer if one.name == "weights")
        stored.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(stored) * np.float32(factor), "weights"))

    return change


def test_a_model_gives_its_figures_again(folder: Path) -> None:
    model = proven(folder)
    assert model.proof is not None
    assert (model.proof.pictures, model.proof.boxes) == (4, 3)
    model.engine.close()


def test_figures_are_what_a_trusted_engine_measures(folder: Path) -> None:
    engine = make_engine(folder / "toy.onnx")
    engine.load()
    figures = golden.measure(engine, folder / golden.FOLDER)
    assert {name: [row[0] for row in rows] for name, rows in figures.pictures.items()} == {
        "mineral.png": ["mineral"], "not_empty.png": ["not_empty"], "soda.png": ["soda"], "None.png": [],
    }  # fmt: skip
    again = GoldenFigures.model_validate_json(figures.model_dump_json())
    assert golden.prove(engine, again, folder / golden.FOLDER, 0.25).boxes == 3
    golden.prove(engine, again, folder / golden.FOLDER, 0.9)  # an engine that drops what is expected
    engine.close()


@pytest.mark.parametrize("factor", [0.0, 0.1, 0.9, 1.1])
def test_an_engine_that_loads_and_finds_nothing_or_less_or_more_is_refused(factor: float, folder: Path) -> None:
    changed_network(folder, weights(factor))
    assert "toy.onnx (onnx) does not prove itself: golden picture" in refused(folder)
    changed_network(folder, weights(1.0 / factor if factor else 0.0), golden=None)
    assert factor == 0.0 or proven(folder).proof is not None


def test_a_model_without_figures_must_find_what_is_there_or_be_let_through_by_name(folder: Path) -> None:
    changed_entry(folder, golden=None)
    proof = proven(folder).proof
    assert proof is not None
    assert proof.boxes == 3
    changed_network(folder, weights(0.0), golden=None)
    assert "finds 0 of 3 items in 4 golden pictures, 25% are needed" in refused(folder)
    assert proven(folder, engine_proof="none").proof is None
    # What has figures is held to them all the same.
    changed_entry(folder, golden={"pictures": {"soda.png": [["soda", 0.745, *toy_network.BOX]]}})
    assert "soda 0.74 is expected and not found" in refused(folder, engine_proof="none")


def test_golden_pictures_that_are_missing_are_a_refusal(folder: Path) -> None:
    (folder / golden.FOLDER / "soda.png").write_bytes(b"no picture")
    assert "soda.png cannot be read" in refused(folder)
    changed_entry(folder, golden=None)
    for text in ("", "[]", "{", '[{"file": "a"}]', "[3]"):
        (folder / golden.FOLDER / golden.INDEX).write_text(text)
        assert "does not prove itself" in refused(folder)
    shutil.rmtree(folder / golden.FOLDER)
    assert "index.json, which says what the golden pictures show, cannot be read" in refused(folder)


def test_classes_that_the_rules_need_and_the_model_lacks(folder: Path) -> None:
    names = {0: "water", 1: "full", 2: "soda", 3: "milk", 4: "yogurt", 5: "dishwasher", 6: "non_mineral"}
    changed_network(folder, metadata(names=str(names)), golden=None)
    with pytest.raises(SettingsError, match=r"row \d+.classes = 'not_empty' is not allowed: the model knows water"):
        proven(folder)
    mapped = proven(folder, class_map=["water=mineral", "full=not_empty"])
    assert mapped.engine.describe().class_names == toy_network.CLASSES
    assert [one.class_name for one in mapped.engine.infer(toy_network.picture(toy_network.BLUE)).detections] == [
        "not_empty"
    ]
    assert mapped.proof is not None
    changed_entry(folder, class_map={"water": "mineral", "full": "not_empty"})
    assert proven(folder).engine.describe().class_names == toy_network.CLASSES
    assert "class_map names glas; the model knows water, full" in refused(folder, class_map=["glas=mineral"])


@pytest.mark.parametrize("pair", ["water", "=mineral", "water=", "="])
def test_a_class_map_that_is_none(pair: str) -> None:
    with pytest.raises(SettingsError, match=r"class_map = .* is not allowed: the model's name=our name"):
        parse_class_map(["a=b", pair])
    assert parse_class_map(["", " a = b "]) == {"a": "b"}


def test_promises_of_the_manifest_that_the_file_does_not_keep(folder: Path) -> None:
    changed_entry(folder, classes=["mineral", "soda"])
    assert "knows the classes mineral, not_empty" in refused(folder)
    changed_entry(folder, classes=[], image_size_px=640)
    assert "has an input of 320 px; the manifest promises 640" in refused(folder)
    changed_entry(folder, image_size_px=320, sha256="0" * 64)
    assert "the manifest promises 0000" in refused(folder)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"names": ""}, "has no metadata of an ultralytics export"),
        ({"names": "__import__('os').abort()"}, "has no metadata of an ultralytics export"),
        ({"names": "{}"}, "knows no class"),
        ({"imgsz": "[640, 640]"}, "has an input of 320 x 320 px, and its metadata says 640 x 640"),
        ({"stride": "0"}, "multiples of its stride 0"),
        ({"stride": "7"}, "multiples of its stride 7"),
        ({"task": "segment"}, "is made for the task 'segment'; allowed: detect"),
        ({"names": "{0: 'a', 1: 'b'}"}, "is not understood"),
    ],
)
def test_files_that_do_not_say_what_they_are(values: dict[str, str], sentence: str, folder: Path) -> None:
    changed_network(folder, metadata(**values))
    assert sentence in refused(folder)


@pytest.mark.parametrize("shape", [[2, 3, 320, 320], [1, 1, 320, 320], [1, 3, 320], [1, 3, None, 320]])
def test_inputs_of_another_shape(shape: list[int | None], folder: Path) -> None:
    def change(network: onnx.ModelProto) -> None:
        sides = network.graph.input[0].type.tensor_type.shape
        del sides.dim[:]
        for side in shape:
            sides.dim.add(**({"dim_value": side} if side else {"dim_param": "any"}))
        del network.graph.output[0].type.tensor_type.shape.dim[:]

    changed_network(folder, change)
    assert "allowed: 1 x 3 x height x width" in refused(folder)


def test_a_pickle_that_would_run_code_does_not(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("ultralytics")
    trace = tmp_path / "trace"
    for name in ("plain.pt", "zipped.pt"):
        content = pickle.dumps({"model": Exploit(trace)}, protocol=2)
        if name == "plain.pt":
            (tmp_path / name).write_bytes(content)
        else:  # as torch.save writes it
            with zipfile.ZipFile(tmp_path / name, "w") as archive:
                archive.writestr("archive/data.pkl", content)
                archive.writestr("archive/version", "3\n")
        path = str(tmp_path / name)
        for trusted in ("", str(folder), str(tmp_path / "pl")):
            line = refused(folder, model_path=path, trusted_dir=trusted)
            assert "is a pickle, which can run code: it is loaded from the trusted folder only" in line
        # Nor from the trusted folder.
        assert "is not a model that ultralytics loads" in refused(folder, model_path=path, trusted_dir=str(tmp_path))
        (folder / name).symlink_to(tmp_path / name)
        assert "is a pickle" in refused(folder, model_path=str(folder / name), trusted_dir=str(folder))
        assert not trace.exists()
    pickle.loads(content)
    assert trace.read_text() == "it ran"  # it would have


def test_a_trusted_folder_that_everybody_may_write_to_is_none(folder: Path, tmp_path: Path) -> None:
    inner = tmp_path / "trusted" / "inner"
    inner.mkdir(parents=True)
    (inner / "a.pt").write_bytes(b"x")
    inner.chmod(0o777)
    line = refused(folder, model_path=str(inner / "a.pt"), trusted_dir=str(tmp_path / "trusted"))
    assert f"everybody may write to {inner}: chmod o-w" in line


def test_an_engine_that_is_built_elsewhere_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = fake_tensorrt.install(monkeypatch)
    from myrvm_vision import tensorrt_builder

    content, built = tensorrt_builder.build(folder / "toy.onnx", half=True)
    assert (built["tensorrt"], built["gpu"], built["half"]) == ("10.3.0", fake_tensorrt.GPU, True)
    file = folder / "toy.engine"
    file.write_bytes(content)
    model = proven(folder, name=str(file))
    assert model.engine.describe().engine == "tensorrt"
    model.engine.close()
    fake_tensorrt.install(monkeypatch, version="10.7.0")
    assert "was built for 10.3.0, here is 10.7.0; an engine runs only where it was built" in refused(
        folder, name=str(file)
    )
    assert (gpu.blocks, gpu.streams) == ({}, set())


def test_what_a_model_is_trusted_by_is_not_changed_from_afar() -> None:
    assert not any(patchable("detector", name) for name in ("engine_proof", "trusted_dir", "model_path", "engine"))


def test_memory_returns_to_what_it_was_over_many_exchanges(folder: Path) -> None:
    shipped = recognizer.load(DetectorSettings(models_dir=str(folder)))
    process = psutil.Process()

    def exchange(count: int) -> int:
        for _ in range(count):
            shipped.exchange(shipped.other("", "")).close()
        return process.memory_info().rss

    before = exchange(10)
    after = exchange(60)
    shipped.close()
    assert after - before < 6e6


def test_a_model_that_is_refused_is_closed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    from myrvm_vision.onnx_engine import OnnxEngine

    monkeypatch.setattr(OnnxEngine, "close", lambda self: closed.append(True))
    changed_network(folder, weights(0.0))
    refused(folder)
    assert closed == [True]
    make_engine(folder / "toy.onnx", options=EngineOptions())
