"""Finds a sensor that chatters (a loose wire gives ten thousand edges a second), without I/O.

It is muted: nobody listens to its edges, so that they cost nothing. After a pause it is tried again for one window;
what stays quiet then is known again, what does not is muted for twice as long, up to a bound.
"""

from __future__ import annotations

from dataclasses import dataclass

from myrvm_core.backoff import Backoff

from myrvm_hardware.drivers import Edge, Role

WINDOW_NS = 500_000_000
PAUSE = Backoff(1.0, 10.0)


@dataclass
class _Fault:
    muted_until_ns: int
    failures: int
    trial_until_ns: int = 0  # 0: muted


class Chatter:
    """Counts edges, a window at a time for each sensor.

    Args:
        limit_hz: edges a second that no sound sensor gives.
    """

    def __init__(self, limit_hz: float) -> None:
        self._limit = limit_hz * WINDOW_NS / 1e9
        self._windows: dict[Role, tuple[int, int]] = {}  # begin, edges since
        self._faults: dict[Role, _Fault] = {}

    @property
    def unknown(self) -> frozenset[Role]:
        """Sensors whose level means nothing: muted, or on trial."""
        return frozenset(self._faults)

    @property
    def muted(self) -> frozenset[Role]:
        """Sensors whose edges are not to be listened to."""
        return frozenset(role for role, fault in self._faults.items() if not fault.trial_until_ns)

    def restart(self) -> None:
        """The driver was opened anew: every sensor is trusted."""
        self._windows.clear()
        self._faults.clear()

    def feed(self, edge: Edge) -> bool:
        """Count an edge; True when with it the sensor is to be muted."""
        begun_ns, count = self._windows.get(edge.role, (edge.monotonic_ns, 0))
        if edge.monotonic_ns - begun_ns >= WINDOW_NS:
            begun_ns, count = edge.monotonic_ns, 0
        self._windows[edge.role] = (begun_ns, count + 1)
        fault = self._faults.get(edge.role)
        if count + 1 <= self._limit or (fault is not None and not fault.trial_until_ns):
            return False
        failures = fault.failures + 1 if fault else 0
        pause_ns = round(PAUSE.ceiling_s(failures) * 1e9)
        self._faults[edge.role] = _Fault(edge.monotonic_ns + pause_ns, failures)
        del self._windows[edge.role]
        return True

    def look(self, now_ns: int) -> tuple[list[Role], list[Role]]:
        """What is to be tried again from now on, and what has passed its trial."""
        tried: list[Role] = []
        passed: list[Role] = []
        for role, fault in list(self._faults.items()):
            if not fault.trial_until_ns and now_ns >= fault.muted_until_ns:
                fault.trial_until_ns = now_ns + WINDOW_NS
                self._windows.pop(role, None)
                tried.append(role)
            elif fault.trial_until_ns and now_ns >= fault.trial_until_ns:
                del self._faults[role]
                passed.append(role)
        return tried, passed
