"""A channel of an Industrial I/O device in sysfs (driver `iio`): scale, distance, current, voltage.

The device is found by its name (`hx711`, `vl53l0x`), since `iio:deviceN` is numbered as the kernel finds them. Source:
Linux, Documentation/ABI/testing/sysfs-bus-iio: (raw + offset) * scale is mV, mA or m; `_input` is processed already.
"""

from __future__ import annotations

from pathlib import Path

from myrvm_core.errors import DeviceError, SettingsError

from myrvm_hardware.drivers import Role
from myrvm_hardware.settings import AnalogSettings

CHANNELS = {Role.WEIGHT: "in_weight", Role.BIN_LEVEL: "in_distance", Role.MOTOR_CURRENT: "in_current"}
TO_SI = {"in_voltage": 1e-3, "in_current": 1e-3}  # the ABI's mV and mA


class IioChannel:
    """One channel: V, A, m or kg before the calibration in the settings.

    Args:
        device: its name in sysfs, or a path.
        settings: `channel` names the channel, by default the one of the role.
        role: what is measured.
        sysfs_root: where sysfs is.
    """

    def __init__(self, device: str, settings: AnalogSettings, role: Role, sysfs_root: str = "/sys") -> None:
        self._name, self._role = device, role
        self._channel = settings.channel or CHANNELS.get(role, "")
        if not device:
            raise SettingsError("device = '' is not allowed: the name of an IIO device, such as hx711")
        if not self._channel.startswith("in_"):
            raise SettingsError(f"channel = {self._channel!r} is not allowed: in_weight, in_voltage0, in_distance, ..")
        self._devices = Path(sysfs_root) / "bus" / "iio" / "devices"
        self._factor = next((factor for kind, factor in TO_SI.items() if self._channel.startswith(kind)), 1.0)
        self._folder: Path | None = None

    def open(self) -> None:
        """Find the device and the channel. Raises DeviceError."""
        self._folder = self._find()
        self.read()

    def read(self) -> dict[Role, float]:
        """One sample. Raises DeviceError."""
        folder = self._folder
        if folder is None:
            raise DeviceError(f"IIO device {self._name} is not open")
        processed = folder / f"{self._channel}_input"
        if processed.exists():
            return {self._role: number(processed) * self._factor}
        raw = number(folder / f"{self._channel}_raw")
        offset, scale = (self._shared(folder, what, default) for what, default in (("offset", 0.0), ("scale", 1.0)))
        return {self._role: (raw + offset) * scale * self._factor}

    def close(self) -> None:
        """Nothing is held."""
        self._folder = None

    def _shared(self, folder: Path, what: str, default: float) -> float:
        """A factor of the channel, or the one that all channels of its kind share."""
        for channel in (self._channel, self._channel.rstrip("0123456789")):
            if (file := folder / f"{channel}_{what}").exists():
                return number(file)
        return default

    def _find(self) -> Path:
        if "/" in self._name:
            return Path(self._name)
        names = {name(folder): folder for folder in sorted(self._devices.glob("iio:device*"))}
        if self._name not in names:
            raise DeviceError(f"IIO device {self._name} is not there; there are: {', '.join(names) or 'none'}")
        return names[self._name]


def name(folder: Path) -> str:
    """The name of a device in sysfs, its folder's where it has none."""
    try:
        return (folder / "name").read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return folder.name


def number(file: Path) -> float:
    """The number in a file of sysfs; NaN is one. Raises DeviceError."""
    try:
        text = file.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise DeviceError(f"{file} cannot be read: {error.strerror}") from error
    try:
        return float(text)
    except ValueError as error:
        raise DeviceError(f"{file} holds {text!r}: no number") from error
