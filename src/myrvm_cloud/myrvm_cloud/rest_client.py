"""What the bridge says to a server, without any I/O: one client a profile, all of them a `RestClient`.

`MyrvmClient` speaks our own contract (`contract`, docs/protocol.md), `myrvm_server_client` that of the public server.
Whatever the profile, answers are the types of `contract`: the rest of the bridge is the same.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import urlencode

from myrvm_core.deposit_record import DepositRecord, TelemetryRecord
from myrvm_core.verdict import ModelInfo

from myrvm_cloud import contract
from myrvm_cloud.call import Call, CallError, ErrorKind, NotOfferedError, get, post, retry_after_s

__all__ = ["Call", "CallError", "ErrorKind", "NotOfferedError", "retry_after_s"]

NS_PER_S = 1_000_000_000
ALONE_AFTER_ATTEMPTS = 3


@dataclass(frozen=True)
class MachineState:
    """What a heartbeat and a handshake tell of the machine; None where it is not known.

    The buffer's rows; the machine's addresses; its hardware profile; how full the bin is and how busy the computer, in
    percent; its temperature in degrees Celsius; the network that decides.
    """

    pending: int = 0
    dead: int = 0
    uncertain: int = 0
    ip_local: str | None = None
    ip_vpn: str | None = None
    timezone: str | None = None
    hardware_profile: str = ""
    bin_percent: float | None = None
    cpu_percent: float | None = None
    memory_percent: float | None = None
    disk_percent: float | None = None
    temperature_c: float | None = None
    model: contract.Model | None = None


@dataclass(frozen=True)
class CommandAnswer:
    """Why a command without a signature, that came with a heartbeat, is not obeyed; sent with the next one."""

    command_id: str
    kind: str
    refused: str


@dataclass(frozen=True)
class Beat:
    """A heartbeat's answer; `commands` are envelopes, `refused` what came without a signature."""

    server_time: float
    maintenance: bool = False
    commands: Sequence[str] = ()
    refused: Sequence[CommandAnswer] = ()


class RestClient(Protocol):
    """Builds the calls of one machine to one kind of server. A call that the server lacks raises NotOfferedError."""

    profile: str
    base_url: str
    hardware_id: str
    once: bool  # the server cannot tell a repetition: a deposit whose answer is lost must not be sent again
    signed_commands: bool  # the server hands on signed commands and takes their outcomes
    time_resolution_s: float  # of `server_time`

    def handshake(self, machine: MachineState) -> Call[contract.HandshakeAnswer]:
        """Say who this machine is."""
        ...

    def heartbeat(self, machine: MachineState, answers: Sequence[CommandAnswer]) -> Call[Beat]:
        """Say that the machine lives; `answers` to what came with the last heartbeat."""
        ...

    def authorize(self, token: str) -> Call[contract.AuthorizeAnswer]:
        """Ask who a customer is; ValueError for a token that is empty or longer than 512 characters."""
        ...

    def deposits(self, records: Sequence[DepositRecord]) -> Call[contract.DepositsAnswer]:
        """Have deposits credited; exactly one where `once`."""
        ...

    def picture(self, upload_id: str, kind: contract.PictureKind, jpeg: bytes) -> Call[contract.UploadAnswer]:
        """Send a picture under an id made once; it credits nothing. ValueError for too many bytes."""
        ...

    def telemetry(self, batch_id: str, records: Sequence[TelemetryRecord]) -> Call[contract.TelemetryAnswer]:
        """Send measurements under an id made once."""
        ...

    def models(self, running: contract.Model) -> Call[contract.ModelsAnswer]:
        """Ask which networks this machine should run."""
        ...

    def configuration(self) -> Call[contract.ConfigurationAnswer]:
        """Fetch the configuration, a signed document."""
        ...

    def command_outcomes(self, outcomes: Sequence[contract.CommandOutcome]) -> Call[contract.CommandOutcomesAnswer]:
        """Tell what became of commands."""
        ...

    def logs(self, upload_id: str, packed: bytes) -> Call[contract.UploadAnswer]:
        """Send lines of logs, gzip, under an id made once; ValueError for too many bytes."""
        ...


