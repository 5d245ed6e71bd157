"""The code in docs/extending.md, run as it stands there."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import toy_network
from myrvm_core.errors import DeviceError, ModelError
from myrvm_hardware.drivers import Role
from myrvm_hardware.settings import CameraSettings, WeightSettings
from myrvm_vision.engine import EngineOptions, make_engine

from myrvm_core import paths


def code(title: str) -> dict[str, Any]:
    text = (paths.home() / "docs" / "extending.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"```python\n(# {re.escape(title)}\n.*?)```", text, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, title, "exec"), names)
    return names


@pytest.fixture
def answers() -> Iterator[tuple[str, list[bytes]]]:
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bodies.pop(0))

        def log_message(self, format: str, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/snapshot.jpg", bodies
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_snapshot_camera(answers: tuple[str, list[bytes]]) -> None:
    url, bodies = answers
    jpeg = cv2.imencode(".jpg", np.full((6, 8, 3), 90, np.uint8))[1].tobytes()
    bodies += [jpeg, jpeg, b"no picture"]
    camera = code("my_drivers/snapshot.py")["SnapshotCamera"](url, CameraSettings(frame_rate_hz=100.0))
    camera.open()
    assert camera.read().image.shape == (6, 8, 3)
    with pytest.raises(DeviceError, match="gives no JPEG"):
        camera.read()
    camera.close()


def test_the_snapshot_camera_that_is_not_there() -> None:
    camera = code("my_drivers/snapshot.py")["SnapshotCamera"]("http://127.0.0.1:1/", CameraSettings())
    with pytest.raises(DeviceError, match="gives no picture"):
        camera.open()


def test_the_balance(tmp_path: Path) -> None:
    port = tmp_path / "ttyUSB0"
    balance = code("my_drivers/balance.py")["Balance"](str(port), WeightSettings(), Role.WEIGHT)
    with pytest.raises(DeviceError, match=r"ttyUSB0 cannot be read"):
        balance.open()
    port.write_text("215.5\n")
    balance.open()
    assert balance.read() == {Role.WEIGHT: 215.5}
    balance.close()


def test_the_engine(tmp_path: Path) -> None:
    toy_network.build(tmp_path / "toy.onnx")
    engine = code("my_engines/opencv.py")["OpenCvEngine"](tmp_path / "toy.onnx", EngineOptions())
    engine.load()
    picture = toy_network.picture(toy_network.GREEN)
    reference = make_engine(tmp_path / "toy.onnx")
    reference.load()
    (found,), (expected,) = engine.infer(picture).detections, reference.infer(picture).detections
    assert (found.class_name, found.box) == (expected.class_name, expected.box)
    assert found.score == pytest.approx(expected.score, abs=5e-3)
    engine.close()
    (tmp_path / "toy.onnx").write_bytes(b"no model")
    with pytest.raises(ModelError, match="is not a model that OpenCV loads"):
        engine.load()
