"""Software debounce of digital sensors, without I/O: edges and the time go in, confirmed edges come out."""

from __future__ import annotations

from collections.abc import Mapping

from myrvm_hardware.drivers import Edge, Role

NANOSECONDS = 1_000_000_000


class Debounce:
    """An edge is confirmed once its level has held; it keeps the stamp at which the level began.

    Args:
        hold_s: how long, for each role; 0 confirms at once. A role that is missing here is not debounced.
    """

    def __init__(self, hold_s: Mapping[Role, float]) -> None:
        self._hold_ns = {role: round(seconds * NANOSECONDS) for role, seconds in hold_s.items()}
        self.levels: dict[Role, bool] = {}
        self._candidates: dict[Role, Edge] = {}

    def restart(self, levels: Mapping[Role, bool], now_ns: int) -> list[Edge]:
        """Take the levels of a driver that was opened; what changed unseen since the last ones comes out as edges."""
        self._candidates.clear()
        changed = [
            Edge(role, active, now_ns) for role, active in levels.items() if self.levels.get(role, active) != active
        ]
        self.levels = dict(levels)
        return changed

    def feed(self, edge: Edge) -> list[Edge]:
        """A raw edge, in the order of its role; returns what it confirms."""
        # The level before this edge may have held long enough while nobody asked.
        confirmed = self._confirm(edge.role, edge.stamp_ns)
        if edge.active == self.levels.get(edge.role):
            self._candidates.pop(edge.role, None)
        else:
            self._candidates.setdefault(edge.role, edge)
        return confirmed + self._confirm(edge.role, edge.stamp_ns)

    def settle(self, now_ns: int) -> list[Edge]:
        """What has held long enough at `now_ns`, oldest first."""
        confirmed = [edge for role in list(self._candidates) for edge in self._confirm(role, now_ns)]
        return sorted(confirmed, key=lambda edge: edge.stamp_ns)

    def wait_s(self, now_ns: int) -> float | None:
        """Seconds until `settle` may have something; None when nothing is under way."""
        due = [edge.stamp_ns + self._hold_ns.get(role, 0) for role, edge in self._candidates.items()]
        return max(0, min(due) - now_ns) / NANOSECONDS if due else None

    def _confirm(self, role: Role, now_ns: int) -> list[Edge]:
        edge = self._candidates.get(role)
        # A clock set back must not hold an edge for hours.
        if edge is None or 0 <= now_ns - edge.stamp_ns < self._hold_ns.get(role, 0):
            return []
        del self._candidates[role]
        self.levels[role] = edge.active
        return [edge]
