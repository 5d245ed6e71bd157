"""Pictures of items that somebody may ask about: accepted and not settled yet, or refused (`myrvm_core.evidence`).

The judged frame comes as a JPEG on `detector/judged`. It is on disk before the record is, so each record that a crash
leaves behind has its picture: `<MYRVM_DATA>/unresolved/<deposit_id>`. It goes when the deposit is settled. That of a
refused item is `<MYRVM_DATA>/refused/<UUIDv7>-<reason>`, for nobody to wait for, where the operator allows it. Each has
a note of what the machine thought (`myrvm_core.kept_pictures`). The detector publishes only frames that show an item,
taken after it came to rest, and of them only the chamber: there is nobody in these pictures.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uuid_utils
from myrvm_core.evidence import Evidence, evidence_key
from myrvm_core.kept_pictures import note_of_verdict, with_note
from myrvm_core.verdict import Outcome, Verdict
from myrvm_ros.managed_node import ManagedNode
from myrvm_ros.stamps import to_ns
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage

from myrvm_ros import qos

WAIT_S = 0.5  # a picture that comes later than that after the verdict is not waited for
RECENT = 4


class PictureKeeper:
    """Hears `detector/judged` and keeps what is asked for; the oldest go first where there are too many.

    Args:
        node: hears the topic; its worker writes.
        folder: of the pictures of accepted items; those of refused ones are beside it.
        limit_bytes: for all of one kind.
        refused_too: whether pictures of refused items may be kept.

    Raises:
        SettingsError: the environment names a key for them that cannot be used.
    """

    def __init__(self, node: ManagedNode[Any], folder: Path, limit_bytes: int, refused_too: bool) -> None:
        self._node, self._refused_too = node, refused_too
        key = evidence_key(node.environment)
        self._kept = Evidence(folder, limit_bytes, key)
        self._refused = Evidence(folder.with_name("refused"), limit_bytes, key)
        self._recent: OrderedDict[int, bytes] = OrderedDict()  # stamp, JPEG
        self._wanted: tuple[str, Verdict, Callable[[], None]] | None = None
        node.subscription(CompressedImage, "detector/judged", self._on_judged, qos.STATE)

    def keep(self, deposit_id: str, verdict: Verdict, done: Callable[[], None]) -> None:
        """Put the picture that a verdict is about on disk, then call `done`, also where that was not possible."""
        self._wanted = (deposit_id, verdict, done)
        self._node.after(WAIT_S, lambda: self._give_up(deposit_id))
        self._look()

    def forget(self, deposit_id: str) -> None:
        """The deposit is settled."""
        self._node.run_in_worker(self._kept.forget, deposit_id)

    def keep_refused(self, verdict: Verdict) -> None:
        """Keep the picture of an item that is refused, where one comes in time."""

        def keep() -> None:
            if (found := self._find(verdict)) is not None:
                self._node.run_in_worker(self._refused.keep, name, found).add_done_callback(self._written(name))

        if verdict.outcome is Outcome.REJECTED and self._refused_too:
            name = f"{uuid_utils.uuid7()}-{verdict.reason.name.lower()}"
            self._node.after(WAIT_S, keep)

    def _find(self, verdict: Verdict) -> bytes | None:
        stamps_ns = verdict.frame_stamps_ns
        found = next((jpeg for stamp_ns, jpeg in self._recent.items() if stamp_ns in stamps_ns), None)
        return None if found is None else with_note(found, note_of_verdict(verdict))

    def _written(self, name: str) -> Callable[[Future], None]:
        def written(future: Future) -> None:
            if (error := future.exception()) is not None:
                self._node.log.error("picture not kept", name=name, error=str(error))

        return written

    def _on_judged(self, message: CompressedImage) -> None:
        self._recent[to_ns(message.header.stamp)] = bytes(message.data)
        while len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        self._look()

    def _look(self) -> None:
        if self._wanted is None:
            return
        deposit_id, verdict, done = self._wanted
        found = self._find(verdict)
        if found is None:
            return
        self._wanted = None
        keeping = self._node.run_in_worker(self._kept.keep, deposit_id, found)
        keeping.add_done_callback(self._written(deposit_id))
        keeping.add_done_callback(lambda _: done())

    def _give_up(self, deposit_id: str) -> None:
        if self._wanted is not None and self._wanted[0] == deposit_id:
            done = self._wanted[2]
            self._wanted = None
            self._node.log.warning("no picture came with the verdict", deposit_id=deposit_id)
            done()