class MyrvmClient:
    """Our own contract: every call may be repeated, for deposits have keys.

    Args:
        server_url: without the path of the contract.
        hardware_id: this machine's name.
        software_version: of this software.
        voucher_key: public key of this machine's vouchers, empty where it signs none.
    """

    profile = "myrvm"
    once = False
    signed_commands = True
    time_resolution_s = 0.0

    def __init__(self, server_url: str, hardware_id: str, software_version: str, voucher_key: str = "") -> None:
        self.base_url = server_url.rstrip("/") + contract.BASE_PATH
        self.hardware_id = hardware_id
        self._handshake = contract.Handshake(
            hardware_id=hardware_id, software_version=software_version, voucher_key=voucher_key
        )

    def handshake(self, machine: MachineState) -> Call[contract.HandshakeAnswer]:
        """See `RestClient`."""
        return post("/edge/handshake", self._handshake.model_copy(update=_facts(machine)), contract.HandshakeAnswer)

    def heartbeat(self, machine: MachineState, answers: Sequence[CommandAnswer]) -> Call[Beat]:
        """See `RestClient`."""
        body = contract.Heartbeat(
            pending=machine.pending, dead=machine.dead, uncertain=machine.uncertain, **_facts(machine)
        )
        return Call("POST", "/edge/heartbeat", _beat, body.model_dump_json().encode())

    def authorize(self, token: str) -> Call[contract.AuthorizeAnswer]:
        """See `RestClient`."""
        return post("/edge/authorize", contract.Authorize(token=token), contract.AuthorizeAnswer)

    def deposits(self, records: Sequence[DepositRecord]) -> Call[contract.DepositsAnswer]:
        """See `RestClient`."""
        body = contract.Deposits(deposits=[_deposit(record) for record in records])
        return post("/edge/deposits", body, contract.DepositsAnswer)

    def picture(self, upload_id: str, kind: contract.PictureKind, jpeg: bytes) -> Call[contract.UploadAnswer]:
        """See `RestClient`."""
        return _upload("/edge/pictures", contract.JPEG, jpeg, upload_id=upload_id, kind=kind.value)

    def telemetry(self, batch_id: str, records: Sequence[TelemetryRecord]) -> Call[contract.TelemetryAnswer]:
        """See `RestClient`."""
        measurements = [
            contract.Measurement(
                measured_at=record.stamp_ns / NS_PER_S, source=record.source, name=record.name, value=record.value
            )
            for record in records
        ]
        body = contract.Telemetry(batch_id=batch_id, measurements=measurements)
        return post("/edge/telemetry", body, contract.TelemetryAnswer)

    def models(self, running: contract.Model) -> Call[contract.ModelsAnswer]:
        """See `RestClient`."""
        return get("/edge/models", contract.ModelsAnswer)

    def configuration(self) -> Call[contract.ConfigurationAnswer]:
        """See `RestClient`."""
        return get("/edge/configuration", contract.ConfigurationAnswer, nothing=contract.ConfigurationAnswer())

    def command_outcomes(self, outcomes: Sequence[contract.CommandOutcome]) -> Call[contract.CommandOutcomesAnswer]:
        """See `RestClient`."""
        body = contract.CommandOutcomes(outcomes=list(outcomes))
        return post("/edge/command-outcomes", body, contract.CommandOutcomesAnswer)

    def logs(self, upload_id: str, packed: bytes) -> Call[contract.UploadAnswer]:
        """See `RestClient`."""
        return _upload("/edge/logs", contract.GZIP, packed, upload_id=upload_id)


@dataclass
class Outcome:
    """What became of a batch: ids credited, ids refused for ever with the reason, ids to be sent again."""

    credited: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)


def outcome(records: Sequence[DepositRecord], answer: contract.DepositsAnswer) -> Outcome:
    """Sort a batch by the server's results; what it said nothing about, or two things, is sent again."""
    said: dict[str, set[bool]] = {}
    reasons: dict[str, str] = {}
    for result in answer.results:
        refused = result.status is contract.DepositStatus.REFUSED
        said.setdefault(result.idempotency_key, set()).add(refused)
        reasons[result.idempotency_key] = result.reason or "refused without a reason"
    sorted_out = Outcome()
    for record in records:
        verdicts = said.get(record.deposit_id)
        if verdicts == {False}:
            sorted_out.credited.append(record.deposit_id)
        elif verdicts == {True}:
            sorted_out.refused[record.deposit_id] = reasons[record.deposit_id]
        else:
            sorted_out.again.append(record.deposit_id)
    return sorted_out


def batches(records: Sequence[DepositRecord], generator: random.Random) -> list[list[DepositRecord]]:
    """What is new goes together; what failed often goes alone, in any order, so that it blocks no other."""
    together = [record for record in records if record.attempts <= ALONE_AFTER_ATTEMPTS]
    alone = [[record] for record in records if record.attempts > ALONE_AFTER_ATTEMPTS]
    generator.shuffle(alone)
    return [*([together] if together else []), *alone]


def _beat(answer: Any) -> Beat:
    said = contract.HeartbeatAnswer.model_validate(answer)
    return Beat(said.server_time, said.maintenance, said.commands)


def _facts(machine: MachineState) -> dict[str, Any]:
    return {"hardware_profile": machine.hardware_profile, "bin_percent": machine.bin_percent, "model": machine.model}


def _upload(path: str, content_type: str, content: bytes, **query: str) -> Call[contract.UploadAnswer]:
    if len(content) > contract.UPLOAD_BYTES:
        raise ValueError(f"{len(content)} bytes for {path}, allowed: {contract.UPLOAD_BYTES}")
    digest = hashlib.sha256(content).hexdigest()

    def kept(answer: Any) -> contract.UploadAnswer:
        said = contract.UploadAnswer.model_validate(answer)
        if said.sha256 != digest:
            raise ValueError(f"{said.upload_id} is kept with sha256 {said.sha256}, sent was {digest}")
        return said

    return Call("POST", f"{path}?{urlencode(query)}", kept, content, content_type, endpoint=path)


def _deposit(record: DepositRecord) -> contract.Deposit:
    return contract.Deposit(
        idempotency_key=record.deposit_id,
        session_id=record.session.session_id,
        kind=record.session.kind.name.lower(),
        account_id=record.session.account_id,
        class_name=record.class_name,
        score=record.score,
        points=record.points,
        weight_kg=record.weight_kg,
        accepted_at=record.accepted_at_ns / NS_PER_S,
        accepted_at_trusted=record.clock_synchronised,
        model=_model(record.model),
    )


@lru_cache(maxsize=8)  # a backlog has few
def _model(model: ModelInfo) -> contract.Model:
    return contract.Model(**vars(model))
