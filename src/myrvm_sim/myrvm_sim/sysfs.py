"""A simulated piece of `/sys`: IIO sensors, power supplies, thermal zones, as files below a folder.

A stand-in for the kernel's. A file is replaced as a whole, so that a reader sees the old value or the new one. Values
are what the hardware would give: `(raw + offset) * scale` is kg for the scale, m for the distance, mA for the current.
Source: Linux, Documentation/ABI/testing/sysfs-bus-iio, sysfs-class-power, sysfs-class-thermal.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

SCALE, DISTANCE, CURRENT = (Path("bus/iio/devices") / f"iio:device{number}" for number in range(3))
MAINS, BATTERY = (Path("class/power_supply") / name for name in ("mains", "battery"))
THERMAL = Path("class/thermal")
ZONES = ("cpu-thermal", "gpu-thermal", "soc0-thermal", "tj-thermal")
WEIGHT_STEP_KG, WEIGHT_OFFSET = 1e-6, -84_213  # as an HX711 board might have them
EMPTY_M, FULL_M = 0.80, 0.10  # from the sensor above the bin to what lies in it
STILL = {
    SCALE / "name": "hx711",
    SCALE / "in_weight_scale": f"{WEIGHT_STEP_KG:.9f}",
    SCALE / "in_weight_offset": str(WEIGHT_OFFSET),
    DISTANCE / "name": "vl53l0x",
    DISTANCE / "in_distance_scale": "0.001",
    CURRENT / "name": "ina226",
    CURRENT / "in_current_scale": "1.0",
    MAINS / "type": "Mains",
    BATTERY / "type": "Battery",
    BATTERY / "present": "1",
    **{THERMAL / f"thermal_zone{number}" / "type": zone for number, zone in enumerate(ZONES)},
}


class SysfsTree:
    """The files below `root`; written only when their text changes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._texts: dict[Path, str] = {}
        self._lock = threading.Lock()
        self.write(STILL)
        self.write(power(mains=True, battery_percent=100.0))
        for zone in ZONES:
            self.write(temperature(zone, 45.0))

    def write(self, texts: Mapping[Path, str]) -> None:
        """Give files their text."""
        with self._lock:
            for path, text in texts.items():
                if self._texts.get(path) != text:
                    self._texts[path] = text
                    self._replace(self.root / path, text)

    def _replace(self, file: Path, text: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}")
        fresh.write_text(f"{text}\n", encoding="ascii")
        fresh.replace(file)


def weight_counts(kg: float) -> int:
    """What the scale's amplifier gives, raw."""
    return round(kg / WEIGHT_STEP_KG) - WEIGHT_OFFSET


def weight(kg: float) -> dict[Path, str]:
    """What lies on the scale."""
    return {SCALE / "in_weight_raw": str(weight_counts(kg))}


def bin_level(share: float) -> dict[Path, str]:
    """How full the bin is, 0 .. 1."""
    return {DISTANCE / "in_distance_raw": str(round((EMPTY_M - share * (EMPTY_M - FULL_M)) * 1000))}


def motor_current(amperes: float) -> dict[Path, str]:
    """Through the gate's motor."""
    return {CURRENT / "in_current_raw": str(round(amperes * 1000))}


def power(mains: bool, battery_percent: float) -> dict[Path, str]:
    """The supply and its battery."""
    charged = "Full" if battery_percent >= 100.0 else "Charging"
    return {
        MAINS / "online": str(int(mains)),
        BATTERY / "capacity": str(round(battery_percent)),
        BATTERY / "status": charged if mains else "Discharging",
    }


def temperature(zone: str, celsius: float) -> dict[Path, str]:
    """One thermal zone of `ZONES`."""
    return {THERMAL / f"thermal_zone{ZONES.index(zone)}" / "temp": str(round(celsius * 1000))}
