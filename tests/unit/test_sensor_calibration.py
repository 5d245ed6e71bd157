"""Calibration by known values: the arithmetic, what makes none, and the command on a simulated sysfs tree."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from myrvm_core.configuration import default_files, local_file, settings
from myrvm_core.errors import DeviceError, RvmError, SettingsError
from myrvm_hardware.drivers import Role
from myrvm_hardware.plausibility import Plausibility
from myrvm_hardware.sensor_calibration import CalibrationError, Measured, calibrate, measure, tare, two_points
from myrvm_hardware.settings import AnalogSettings, SensorSettings
from typer.testing import CliRunner

from myrvm_hardware import sensor_calibration

NUMBERS = st.floats(-1e6, 1e6)
WIDE = {"minimum": -1e12, "maximum": 1e12, "median": 1}


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_the_known_values_are_read_back(low: float, high: float, raw_low: float, raw_high: float) -> None:
    assume(abs(high - low) > 1e-3)
    assume(abs(raw_high - raw_low) > 1e-3)
    found = two_points(low, Measured(raw_low, 0.0), high, Measured(raw_high, 0.0))
    sensor = Plausibility("weight", AnalogSettings(**{**WIDE, **found}))
    precision = 1e-6 * (1.0 + abs(low) + abs(high)) * (1.0 + (abs(raw_low) + abs(raw_high)) / abs(raw_high - raw_low))
    assert sensor.take(raw_low, 0.0) == pytest.approx(low, abs=precision)
    assert sensor.take(raw_high, 1.0) == pytest.approx(high, abs=precision)


@given(NUMBERS, NUMBERS)
def test_a_tare_makes_what_is_there_the_value_asked_for(raw: float, low: float) -> None:
    group = AnalogSettings(offset=84_213.0, scale=0.001, **WIDE)
    found = tare(group, Measured(raw, 0.0), low)
    assert Plausibility("weight", group.model_copy(update=found)).take(raw, 0.0) == pytest.approx(low, abs=1e-3)


@pytest.mark.parametrize(
    ("low", "at_low", "high", "at_high", "said"),
    [
        (0.0, Measured(5.0, 0.0), 1.0, Measured(5.0, 0.0), "it does not tell them apart"),
        (0.0, Measured(5.0, 1.0), 1.0, Measured(14.0, 0.5), "the sensor reads 5 at 0 and 14 at 1, and scatters by 1"),
        (1.0, Measured(5.0, 0.0), 1.0, Measured(9.0, 0.0), "1 and 1 are not two values"),
        (0.0, Measured(5.0, 0.0), math.nan, Measured(9.0, 0.0), "0 and nan are not two values"),
    ],
)
def test_what_makes_no_calibration(low: float, at_low: Measured, high: float, at_high: Measured, said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        two_points(low, at_low, high, at_high)


class Readings:
    """A driver that reads what it is given, one after the other."""

    def __init__(self, *raw: float) -> None:
        self._raw = iter(raw)

    def open(self) -> None:
        """Nothing to open."""

    def read(self) -> dict[Role, float]:
        return {Role.WEIGHT: next(self._raw)}

    def close(self) -> None:
        """Nothing to close."""


def test_samples_become_their_median_and_their_scatter() -> None:
    assert measure(Readings(3.0, 100.0, 2.0, 4.0, 3.5), Role.WEIGHT, 0.0, samples=5) == Measured(3.5, 98.0)
    with pytest.raises(CalibrationError, match="weight reads nan"):
        measure(Readings(1.0, math.nan, 1.0), Role.WEIGHT, 0.0, samples=3)


@pytest.fixture
def scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A raw load cell in a simulated sysfs tree; the desk's profile, but for its speed."""
    for name, value in {"DATA": tmp_path / "var", "SYSFS": tmp_path / "sys", "HARDWARE": "desk"}.items():
        monkeypatch.setenv(f"MYRVM_{name}", str(value))
    monkeypatch.setenv("MYRVM_ENV_FILE", os.devnull)
    monkeypatch.setattr(sensor_calibration, "SAMPLES", 3)
    folder = tmp_path / "sys/bus/iio/devices/iio:device0"
    folder.mkdir(parents=True)
    (folder / "name").write_text("hx711\n")
    (folder / "in_weight_raw").write_text("84213")
    local_file().parent.mkdir()
    local_file().write_text(yaml.safe_dump({"sensor": {"ros__parameters": {"weight": {"period_s": 0.02}}}}))
    return folder / "in_weight_raw"


@pytest.fixture
def technician(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Runs the command; `then` are what happens at each question."""

    def run(*arguments: str, then: list[Callable[[], object]]) -> tuple[int, str]:
        actions = iter(then)
        monkeypatch.setattr(sensor_calibration, "_ask", lambda _request: next(actions)())
        app = typer.Typer()
        app.command()(calibrate)
        result = CliRunner().invoke(app, list(arguments))
        if isinstance(result.exception, RvmError):
            return 1, str(result.exception)
        return result.exit_code, result.output

    return run


def weight() -> AnalogSettings:
    sensor = settings(default_files())["sensor"]
    assert isinstance(sensor, SensorSettings)
    return sensor.weight


def test_a_scale_is_calibrated_and_its_values_kept(scale: Path, technician: Callable[..., tuple[int, str]]) -> None:
    code, said = technician(
        "weight", "--high", "0.5", "--write", then=[lambda: None, lambda: scale.write_text("584213")]
    )
    assert code == 0, said
    assert (weight().offset, weight().scale, weight().period_s) == (pytest.approx(84_213.0), pytest.approx(1e-6), 0.02)
    assert "local.yaml" in said
    code, said = technician("weight", "--tare", "--write", then=[lambda: scale.write_text("94213")])
    assert code == 0, said
    assert (weight().tare, weight().scale) == (pytest.approx(0.01), pytest.approx(1e-6))


def test_without_write_nothing_is_changed(scale: Path, technician: Callable[..., tuple[int, str]]) -> None:
    before = local_file().read_bytes()
    code, said = technician("weight", "--high", "1", then=[lambda: None, lambda: scale.write_text("94213")])
    assert code == 0
    assert yaml.safe_load(said) == {
        "sensor": {"ros__parameters": {"weight": {"offset": 84_213.0, "scale": pytest.approx(1e-4)}}}
    }
    assert local_file().read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "raw", "said"),
    [
        (["weight", "--high", "1"], "84213", "it does not tell them apart"),
        (["weight", "--high", "1"], "nan", "weight reads nan"),
        (["weight", "--high", "1"], "wet", "in_weight_raw holds 'wet': no number"),
        (["weight", "--high", "0"], "94213", "0 and 0 are not two values"),
        (["weight"], "94213", "missing; or --tare"),
        (["humidity", "--high", "1"], "94213", "'humidity'; allowed: weight, bin_level,"),
    ],
)
def test_nonsense_is_one_line_and_changes_nothing(
    scale: Path, technician: Callable[..., tuple[int, str]], arguments: list[str], raw: str, said: str
) -> None:
    before = local_file().read_bytes()
    code, answer = technician(*arguments, "--write", then=[lambda: None, lambda: scale.write_text(raw)])
    assert code != 0
    assert said in " ".join(answer.split())
    assert local_file().read_bytes() == before


def test_a_local_file_of_the_wrong_shape_is_refused(scale: Path) -> None:
    local_file().write_text("- 1\n")
    with pytest.raises(SettingsError, match=r"local\.yaml must be a mapping"):
        sensor_calibration._write(local_file(), {})
    with pytest.raises(DeviceError, match="cannot be written"):
        sensor_calibration._write(Path("/proc/none/local.yaml"), {})
