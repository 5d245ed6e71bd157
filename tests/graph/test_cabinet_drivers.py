"""The drivers of the cabinet against a real cabinet process, found by name as the nodes find them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from myrvm_core.errors import DeviceError
from myrvm_hardware.drivers import (
    CAMERA_DRIVERS,
    GATE_DRIVERS,
    SENSOR_DRIVERS,
    CameraDriver,
    Direction,
    EndSwitch,
    GateDriver,
    Role,
    find_driver,
)
from myrvm_hardware.kernel_clock import since_epoch_ns
from myrvm_sim.cabinet_client import CabinetClient, running
from myrvm_sim.physics import Kind

SETTINGS = SimpleNamespace(frame_rate_hz=100.0)


def driver(group: str, path: Path) -> Any:
    return find_driver(group, "cabinet")(str(path), SETTINGS)


def wait(condition: Callable[[], Any], limit_s: float = 30.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    with running(tmp_path / "cabinet", "--seed", "1", "--gate-log", str(tmp_path / "gate.jsonl")):
        yield tmp_path / "cabinet"


def test_one_item_seen_weighed_taken(path: Path) -> None:
    camera: CameraDriver = driver(CAMERA_DRIVERS, path)
    sensors = driver(SENSOR_DRIVERS, path)
    gate: GateDriver = driver(GATE_DRIVERS, path)
    for device in (camera, sensors, gate):
        device.open()
    empty = camera.read()
    assert empty.image.shape == (480, 640, 3)
    assert empty.image.dtype == np.uint8
    assert sensors.read_edges(0.0) == ([], 0)
    assert gate.position() is EndSwitch.CLOSED
    before_ns = time.monotonic_ns()
    with CabinetClient(path) as people:
        item = people.insert(Kind.NOT_EMPTY)
        entered, _ = sensors.read_edges(30.0)
        assert [(edge.role, edge.active) for edge in entered] == [(Role.ENTRY, True)]
        assert before_ns - 1_000_000 <= entered[0].monotonic_ns <= time.monotonic_ns()
        assert sensors.levels()[Role.ENTRY]
        assert sensors.measure()[Role.WEIGHT] == pytest.approx(item["weight_kg"], abs=0.02)
        frame = camera.read()
        assert frame.stamp_ns > since_epoch_ns(entered[0].monotonic_ns), "a frame tells of its own time"
        difference = np.abs(frame.image.astype(int) - empty.image.astype(int)).mean()
        assert difference > 3.0, "the item is in the picture"
        gate.drive(Direction.TO_BIN)
        wait(lambda: gate.position() is EndSwitch.BIN)
        gate.drive(Direction.OFF)
        edges = []
        wait(
            lambda: (
                edges.extend(sensors.read_edges(1.0)[0]) or any((e.role, e.active) == (Role.DROP, False) for e in edges)
            )
        )
        assert [(e.role, e.active) for e in edges] == [(Role.ENTRY, False), (Role.DROP, True), (Role.DROP, False)]
        assert people.truth()["items"][0]["place"] == "bin"
    for device in (camera, sensors, gate):
        device.close()
        device.close()


def test_unplugging_the_camera(path: Path) -> None:
    camera: CameraDriver = driver(CAMERA_DRIVERS, path)
    camera.open()
    with CabinetClient(path) as people:
        people.set_camera("unplugged")
        with pytest.raises(DeviceError, match="unplugged"):
            camera.read()
        camera.close()
        with pytest.raises(DeviceError, match="unplugged"):
            camera.open()
        people.set_camera("live")
        camera.open()
        assert camera.read().image.mean() > 5
    camera.close()


def test_the_motor_may_be_switched_off_from_any_thread(path: Path) -> None:
    gate: GateDriver = driver(GATE_DRIVERS, path)
    gate.open()
    gate.drive(Direction.TO_CUSTOMER)
    thread = threading.Thread(target=gate.drive, args=[Direction.OFF])
    thread.start()
    for _ in range(50):
        gate.position()
    thread.join()
    with CabinetClient(path) as people:
        assert [e["detail"] for e in people.log() if e["what"] == "motor"] == ["to_customer", "off"]
    gate.close()


def test_losing_the_cabinet_and_opening_again(tmp_path: Path) -> None:
    path = tmp_path / "cabinet"
    devices = [driver(group, path) for group in (CAMERA_DRIVERS, SENSOR_DRIVERS, GATE_DRIVERS)]
    for _ in range(2):
        with running(path):
            for device in devices:
                device.open()
        for device, use in zip(
            devices,
            (lambda d: d.read(), lambda d: d.read_edges(0.1), lambda d: d.drive(Direction.OFF)),
            strict=True,
        ):
            with pytest.raises(DeviceError, match="is lost"):
                use(device)
            with pytest.raises(DeviceError, match="not reached"):
                device.open()
