"""What must outlive the lifecycle manager: PAUSE, MAINTENANCE, OUT_OF_SERVICE, and that this boot was switched off.

One small file in the data folder, replaced as a whole. Nothing in it keeps a machine down that was switched off: that
mark counts only in the boot that made it.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from myrvm_core.errors import StorageError
from pydantic import TypeAdapter, ValidationError, field_validator
from pydantic.dataclasses import dataclass

from myrvm_core import durable
from myrvm_system.manager import Verb

FILE = "system/order.json"  # in the data folder
KEPT_VERBS = (Verb.PAUSE, Verb.MAINTENANCE, Verb.OUT_OF_SERVICE)


@dataclass(frozen=True)
class Order:
    """The verb that stands (of `KEPT_VERBS`, None for none), and the boot whose switching off was ordered."""

    verb: Verb | None = None
    switched_off_boot: str = ""

    @field_validator("verb")
    @classmethod
    def _is_kept(cls, verb: Verb | None) -> Verb | None:
        if verb is not None and verb not in KEPT_VERBS:
            raise ValueError(" or ".join(kept.name for kept in KEPT_VERBS))
        return verb


_ADAPTER = TypeAdapter(Order)


def standing(path: Path) -> Verb | None:
    """The verb that stands in a file, for whoever only looks; None also where it cannot be read."""
    try:
        return _ADAPTER.validate_json(path.read_bytes()).verb
    except (OSError, ValidationError):
        return None


class OrderFile:
    """The file. `problem` says what was wrong with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problem = ""

    def read(self) -> Order:
        """What was written last.

        A file that is not as it was written is set aside and stands for PAUSE: somebody wanted the machine not to
        serve, and it is not known how much.
        """
        partial = self._path.with_name(self._path.name + durable.PARTIAL)
        if partial.exists():
            self.problem = f"{partial} was being written when the manager ended; its order was not confirmed"
            with suppress(OSError):
                partial.unlink()
        try:
            return _ADAPTER.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return Order()
        except (OSError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            self.problem = f"{self._path} cannot be read ({reason}): the machine is paused until RESUME"
            with suppress(OSError):
                self._path.replace(self._path.with_suffix(".damaged"))
            order = Order(Verb.PAUSE)
            with suppress(StorageError):
                self.write(order)
            return order

    def write(self, order: Order) -> None:
        """Replace the file.

        Raises:
            StorageError: the disk does not take it.
        """
        try:
            durable.replace(self._path, _ADAPTER.dump_json(order))
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error}") from error
