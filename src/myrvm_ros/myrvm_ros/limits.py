"""What the health policy lets a node do now: hears health/limits (OperatingLimits) for a node that obeys it.

A limit lasts only while somebody says it: without a message for `SILENCE_S` seconds nothing is limited.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from myrvm_interfaces.msg import OperatingLimits

from myrvm_ros import qos
from myrvm_ros.managed_node import ManagedNode

LIMITS_TOPIC = "health/limits"
LIMITS_PERIOD_S = 1.0  # sent so often, also without a change
SILENCE_S = 10.0


class Limits:
    """The limits as they are; made in `activate`.

    Args:
        node: hears the topic until it is deactivated.
        changed: called at once with NORMAL, then whenever level or frame rate are others than before.
    """

    def __init__(self, node: ManagedNode[Any], changed: Callable[[OperatingLimits], None]) -> None:
        self.current = OperatingLimits()
        self.silent = True  # nobody says what is allowed
        self._changed = changed
        self._heard_s = time.monotonic()
        changed(self.current)
        node.subscription(OperatingLimits, LIMITS_TOPIC, self._on_limits, qos.STATE)
        node.timer(SILENCE_S / 2, self._look)

    def _on_limits(self, message: OperatingLimits) -> None:
        self._heard_s, self.silent = time.monotonic(), False
        before, self.current = self.current, message
        if (message.level, message.frame_rate_limit_hz) != (before.level, before.frame_rate_limit_hz):
            self._changed(message)

    def _look(self) -> None:
        if not self.silent and time.monotonic() - self._heard_s > SILENCE_S:
            before, self.current, self.silent = self.current, OperatingLimits(), True
            if before.level != OperatingLimits.NORMAL:
                self._changed(self.current)
