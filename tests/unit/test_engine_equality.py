"""Our engines against ultralytics' own `predict` on the same file: boxes within 1 px, scores within 0.001."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import shipped_checkpoint
from myrvm_core.errors import ModelError
from myrvm_core.verdict import Detection
from myrvm_vision.engine import Engine, EngineOptions, make_engine
from myrvm_vision.postprocess import Limits
from numpy.typing import NDArray

from myrvm_core import paths
from myrvm_vision import model_store

ultralytics = pytest.importorskip("ultralytics")
PICTURES = sorted((paths.home() / "src/myrvm_sim/myrvm_sim/pictures").glob("*.jpg"))
SHAPES = [(480, 640), (320, 320), (640, 480), (97, 403)]


def pictures() -> Iterator[NDArray[np.uint8]]:
    """Twenty held-out pictures, every fifth in another shape."""
    assert len(PICTURES) >= 20
    for number, path in enumerate(PICTURES[:: len(PICTURES) // 20][:20]):
        picture = cv2.imread(str(path))
        assert picture is not None
        height, width = SHAPES[number % 5 % len(SHAPES)]
        yield cv2.resize(picture, (width, height)).astype(np.uint8, copy=False)


def loaded(file: Path, limits: Limits) -> Engine:
    engine = make_engine(file, options=EngineOptions(limits=limits, trusted_folder=file.parent))
    engine.load()
    return engine


def rows_of(detections: tuple[Detection, ...]) -> NDArray[np.float32]:
    rows = [[*vars(one.box).values(), one.score, one.class_id] for one in detections]
    return np.array(rows, np.float32).reshape(-1, 6)


def compare(engine: Engine, model: Any, limits: Limits) -> int:
    """Hold an engine to ultralytics' predictions; gives the number of boxes compared."""
    compared = 0
    for picture in pictures():
        result = model.predict(
            picture, conf=limits.score, iou=limits.overlap, max_det=limits.count, imgsz=320, verbose=False
        )[0]
        expected = result.boxes.data.cpu().numpy()
        detections = engine.infer(picture).detections
        found = rows_of(detections)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found[:, :4], expected[:, :4], atol=1.0)
        np.testing.assert_allclose(found[:, 4], expected[:, 4], atol=1e-3)
        np.testing.assert_array_equal(found[:, 5], expected[:, 5])
        assert [one.class_name for one in detections] == [result.names[int(number)] for number in expected[:, 5]]
        compared += len(found)
    return compared


@pytest.mark.parametrize("score", [0.25, 0.02])
def test_the_shipped_model(score: float) -> None:
    file, _ = model_store.find_model(paths.home() / "models")
    limits = Limits(score=score)
    assert compare(loaded(file, limits), ultralytics.YOLO(str(file), task="detect"), limits) > 0


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the shipped network."""
    pytest.importorskip("onnx")
    return shipped_checkpoint.write(tmp_path_factory.mktemp("network") / "shipped.pt")


def test_a_checkpoint_and_its_dynamic_export(checkpoint: Path) -> None:
    limits = Limits(score=0.02)
    torch_model = ultralytics.YOLO(str(checkpoint))
    assert compare(loaded(checkpoint, limits), torch_model, limits) >= 10
    exported = Path(ultralytics.YOLO(str(checkpoint)).export(format="onnx", imgsz=320, dynamic=True, simplify=False))
    engine = loaded(exported, limits)
    assert engine.describe().class_names[:2] == ("mineral", "not_empty")
    # The least padding for an input of any size: the same boxes as the checkpoint itself gives.
    assert compare(engine, torch_model, limits) >= 10
    assert compare(engine, ultralytics.YOLO(str(exported), task="detect"), limits) >= 10


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "broken.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError, match=r"broken\.pt is not a model that ultralytics loads") as refused:
        loaded(tmp_path / "broken.pt", Limits())
    assert "\n" not in str(refused.value)
    with pytest.raises(ModelError, match=r"missing\.pt does not exist"):
        loaded(tmp_path / "missing.pt", Limits())
