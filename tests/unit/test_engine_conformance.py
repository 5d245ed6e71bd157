"""Every engine that is installed, on what operators bring: what ultralytics' own `predict` finds, and one manner.

The networks are YOLOv8, YOLO11 and YOLO12 with random weights, as `.pt` and as ONNX of every kind. TensorRT is a
stand-in (`fake_tensorrt`).
"""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fake_tensorrt
import numpy as np
import pytest
import untrained_networks as networks
from myrvm_core.errors import ImageError, ModelError
from myrvm_core.verdict import Detection
from myrvm_vision.engine import Engine, EngineOptions, installed, make_engine
from myrvm_vision.postprocess import Limits
from numpy.typing import NDArray

from myrvm_vision import tensorrt_builder

ultralytics = pytest.importorskip("ultralytics")
pytest.importorskip("onnx")

Rows = NDArray[np.float32]
Closing = Callable[[Engine], Engine]
NEEDS = {"openvino": "openvino"}  # package of an engine that the desk may lack
ALL, PAIRS = networks.EXPORTS, networks.PAIRS
CHECKPOINT = (None,)
FILES: dict[str, dict[str, Sequence[networks.Export | None]]] = {
    "onnx": {"yolov8n": PAIRS, "yolo11n": ALL, "yolo12n": PAIRS},
    "openvino": {"yolov8n": PAIRS[:1], "yolo11n": PAIRS, "yolo12n": PAIRS[:1]},
    "tensorrt": {"yolo11n": PAIRS},
    "ultralytics": dict.fromkeys(networks.ARCHITECTURES, CHECKPOINT),
}


@dataclass(frozen=True)
class Case:
    """One file for one engine."""

    engine: str
    architecture: str
    kind: networks.Export | None

    def __str__(self) -> str:
        return f"{self.engine}-{self.architecture}-{self.kind or 'pt'}"


CASES = [
    Case(engine, architecture, kind)
    for engine, files in FILES.items() for architecture, kinds in files.items() for kind in kinds
]  # fmt: skip


def wanted(engine: str) -> Any:
    package = NEEDS.get(engine)
    missing = package is not None and importlib.util.find_spec(package) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed")


@pytest.fixture(scope="module")
def gpu() -> Iterator[fake_tensorrt.Gpu]:
    with pytest.MonkeyPatch.context() as patch:
        yield fake_tensorrt.install(patch)


