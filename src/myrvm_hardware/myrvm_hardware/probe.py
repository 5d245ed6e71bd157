"""A hardware profile: what in it can never work (`check`), and how it fits the machine that it runs on (`probe`).

`probe` looks at GPIO chips, lines, analogue sensors and camera, for `rvm check --hardware`. Nothing is driven: inputs
that nobody has are taken for a moment and read, outputs are only looked up. What our own nodes hold is well; so a
machine that serves can be looked at. An `hx711` that is free is read, which pulses its clock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import gpiod
from myrvm_core.errors import DeviceError, SettingsError
from myrvm_core.examination import Examined
from myrvm_core.settings import Settings

from myrvm_hardware import analog_sensor
from myrvm_hardware.analog_sensor import GROUPS, in_units
from myrvm_hardware.drivers import CAMERA_DRIVERS, GATE_DRIVERS, SENSOR_DRIVERS, Role, find_driver
from myrvm_hardware.gpio_lines import CONSUMER, REFUSALS, Input, Lines, chip_paths, find_chip
from myrvm_hardware.plausibility import ImplausibleError, Plausibility
from myrvm_hardware.settings import ActuatorSettings, AnalogSettings, CameraSettings, SensorSettings, SourceSettings

ON_LINES = ("", "gpiod", "hx711")  # drivers whose device is a GPIO chip; a group without a driver has its node's
READ = ("sensor.lines", "switch_lines", "interlock_lines")  # inputs; everything else is only looked up
UNITS = {"weight": "kg", "bin_level": "full", "motor_current": "A"}
WIRING = "see docs/hardware.md"


@dataclass(frozen=True)
class Purpose:
    """What a profile says a line is for; `line` is its name or offset, `setup` how an input is read."""

    name: str
    chip: str
    line: int | str
    setup: Input | None


@dataclass(frozen=True)
class Place:
    """A line of a chip that is there; `user` is empty where nobody has it."""

    path: str
    offset: int
    name: str
    user: str

    @property
    def words(self) -> str:
        """Where it is."""
        return f"{Path(self.path).name} line {self.offset}{f' ({self.name})' if self.name else ''}"

    @property
    def ours(self) -> bool:
        """Whether one of our nodes has it."""
        return self.user.startswith(CONSUMER)


def check(nodes: Mapping[str, Settings]) -> None:
    """Build the drivers that the settings name, but for the camera's, and see that no line has two purposes.

    Raises:
        SettingsError: says all that can never work.
    """
    problems: list[str] = []
    for node, settings in nodes.items():
        try:
            if isinstance(settings, CameraSettings):
                find_driver(CAMERA_DRIVERS, settings.driver)
            elif isinstance(settings, ActuatorSettings):
                find_driver(GATE_DRIVERS, settings.driver)(settings.device, settings)
            elif isinstance(settings, SensorSettings):
                find_driver(SENSOR_DRIVERS, settings.driver)(settings.device, settings)
                analog_sensor.sensors(settings, lambda: None, None)
        except SettingsError as error:
            problems += (line if line.startswith(f"{node}.") else f"{node}.{line}" for line in error.problems)
    taken: dict[tuple[str, int | str], str] = {}
    for purpose in () if problems else purposes_of(nodes):
        other = taken.setdefault((purpose.chip, purpose.line), purpose.name)
        if other != purpose.name:
            problems.append(f"line {purpose.line} of {purpose.chip} is there twice: for {other} and for {purpose.name}")
    if problems:
        raise SettingsError(*problems)


def probe(nodes: Mapping[str, Settings]) -> Iterator[Examined]:
    """Look at all that the settings of the nodes name, one line for each thing."""
    purposes = purposes_of(nodes)
    places: dict[Purpose, Place] = {}
    for chip in dict.fromkeys(purpose.chip for purpose in purposes):
        yield from _probe_chip(chip, [purpose for purpose in purposes if purpose.chip == chip], places)
    for settings in nodes.values():
        if isinstance(settings, CameraSettings):
            yield _probe_camera(settings)
        elif isinstance(settings, SensorSettings):
            ours = {purpose.name for purpose, place in places.items() if place.ours}
            for name in GROUPS:
                if getattr(settings, name).driver:
                    yield _probe_analog(name, settings, bool({f"sensor.{name} data", f"sensor.{name} clock"} & ours))


def purposes_of(nodes: Mapping[str, Settings]) -> list[Purpose]:
    """What every line is for that the settings name."""
    return [purpose for node, settings in nodes.items() for purpose in _purposes(node, settings, "", False, True)]


def _purposes(where: str, settings: Settings, chip: str, active_low: bool, on_lines: bool) -> Iterator[Purpose]:
    """Every `purpose=line` in a setting `*lines`, and every line in a setting `*_line`, of a node and its groups.

    A group that does not say otherwise has its node's chip, active level and kind of driver.
    """
    if driver := getattr(settings, "driver", ""):
        on_lines = driver in ON_LINES
    chip = getattr(settings, "device", "") or chip
    told = getattr(settings, "active_low", active_low)
    active_low = told if isinstance(told, bool) else active_low  # outputs have a list, and are not read
    bias = getattr(settings, "bias", "auto")
    setup = Input(active_low, ("up" if active_low else "down") if bias == "auto" else bias, edges=False)
    inverse = getattr(settings, "normally_closed", [])
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from _purposes(f"{where}.{name}", value, chip, active_low, on_lines)
        elif not on_lines:
            continue
        elif name.endswith("lines") and isinstance(value, list):
            read = name in READ or f"{where}.{name}" in READ
            for entry in value:
                purpose, equals, line = str(entry).partition("=")
                purpose = purpose.strip()
                if equals and read:
                    wired = replace(setup, active_low=active_low != (purpose in inverse))
                    yield _purpose(f"{where} {purpose}", chip, line, wired)
                elif equals:
                    yield _purpose(f"{where} {purpose}", chip, line, None)
        elif name.endswith("_line") and value:
            yield _purpose(f"{where} {name.removesuffix('_line')}", chip, value, None)


def _purpose(name: str, chip: str, line: str, setup: Input | None) -> Purpose:
    line = line.strip()
    return Purpose(name, chip, int(line) if line.isdecimal() else line, setup)


def _probe_chip(identity: str, purposes: list[Purpose], places: dict[Purpose, Place]) -> Iterator[Examined]:
    try:
        path = find_chip(identity)
        with gpiod.Chip(path) as chip:
            about = chip.get_info()
            lines = [chip.get_line_info(offset) for offset in range(about.num_lines)]
    except DeviceError as error:
        yield Examined("GPIO chip", str(error), f"name the chip; {len(purposes)} lines wait for it")
        return
    except PermissionError as error:
        yield Examined("GPIO chip", f"{identity} may not be used ({error.strerror})", "add this user to the group gpio")
        return
    except REFUSALS:
        known = ", ".join(Path(path).name for path in chip_paths()) or "none"
        found = f"GPIO chip {identity} is not there; there are: {known}"
        yield Examined("GPIO chip", found, f"name the chip; {len(purposes)} lines wait for it")
        return
    yield Examined("GPIO chip", f"{identity} is {path} ({about.label}, {about.num_lines} lines)")
    for purpose in purposes:
        found = [line for line in lines if purpose.line in (line.offset, line.name)]
        if len(found) != 1:
            what = "has no line" if not found else f"has {len(found)} lines"
            yield Examined(purpose.name, f"{Path(path).name} {what} {purpose.line!r}", f"gpioinfo lists them; {WIRING}")
            continue
        user = (found[0].consumer or "an unnamed program") if found[0].used else ""
        place = Place(path, found[0].offset, found[0].name, user)
        others = [other.name for other, there in places.items() if (there.path, there.offset) == (path, place.offset)]
        places[purpose] = place
        yield _probe_line(purpose, place, others)


def _probe_line(purpose: Purpose, place: Place, others: list[str]) -> Examined:
    if others:
        return Examined(purpose.name, f"{place.words} is {others[0]} too", "give each purpose a line of its own")
    if place.user:
        advice = "" if place.ours else f"end {place.user}, or name another line"
        return Examined(purpose.name, f"{place.words}, in use by {place.user}", advice)
    if purpose.setup is None:
        return Examined(purpose.name, f"{place.words}, free")
    lines = Lines(place.path, {purpose.name: place.offset}, consumer="rvm check")
    try:
        lines.open({purpose.name: purpose.setup})
        active = lines.levels()[purpose.name]
    except DeviceError as error:
        return Examined(purpose.name, str(error), WIRING)
    finally:
        lines.close()
    return Examined(purpose.name, f"{place.words}, free, {'active' if active else 'inactive'}")


def _probe_camera(settings: CameraSettings) -> Examined:
    device = settings.device
    if settings.driver == "csi" and device.isdecimal():
        device = f"/dev/video{device}"
    if settings.driver not in ("v4l2", "csi", "file", "folder") or "!" in device:
        return Examined("camera", f"driver {settings.driver} {device}".rstrip() + ": only the camera node can tell")
    path = Path(device)
    if not path.exists():
        known = ", ".join(str(found) for found in sorted(Path("/dev").glob("video*"))) or "none"
        return Examined("camera", f"{device} is not there; cameras here: {known}", "plug it in, or name another device")
    if not os.access(path, os.R_OK):
        return Examined("camera", f"{device} may not be opened", f"add this user to the group {path.group()}")
    return Examined("camera", f"{device} is there (driver {settings.driver})")


def _probe_analog(name: str, sensor: SensorSettings, ours: bool) -> Examined:
    group: SourceSettings = getattr(sensor, name)
    subject, where = f"sensor.{name}", f"driver {group.driver} {group.device}".rstrip()
    if ours:
        return Examined(subject, f"{where}: in use by the running machine")
    try:
        driver = analog_sensor.build_driver(sensor, name)
    except SettingsError as error:
        return Examined(subject, str(error), "mend the profile")
    try:
        driver.open()
        return Examined(subject, f"{where}: {_reading(name, group, driver.read())}")
    except DeviceError as error:
        return Examined(subject, str(error), WIRING)
    except ImplausibleError as error:
        return Examined(subject, str(error), "calibrate it: docs/hardware.md")
    finally:
        driver.close()


def _reading(name: str, group: SourceSettings, sample: Mapping[Role, float]) -> str:
    """A sample in words. Raises ImplausibleError."""
    if isinstance(group, AnalogSettings):
        raw = sample[GROUPS[name][0]]
        value = in_units(Plausibility(name, group).take(raw, 0.0), group)
        return f"{value:.4g} {UNITS[name]} (raw {raw:.6g})"
    mains = "on battery" if sample[Role.ON_BATTERY] else "on mains"
    low = ", low" if sample[Role.BATTERY_LOW] else ""
    charge = f"{sample[Role.BATTERY]:.0%}" if Role.BATTERY in sample else "of unknown charge"
    return f"{mains}, battery {charge}{low}"
