"""An analogue source on a thread of its own: slow ones delay no edge, and one that fails takes no other with it.

A reading is unknown until the first good sample and once the last good one is older than `stale_after_s`. The machine
goes on without it, by a rule that has a name (`RULES`); the node's health says which, and why.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from myrvm_core.backoff import Backoff
from myrvm_core.errors import SettingsError

from myrvm_hardware.device_thread import DeviceThread
from myrvm_hardware.drivers import ANALOG_DRIVERS, DIGITAL, AnalogDriver, Role, find_driver
from myrvm_hardware.plausibility import ImplausibleError, Plausibility
from myrvm_hardware.settings import AnalogSettings, BinLevelSettings, SensorSettings, SourceSettings

GROUPS = {
    "weight": (Role.WEIGHT,),
    "bin_level": (Role.BIN_LEVEL,),
    "motor_current": (Role.MOTOR_CURRENT,),
    "power": (Role.ON_BATTERY, Role.BATTERY, Role.BATTERY_LOW),
}
# What holds while a sensor is missing, and what it means: docs/hardware.md.
RULES = {
    "weight": "the camera decides alone",
    "bin_level": "the bin_full switch decides",
    "motor_current": "the end switches tell a jam",
    "power": "the power_fail line warns",
}


class AnalogSensor:
    """Owns the thread and the newest readings of one group of settings.

    Args:
        name: the group, such as `weight`.
        driver: read on the thread only.
        settings: the group's.
        changed: called on the thread when a reading becomes known or unknown, or a digital one changes.
        log: the node's logger.
    """

    def __init__(
        self, name: str, driver: AnalogDriver, settings: SourceSettings, changed: Callable[[], None], log: Any
    ) -> None:
        self.name, self._roles = name, GROUPS[name]
        self._driver, self._settings, self._changed, self._log = driver, settings, changed, log
        self._filter = Plausibility(name, settings) if isinstance(settings, AnalogSettings) else None
        self._lock = threading.Lock()
        self._values: dict[Role, float] = {}
        self._sampled_s = -math.inf
        self._refusal = ""
        self._shown: tuple[bool | None, ...] | None = None
        self.refused = 0
        backoff = Backoff(settings.period_s, max(settings.period_s, settings.stale_after_s))
        self.thread = DeviceThread(name, driver, self._work, self._lost, backoff, log)

    def readings(self) -> dict[Role, float | None]:
        """The value of each role, None where it is unknown. Any thread may ask."""
        with self._lock:
            stale = time.monotonic() - self._sampled_s > self._settings.stale_after_s
            return {role: None if stale else self._values.get(role) for role in self._roles}

    @property
    def problem(self) -> str:
        """Why a reading is unknown, and by which rule the machine goes on; empty when all are known."""
        unknown = [role.name.lower() for role, value in self.readings().items() if value is None]
        if not unknown:
            return ""
        why = self.thread.problem or self._refusal or f"{' and '.join(unknown)} not told"
        return f"{self.name}: {why} ({RULES[self.name]})"

    def _work(self) -> None:
        while not self.thread.stopping.is_set():
            sample = self._driver.read()
            self.thread.succeeded()
            self._take(sample, time.monotonic())
            self.thread.stopping.wait(self._settings.period_s)

    def _take(self, sample: dict[Role, float], now_s: float) -> None:
        values = {role: value for role, value in sample.items() if role in self._roles}
        try:
            if self._filter is not None:
                role = self._roles[0]
                values[role] = in_units(self._filter.take(values[role], now_s), self._settings)
        except ImplausibleError as error:
            self._refuse(str(error))
        else:
            bad = [role for role, value in values.items() if not math.isfinite(value)]
            if bad:
                self._refuse(f"{bad[0].name.lower()} reads {values[bad[0]]}: no number")
            else:
                with self._lock:
                    self._values, self._sampled_s, self._refusal = values, now_s, ""
        self._show()

    def _refuse(self, refusal: str) -> None:
        self.refused += 1
        if not self._refusal:
            self._log.warning("sample refused", sensor=self.name, reason=refusal)
        self._refusal = refusal

    def _lost(self, _problem: str) -> None:
        self._show()

    def _show(self) -> None:
        shown = tuple(
            None if value is None else bool(value) or role not in DIGITAL for role, value in self.readings().items()
        )
        if shown != self._shown:
            self._shown = shown
            self._changed()


def in_units(value: float, settings: SourceSettings) -> float:
    """A calibrated value as it is shown: a distance as the bin's fill level, nothing below zero."""
    if isinstance(settings, BinLevelSettings):
        return min(1.0, max(0.0, (settings.empty_m - value) / (settings.empty_m - settings.full_m)))
    return max(0.0, value)


def build_driver(settings: SensorSettings, name: str) -> AnalogDriver:
    """The driver that the group `name` of the settings names, not yet open.

    Raises:
        SettingsError: it is not installed, or its settings can never work.
    """
    group: SourceSettings = getattr(settings, name)
    return find_driver(ANALOG_DRIVERS, group.driver)(group.device, group, GROUPS[name][0], settings.sysfs_root)


def sensors(settings: SensorSettings, changed: Callable[[], None], log: Any) -> list[AnalogSensor]:
    """The analogue sensors that the settings name.

    Raises:
        SettingsError: a driver is not installed, or its settings can never work.
    """
    built: list[AnalogSensor] = []
    for name in GROUPS:
        group: SourceSettings = getattr(settings, name)
        if group.driver:
            try:
                driver = build_driver(settings, name)
            except SettingsError as error:
                raise SettingsError(*(f"sensor.{name}.{problem}" for problem in error.problems)) from error
            built.append(AnalogSensor(name, driver, group, changed, log))
    return built
