"""Updates of deposits on their way to the buffer: in order, one at a time, repeated until they are answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from myrvm_core.backoff import Backoff
from myrvm_core.deposit import Update
from myrvm_interfaces.srv import UpdateDeposit
from myrvm_ros.managed_node import ManagedNode

LIMIT = 1000  # far more than one machine can have open; when it is reached no new item is taken


class UpdateSender:
    """Calls `buffer/update` until it answers; `done(update, accepted)` is called once for each update."""

    def __init__(self, node: ManagedNode[Any], answer_s: float, done: Callable[[Update, bool], None]) -> None:
        self._node = node
        self._client = node.client(UpdateDeposit, "buffer/update")
        self._answer_s = answer_s
        self._done = done
        self._waiting: deque[Update] = deque()  # the first one is under way
        self._failures = 0
        self._backoff = Backoff(base_s=0.1, cap_s=2.0)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """No room for the updates of one more deposit."""
        return len(self._waiting) >= LIMIT

    def send(self, update: Update) -> None:
        """Queue an update; one that waits already is not queued twice."""
        if update in self._waiting:
            return
        self._waiting.append(update)
        if len(self._waiting) == 1:
            self._call()

    def _call(self) -> None:
        update = self._waiting[0]
        request = UpdateDeposit.Request(deposit_id=update.deposit_id, stage=int(update.stage), shown=update.shown)
        self._node.call(self._client, request, self._answer_s, self._answered)

    def _answered(self, response: Any | None) -> None:
        if response is None:
            self._node.after(self._backoff.delay_s(self._failures), self._call)
            self._failures += 1
            return
        self._failures = 0
        update = self._waiting.popleft()
        if self._waiting:
            self._call()
        if not response.updated:
            self._node.log.error(
                "buffer refused", deposit_id=update.deposit_id, stage=update.stage.name, error=response.message
            )
        self._done(update, response.updated)
