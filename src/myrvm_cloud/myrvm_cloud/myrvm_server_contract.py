"""Bodies of the public MyRVM-Server (`/api/v1/edge/...`, state of 31 January 2026), as far as a machine needs them.

Its answers carry more than this. Its errors are `{status: "error", message}`, those of its framework `{message}` only.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SecretStr

from myrvm_cloud.contract import Body, Refusal

IMAGE_BYTES = 5 * 1024 * 1024
Percent = Annotated[float, Field(ge=0.0, le=100.0)]
Label = Annotated[str, Field(max_length=50)]
Name = Annotated[str, Field(max_length=100)]


class AiModels(Body):
    """The network that decides."""

    model_name: Name
    model_version: Name
    hash: Name


class System(Body):
    """Versions of the machine's software."""

    jetpack_version: Label | None = None
    firmware_version: Label | None = None
    python_version: Label | None = None
    ai_models: AiModels | None = None


class HealthMetrics(Body):
    """How busy and how warm the computer is."""

    cpu_usage_percent: Percent | None = None
    memory_usage_percent: Percent | None = None
    disk_usage_percent: Percent | None = None
    cpu_temperature: float | None = None


class HardwareInfo(Body):
    """What is built in."""

    cameras: list[dict[str, Any]] = []
    sensors: list[dict[str, Any]] = []
    actuators: list[dict[str, Any]] = []
    microcontroller: dict[str, Any] | None = None


class Handshake(Body):
    """POST /edge/handshake."""

    hardware_id: Annotated[str, Field(min_length=1, max_length=100)]
    name: Annotated[str, Field(min_length=1, max_length=255)]
    ip_local: str | None = None
    ip_vpn: str | None = None
    timezone: Label | None = None
    system: System | None = None
    health_metrics: HealthMetrics | None = None
    hardware_info: HardwareInfo | None = None
    diagnostics: dict[str, Any] | None = None


class Identity(Body):
    """Who the server says that this machine is; `rvm_id` is in the path of telemetry."""

    rvm_id: int
    rvm_uuid: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]
    rvm_name: Annotated[str, Field(max_length=500)] | None = None


class WebSocket(Body):
    """Where its Reverb is; the channel is public."""

    channel: Name
    auth_token: SecretStr = SecretStr("")
    host: Annotated[str, Field(max_length=255)]
    port: int = Field(default=443, ge=1, le=65_535)
    scheme: Annotated[str, Field(pattern=r"^(ws|wss)$")] = "wss"


class Policy(Body):
    """What holds for the machine; the rest of it is the configuration's."""

    is_maintenance_mode: bool = False


class HandshakeData(Body):
    """The part of the answer that counts."""

    identity: Identity
    websocket: WebSocket | None = None
    policy: Policy = Policy()


class HandshakeAnswer(Body):
    """Answer to a handshake."""

    data: HandshakeData


class CommandResult(Body):
    """Our answer to a command of an earlier heartbeat; the server passes over a field that it does not know."""

    request_id: str
    command: str
    status: Annotated[str, Field(pattern=r"^(done|refused)$")]
    message: str


class Heartbeat(Body):
    """POST /edge/heartbeat."""

    bin_capacity: int | None = Field(default=None, ge=0, le=100)
    health_metrics: HealthMetrics | None = None
    ip_local: str | None = None
    tailscale_ip: str | None = None
    hardware_info: HardwareInfo | None = None
    version: Label
    command_results: list[CommandResult] | None = None


class PendingCommand(Body):
    """One command; named `action` in the public sources, `command` in its events. Handed out once, then forgotten."""

    action: Name = ""
    command: Name = ""
    request_id: Name = ""
    timestamp: Name = ""


class HeartbeatAnswer(Body):
    """Answer to a heartbeat; `server_time` in ISO 8601, whole seconds."""

    server_time: str
    commands: Annotated[list[PendingCommand], Field(max_length=100)] = []


class Item(Body):
    """One item of a transaction. The server adds weights up and names no unit; ours are kg."""

    type: str
    weight: float = Field(default=0.0, ge=0.0)
    points: int = Field(ge=0)


class Transaction(Body):
    """One visit, or here one deposit; `session_id` and `user_id` are read by a later version of the server only."""

    timestamp: str
    items: list[Item] = Field(min_length=1)
    session_id: str = ""
    user_id: int | None = None


class SyncOffline(Body):
    """POST /edge/sync-offline: all or nothing, and no key: sent twice it is credited twice."""

    transactions: list[Transaction] = Field(min_length=1)


class SyncOfflineAnswer(Body):
    """How many were credited; `errors` names those that were not, where the server knows users."""

    status: str
    synced_count: int = Field(ge=0)
    errors: list[str] = []


class Telemetry(Body):
    """POST /devices/{id}/telemetry: sums of an interval."""

    plastic_weight: float = Field(ge=0.0)
    aluminum_weight: float = Field(ge=0.0)
    glass_weight: float = Field(default=0.0, ge=0.0)
    total_items: int = Field(ge=0)
    battery_level: int | None = Field(default=None, ge=0, le=100)
    temperature: float | None = None


class ModelData(Body):
    """The network that should run."""

    latest_version: Name
    sha256_hash: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")]
    file_size_mb: float = Field(default=0.0, ge=0.0, le=1e6)
    download_url: Annotated[str, Field(max_length=500)] = ""


class ModelSyncAnswer(Body):
    """GET /edge/model-sync."""

    update_available: bool
    data: ModelData | None = None


class Error(Refusal):
    """Body of an answer with 4xx."""
