"""The reference server's side of a signed file of deposits, carried to it where a machine has no network. A stand-in.

`PUT /machines/{machine}/key` tells the server a machine's public key (anyone who reaches the port may: a desk, no
server for the field); `POST /imports` takes a file. A file that is damaged or forged is refused as a whole; each
deposit of a good one is judged as one that came over the network, so that a file may come twice, or after the network.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, Any

from aiohttp import web
from myrvm_cloud.contract import DepositResult
from myrvm_core.errors import SignatureError
from myrvm_core.signing import KeyRing, PublicKey, thumbprint

from myrvm_cloud import export

FILE_BYTES = 64_000_000
CHUNK_BYTES = 65_536
REASONS = 100
_TABLES = """
CREATE TABLE IF NOT EXISTS import_keys (machine TEXT PRIMARY KEY, public TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS imports (
    export_id TEXT PRIMARY KEY, machine TEXT NOT NULL, imported_at REAL NOT NULL, answer TEXT NOT NULL
);
"""


class Imports:
    """Imports of one server.

    Args:
        connection: of its database.
        transaction: all or nothing.
        judge: credits one deposit of a machine, or says why not.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        transaction: Callable[[], AbstractContextManager[None]],
        judge: Callable[[dict[str, Any], str], DepositResult],
    ) -> None:
        self._connection, self._transaction, self._judge = connection, transaction, judge
        connection.executescript(_TABLES)

    def routes(self) -> list[web.RouteDef]:
        """What it serves."""
        return [web.put("/machines/{machine}/key", self._set_key), web.post("/imports", self._import)]

    async def _set_key(self, request: web.Request) -> web.Response:
        """The body is the key: 32 bytes in base64url."""
        public = (await request.text()).strip()
        try:
            _key(public)
        except ValueError:
            return _error(422, "no public key: 32 bytes in base64url are allowed")
        row = (request.match_info["machine"], public)
        self._connection.execute("INSERT OR REPLACE INTO import_keys VALUES (?, ?)", row)
        return web.json_response({"machine": row[0], "key_id": thumbprint(public)})

    async def _import(self, request: web.Request) -> web.Response:
        with tempfile.TemporaryFile() as file:
            size = 0
            async for chunk in request.content.iter_chunked(CHUNK_BYTES):
                size += len(chunk)
                if size > FILE_BYTES:
                    return _error(413, f"a file of more than {FILE_BYTES} bytes")
                file.write(chunk)
            file.seek(0)
            machines = dict(self._connection.execute("SELECT public, machine FROM import_keys"))
            ring = KeyRing(keys=tuple(_key(public) for public in machines))
            try:
                header, key = await asyncio.to_thread(export.read_signed, file, ring, time.time())
                if (owner := machines[key.public]) != header.machine:
                    raise SignatureError(f"signed by {owner}, but of {header.machine}")
            except SignatureError as error:
                return _error(422, f"refused as a whole: {error}")
            return web.json_response(self._credit(header, file))

    def _credit(self, header: export.Header, file: IO[bytes]) -> dict[str, Any]:
        known = "SELECT answer FROM imports WHERE export_id = ?"
        before = self._connection.execute(known, (header.export_id,)).fetchone()
        with self._transaction():
            results = [
                self._judge(row if isinstance(row, dict) else {}, header.machine) for row in export.deposits(file)
            ]
            counts = Counter(result.status.value for result in results)
            refused = [
                {"idempotency_key": result.idempotency_key, "reason": result.reason}
                for result in results
                if result.status.value == "refused"
            ]
            said = {
                "export_id": header.export_id, "machine": header.machine, "deposits": len(results),
                **{status: counts[status] for status in ("credited", "duplicate", "refused")},
                "reasons": refused[:REASONS], "imported_before": before is not None,
            }  # fmt: skip
            row = (header.export_id, header.machine, time.time(), json.dumps(said))
            self._connection.execute("INSERT OR IGNORE INTO imports VALUES (?, ?, ?, ?)", row)
        return said


def _key(public: str) -> PublicKey:
    return PublicKey(key_id=thumbprint(public), public=public, purposes=frozenset({export.Header.PURPOSE}))


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"status": "error", "message": message}, status=status)
