"""What the GPIO drivers refuse without a chip; with one they are driven in test_gpio_lines.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from myrvm_core.errors import DeviceError, SettingsError
from myrvm_hardware.drivers import GATE_DRIVERS, SENSOR_DRIVERS, Direction, find_driver
from myrvm_hardware.gpio_lines import parse_lines
from myrvm_hardware.gpiod_gate import GpiodGate
from myrvm_hardware.gpiod_sensors import GpiodSensors
from myrvm_hardware.settings import ActuatorSettings, SecondGateSettings, SensorSettings


def test_lines_are_names_or_offsets() -> None:
    assert parse_lines("lines", ["entry=GPIO17", " drop = 22 "], ["entry", "drop"], True) == {
        "entry": "GPIO17",
        "drop": 22,
    }


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["entry"], "sensor.lines: 'entry' is not allowed: purpose=line, such as entry=GPIO17"),
        (["entry="], "sensor.lines: 'entry=' is not allowed: purpose=line, such as entry=GPIO17"),
        (["exit=1"], "sensor.lines: 'exit' in 'exit=1' is not known; allowed: entry, drop, door, bin_full, hand, emer"),
        (["weight=1"], "sensor.lines: 'weight' in 'weight=1' is not known"),
        (["entry=1", "entry=2"], "sensor.lines: entry is there twice (1 and 2)"),
        (["entry=1", "drop=1"], "sensor.lines: line 1 is there twice"),
    ],
)
def test_sensor_lines_that_cannot_be(lines: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        GpiodSensors("/dev/gpiochip0", SensorSettings(lines=lines))
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (ActuatorSettings(motor_lines=["to_bin=1"]), "actuator.motor_lines: to_customer is missing"),
        (ActuatorSettings(switch_lines=["closed=1", "bin=2"]), "actuator.switch_lines: customer is missing"),
        (
            ActuatorSettings(motor_lines=["to_bin=8", "to_customer=1"]),
            "actuator.switch_lines: line 8 is that of gate to_bin too",
        ),
        (
            ActuatorSettings(interlock_lines=["door=3"]),
            "actuator.interlock_lines: hand, emergency is missing: no motor runs without it",
        ),
        (
            ActuatorSettings(normally_closed=["window"]),
            "actuator.normally_closed: 'window' is not known; allowed: door, hand, emergency, power_fail",
        ),
        (ActuatorSettings(watchdog_line="6"), "actuator.watchdog_line: line 6 is that of gate to_bin too"),
        (ActuatorSettings(duty_s=2.0), "actuator.duty_s = 2 is not allowed: 3.25 or more, the longest run"),
        (
            ActuatorSettings(second_gate=SecondGateSettings(name="upper")),
            "actuator.second_gate.motor_lines: '' is not allowed: purpose=line, such as to_bin=GPIO17",
        ),
        (
            ActuatorSettings(second_gate=SecondGateSettings(name="gate")),
            "actuator.second_gate.name: gate is the name of the first gate too",
        ),
    ],
)
def test_gate_lines_that_cannot_be(settings: ActuatorSettings, sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        GpiodGate("/dev/gpiochip0", settings)
    assert str(caught.value) == sentence


def test_a_chip_that_is_not_there_or_none(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="GPIO chip /dev/gpiochip99 is not there"):
        GpiodSensors("/dev/gpiochip99", SensorSettings()).open()
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DeviceError, match=f"GPIO chip {file} is no GPIO chip"):
        GpiodGate(str(file), ActuatorSettings()).open()


def test_what_is_not_open_is_said_and_closing_it_is_harmless() -> None:
    gate, sensors = GpiodGate("chip", ActuatorSettings()), GpiodSensors("chip", SensorSettings())
    off = {"gate": Direction.OFF}
    for use in (sensors.levels, gate.positions, lambda: gate.drive(off), gate.off, lambda: sensors.read_edges(0.0)):
        with pytest.raises(DeviceError, match="chip is not open"):
            use()
    gate.close()
    sensors.close()


def test_drivers_are_registered() -> None:
    assert find_driver(SENSOR_DRIVERS, "gpiod") is GpiodSensors
    assert find_driver(GATE_DRIVERS, "gpiod") is GpiodGate
