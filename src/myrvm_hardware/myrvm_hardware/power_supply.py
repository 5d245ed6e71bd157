"""Mains and battery as the kernel sees them (driver `power_supply`): /sys/class/power_supply.

Source: Linux, Documentation/ABI/testing/sysfs-class-power.
"""

from __future__ import annotations

from pathlib import Path

from myrvm_core.errors import DeviceError

from myrvm_hardware.drivers import Role
from myrvm_hardware.iio import number
from myrvm_hardware.settings import PowerSettings

MAINS_TYPES = ("Mains", "USB", "Wireless")
LOW_LEVELS = ("Critical", "Low")


class PowerSupply:
    """All supplies, or the battery that `device` names with all mains."""

    def __init__(self, device: str, settings: PowerSettings, _role: Role, sysfs_root: str = "/sys") -> None:
        self._battery, self._low_charge = device, settings.low_charge
        self._folder = Path(sysfs_root) / "class" / "power_supply"

    def open(self) -> None:
        """See that there is a battery. Raises DeviceError."""
        self.read()

    def read(self) -> dict[Role, float]:
        """On battery, its charge 0 .. 1 where it is told, battery low. Raises DeviceError."""
        supplies = {folder.name: text(folder / "type") for folder in sorted(self._folder.glob("*"))}
        batteries = [name for name, kind in supplies.items() if kind == "Battery" and self._battery in ("", name)]
        if not batteries:
            known = ", ".join(f"{name} ({kind})" for name, kind in supplies.items()) or "none"
            raise DeviceError(f"power supply {self._battery or 'of type Battery'} is not there; there are: {known}")
        folder = self._folder / batteries[0]
        mains = [name for name, kind in supplies.items() if kind in MAINS_TYPES]
        discharging = text(folder / "status") == "Discharging"
        online = [name for name in mains if text(self._folder / name / "online") not in ("", "0")]
        # A supply that is online may give too little: a battery that empties carries the machine.
        on_battery = discharging or (bool(mains) and not online)
        low = text(folder / "capacity_level") in LOW_LEVELS
        if not (folder / "capacity").exists():
            return {Role.ON_BATTERY: float(on_battery), Role.BATTERY_LOW: float(low)}
        charge = number(folder / "capacity") / 100.0
        if not 0.0 <= charge <= 1.0:
            raise DeviceError(f"{folder / 'capacity'} is {charge * 100:g}: 0 .. 100 is allowed")
        low = low or charge <= self._low_charge
        return {Role.ON_BATTERY: float(on_battery), Role.BATTERY: charge, Role.BATTERY_LOW: float(low)}

    def close(self) -> None:
        """Nothing is held."""


def text(file: Path) -> str:
    """The text of a file of sysfs, empty where there is none."""
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
