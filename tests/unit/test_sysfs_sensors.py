"""Scale, distance, current and battery as the kernel shows them: drivers `iio` and `power_supply` on a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from myrvm_core.errors import DeviceError, SettingsError
from myrvm_hardware.drivers import Role
from myrvm_hardware.iio import IioChannel
from myrvm_hardware.power_supply import PowerSupply
from myrvm_hardware.settings import AnalogSettings, PowerSettings


def write(folder: Path, **files: str | None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        file = folder / name
        file.write_text(f"{text}\n") if text is not None else file.unlink(missing_ok=True)
    return folder


@pytest.mark.parametrize(
    ("role", "channel", "files", "value"),
    [
        (Role.WEIGHT, "", {"in_weight_raw": "84713", "in_weight_offset": "-84213", "in_weight_scale": "1e-3"}, 0.5),
        (
            Role.WEIGHT,
            "in_voltage0",
            {"in_voltage0_raw": "2000", "in_voltage_scale": "0.5"},
            1.0,
        ),  # of all voltages, mV
        (
            Role.WEIGHT,
            "in_voltage0",
            {"in_voltage0_raw": "7", "in_voltage_scale": "9", "in_voltage0_scale": "2"},
            0.014,
        ),
        (Role.MOTOR_CURRENT, "", {"in_current_raw": "1500"}, 1.5),  # mA
        (Role.MOTOR_CURRENT, "in_current3", {"in_current3_input": "250", "in_current3_raw": "9"}, 0.25),
        (Role.BIN_LEVEL, "", {"in_distance_raw": "400", "in_distance_scale": "0.001"}, 0.4),
    ],
)
def test_a_channel_is_read_in_si_units(
    tmp_path: Path, role: Role, channel: str, files: dict[str, str], value: float
) -> None:
    write(tmp_path / "bus/iio/devices/iio:device0", name="other")
    write(tmp_path / "bus/iio/devices/iio:device1", name="sensor", **files)
    driver = IioChannel("sensor", AnalogSettings(channel=channel), role, str(tmp_path))
    driver.open()
    assert driver.read() == {role: pytest.approx(value)}


def test_what_iio_has_not_is_one_line(tmp_path: Path) -> None:
    folder = write(tmp_path / "bus/iio/devices/iio:device0", name="hx711", in_weight_raw="wet")
    for name, said in (("vl53l0x", "IIO device vl53l0x is not there; there are: hx711"), ("hx711", "'wet': no number")):
        with pytest.raises(DeviceError, match=said):
            IioChannel(name, AnalogSettings(), Role.WEIGHT, str(tmp_path)).open()
    driver = IioChannel("hx711", AnalogSettings(), Role.WEIGHT, str(tmp_path))
    with pytest.raises(DeviceError, match="IIO device hx711 is not open"):
        driver.read()
    write(folder, in_weight_raw="1")
    driver.open()
    write(folder, in_weight_raw=None)
    with pytest.raises(DeviceError, match="in_weight_raw cannot be read"):
        driver.read()
    for device, channel in (("", "in_weight"), ("hx711", "weight")):
        with pytest.raises(SettingsError, match="is not allowed"):
            IioChannel(device, AnalogSettings(channel=channel), Role.WEIGHT)


@pytest.mark.parametrize(
    ("mains", "battery", "expected"),
    [
        ("1", {"status": "Charging", "capacity": "80"}, (0.0, 0.8, 0.0)),
        ("0", {"status": "Discharging", "capacity": "80"}, (1.0, 0.8, 0.0)),
        ("1", {"status": "Discharging", "capacity": "80"}, (1.0, 0.8, 0.0)),  # a supply that gives too little
        ("0", {"status": "Discharging", "capacity": "10"}, (1.0, 0.1, 1.0)),
        ("0", {"status": "Discharging", "capacity": "50", "capacity_level": "Critical"}, (1.0, 0.5, 1.0)),
        ("0", {"status": "Discharging", "capacity_level": "Low"}, (1.0, None, 1.0)),  # no charge is told
        (None, {"status": "Discharging", "capacity": "80"}, (1.0, 0.8, 0.0)),
        (None, {"status": "Full", "capacity": "100"}, (0.0, 1.0, 0.0)),
    ],
)
def test_mains_and_battery(
    tmp_path: Path, mains: str | None, battery: dict[str, str], expected: tuple[float, float | None, float]
) -> None:
    if mains is not None:
        write(tmp_path / "class/power_supply/ac", type="Mains", online=mains)
    write(tmp_path / "class/power_supply/bat", type="Battery", **battery)
    driver = PowerSupply("", PowerSettings(low_charge=0.15), Role.ON_BATTERY, str(tmp_path))
    driver.open()
    said = driver.read()
    assert (said[Role.ON_BATTERY], said.get(Role.BATTERY), said[Role.BATTERY_LOW]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("device", "capacity", "said"),
    [
        ("bat1", "50", r"power supply bat1 is not there; there are: ac \(Mains\), bat \(Battery\)"),
        ("", "full", "capacity holds 'full': no number"),
        ("", "140", "capacity is 140: 0 .. 100 is allowed"),
        ("", "nan", "capacity is nan: 0 .. 100 is allowed"),
    ],
)
def test_a_battery_that_is_none(tmp_path: Path, device: str, capacity: str, said: str) -> None:
    write(tmp_path / "class/power_supply/ac", type="Mains", online="1")
    write(tmp_path / "class/power_supply/bat", type="Battery", status="Full", capacity=capacity)
    with pytest.raises(DeviceError, match=said):
        PowerSupply(device, PowerSettings(), Role.ON_BATTERY, str(tmp_path)).open()
