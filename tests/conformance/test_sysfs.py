"""What the kernel tells of board, battery and sensors: its own test battery and its dummy IIO device.

`make device-vm` runs this in its guest; elsewhere there are no such devices and the tests are skipped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from myrvm_core.errors import DeviceError
from myrvm_hardware.drivers import Role
from myrvm_hardware.iio import IioChannel
from myrvm_hardware.power_supply import PowerSupply
from myrvm_hardware.settings import AnalogSettings, PowerSettings
from myrvm_system.board import Board
from myrvm_system.storage import Storage

SYSFS = Path("/sys")
BATTERY = Path("/sys/module/test_power/parameters")
IIO = Path("/sys/kernel/config/iio/devices/dummy")
LIMIT_S = 10.0 * float(os.environ.get("MYRVM_TIME_FACTOR", "1"))

pytestmark = pytest.mark.skipif(
    not BATTERY.is_dir() or not IIO.is_dir() or os.geteuid() != 0,
    reason="no test_power and iio_dummy here: make device-vm runs this in its guest",
)


def battery(**values: str) -> None:
    """Tell the kernel's test battery how it is."""
    for name, value in values.items():
        (BATTERY / name).write_text(value)


@pytest.fixture(autouse=True)
def mains() -> Iterator[None]:
    """All is well, and is so again at the end."""
    well = {"ac_online": "on", "usb_online": "off", "battery_status": "full", "battery_capacity": "80"}
    battery(**well)
    yield
    battery(**well)


def power(device: str = "test_battery") -> dict[Role, float]:
    """One reading of the production driver."""
    driver = PowerSupply(device, PowerSettings(), Role.ON_BATTERY)
    driver.open()
    return driver.read()


def test_mains_and_battery() -> None:
    assert power() == {Role.ON_BATTERY: 0.0, Role.BATTERY: 0.8, Role.BATTERY_LOW: 0.0}
    battery(ac_online="off", battery_status="discharging", battery_capacity="55")
    assert power("") == {Role.ON_BATTERY: 1.0, Role.BATTERY: 0.55, Role.BATTERY_LOW: 0.0}
    battery(battery_capacity="2")
    assert power()[Role.BATTERY_LOW] == 1.0
    with pytest.raises(DeviceError, match=r"power supply other .*there are: test_ac \(Mains\), test_battery"):
        power("other")


@pytest.fixture
def scale() -> Iterator[str]:
    """An IIO device that comes and goes; its name."""
    (IIO / "scale").mkdir()
    yield "scale"
    if (IIO / "scale").exists():
        (IIO / "scale").rmdir()


def test_a_channel_of_an_iio_device(scale: str) -> None:
    channel = IioChannel(scale, AnalogSettings(channel="in_voltage0"), Role.WEIGHT)
    channel.open()
    folder = next(path.parent for path in SYSFS.glob("bus/iio/devices/*/name") if path.read_text().strip() == scale)
    raw, offset, factor = (float((folder / f"in_voltage0_{what}").read_text()) for what in ("raw", "offset", "scale"))
    assert channel.read()[Role.WEIGHT] == pytest.approx((raw + offset) * factor * 1e-3)
    (IIO / scale).rmdir()
    with pytest.raises(DeviceError, match="cannot be read"):
        channel.read()
    with pytest.raises(DeviceError, match="IIO device scale is not there; there are: none"):
        channel.open()
    (IIO / scale).mkdir()
    channel.open()
    assert Role.WEIGHT in channel.read()
    with pytest.raises(DeviceError, match="in_voltage9_raw"):
        IioChannel(scale, AnalogSettings(channel="in_voltage9"), Role.WEIGHT).open()


def test_the_board() -> None:
    board = Board(SYSFS, structlog.get_logger())
    end_s = time.monotonic() + LIMIT_S
    while not (zones := board.look().zones) and time.monotonic() < end_s:
        time.sleep(0.1)
    # The kernel makes a thermal zone of the battery; QEMU's processor has no sensor.
    assert [(zone.name, zone.temperature_c) for zone in zones] == [("test_battery", 2.6)]
    figures = board.look()
    assert figures.throttling.devices == len(list(SYSFS.glob("class/thermal/cooling_device*")))
    assert figures.throttling.active == ()
    assert (figures.power_mode, figures.gpu_load_percent) == ("", None)


def test_the_disk() -> None:
    figures = Storage(Path("/var/tmp")).look(None)
    assert (figures.disk, figures.read_only, figures.errors) == ("vda", False, 0)
    assert figures.written_bytes is not None
    assert figures.written_bytes > 0
    assert figures.wear_percent is None
