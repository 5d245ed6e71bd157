"""The commands that an operator may send: the allow list, a schema for each, how they are signed, how they end.

A command is a signed document (`myrvm_core.signing`, kind `rvm-command`) whose payload is a `Claims`. An envelope is
one such document, or two of different keys over the same payload, with a blank between. docs/protocol.md has it whole.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

from myrvm_core.signing import DOCUMENT_BYTES, KeyRing, PublicKey
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

DOCUMENT_KIND = "rvm-command"
PURPOSE = "command"
ENVELOPE_CHARACTERS = 2 * DOCUMENT_BYTES + 1
LARGEST = 2**53 - 1
LONGEST_LIFE_S = 7 * 86_400.0  # between issued_at and expires_at
LONGEST_WINDOW_S = 14 * 86_400.0
KEYS_IN_A_RING = 20
SIGNERS = 2  # keys that a ring must have, so that the next ring can be signed
OPEN_LOCK = "lock_open"  # `lock` with state open, in the list of commands that need two keys
LARGEST_MODEL_BYTES = 500_000_000
CONFIGURATION = "configuration"
LONGEST_CONFIGURATION_S = 400 * 86_400.0  # it is kept, and fetched at each handshake
ALWAYS_TWO_KEYS = frozenset({"rotate_keys"})

Text = Annotated[str, Field(min_length=1, max_length=200)]
NodeName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
LockName = Annotated[str, Field(pattern=r"^([a-z0-9_]{1,59}_)?lock$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
ClassName = Annotated[str, Field(pattern=r"^[^=\s]{1,100}$")]
Epoch = Annotated[float, Field(ge=0.0, le=1e11)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Claims(_Strict):
    """What is signed. Times in s since the epoch; `counter` rises with each command that a key signs for a machine."""

    machine: Name
    counter: int = Field(ge=1, le=LARGEST)
    issued_at: Epoch
    expires_at: Epoch
    command_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    kind: Annotated[str, Field(max_length=40)]
    parameters: dict[str, Any]


class Parameters(_Strict):
    """What a command carries. `names` are those under which it stands in the list of what needs two keys."""

    @property
    def variant(self) -> str:
        """A name of its own for what it does with these values, beside its kind; empty: none."""
        return ""


class Reboot(Parameters):
    """Start the whole computer anew, when no item is in the machine."""


class RestartNode(Parameters):
    """Clean up, configure and activate one node."""

    node: NodeName


class OutOfService(Parameters):
    """Take no more items; the door stays locked."""

    reason: str = Field(default="", max_length=200)


class InService(Parameters):
    """Take items again."""


class Lock(Parameters):
    """A door's lock: open for a time, or locked again before it has passed."""

    state: Literal["open", "locked"]
    duration_s: float = Field(default=30.0, ge=1.0, le=300.0)
    output: LockName = "door_lock"

    @property
    def variant(self) -> str:
        """See `Parameters`."""
        return OPEN_LOCK if self.state == "open" else ""


class Light(Parameters):
    """A lamp, for a time."""

    on: bool
    duration_s: float = Field(default=60.0, ge=0.1, le=600.0)
    output: Literal["light_ring", "status_lamp"] = "light_ring"


class CapturePicture(Parameters):
    """Keep a picture of the chamber, and send it."""


class RunSelftest(Parameters):
    """The short self-test: nothing moves."""


class UploadLogs(Parameters):
    """Send the logs of the last hours, of one node or of all."""

    hours: int = Field(default=24, ge=1, le=168)
    node: NodeName | None = None


class UpdateModel(Parameters):
    """Fetch a model from the server and use it, on trial as any change of the configuration.

    `url` whole or relative, of the same server; the file is ONNX, whatever it is called there.
    """

    name: Name
    version: Name
    url: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: int = Field(ge=1, le=LARGEST_MODEL_BYTES)


class SetLogLevel(Parameters):
    """What a node logs, until its process ends."""

    node: NodeName
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


