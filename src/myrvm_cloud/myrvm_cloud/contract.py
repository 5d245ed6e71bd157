"""What is said to the server and what it answers: JSON bodies of `/api/v1`, described in `docs/protocol.md`.

Answers may carry more fields than these; a field that is missing or of another type is not of the contract.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from myrvm_cloud.command import ENVELOPE_CHARACTERS

BASE_PATH = "/api/v1"
API_KEY_HEADER = "X-RVM-API-KEY"
MACHINE_HEADER = "X-Machine-UUID"

DOCUMENT_CHARACTERS = 65_536
COMMANDS_AT_ONCE = 16
UPLOAD_BYTES = 4_000_000
GZIP, JPEG = "application/gzip", "image/jpeg"

Text = Annotated[str, Field(max_length=500)]
Key = Annotated[str, Field(min_length=1, max_length=100)]
Envelope = Annotated[str, Field(min_length=1, max_length=ENVELOPE_CHARACTERS)]


class Body(BaseModel):
    """Base of all bodies."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Model(Body):
    """The network that decides."""

    name: Text
    version: Text
    sha256: Text


class Facts(Body):
    """What the machine is and how full its bin is; null where it is not known."""

    hardware_profile: Text = ""
    bin_percent: float | None = Field(default=None, ge=0.0, le=100.0)
    model: Model | None = None


class Handshake(Facts):
    """POST /edge/handshake: who this machine is; `voucher_key` is what its vouchers are checked with, if it has one."""

    hardware_id: Text
    software_version: Text
    voucher_key: Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]{43})?$")] = ""


class WebSocketAccess(Body):
    """Where the server sends events, and the token that lets this machine hear them.

    `raw`: url is whole, the token goes into a header. `reverb`: `app_key` and `channel` belong to the url.
    """

    protocol: Annotated[str, Field(pattern=r"^(raw|reverb)$")] = "raw"
    url: Text
    app_key: Text = ""
    channel: Text = ""
    auth_token: SecretStr = SecretStr("")


class HandshakeAnswer(Body):
    """The machine's name and what holds for it; `server_time` in s since the epoch.

    `accepts_gzip`: request bodies may come with `Content-Encoding: gzip`.
    """

    machine_name: Text
    server_time: float
    maintenance: bool = False
    accepts_gzip: bool = False
    websocket: WebSocketAccess | None = None


class Heartbeat(Facts):
    """POST /edge/heartbeat: the buffer's figures."""

    pending: int = Field(ge=0)
    dead: int = Field(ge=0)
    uncertain: int = Field(default=0, ge=0)


class HeartbeatAnswer(Body):
    """Commands whose outcome the server does not know yet, oldest first: each one signed document, or two of them."""

    server_time: float
    maintenance: bool = False
    commands: Annotated[list[Envelope], Field(max_length=COMMANDS_AT_ONCE)] = []


class Deposit(Body):
    """One deposit; `idempotency_key` is the deposit's id.

    `accepted_at` in s since the epoch; a guess unless `accepted_at_trusted`. Neither changes once it was sent.
    """

    idempotency_key: Key
    session_id: Text
    kind: Annotated[str, Field(pattern=r"^(none|account|donation|voucher)$")]
    account_id: Text
    class_name: Text
    score: float = Field(ge=0.0, le=1.0)
    points: int = Field(ge=0, lt=2**31)
    weight_kg: float | None = Field(default=None, ge=0.0)
    accepted_at: float
    accepted_at_trusted: bool = False
    model: Model


class Deposits(Body):
    """POST /edge/deposits: each is judged for itself."""

    deposits: list[Deposit] = Field(min_length=1, max_length=500)


class DepositStatus(str, Enum):
    """What became of one deposit. A duplicate was credited before: as good as credited."""

    CREDITED = "credited"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


class DepositResult(Body):
    """The server's word on one deposit; `reason` says why it was refused."""

    idempotency_key: Text
    status: DepositStatus
    reason: Text = ""


class DepositsAnswer(Body):
    """One result for each deposit, in any order."""

    results: list[DepositResult]


class Authorize(Body):
    """POST /edge/authorize: whose token is this?"""

    token: Annotated[str, Field(min_length=1, max_length=512)]


class AuthorizeAnswer(Body):
    """The customer. An unknown token is answered with 404."""

    account_id: Annotated[str, Field(min_length=1, max_length=500)]
    display_name: Text
    balance_points: int = Field(ge=0, lt=2**32)


class Measurement(Body):
    """One measurement; `name` carries the unit. `measured_at` in s since the epoch."""

    measured_at: float
    source: Text
    name: Text
    value: float


class Telemetry(Body):
    """POST /edge/telemetry: measurements under an id made once, so that a batch sent twice is stored once."""

    batch_id: Key
    measurements: list[Measurement] = Field(min_length=1, max_length=1000)


class TelemetryStatus(str, Enum):
    """What became of a batch. A duplicate was stored before: as good as stored."""

    STORED = "stored"
    DUPLICATE = "duplicate"


class TelemetryAnswer(Body):
    """The server has it."""

    status: TelemetryStatus


class WantedModel(Body):
    """A network that this machine should run, its file's SHA-256; `url` may be relative to the server."""

    name: Text
    version: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    url: Text = ""
    size_bytes: int = Field(default=0, ge=0)


class ModelsAnswer(Body):
    """GET /edge/models: which networks are wanted; none: as it is."""

    models: Annotated[list[WantedModel], Field(max_length=100)] = []


class ConfigurationAnswer(Body):
    """GET /edge/configuration: a signed document that is passed on untouched, empty where there is none."""

    document: Annotated[str, Field(max_length=DOCUMENT_CHARACTERS)] = ""


class CommandOutcome(Body):
    """What became of one command, or of what was none; fields beyond these are passed on as they are.

    `digest`: SHA-256 of what the machine was given. `command_id` is empty where its signature did not hold.
    """

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    command_id: Text = ""
    status: Text
    reason: Text = ""


class CommandOutcomes(Body):
    """POST /edge/command-outcomes: what became of commands; one that comes twice is recorded once."""

    outcomes: Annotated[list[CommandOutcome], Field(min_length=1, max_length=100)]


class CommandOutcomesAnswer(Body):
    """These digests are recorded, now or before; the others are to be sent again."""

    recorded: list[Text]


class PictureKind(str, Enum):
    """Why there is a picture: a command asked for it, its item was refused, its deposit is not settled."""

    CAPTURED = "captured"
    REFUSED = "refused"
    DISPUTED = "disputed"


class UploadAnswer(Body):
    """POST /edge/logs, /edge/pictures: the server has it; SHA-256 of the bytes that it keeps under that id."""

    upload_id: Key
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Refusal(Body):
    """Why an answer is 4xx, in a profile's own words."""

    message: Annotated[str, Field(max_length=5000)]


class ErrorAnswer(Refusal):
    """Body of every answer with 4xx and 5xx."""

    status: Annotated[str, Field(pattern=r"^error$")]
