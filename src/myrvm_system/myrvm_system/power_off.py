"""Switching the machine off because the limits say SHUTDOWN: when what is done. No I/O.

The item in the machine is finished first, then the nodes are shut down, then the command runs, once. Limits that get
better end it at any step; limits that are not told any more do not: the one who told them may be short of CPU.
"""

from __future__ import annotations

from enum import Enum

from myrvm_system.policy import LimitLevel
from myrvm_system.settings import ManagerSettings


class Step(Enum):
    """How far it is."""

    SERVING = "nothing is to be switched off"
    FINISHING = "waits until no item is in the machine"
    STOPPING = "shuts the nodes down"
    OFF = "the command has been run"


class PowerOff:
    """The steps.

    Args:
        settings: how long each step may last.
        ordered: the command has been run in this boot already, by a manager that ended since.
    """

    def __init__(self, settings: ManagerSettings, ordered: bool) -> None:
        self._settings = settings
        self._ordered = ordered
        self._since_s = 0.0
        self.step = Step.SERVING

    def decide(self, now_s: float, level: LimitLevel | None, item_inside: bool, at_rest: bool) -> Step | None:
        """The step that begins now, None where nothing begins.

        Args:
            now_s: monotonic.
            level: of the limits; None where nobody tells them.
            item_inside: whether an item is in the machine.
            at_rest: whether the nodes are down.
        """
        if level is not None and level < LimitLevel.SHUTDOWN:
            self._ordered = False
            return self._begin(now_s, Step.SERVING) if self.step is not Step.SERVING else None
        passed_s = now_s - self._since_s
        if self.step is Step.SERVING and level == LimitLevel.SHUTDOWN:
            return self._begin(now_s, Step.FINISHING)
        if self.step is Step.FINISHING and (not item_inside or passed_s >= self._settings.item_limit_s):
            return self._begin(now_s, Step.STOPPING)
        if self.step is Step.STOPPING and (at_rest or passed_s >= self._settings.stop_limit_s):
            return self._begin(now_s, Step.OFF)
        return None

    def take_order(self) -> bool:
        """Whether the command is to be run, now; True once."""
        ordered, self._ordered = self._ordered, True
        return not ordered

    def _begin(self, now_s: float, step: Step) -> Step:
        self.step, self._since_s = step, now_s
        return step