class SetPriceTable(Parameters):
    """Points for an accepted item, and of classes that are worth something else; a change of the configuration."""

    points_per_item: int = Field(ge=0, le=1_000_000)
    classes: dict[ClassName, Annotated[int, Field(ge=0, le=1_000_000)]] = Field(default={}, max_length=100)


class ShowMessage(Parameters):
    """A text on the screen; 0 s: until the next."""

    text: Text
    duration_s: float = Field(default=60.0, ge=0.0, le=86_400.0)


class SetMaintenance(Parameters):
    """A window in which the machine is out of service, s since the epoch; it ends by itself. Or end it: `cancel`."""

    begins: Epoch | None = None
    ends: Epoch | None = None
    reason: str = Field(default="", max_length=200)
    who: str = Field(default="", max_length=100)
    cancel: bool = False

    @model_validator(mode="after")
    def _is_a_window(self) -> SetMaintenance:
        if self.cancel:
            if self.begins is not None or self.ends is not None:
                raise ValueError("cancel goes without begins and ends")
            return self
        if self.begins is None or self.ends is None or not 0.0 < self.ends - self.begins <= LONGEST_WINDOW_S:
            raise ValueError(f"begins and ends, at most {LONGEST_WINDOW_S:g} s apart")
        if not self.reason or not self.who:
            raise ValueError("a window has a reason and who ordered it")
        return self


class ConfigUpdate(Parameters):
    """Change parameters for good: by node, then by dotted name; null takes a change back."""

    patch: dict[NodeName, dict[str, Any]] = Field(min_length=1, max_length=20)


class Configuration(ConfigUpdate):
    """The same, as the server keeps it for the machine: its claim `counter` is the version, a newer one counts."""


class RotateKeys(Parameters):
    """The keys that are trusted from now on, all of them."""

    keys: list[dict[str, Any]] = Field(min_length=SIGNERS, max_length=KEYS_IN_A_RING)

    @field_validator("keys")
    @classmethod
    def _is_a_ring(cls, keys: list[dict[str, Any]]) -> list[dict[str, Any]]:
        KeyRing(keys=tuple(PublicKey.model_validate(key) for key in keys))
        return keys

    @property
    def ring(self) -> KeyRing:
        """The keys."""
        return KeyRing(keys=tuple(PublicKey.model_validate(key) for key in self.keys))


KINDS: dict[str, type[Parameters]] = {
    "reboot": Reboot,
    "restart_node": RestartNode,
    "out_of_service": OutOfService,
    "in_service": InService,
    "lock": Lock,
    "light": Light,
    "capture_picture": CapturePicture,
    "run_selftest": RunSelftest,
    "upload_logs": UploadLogs,
    "update_model": UpdateModel,
    "set_log_level": SetLogLevel,
    "set_price_table": SetPriceTable,
    "show_message": ShowMessage,
    "set_maintenance": SetMaintenance,
    "config_update": ConfigUpdate,
    CONFIGURATION: Configuration,
    "rotate_keys": RotateKeys,
}


class Command(BaseModel):
    """A command that was checked and may be executed."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    command_id: str
    kind: str
    parameters: Parameters
    signed_by: tuple[str, ...]
    digest: str


class Status(str, Enum):
    """How a command ended."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    EXPIRED = "expired"


class Anchor(_Strict):
    """The newest line of the audit log when the outcome was written: who keeps it can tell whether the log was cut."""

    sequence: int
    hash: str


class Outcome(BaseModel):
    """What is told to the server, once for each envelope.

    Attributes:
        digest: SHA-256 of the envelope, hex: also one that could not be read has an outcome.
        command_id: as signed; empty where the signature does not hold.
        reason: one line, empty for done.
        detail: more facts, such as the name of a file.
        at: s since the epoch as the machine knows it.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    digest: str
    command_id: str = ""
    kind: str = ""
    status: Status
    reason: Annotated[str, Field(max_length=500)] = ""
    detail: dict[str, str] = {}
    at: float = 0.0
    audit: Anchor | None = None
