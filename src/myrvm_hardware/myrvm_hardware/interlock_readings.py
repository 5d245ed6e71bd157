"""The sensors that the actuator watches itself, as the sensor node passes them on, without I/O.

They come as readings with a stamp; what is older than it may be, or never came, is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from myrvm_core.errors import SettingsError

from myrvm_hardware.drivers import DIGITAL_BY_NAME, Role


@dataclass(frozen=True)
class Passed:
    """A level that is passed on; None: unknown. `stamp_ns` is the ROS time since when, 0 where that is not known."""

    active: bool | None
    stamp_ns: int = 0


class InterlockReadings:
    """The newest level of each role.

    Args:
        roles: those that the actuator should report.
        stale_s: older readings are unknown.
    """

    def __init__(self, roles: Iterable[Role], stale_s: float) -> None:
        self._stale_s = stale_s
        self.levels: dict[Role, Passed] = dict.fromkeys(roles, Passed(None))
        self._before: dict[Role, bool] = {}
        self._heard_s: float | None = None

    def heard(self, levels: Mapping[Role, Passed], now_s: float) -> list[tuple[Role, Passed]]:
        """A report arrived at `now_s` (monotonic); returns the changes from one known level to another."""
        self._heard_s = now_s
        changes: list[tuple[Role, Passed]] = []
        for role in self.levels:
            passed = self.levels[role] = levels.get(role, Passed(None))
            if passed.active is None:
                continue
            if self._before.get(role, passed.active) != passed.active:
                changes.append((role, passed))
            self._before[role] = passed.active
        return sorted(changes, key=lambda change: change[1].stamp_ns)

    def leave(self, roles: Iterable[Role]) -> None:
        """These sensors are read by this node itself."""
        for role in roles:
            self.levels.pop(role, None)

    def check(self, now_s: float) -> bool:
        """Forget what is stale at `now_s`; True when that changes something."""
        fresh = self._heard_s is not None and now_s - self._heard_s <= self._stale_s
        if fresh or all(passed.active is None for passed in self.levels.values()):
            return False
        self.levels = dict.fromkeys(self.levels, Passed(None))
        return True

    @property
    def unknown(self) -> list[str]:
        """Names of the roles without a level."""
        return [role.name.lower() for role, passed in self.levels.items() if passed.active is None]


def interlock_roles(parameter: str, names: Iterable[str]) -> tuple[Role, ...]:
    """The digital roles that a parameter names.

    Raises:
        SettingsError: a name is no digital role.
    """
    for name in names:
        if name not in DIGITAL_BY_NAME:
            raise SettingsError(f"{parameter}: {name!r} is not known; allowed: {', '.join(DIGITAL_BY_NAME)}")
    return tuple(DIGITAL_BY_NAME[name] for name in names)
