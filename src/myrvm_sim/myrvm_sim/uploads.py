"""The reference server's side of what machines upload: logs and pictures, kept and listed. A stand-in.

The same upload twice is kept once; another one under a used id is refused. Who reaches the port may read them: a desk,
no server for the field.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from contextlib import suppress
from typing import Annotated

from aiohttp import web
from myrvm_cloud.contract import (
    BASE_PATH,
    GZIP,
    JPEG,
    MACHINE_HEADER,
    UPLOAD_BYTES,
    Body,
    Key,
    PictureKind,
    UploadAnswer,
)
from pydantic import Field

from myrvm_sim.server_faults import GZIP_MAGIC, answer, error, read_body

JPEG_MAGIC = b"\xff\xd8"
KEPT = 200  # uploads of one kind; the oldest go
_TABLES = """
CREATE TABLE IF NOT EXISTS uploads (
    machine TEXT NOT NULL, kind TEXT NOT NULL, upload_id TEXT NOT NULL, at REAL NOT NULL, sha256 TEXT NOT NULL,
    content BLOB NOT NULL, PRIMARY KEY (machine, kind, upload_id)
);
"""


class Named(Body):
    """The query of an upload."""

    upload_id: Annotated[Key, Field(pattern=r"^[A-Za-z0-9._-]+$")]


class Pictured(Named):
    """The query of a picture."""

    kind: PictureKind


class Uploads:
    """Uploads of one server.

    Args:
        connection: of its database.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.executescript(_TABLES)

    def calls(self) -> list[web.RouteDef]:
        """Those of the contract."""
        return [
            web.post(f"{BASE_PATH}/edge/logs", self._take_logs),
            web.post(f"{BASE_PATH}/edge/pictures", self._take_picture),
        ]

    def routes(self) -> list[web.RouteDef]:
        """For people and tests."""
        return [
            web.get("/uploads", self._list),
            web.get("/uploads/{machine}/{kind}/{upload_id}", self._content),
        ]

    async def _take_logs(self, request: web.Request) -> web.Response:
        named = Named.model_validate(dict(request.query))
        return await self._take(request, named, "logs", GZIP, GZIP_MAGIC)

    async def _take_picture(self, request: web.Request) -> web.Response:
        named = Pictured.model_validate(dict(request.query))
        return await self._take(request, named, named.kind.value, JPEG, JPEG_MAGIC)

    async def _take(
        self, request: web.Request, named: Named, kind: str, content_type: str, magic: bytes
    ) -> web.Response:
        if request.content_type != content_type or request.headers.get("Content-Encoding"):
            return error(415, f"{kind} are sent as {content_type}, not encoded further")
        content = await read_body(request, UPLOAD_BYTES)
        if not content.startswith(magic):
            return error(422, f"the body is no {content_type}")
        machine, digest = request.headers.get(MACHINE_HEADER, ""), hashlib.sha256(content).hexdigest()
        row = (machine, kind, named.upload_id, time.time(), digest, content)
        self._connection.execute("INSERT OR IGNORE INTO uploads VALUES (?, ?, ?, ?, ?, ?)", row)
        self._connection.execute(
            "DELETE FROM uploads WHERE kind = ? AND rowid NOT IN"
            " (SELECT rowid FROM uploads WHERE kind = ? ORDER BY rowid DESC LIMIT ?)",
            (kind, kind, KEPT),
        )
        (known,) = self._connection.execute(
            "SELECT sha256 FROM uploads WHERE machine = ? AND kind = ? AND upload_id = ?", row[:3]
        ).fetchone()
        if known != digest:
            return error(422, f"upload_id {named.upload_id} was used for others: {kind}")
        return answer(UploadAnswer(upload_id=named.upload_id, sha256=known))

    async def _list(self, _: web.Request) -> web.Response:
        names = ("machine", "kind", "upload_id", "at", "sha256", "bytes")
        rows = self._connection.execute(
            "SELECT machine, kind, upload_id, at, sha256, length(content) FROM uploads ORDER BY rowid"
        )
        return web.json_response([dict(zip(names, row, strict=True)) for row in rows])

    async def _content(self, request: web.Request) -> web.Response:
        wanted = tuple(request.match_info[name] for name in ("machine", "kind", "upload_id"))
        with suppress(TypeError):
            (content,) = self._connection.execute(
                "SELECT content FROM uploads WHERE machine = ? AND kind = ? AND upload_id = ?", wanted
            ).fetchone()
            return web.Response(body=content, content_type="application/octet-stream")
        return error(404, "there is no such upload")
