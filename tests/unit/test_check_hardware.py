"""`rvm check --hardware`: profiles against a bare GPIO chip, the desk's cabinet, a folder as `/sys`, and nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from myrvm_hardware.drivers import Role
from myrvm_hardware.gpio_lines import Lines, Output
from myrvm_hardware.gpiod_sensors import GpiodSensors
from myrvm_hardware.settings import SensorSettings
from myrvm_sim.cabinet_client import CabinetClient
from myrvm_system.cli import app
from typer.testing import CliRunner

from myrvm_core import paths, profiles
from myrvm_system import check

LIMIT_S = 30


@pytest.fixture(autouse=True)
def nothing_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GPIO_CHIP", "SENSOR_GPIO_LINES", "MOTOR_GPIO_LINES", "MYRVM_HARDWARE", "MYRVM_GPIO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MYRVM_ENV_FILE", os.devnull)


@pytest.fixture
def chip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A chip of 16 lines, line0 and on, with nothing behind it."""
    folder = tmp_path / "dev"
    monkeypatch.setenv("MYRVM_GPIO", str(folder))
    command = [sys.executable, "-m", "myrvm_sim.bare_chip", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        yield process
        process.stdin.close()
        assert process.wait(LIMIT_S) == 0


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the configuration, for profiles of the test's own."""
    shutil.copytree(paths.home() / "config", tmp_path / "config")
    (tmp_path / "models").symlink_to(paths.home() / "models")
    monkeypatch.setenv("MYRVM_HOME", str(tmp_path))
    return tmp_path


def write(installation: Path, **nodes: dict[str, Any]) -> None:
    """A profile `cabinet-9`, of which nothing in the code knows."""
    sections = {node: {"ros__parameters": parameters} for node, parameters in nodes.items()}
    (installation / "config" / "hardware" / "cabinet-9.yaml").write_text(yaml.safe_dump(sections))


def run(*arguments: str) -> tuple[int, list[str]]:
    result = CliRunner().invoke(app, ["check", *arguments], env={"COLUMNS": "300"})
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output.splitlines()


@pytest.mark.parametrize("name", profiles.names())
def test_each_profile_that_ships_is_valid(name: str) -> None:
    assert check.check(check.default_files(name)) == []
    assert check.settings(check.default_files(name))


def test_the_desk_profile_holds_on_the_desk(cabinet: CabinetClient) -> None:
    code, lines = run("--hardware", "desk")
    assert code == 0, "\n".join(lines)
    table = "\n".join(lines)
    for said in (
        "ok    GPIO chip: myrvm-cabinet is /dev/gpiochip0 (myrvm-cabinet, ",
        "ok    sensor entry: gpiochip0 line 0 (ENTRY), free, inactive",
        "ok    sensor.weight: driver iio hx711: ",
        "ok    sensor.power: driver power_supply: on mains, battery 100%",
    ):
        assert said in table
    cabinet.set_door(True)
    assert "DOOR), free, active" in "\n".join(run("--hardware", "desk")[1])


def test_a_serving_machine_is_not_disturbed(cabinet: CabinetClient) -> None:
    settings = check.settings(check.default_files("desk"))["sensor"]
    assert isinstance(settings, SensorSettings)
    sensors = GpiodSensors(settings.device, settings)
    sensors.open()
    try:
        code, lines = run("--hardware", "desk")
        assert code == 0, "\n".join(lines)
        assert any(line.startswith("ok    sensor entry: ") and line.endswith("in use by myrvm") for line in lines)
        cabinet.stick_line("ENTRY", True)
        edges, lost = sensors.read_edges(LIMIT_S)
    finally:
        sensors.close()
    assert ([(edge.role, edge.active) for edge in edges], lost) == ([(Role.ENTRY, True)], 0)


def test_a_profile_is_added_without_code(installation: Path, chip: subprocess.Popen[str]) -> None:
    write(
        installation,
        camera={"driver": "folder", "device": str(installation)},
        sensor={"device": "bare-chip", "lines": ["entry=line3", "drop=4"]},
        actuator={
            "device": "gpiochip0",
            "motor_lines": ["to_bin=6", "to_customer=line7"],
            "switch_lines": ["closed=8", "bin=9", "customer=10"],
            "interlock_lines": ["door=11", "hand=12", "emergency=13"],
            "normally_closed": ["emergency"],
            "second_gate": {
                "name": "sorter",
                "motor_lines": ["to_bin=0", "to_customer=1"],
                "switch_lines": ["closed=2", "bin=5", "customer=14"],
            },
        },
    )
    assert chip.stdin
    assert chip.stdout
    print("drive 2 0", file=chip.stdin, flush=True)
    chip.stdout.readline()
    nodes = Lines("gpiochip0", {"to_bin": 6, "to_customer": 7})
    nodes.open({"to_bin": Output(), "to_customer": Output()})
    try:
        code, lines = run("--hardware", "cabinet-9")
    finally:
        nodes.close()
    assert code == 0, "\n".join(lines)
    assert "ok    sensor entry: gpiochip0 line 3 (line3), free, inactive" in lines
    assert "ok    actuator to_bin: gpiochip0 line 6 (line6), in use by myrvm" in lines
    assert "ok    actuator customer: gpiochip0 line 10 (line10), free, inactive" in lines
    assert "ok    actuator emergency: gpiochip0 line 13 (line13), free, active" in lines  # its contact is open
    assert "ok    actuator.second_gate closed: gpiochip0 line 2 (line2), free, active" in lines
    assert any(line.startswith("ok    camera: ") for line in lines)


def test_every_failure_is_one_line(installation: Path, chip: subprocess.Popen[str], tmp_path: Path) -> None:
    write(
        installation,
        camera={"driver": "v4l2", "device": "/dev/video99"},
        sensor={
            "device": "bare-chip",
            "lines": ["entry=PQ.05", "drop=99", "bin_full=5"],
            "sysfs_root": str(tmp_path / "sys"),
            "weight": {"driver": "iio", "device": "hx711"},
            "bin_level": {"driver": "iio", "device": "vl53l0x"},
            "power": {"driver": "nut", "device": "ups@127.0.0.1:1"},
        },
        actuator={
            "device": "bare-chip",
            "motor_lines": ["to_bin=line5", "to_customer=7"],
            "switch_lines": ["closed=8", "bin=9", "customer=10"],
            "interlock_lines": ["door=11", "hand=12", "emergency=13"],
        },
    )
    scale = tmp_path / "sys/bus/iio/devices/iio:device0"
    scale.mkdir(parents=True)
    (scale / "name").write_text("hx711\n")
    (scale / "in_weight_raw").write_text("-5000\n")
    stranger = Lines("gpiochip0", {"relay": 7}, consumer="relay-test")
    stranger.open({"relay": Output()})
    try:
        code, lines = run("--hardware", "cabinet-9")
    finally:
        stranger.close()
    assert code == 1
    failures = [line for line in lines if line.startswith("TO DO ")]
    expected = (
        "camera: /dev/video99 is not there; cameras here: ",
        "sensor entry: gpiochip0 has no line 'PQ.05' -> ",
        "sensor drop: gpiochip0 has no line 99 -> ",
        "actuator to_bin: gpiochip0 line 5 (line5) is sensor bin_full too -> ",
        "actuator to_customer: gpiochip0 line 7 (line7), in use by relay-test -> end relay-test, or name another line",
        "sensor.weight: weight = -5000 is not plausible: -0.05 .. 20 -> calibrate it",
        "sensor.bin_level: IIO device vl53l0x is not there; there are: hx711 -> ",
        "sensor.power: upsd at 127.0.0.1:1 is not reached",
    )
    for said in expected:
        assert [said in line for line in failures].count(True) == 1, (said, lines)
    assert len(failures) == len(expected)


def test_no_chip_is_one_line(installation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYRVM_GPIO", str(tmp_path / "empty"))
    write(installation, camera={"driver": "folder", "device": "."}, sensor={"device": "tegra234-gpio"})
    code, lines = run("--hardware", "cabinet-9")
    assert code == 1
    sensor, actuator = [line for line in lines if line.startswith("TO DO")]
    where = "TO DO GPIO chip: GPIO chip {} is not there; there are: none -> name the chip; "
    assert sensor == where.format("tegra234-gpio") + "3 lines wait for it"
    assert actuator.startswith(where.format("/dev/gpiochip0"))
    assert run("--hardware", "cabinet-9", "--files-only")[0] == 0


def test_a_profile_that_is_not_valid_is_not_tried(installation: Path) -> None:
    write(installation, sensor={"weight": {"scale": 0}, "lines": "entry=1", "colour": 3})
    code, lines = run("--hardware", "cabinet-9")
    assert code == 1
    assert len(lines) == 3
    assert json.dumps(lines).count("cabinet-9.yaml: sensor") == 3


@pytest.mark.parametrize(
    ("node", "parameters", "said"),
    [
        (
            "camera",
            {"driver": "webcam"},
            "camera.driver = 'webcam' is not installed in myrvm.camera_drivers; allowed: ",
        ),
        ("sensor", {"lines": ["entry=1", "drop=1"]}, "sensor.lines: line 1 is there twice"),
        (
            "sensor",
            {"lines": ["entry=6"]},
            "line 6 of /dev/gpiochip0 is there twice: for sensor entry and for actuator to_",
        ),
        ("sensor", {"lines": ["exit=2"]}, "sensor.lines: 'exit' in 'exit=2' is not known; allowed: entry, "),
        (
            "sensor",
            {"weight": {"driver": "iio", "device": "x", "channel": "kg"}},
            "sensor.weight.channel = 'kg' is not ",
        ),
        ("sensor", {"weight": {"driver": "hx711", "data_line": "1"}}, "sensor.weight.clock_line = '' is not allowed: "),
        ("actuator", {"motor_lines": ["to_bin=6"]}, "actuator.motor_lines: to_customer is missing"),
    ],
)
def test_what_can_never_work_needs_no_machine_to_be_found(
    installation: Path, node: str, parameters: dict[str, Any], said: str
) -> None:
    write(installation, **{node: parameters})
    (problem,) = check.check(check.default_files("cabinet-9"))
    assert problem.startswith(said)


def test_later_files_and_the_environment_win(installation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(installation, sensor={"device": "one", "weight": {"scale": 2.0, "offset": 7.0}})
    override = installation / "override.yaml"
    override.write_text("sensor: {ros__parameters: {weight.scale: 3.0, device: two}}")
    sensor: Any = check.settings([profiles.file("cabinet-9"), override])["sensor"]
    assert (sensor.weight.scale, sensor.weight.offset, sensor.device) == (3.0, 7.0, "two")
    monkeypatch.setenv("GPIO_CHIP", "three")
    sensor = check.settings([profiles.file("cabinet-9"), override])["sensor"]
    assert sensor.device == "three"
