"""A picture of each item that was accepted and is not settled yet: what the technician sees of an unresolved deposit.

The judged frame comes as a JPEG on `detector/judged`. It is on disk before the record is, so each record that a crash
leaves behind has its picture: `<MYRVM_DATA>/unresolved/<deposit_id>.jpg`. It goes when the deposit is settled.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from myrvm_ros.managed_node import ManagedNode
from myrvm_ros.stamps import to_ns
from rclpy.task import Future
from sensor_msgs.msg import CompressedImage

from myrvm_core import durable
from myrvm_ros import qos

WAIT_S = 0.5  # a picture that comes later than that after the verdict is not waited for
RECENT = 4


class PictureKeeper:
    """Hears `detector/judged` and keeps what is asked for; the oldest go first where there are too many.

    Args:
        node: hears the topic; its worker writes.
        folder: of the pictures.
        limit_bytes: for all of them.
    """

    def __init__(self, node: ManagedNode[Any], folder: Path, limit_bytes: int) -> None:
        self._node, self._folder, self._limit_bytes = node, folder, limit_bytes
        self._recent: OrderedDict[int, bytes] = OrderedDict()  # stamp, JPEG
        self._wanted: tuple[str, Collection[int], Callable[[], None]] | None = None
        node.subscription(CompressedImage, "detector/judged", self._on_judged, qos.STATE)

    def keep(self, deposit_id: str, stamps_ns: Collection[int], done: Callable[[], None]) -> None:
        """Put the picture of one of these stamps on disk, then call `done`, also where that was not possible."""
        self._wanted = (deposit_id, stamps_ns, done)
        self._node.after(WAIT_S, lambda: self._give_up(deposit_id))
        self._look()

    def forget(self, deposit_id: str) -> None:
        """The deposit is settled."""
        self._node.run_in_worker((self._folder / f"{deposit_id}.jpg").unlink, True)

    def _on_judged(self, message: CompressedImage) -> None:
        self._recent[to_ns(message.header.stamp)] = bytes(message.data)
        while len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        self._look()

    def _look(self) -> None:
        if self._wanted is None:
            return
        deposit_id, stamps_ns, done = self._wanted
        found = next((jpeg for stamp_ns, jpeg in self._recent.items() if stamp_ns in stamps_ns), None)
        if found is None:
            return
        self._wanted = None

        def written(future: Future) -> None:
            if (error := future.exception()) is not None:
                self._node.log.error("picture not kept", deposit_id=deposit_id, error=str(error))
            done()

        self._node.run_in_worker(self._write, deposit_id, found).add_done_callback(written)

    def _give_up(self, deposit_id: str) -> None:
        if self._wanted is not None and self._wanted[0] == deposit_id:
            done = self._wanted[2]
            self._wanted = None
            self._node.log.warning("no picture came with the verdict", deposit_id=deposit_id)
            done()

    def _write(self, deposit_id: str, jpeg: bytes) -> None:
        durable.replace(self._folder / f"{deposit_id}.jpg", jpeg)
        pictures = sorted(self._folder.glob("*.jpg"), key=lambda path: path.stat().st_mtime_ns)
        excess = sum(path.stat().st_size for path in pictures) - self._limit_bytes
        for path in pictures[:-1]:
            if excess <= 0:
                break
            excess -= path.stat().st_size
            path.unlink()
