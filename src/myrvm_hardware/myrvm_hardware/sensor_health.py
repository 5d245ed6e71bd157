"""What is the matter with the sensors, in words, without I/O."""

from __future__ import annotations

from collections.abc import Sequence

from myrvm_hardware.drivers import Role

PASSING = (Role.ENTRY, Role.DROP, Role.HAND)  # active for as long as something passes by


class Stuck:
    """Finds a sensor of something passing that stays active: blocked, dirty, or broken.

    Args:
        after_s: for so long.
    """

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._since_s: dict[Role, float] = {}

    def see(self, role: Role, active: bool | None, now_s: float) -> None:
        """A level has changed."""
        if role in PASSING and active:
            self._since_s.setdefault(role, now_s)
        else:
            self._since_s.pop(role, None)

    def names(self, now_s: float) -> list[str]:
        """What is stuck, with the time since when."""
        return [
            f"{role.name.lower()} ({(now_s - since_s) / 60:.0f} min)"
            for role, since_s in self._since_s.items()
            if now_s - since_s >= self._after_s
        ]


def sentence(chattering: Sequence[str], stuck: Sequence[str], unknown: Sequence[str], interlocks: Sequence[str]) -> str:
    """One line for a person; empty when all is well."""
    parts = [f"{name} chatters: its level is unknown" for name in chattering]
    parts += [f"{name} stays active: blocked or stuck" for name in stuck]
    parts += unknown
    if interlocks:
        parts.append(f"the actuator does not report {', '.join(interlocks)}")
    return "; ".join(parts)
