"""A node that obeys health/limits: told of changes only, free again when nobody says the limit any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from myrvm_interfaces.msg import OperatingLimits
from myrvm_ros.limits import SILENCE_S, Limits

from myrvm_ros import limits


class Node:
    """Stands in for a ManagedNode: keeps the callbacks."""

    def subscription(self, _: Any, topic: str, callback: Callable[[Any], None], __: Any) -> None:
        assert topic == "health/limits"
        self.hear = callback

    def timer(self, _: float, callback: Callable[[], None]) -> None:
        self.tick = callback


def test_changes_are_told_once_and_silence_ends_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(limits.time, "monotonic", lambda: now_s)
    node, told = Node(), []
    obeyed = Limits(node, lambda message: told.append((message.level, message.frame_rate_limit_hz)))  # type: ignore[arg-type]
    slow = OperatingLimits(level=OperatingLimits.SLOW, frame_rate_limit_hz=5.0)
    for message in (
        OperatingLimits(),
        slow,
        slow,
        OperatingLimits(level=OperatingLimits.DARK, frame_rate_limit_hz=5.0),
    ):
        node.hear(message)
    assert told == [(0, 0.0), (2, 5.0), (3, 5.0)]
    now_s += SILENCE_S
    node.tick()
    assert obeyed.current.level == OperatingLimits.DARK
    now_s += 0.1
    node.tick()
    node.tick()
    assert told[3:] == [(0, 0.0)]
    assert obeyed.current.level == OperatingLimits.NORMAL
