"""Levels of digital sensors: `SensorReading.LEVEL_*` and bool, None where it is unknown."""

from __future__ import annotations

from myrvm_interfaces.msg import SensorReading

_ACTIVE = {SensorReading.LEVEL_ACTIVE: True, SensorReading.LEVEL_INACTIVE: False}
_LEVELS = {True: SensorReading.LEVEL_ACTIVE, False: SensorReading.LEVEL_INACTIVE, None: SensorReading.LEVEL_UNKNOWN}


def is_active(level: int) -> bool | None:
    """Whether a digital sensor is active; None: unknown, or the sensor is not digital."""
    return _ACTIVE.get(level)


def to_level(active: bool | None) -> int:
    """The constant of `SensorReading`."""
    return _LEVELS[active]
