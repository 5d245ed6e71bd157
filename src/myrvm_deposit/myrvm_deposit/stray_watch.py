"""Falls into the bin that no gate has moved: a line in the log, a measurement, and a warning for a while."""

from __future__ import annotations

import math
import time
from typing import Any

from myrvm_core.deposit import ReportStray
from myrvm_interfaces.msg import TelemetryRecord
from myrvm_interfaces.srv import EnqueueTelemetry
from myrvm_ros.managed_node import ManagedNode
from myrvm_ros.stamps import to_message

WARNING_S = 600.0


class StrayWatch:
    """Reports each one; `count` since the node was activated."""

    def __init__(self, node: ManagedNode[Any], answer_s: float) -> None:
        self._node, self._answer_s = node, answer_s
        self._client = node.client(EnqueueTelemetry, "buffer/enqueue_telemetry")
        self.count, self._last_s = 0, -math.inf

    @property
    def recent(self) -> bool:
        """Whether somebody has to know of the last one."""
        return time.monotonic() - self._last_s < WARNING_S

    def report(self, stray: ReportStray) -> None:
        """Nobody is credited for it."""
        self.count, self._last_s = self.count + 1, time.monotonic()
        self._node.log.warning("a fall into the bin without the gate: nobody is credited", state=stray.state.name)
        name = f"stray_{stray.state.name.lower()}"
        record = TelemetryRecord(stamp=to_message(stray.at_ns), source=self._node.get_name(), name=name, value=1.0)
        request = EnqueueTelemetry.Request(records=[record])
        self._node.call(self._client, request, self._answer_s, lambda response: None)
