"""Profile `myrvm-server`: what the bridge says to the public MyRVM-Server, in its words, without any I/O.

That server has no idempotency keys: deposits go one a call and `once`; docs/protocol.md says what follows from it. Its
commands come unsigned: none is obeyed, each is answered with the next heartbeat.
"""

from __future__ import annotations

import hashlib
import json
import platform
import uuid
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, TypeVar
from urllib.parse import urlencode

from myrvm_core.deposit_record import DepositRecord, SessionKind, TelemetryRecord

from myrvm_cloud import contract
from myrvm_cloud import myrvm_server_contract as public
from myrvm_cloud.call import Call, NotOfferedError, compact
from myrvm_cloud.rest_client import NS_PER_S, Beat, CommandAnswer, MachineState

GIT_PULL = "GIT_PULL"
GIT_PULL_REFUSED = "not supported, use the signed update"
REFUSED = "not signed: refused, use a signed command"
# Names of our measurements in the server's words.
TELEMETRY = {
    "plastic_kg": "plastic_weight",
    "aluminum_kg": "aluminum_weight",
    "glass_kg": "glass_weight",
    "items": "total_items",
    "battery_percent": "battery_level",
    "temperature_c": "temperature",
}
A = TypeVar("A")

SUMS = ("plastic_weight", "aluminum_weight", "glass_weight", "total_items")


