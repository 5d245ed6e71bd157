"""Offset, scale and tare of an analogue sensor from what it reads (`rvm calibrate`).

value = (raw - offset) * scale - tare, as in `plausibility`: two known values give offset and scale, one gives the tare.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
import yaml
from myrvm_core.configuration import default_files, local_file, settings
from myrvm_core.errors import DeviceError, RvmError, SettingsError
from myrvm_core.settings import merged, read_yaml

from myrvm_core import durable
from myrvm_hardware.analog_sensor import GROUPS, build_driver
from myrvm_hardware.drivers import AnalogDriver, Role
from myrvm_hardware.settings import AnalogSettings, SensorSettings

SAMPLES = 15
CLEAR = 10.0  # the two known values must be so many times further apart than the samples scatter
SI = {"weight": "kg", "bin_level": "m", "motor_current": "A"}


class CalibrationError(RvmError):
    """What was measured makes no calibration; one line says why."""


@dataclass(frozen=True)
class Measured:
    """Some samples at one known value: their median and how far they lie apart, raw units."""

    raw: float
    scatter: float


def measure(driver: AnalogDriver, role: Role, period_s: float, samples: int = SAMPLES) -> Measured:
    """Take samples.

    Raises:
        DeviceError: the sensor cannot be read.
        CalibrationError: a sample is no number.
    """
    taken: list[float] = []
    for _ in range(samples):
        taken.append(driver.read()[role])
        time.sleep(period_s)
    if not all(math.isfinite(raw) for raw in taken):
        raise CalibrationError(f"{role.name.lower()} reads {next(raw for raw in taken if not math.isfinite(raw))}")
    return Measured(median(taken), max(taken) - min(taken))


def two_points(low: float, at_low: Measured, high: float, at_high: Measured) -> dict[str, float]:
    """Offset and scale from the readings at two known values.

    Raises:
        CalibrationError: the values are the same, or the readings cannot be told apart.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or low == high:
        raise CalibrationError(f"{low:g} and {high:g} are not two values")
    span = at_high.raw - at_low.raw
    scatter = max(at_low.scatter, at_high.scatter)
    if span == 0.0 or abs(span) < CLEAR * scatter:
        raise CalibrationError(
            f"the sensor reads {at_low.raw:g} at {low:g} and {at_high.raw:g} at {high:g}, and scatters by {scatter:g}: "
            "it does not tell them apart; look at its wiring, or take values that lie further apart"
        )
    scale = (high - low) / span
    return {"offset": at_low.raw - low / scale, "scale": scale}


def tare(group: AnalogSettings, at_low: Measured, low: float) -> dict[str, float]:
    """The tare with which the present reading becomes `low`."""
    return {"tare": (at_low.raw - group.offset) * group.scale - low}


def calibrate(
    sensor: Annotated[str, typer.Argument(help=f"One of {', '.join(SI)}.")],
    high: Annotated[
        float | None, typer.Option(help="The larger known value, kg, m or A; not needed with --tare.")
    ] = None,
    low: Annotated[float, typer.Option(help="The smaller known value, such as an empty scale.")] = 0.0,
    only_tare: Annotated[
        bool, typer.Option("--tare", help="Keep offset and scale, take what is on it as LOW.")
    ] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Into local.yaml of the data folder, read at each start.")
    ] = False,
    hardware: Annotated[str, typer.Option(metavar="NAME", help="Profile [MYRVM_HARDWARE].")] = "",
) -> None:
    """Calibrate an analogue sensor with one or two known values. The sensor node may run but with an hx711."""
    if sensor not in SI:
        raise typer.BadParameter(f"{sensor!r}; allowed: {', '.join(SI)}", param_hint="SENSOR")
    if high is None and not only_tare:
        raise typer.BadParameter("missing; or --tare", param_hint="--high")
    node = settings(default_files(hardware))["sensor"]
    assert isinstance(node, SensorSettings)
    group: AnalogSettings = getattr(node, sensor)
    if not group.driver:
        raise SettingsError(f"sensor.{sensor}.driver is empty: this machine has no such sensor")
    role = GROUPS[sensor][0]
    driver = build_driver(node, sensor)
    try:
        driver.open()
        _ask(f"Let {sensor} be {low:g} {SI[sensor]}")
        at_low = measure(driver, role, group.period_s)
        if high is None or only_tare:
            found = tare(group, at_low, low)
        else:
            _ask(f"Let {sensor} be {high:g} {SI[sensor]}")
            found = two_points(low, at_low, high, measure(driver, role, group.period_s))
    finally:
        driver.close()
    section: dict[str, Any] = {"sensor": {"ros__parameters": {sensor: found}}}
    typer.echo(yaml.safe_dump(section), nl=False)
    if write:
        _write(local_file(), section)
        typer.echo(f"written to {local_file()}; it counts from the next start of the machine")


def _ask(request: str) -> None:
    typer.prompt(f"{request}, then press Enter", default="", show_default=False, err=True)


def _write(file: Path, section: dict[str, Any]) -> None:
    present = read_yaml(file) if file.is_file() else {}
    if not isinstance(present, dict):
        raise SettingsError(f"{file} must be a mapping of nodes to ros__parameters")
    try:
        durable.replace(file, yaml.safe_dump(merged(present, section)).encode())
    except OSError as error:
        raise DeviceError(f"{file} cannot be written: {error.strerror}") from error