class Shelf:
    """Files and what ultralytics finds in the pictures with them, each made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pictures = networks.pictures()
        self._files: dict[tuple[str, networks.Export | None], Path] = {}
        self._expected: dict[Path, list[Rows]] = {}

    def source(self, architecture: str, kind: networks.Export | None) -> Path:
        key = (architecture, kind)
        if key not in self._files and kind is None:
            self._files[key] = networks.checkpoint(architecture, self.folder / f"{architecture}.pt")
        elif key not in self._files:
            assert kind is not None
            self._files[key] = networks.export(self.source(architecture, None), kind)
        return self._files[key]

    def file(self, case: Case) -> Path:
        source = self.source(case.architecture, case.kind)
        if case.engine != "tensorrt":
            return source
        built = source.with_suffix(".engine")
        if not built.exists():
            built.write_bytes(tensorrt_builder.build(source, half=False)[0])
        return built

    def expected(self, case: Case) -> list[Rows]:
        source = self.source(case.architecture, case.kind)
        if source not in self._expected:
            model, limits = ultralytics.YOLO(str(source), task="detect"), networks.LIMITS
            options: Any = {"conf": limits.score, "iou": limits.overlap, "max_det": limits.count, "verbose": False}
            size = networks.SIZE_PX
            results = [model.predict(one, imgsz=size, **options)[0] for one in self.pictures]
            self._expected[source] = [one.boxes.data.cpu().numpy() for one in results]
        return self._expected[source]

    def options(self, limits: Limits = networks.LIMITS) -> EngineOptions:
        return EngineOptions(limits=limits, trusted_folder=self.folder)

    def engine(self, case: Case) -> Engine:
        return make_engine(self.file(case), case.engine, self.options())


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory, gpu: fake_tensorrt.Gpu) -> Shelf:
    return Shelf(tmp_path_factory.mktemp("networks"))


@pytest.fixture(params=[pytest.param(name, marks=wanted(name)) for name in FILES])
def any_case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param, "yolo11n", FILES[request.param]["yolo11n"][0])


@pytest.fixture
def closing(gpu: fake_tensorrt.Gpu) -> Iterator[Closing]:
    """Closes what it is given; then nothing may be left on the GPU."""
    engines: list[Engine] = []

    def take(engine: Engine) -> Engine:
        engines.append(engine)
        return engine

    yield take
    for engine in engines:
        engine.close()
    assert (gpu.blocks, gpu.streams) == ({}, set())


@pytest.fixture
def loaded(any_case: Case, shelf: Shelf, closing: Closing) -> Engine:
    engine = closing(shelf.engine(any_case))
    engine.load()
    return engine


def rows_of(detections: tuple[Detection, ...]) -> Rows:
    rows = [[*vars(one.box).values(), one.score, one.class_id] for one in detections]
    return np.array(rows, np.float32).reshape(-1, 6)


def test_every_engine_that_is_installed_is_tested() -> None:
    assert set(installed()) == set(FILES)


@pytest.mark.parametrize("case", [pytest.param(case, id=str(case), marks=wanted(case.engine)) for case in CASES])
def test_the_detections_of_ultralytics_own_predict(case: Case, shelf: Shelf, closing: Closing) -> None:
    engine = closing(shelf.engine(case))
    engine.load()
    description = engine.describe()
    assert (description.engine, description.class_names) == (case.engine, networks.CLASSES)
    assert (description.size, description.stride) == ((networks.SIZE_PX, networks.SIZE_PX), 32)
    compared = 0
    for picture, expected in zip(shelf.pictures, shelf.expected(case), strict=True):
        compared += compare(rows_of(engine.infer(picture).detections), expected, case)
    assert compared >= 10


def compare(found: Rows, expected: Rows, case: Case) -> int:
    """Hold what was found to what was expected; how many boxes that were."""
    half = case.kind is not None and case.kind.half
    if half and case.engine == "openvino":  # which calculates with single precision all the same
        scores, pixels, least_share = 0.05, 4.0, 0.8
    else:
        scores, pixels, least_share = (2e-2, 2.0, 1.0) if half else (1e-3, 0.2, 1.0)
    assert np.all(np.diff(found[:, 4]) <= 0.0)
    for these, those in ((found, expected), (expected, found)):
        sure = these[these[:, 4] > networks.LIMITS.score + scores]
        partners = [bool(np.any((np.abs(those - row) <= [*[pixels] * 4, scores, 0.0]).all(axis=1))) for row in sure]
        assert sum(partners) >= least_share * len(sure), (case, sure[np.logical_not(partners)], those)
    return len(found)


def test_a_picture_without_detections_and_the_time_of_each_stage(
    any_case: Case, shelf: Shelf, closing: Closing
) -> None:
    engine = closing(make_engine(shelf.file(any_case), any_case.engine, shelf.options(Limits(score=1.0))))
    engine.load()
    found = engine.infer(shelf.pictures[1])
    assert found.detections == ()
    assert found.inference_s > 0.0
    assert min(found.preprocess_s, found.postprocess_s) >= 0.0


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (2, 3), (33, 61), (480, 641), (1080, 1920)])
def test_pictures_of_any_size(shape: tuple[int, int], loaded: Engine) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    for one in loaded.infer(picture).detections:
        box = one.box
        assert 0 <= box.x_min <= box.x_max <= shape[1]
        assert 0 <= box.y_min <= box.y_max <= shape[0]


def test_a_picture_is_left_as_it_is_and_may_lie_in_memory_in_any_way(loaded: Engine, shelf: Shelf) -> None:
    for picture in shelf.pictures[:3]:
        before = picture.copy()
        expected = loaded.infer(picture).detections
        assert np.array_equal(picture, before)
        wide = np.zeros((picture.shape[0] * 2, picture.shape[1] * 2, 3), np.uint8)
        wide[::2, ::2] = picture
        mirrored = np.ascontiguousarray(picture[:, ::-1])[:, ::-1]
        for view in (wide[::2, ::2], mirrored, np.asfortranarray(picture)):
            assert not view.flags.c_contiguous
            assert loaded.infer(view).detections == expected
        picture.setflags(write=False)
        assert loaded.infer(picture).detections == expected
        picture.setflags(write=True)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((10, 10), np.uint8), np.zeros((10, 10, 1), np.uint8), np.zeros((10, 10, 4), np.uint8),
        np.zeros((0, 10, 3), np.uint8), np.zeros((10, 10, 3), np.float32), np.zeros((1, 10, 10, 3), np.uint8),
    ],
    ids=["grey", "one_channel", "four_channels", "no_rows", "float", "batch"],
)  # fmt: skip
def test_what_is_no_picture_is_refused_and_harms_nothing(picture: Any, loaded: Engine, shelf: Shelf) -> None:
    expected = loaded.infer(shelf.pictures[0])
    with pytest.raises(ImageError, match="is not allowed: height x width x 3, BGR, uint8"):
        loaded.infer(picture)
    assert loaded.infer(shelf.pictures[0]).detections == expected.detections


def test_closed_twice_unused_closed_and_loaded_again(any_case: Case, shelf: Shelf, closing: Closing) -> None:
    engine = closing(shelf.engine(any_case))
    engine.close()
    with pytest.raises(ModelError, match="is not loaded"):
        engine.infer(shelf.pictures[0])
    found = []
    for _ in range(2):
        engine.load()
        found.append(engine.infer(shelf.pictures[0]).detections)
        engine.close()
        engine.close()
        with pytest.raises(ModelError, match="is not loaded"):
            engine.infer(shelf.pictures[0])
    assert found[0] == found[1]


def test_engines_in_two_threads_do_not_disturb_each_other(any_case: Case, shelf: Shelf, closing: Closing) -> None:
    engines = [closing(shelf.engine(any_case)) for _ in range(2)]
    for engine in engines:
        engine.load()  # here, and used elsewhere
    alone = [[one.infer(picture).detections for picture in shelf.pictures] for one in engines]
    start = threading.Barrier(2)

    def look(engine: Engine) -> list[list[tuple[Detection, ...]]]:
        start.wait(10.0)
        return [[engine.infer(picture).detections for picture in shelf.pictures] for _ in range(3)]

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(look, engines))
    assert together == [[one] * 3 for one in alone]


def spoilt(file: Path, folder: Path, name: str, content: bytes | None) -> Path:
    path = folder / f"{name}{file.suffix}"
    if content is not None:
        path.write_bytes(content)
    return path


def test_files_that_are_no_models_are_refused_with_a_sentence(any_case: Case, shelf: Shelf, closing: Closing) -> None:
    whole = shelf.file(any_case)
    content = whole.read_bytes()
    files = {
        "missing": None, "empty": b"", "text": b"not a model\n" * 99, "picture": b"\xff\xd8\xff\xe0" + bytes(5000),
        "cut": content[: len(content) // 2], "nearly": content[:-1000], "head": content[:100],
    }  # fmt: skip
    for name, spoiling in files.items():
        file = spoilt(whole, shelf.folder, name, spoiling)
        engine = closing(make_engine(file, any_case.engine, shelf.options()))
        with pytest.raises(ModelError) as refused:
            engine.load()
        assert str(file) in str(refused.value)
        assert "\n" not in str(refused.value)
        assert len(str(refused.value)) < 500
        with pytest.raises(ModelError, match="is not loaded"):
            engine.infer(shelf.pictures[0])