class MyrvmServerClient:
    """The public server's REST.

    Args:
        server_url: without `/api/v1`.
        hardware_id: this machine's name, also the one that is shown.
        software_version: of this software.
    """

    profile = "myrvm-server"
    once = True
    signed_commands = False
    time_resolution_s = 1.0

    def __init__(self, server_url: str, hardware_id: str, software_version: str) -> None:
        self.base_url = server_url.rstrip("/") + contract.BASE_PATH
        self.hardware_id = hardware_id
        self._version = software_version
        self._rvm_id: int | None = None

    def handshake(self, machine: MachineState) -> Call[contract.HandshakeAnswer]:
        """See `RestClient`."""
        model = machine.model
        system = public.System(
            firmware_version=self._version,
            python_version=platform.python_version(),
            ai_models=model and public.AiModels(model_name=model.name, model_version=model.version, hash=model.sha256),
        )
        body = public.Handshake(
            hardware_id=self.hardware_id,
            name=self.hardware_id,
            ip_local=machine.ip_local,
            ip_vpn=machine.ip_vpn,
            timezone=machine.timezone,
            system=system,
            health_metrics=_metrics(machine),
        )
        return self._post("/edge/handshake", body, self._greeted)

    def _greeted(self, answer: Any) -> contract.HandshakeAnswer:
        data = public.HandshakeAnswer.model_validate(answer).data
        self._rvm_id = data.identity.rvm_id
        line = data.websocket
        return contract.HandshakeAnswer(
            machine_name=data.identity.rvm_name or data.identity.rvm_uuid,
            server_time=0.0,
            maintenance=data.policy.is_maintenance_mode,
            websocket=line
            and contract.WebSocketAccess(
                protocol="reverb",
                url=f"{line.scheme}://{line.host}:{line.port}",
                channel=line.channel,
                auth_token=line.auth_token,
            ),
        )

    def heartbeat(self, machine: MachineState, answers: Sequence[CommandAnswer]) -> Call[Beat]:
        """See `RestClient`."""
        results = [
            public.CommandResult(
                request_id=answer.command_id,
                command=answer.kind,
                status="refused" if answer.refused else "done",
                message=answer.refused,
            )
            for answer in answers
        ]
        body = public.Heartbeat(
            bin_capacity=None if machine.bin_percent is None else round(machine.bin_percent),
            health_metrics=_metrics(machine),
            ip_local=machine.ip_local,
            tailscale_ip=machine.ip_vpn,
            version=self._version,
            command_results=results or None,
        )
        return self._post("/edge/heartbeat", body, _beaten)

    def authorize(self, token: str) -> Call[contract.AuthorizeAnswer]:
        """See `RestClient`."""
        raise NotOfferedError(self.profile, "call for a customer's token")

    def deposits(self, records: Sequence[DepositRecord]) -> Call[contract.DepositsAnswer]:
        """See `RestClient`."""
        (record,) = records
        account_id = record.session.account_id if record.session.kind is SessionKind.ACCOUNT else ""
        transaction = public.Transaction(
            timestamp=datetime.fromtimestamp(record.accepted_at_ns / NS_PER_S, timezone.utc).isoformat(),
            items=[public.Item(type=record.class_name, weight=record.weight_kg or 0.0, points=record.points)],
            session_id=record.deposit_id,
            user_id=int(account_id) if account_id.isascii() and account_id.isdigit() and len(account_id) < 16 else None,
        )

        def credited(answer: Any) -> contract.DepositsAnswer:
            said = public.SyncOfflineAnswer.model_validate(answer)
            if said.synced_count == 1 and not said.errors:
                status, reason = contract.DepositStatus.CREDITED, ""
            elif said.synced_count == 0 and said.errors:
                status, reason = contract.DepositStatus.REFUSED, said.errors[0][:500]
            else:
                raise ValueError(f"{said.synced_count} of 1 transaction were synced")
            result = contract.DepositResult(idempotency_key=record.deposit_id, status=status, reason=reason)
            return contract.DepositsAnswer(results=[result])

        body = public.SyncOffline(transactions=[transaction])
        return self._post("/edge/sync-offline", body, credited, repeatable=False)

    def picture(self, upload_id: str, kind: contract.PictureKind, jpeg: bytes) -> Call[contract.UploadAnswer]:
        """See `RestClient`. ValueError for a picture of more than 5 MB; one that is sent twice is kept twice."""
        if len(jpeg) > public.IMAGE_BYTES:
            raise ValueError(f"picture {upload_id} has {len(jpeg)} bytes, allowed: {public.IMAGE_BYTES}")
        sent = contract.UploadAnswer(upload_id=upload_id, sha256=hashlib.sha256(jpeg).hexdigest())
        boundary = uuid.uuid4().hex
        disposition = "Content-Disposition: form-data"
        texts = {"status": kind.name, "data": json.dumps({"upload_id": upload_id})}
        parts = [
            f'--{boundary}\r\n{disposition}; name="{name}"\r\n\r\n{text}\r\n'.encode() for name, text in texts.items()
        ]
        image = f'--{boundary}\r\n{disposition}; name="image"; filename="{upload_id}.jpg"\r\n'
        head, tail = f"{image}Content-Type: image/jpeg\r\n\r\n", f"\r\n--{boundary}--\r\n"
        body = b"".join((*parts, head.encode(), jpeg, tail.encode()))
        return Call(
            "POST",
            "/edge/deposit",
            lambda _: sent,
            body,
            content_type=f"multipart/form-data; boundary={boundary}",
            error_type=public.Error,
        )

    def telemetry(self, batch_id: str, records: Sequence[TelemetryRecord]) -> Call[contract.TelemetryAnswer]:
        """See `RestClient`. Sums of what the server knows; measurements that it has no name for are left out."""
        if self._rvm_id is None:
            raise NotOfferedError(self.profile, "telemetry before a handshake")
        values: dict[str, float] = dict.fromkeys(SUMS, 0.0)
        for record in records:
            if (name := TELEMETRY.get(record.name)) is not None:
                values[name] = values[name] + record.value if name in SUMS else record.value
        body = public.Telemetry.model_validate(
            values | {name: round(values[name]) for name in ("total_items", "battery_level") if name in values}
        )
        stored = contract.TelemetryAnswer(status=contract.TelemetryStatus.STORED)
        path = f"/devices/{self._rvm_id}/telemetry"
        return self._post(path, body, lambda _: stored, endpoint="/devices/telemetry", repeatable=False)

    def models(self, running: contract.Model) -> Call[contract.ModelsAnswer]:
        """See `RestClient`."""
        query = urlencode(
            {"device_serial": self.hardware_id, "current_version": running.version, "model_name": running.name}
        )

        def wanted(answer: Any) -> contract.ModelsAnswer:
            said = public.ModelSyncAnswer.model_validate(answer)
            if not said.update_available or said.data is None:
                return contract.ModelsAnswer()
            model = contract.WantedModel(
                name=running.name,
                version=said.data.latest_version,
                sha256=said.data.sha256_hash.lower(),
                url=said.data.download_url,
                size_bytes=round(said.data.file_size_mb * 1_000_000),
            )
            return contract.ModelsAnswer(models=[model])

        path = f"/edge/model-sync?{query}"
        return Call("GET", path, wanted, endpoint="/edge/model-sync", error_type=public.Error)

    def configuration(self) -> Call[contract.ConfigurationAnswer]:
        """See `RestClient`."""
        raise NotOfferedError(self.profile, "signed configuration")

    def command_outcomes(self, outcomes: Sequence[contract.CommandOutcome]) -> Call[contract.CommandOutcomesAnswer]:
        """See `RestClient`."""
        raise NotOfferedError(self.profile, "call for outcomes of commands")

    def logs(self, upload_id: str, packed: bytes) -> Call[contract.UploadAnswer]:
        """See `RestClient`."""
        raise NotOfferedError(self.profile, "call for logs")

    def _post(
        self, path: str, body: contract.Body, read: Any, endpoint: str = "", repeatable: bool = True
    ) -> Call[Any]:
        sent = compact(body.model_dump(mode="json", exclude_none=True))
        return Call("POST", path, read, sent, endpoint=endpoint, repeatable=repeatable, error_type=public.Error)


def _metrics(machine: MachineState) -> public.HealthMetrics | None:
    values = {
        "cpu_usage_percent": machine.cpu_percent,
        "memory_usage_percent": machine.memory_percent,
        "disk_usage_percent": machine.disk_percent,
        "cpu_temperature": machine.temperature_c,
    }
    return public.HealthMetrics.model_validate(values) if any(value is not None for value in values.values()) else None


def _beaten(answer: Any) -> Beat:
    said = public.HeartbeatAnswer.model_validate(answer)
    server_time = datetime.fromisoformat(said.server_time.replace("Z", "+00:00"))
    if server_time.tzinfo is None:
        raise ValueError("server_time has no time zone")
    kinds = [(command.request_id or uuid.uuid4().hex, command.action or command.command) for command in said.commands]
    refused = [CommandAnswer(name, kind, GIT_PULL_REFUSED if kind == GIT_PULL else REFUSED) for name, kind in kinds]
    return Beat(server_time.timestamp(), refused=refused)
