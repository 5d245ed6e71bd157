"""Software debounce of digital sensors, without I/O: edges and the time go in, confirmed edges come out.

Times are kernel time (CLOCK_MONOTONIC, ns).
"""

from __future__ import annotations

from collections.abc import Mapping

from myrvm_hardware.drivers import Edge, Role

NANOSECONDS = 1_000_000_000


class Debounce:
    """An edge is confirmed once its level has held; it keeps the time at which the level began."""

    def __init__(self) -> None:
        self._hold_ns: dict[Role, int] = {}
        self.levels: dict[Role, bool] = {}
        self._candidates: dict[Role, Edge] = {}

    def restart(self, levels: Mapping[Role, bool], hold_s: Mapping[Role, float], now_ns: int) -> list[Edge]:
        """Take the levels of a driver that was opened; what changed unseen since the last ones comes out as edges.

        Args:
            levels: of every sensor of the driver.
            hold_s: how long a level must hold; 0, or a role that is missing here, confirms at once.
            now_ns: the time of the levels.
        """
        self._hold_ns = {role: round(seconds * NANOSECONDS) for role, seconds in hold_s.items()}
        self._candidates.clear()
        changed = [
            Edge(role, active, now_ns) for role, active in levels.items() if self.levels.get(role, active) != active
        ]
        self.levels = dict(levels)
        return changed

    def reconcile(self, levels: Mapping[Role, bool], now_ns: int) -> list[Edge]:
        """Take the levels of sensors of which edges were lost; one that differs has changed now, as far as we know."""
        for role in levels:
            self._candidates.pop(role, None)
        return [
            edge
            for role, active in levels.items()
            if role in self.levels
            for edge in self.feed(Edge(role, active, now_ns))
        ]

    def drop(self, role: Role) -> None:
        """Forget an edge that is not confirmed."""
        self._candidates.pop(role, None)

    def feed(self, edge: Edge) -> list[Edge]:
        """A raw edge, in the order of its role; returns what it confirms."""
        # The level before this edge may have held long enough while nobody asked.
        confirmed = self._confirm(edge.role, edge.monotonic_ns)
        if edge.active == self.levels.get(edge.role):
            self._candidates.pop(edge.role, None)
        else:
            self._candidates.setdefault(edge.role, edge)
        return confirmed + self._confirm(edge.role, edge.monotonic_ns)

    def settle(self, now_ns: int) -> list[Edge]:
        """What has held long enough at `now_ns`, oldest first."""
        confirmed = [edge for role in list(self._candidates) for edge in self._confirm(role, now_ns)]
        return sorted(confirmed, key=lambda edge: edge.monotonic_ns)

    def wait_s(self, now_ns: int) -> float | None:
        """Seconds until `settle` may have something; None when nothing is under way."""
        due = [edge.monotonic_ns + self._hold_ns.get(role, 0) for role, edge in self._candidates.items()]
        return max(0, min(due) - now_ns) / NANOSECONDS if due else None

    def _confirm(self, role: Role, now_ns: int) -> list[Edge]:
        edge = self._candidates.get(role)
        if edge is None or now_ns - edge.monotonic_ns < self._hold_ns.get(role, 0):
            return []
        del self._candidates[role]
        self.levels[role] = edge.active
        return [edge]
