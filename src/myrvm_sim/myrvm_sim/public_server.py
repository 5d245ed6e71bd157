"""A stand-in for the public MyRVM-Server's REST (profile `myrvm-server`), its weaknesses included, for desk and tests.

Made after its public sources (state of 31 January 2026; `myrvm_cloud/myrvm_server_contract.py`): transactions have no
key, so the same one sent twice is credited twice; pending commands are handed out once and forgotten; a heartbeat is
answered with 403 while no technician is assigned; errors of its framework are `{message, errors}`.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from typing import Any

from aiohttp import web
from myrvm_cloud.contract import BASE_PATH, WantedModel
from pydantic import ValidationError

from myrvm_cloud import myrvm_server_contract as public
from myrvm_sim.server_faults import error, read_json

PROFILE = "myrvm-server"
RVM_ID = 7
RVM_UUID = str(uuid.uuid5(uuid.NAMESPACE_DNS, "rvm.invalid"))
POST_BYTES = public.IMAGE_BYTES + 100_000
_TABLES = """
CREATE TABLE IF NOT EXISTS transactions (
    id INTEGER PRIMARY KEY, session_id TEXT NOT NULL, completed_at TEXT NOT NULL, points INTEGER NOT NULL,
    weight REAL NOT NULL, items TEXT NOT NULL
);
"""


class PublicServer:
    """One such server with one machine.

    Args:
        connection: of SQLite.
        transaction: all or nothing.
    """

    def __init__(self, connection: sqlite3.Connection, transaction: Callable[[], AbstractContextManager[None]]) -> None:
        self._connection, self._transaction = connection, transaction
        connection.executescript(_TABLES)
        self.pending: list[str] = []
        self.technician = True
        self.model: WantedModel | None = None
        self._handshakes: list[dict[str, Any]] = []
        self._heartbeats: list[dict[str, Any]] = []
        self._telemetry: list[dict[str, Any]] = []
        self._pictures: list[dict[str, Any]] = []

    def routes(self) -> list[web.RouteDef]:
        """Its API, as far as a machine uses it, and a switch for its technician."""
        calls = [
            web.post(f"{BASE_PATH}/edge/handshake", self._handshake),
            web.post(f"{BASE_PATH}/edge/deposit", self._deposit),
            web.post(f"{BASE_PATH}/edge/sync-offline", self._sync_offline),
            web.post(f"{BASE_PATH}/edge/heartbeat", self._heartbeat),
            web.get(f"{BASE_PATH}/edge/model-sync", self._model_sync),
            web.post(f"{BASE_PATH}/devices/{{id}}/telemetry", self._post_telemetry),
        ]
        wrapped = [web.route(call.method, call.path, _framework(call.handler)) for call in calls]
        return [
            *wrapped,
            web.post("/technician", self._set_technician),
            web.post("/actions", self._add_action),
        ]

    def ledger(self) -> list[dict[str, Any]]:
        """Every transaction, oldest first; a repeated one twice."""
        names = ("session_id", "completed_at", "points", "weight", "items")
        cursor = self._connection.execute(f"SELECT {', '.join(names)} FROM transactions ORDER BY id")
        return [dict(zip(names, row, strict=True)) for row in cursor]

    def reported(self) -> dict[str, list[dict[str, Any]]]:
        """What machines have told, oldest first."""
        return {
            "handshakes": self._handshakes[-100:],
            "heartbeats": self._heartbeats[-100:],
            "telemetry": self._telemetry[-100:],
            "pictures": self._pictures[-100:],
        }

    async def _set_technician(self, request: web.Request) -> web.Response:
        self.technician = bool(await read_json(request))
        return web.json_response(self.technician)

    async def _add_action(self, request: web.Request) -> web.Response:
        action = await read_json(request)
        if action not in ("GIT_PULL", "RESTART"):
            return _invalid("The selected action is invalid.")
        self.pending.append(action)
        return web.json_response(action)

    async def _handshake(self, request: web.Request) -> web.Response:
        machine = public.Handshake.model_validate(await read_json(request))
        self._handshakes.append(machine.model_dump(mode="json", exclude_none=True))
        data = {
            "identity": {"rvm_id": RVM_ID, "rvm_uuid": RVM_UUID, "rvm_name": f"RVM {machine.hardware_id}"},
            "kiosk": {"url": f"https://server.invalid/kiosk/{RVM_UUID}?signature=0", "timezone": machine.timezone},
            "websocket": {
                "channel": f"rvm.{RVM_UUID}",
                "auth_token": uuid.uuid4().hex,
                "host": "server.invalid",
                "port": 443,
                "scheme": "wss",
            },
            "policy": {
                "is_maintenance_mode": False,
                "bin_full_threshold_percent": 90,
                "camera_idle_timeout_sec": 30,
                "motor_speed_delay": 0.5,
            },
            "ai_model": {"target_version": "", "hash": "", "update_source_url": ""},
        }
        return web.json_response({"status": "success", "message": "Handshake successful.", "data": data})

    async def _heartbeat(self, request: web.Request) -> web.Response:
        beat = await read_json(request)
        public.Heartbeat.model_validate(beat)
        if not self.technician:
            return error(403, "No technician is assigned to this machine")
        self._heartbeats.append(beat)
        commands = [{"action": action, "timestamp": _now()} for action in self.pending]
        self.pending.clear()
        return web.json_response({"status": "success", "server_time": _now(), "commands": commands})

    async def _sync_offline(self, request: web.Request) -> web.Response:
        """All or nothing; no key is looked at."""
        sent = public.SyncOffline.model_validate(await read_json(request))
        with self._transaction():
            for transaction in sent.transactions:
                points = sum(item.points for item in transaction.items)
                weight = sum(item.weight for item in transaction.items)
                items = json.dumps([item.model_dump() for item in transaction.items])
                self._connection.execute(
                    "INSERT INTO transactions (session_id, completed_at, points, weight, items) VALUES (?, ?, ?, ?, ?)",
                    (transaction.session_id, transaction.timestamp, points, weight, items),
                )
        count = len(sent.transactions)
        message = f"Synced {count} offline transactions"
        return web.json_response({"status": "success", "message": message, "synced_count": count})

    async def _deposit(self, request: web.Request) -> web.Response:
        if request.content_type != "multipart/form-data":
            return _invalid("The image field is required.")
        try:
            form = await request.clone(client_max_size=POST_BYTES).post()
        except web.HTTPException:
            raise
        except Exception:  # whatever aiohttp finds wrong with a stranger's form
            return _invalid("The form is damaged.")
        image, status, data = form.get("image"), form.get("status"), form.get("data")
        if not isinstance(image, web.FileField) or image.content_type not in ("image/jpeg", "image/png"):
            return _invalid("The image field must be an image.")
        picture = image.file.read(public.IMAGE_BYTES + 1)
        if len(picture) > public.IMAGE_BYTES:
            return _invalid("The image field must not be greater than 5120 kilobytes.")
        if not isinstance(status, str) or not isinstance(data, str):
            return _invalid("The status and data fields are required.")
        try:
            result = json.loads(data)
        except ValueError:
            result = None
        told = {"status": status, "data": result, "bytes": len(picture), "sha256": hashlib.sha256(picture).hexdigest()}
        self._pictures.append(told)
        stored = {"image_url": "/storage/deposits/0.jpg", "ai_result": result, "processed_at": _now()}
        return web.json_response({"status": "success", "message": "Deposit processed", "data": stored}, status=201)

    async def _post_telemetry(self, request: web.Request) -> web.Response:
        if request.match_info["id"] != str(RVM_ID):
            return web.json_response({"message": "No query results for model [RvmMachine]."}, status=404)
        told = public.Telemetry.model_validate(await read_json(request))
        self._telemetry.append(told.model_dump(exclude_none=True))
        return web.json_response({"status": "success", "message": "Telemetry received"}, status=201)

    async def _model_sync(self, request: web.Request) -> web.Response:
        query, model = request.query, self.model
        if not query.get("device_serial") or not query.get("model_name"):
            return _invalid("The device serial and model name fields are required.")
        if model is None or model.name != query["model_name"] or model.version == query.get("current_version"):
            return web.json_response({"status": "success", "update_available": False})
        data = {
            "model_name": model.name,
            "latest_version": model.version,
            "sha256_hash": model.sha256,
            "file_size_mb": model.size_bytes / 1_000_000,
            "download_url": f"{BASE_PATH}/edge/download-model/{model.sha256}",
        }
        return web.json_response({"status": "success", "update_available": True, "data": data})


def _framework(handler: Any) -> Any:
    """Errors as its framework words them."""

    async def handled(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ValidationError as problem:
            return _invalid(problem.errors()[0]["msg"][:500])

    return handled


def _invalid(message: str) -> web.Response:
    return web.json_response({"message": message, "errors": {}}, status=422)


def _now() -> str:
    return datetime.fromtimestamp(int(time.time()), timezone.utc).isoformat()
