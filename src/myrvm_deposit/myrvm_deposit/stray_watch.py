"""What the operator has to know of: falls that no gate has moved, and items that the table of evidence marks.

Each gives a line in the log, a measurement, and a warning in the node's health for a while.
"""

from __future__ import annotations

import math
import time
from typing import Any

from myrvm_core.deposit import ReportFlag, ReportStray
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
        self.count = self.flags = 0
        self._last_s, self._text = -math.inf, ""

    @property
    def warning(self) -> str:
        """What somebody has to know of the last one; empty after a while."""
        return self._text if time.monotonic() - self._last_s < WARNING_S else ""

    def report(self, seen: ReportStray | ReportFlag) -> None:
        """Nobody is credited for a stray; a flag changes nothing for the customer."""
        if isinstance(seen, ReportFlag):
            self.flags += 1
            self._node.log.warning("evidence marks an item", flag=seen.flag, deposit_id=seen.deposit_id)
            self._tell(f"evidence marks an item: {seen.flag}", f"flag_{seen.flag}", seen.at_ns)
        else:
            self.count += 1
            state = seen.state.name
            self._node.log.warning("a fall into the bin without the gate: nobody is credited", state=state)
            self._tell("something fell into the bin that the gate has not moved", f"stray_{state}", seen.at_ns)

    def _tell(self, text: str, name: str, at_ns: int) -> None:
        self._last_s, self._text = time.monotonic(), text
        source = self._node.get_name()
        record = TelemetryRecord(stamp=to_message(at_ns), source=source, name=name.lower(), value=1.0)
        request = EnqueueTelemetry.Request(records=[record])
        self._node.call(self._client, request, self._answer_s, lambda response: None)
