"""A stand-in for MyRVM-Server, for the desk and the tests: accounts, deposits with idempotency keys, a ledger, faults.

It speaks the contract of `docs/protocol.md` (aiohttp, SQLite) and is no server to run in the field: its accounts are
made up and `POST /faults` lets anyone who reaches the port break it. It listens on the loopback address only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from myrvm_cloud.contract import (
    API_KEY_HEADER,
    BASE_PATH,
    MACHINE_HEADER,
    Authorize,
    AuthorizeAnswer,
    Command,
    Deposit,
    DepositResult,
    DepositsAnswer,
    DepositStatus,
    Handshake,
    HandshakeAnswer,
    Heartbeat,
    HeartbeatAnswer,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

DEMO_KEY = "demo-key"
DONATIONS = "donations"
DEMO_ACCOUNTS = (("alice", "Alice", "token-alice"), ("budi", "Budi", "token-budi"), (DONATIONS, "Donations", ""))
BODY_BYTES = 256_000
HTML = "<html><body><h1>Welcome to the guest network</h1><a href='/login'>Log in</a></body></html>"
_TABLES = """
CREATE TABLE IF NOT EXISTS accounts (account_id TEXT PRIMARY KEY, display_name TEXT NOT NULL, token TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS credits (
    idempotency_key TEXT PRIMARY KEY, machine TEXT NOT NULL, account_id TEXT NOT NULL REFERENCES accounts,
    session_id TEXT NOT NULL, class_name TEXT NOT NULL, points INTEGER NOT NULL, weight_kg REAL,
    accepted_at REAL NOT NULL, credited_at REAL NOT NULL, body TEXT NOT NULL
);
"""


class Faults(BaseModel):
    """Body of `POST /faults`. Counts are of the next requests to `endpoint` (such as "deposits"; empty: to any)."""

    model_config = ConfigDict(extra="forbid")

    endpoint: str = ""
    latency_s: float = Field(default=0.0, ge=0.0, le=60.0)
    status_500: int = Field(default=0, ge=0)
    status_401: int = Field(default=0, ge=0)
    status_413: int = Field(default=0, ge=0)
    html: int = Field(default=0, ge=0)
    truncated_json: int = Field(default=0, ge=0)
    cut_before_commit: int = Field(default=0, ge=0)
    cut_after_commit: int = Field(default=0, ge=0)
    down: bool = False


class Batch(BaseModel):
    """Body of a post of deposits as the server reads it: each row is judged by itself."""

    deposits: list[dict[str, Any]] = Field(min_length=1, max_length=500)


@dataclass
class ReferenceServer:
    """One server. `database` is a file, or `:memory:`."""

    database: str
    api_key: str = DEMO_KEY
    faults: Faults = field(default_factory=Faults)
    commands: dict[str, Command] = field(default_factory=dict)
    maintenance: bool = False

    def __post_init__(self) -> None:
        self._connection = sqlite3.connect(self.database, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(_TABLES)
        self._connection.executemany("INSERT OR IGNORE INTO accounts VALUES (?, ?, ?)", DEMO_ACCOUNTS)

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application(middlewares=[self._errors, self._break], client_max_size=BODY_BYTES)
        application.add_routes(
            [
                web.post(f"{BASE_PATH}/edge/handshake", self._handshake),
                web.post(f"{BASE_PATH}/edge/heartbeat", self._heartbeat),
                web.post(f"{BASE_PATH}/edge/deposits", self._deposits),
                web.post(f"{BASE_PATH}/edge/authorize", self._authorize),
                web.get(f"{BASE_PATH}/ledger", self._ledger),
                web.post("/faults", self._set_faults),
                web.post("/commands", self._add_command),
            ]
        )
        application.on_cleanup.append(self._close)
        return application

    async def _close(self, _: web.Application) -> None:
        self._connection.close()

    # Around every request

    @web.middleware
    async def _errors(self, request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _error(error.status, error.reason)
        except ValidationError as error:
            return _error(422, _sentence(error))

    @web.middleware
    async def _break(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Apply the faults that are switched on, and check the key."""
        if not request.path.startswith(f"{BASE_PATH}/edge/"):
            return await handler(request)
        endpoint = request.path.rsplit("/", 1)[1]
        if not hmac.compare_digest(request.headers.get(API_KEY_HEADER, "").encode(), self.api_key.encode()):
            return _error(401, "the key is not known")
        if self.faults.endpoint not in ("", endpoint):
            return await handler(request)
        if self.faults.latency_s:
            await asyncio.sleep(self.faults.latency_s)
        if self.faults.down or self._spend("cut_before_commit"):
            return _cut(request)
        for status in (500, 401, 413):
            if self._spend(f"status_{status}"):
                return _error(status, "a fault that was asked for")
        if self._spend("html"):
            return web.Response(text=HTML, content_type="text/html")
        answer = await handler(request)
        if self._spend("cut_after_commit"):
            return _cut(request)
        if self._spend("truncated_json"):
            return web.Response(body=answer.body[: len(answer.body) // 2], content_type="application/json")
        return answer

    def _spend(self, fault: str) -> bool:
        left = getattr(self.faults, fault)
        if left:
            setattr(self.faults, fault, left - 1)
        return left > 0

    async def _set_faults(self, request: web.Request) -> web.Response:
        self.faults = Faults.model_validate_json(await request.read())
        return _json(self.faults)

    async def _add_command(self, request: web.Request) -> web.Response:
        command = Command.model_validate_json(await request.read())
        self.commands[command.command_id] = command
        return _json(command)

    # The contract

    async def _handshake(self, request: web.Request) -> web.Response:
        machine = Handshake.model_validate_json(await request.read())
        answer = HandshakeAnswer(
            machine_name=f"RVM {machine.hardware_id}", server_time=time.time(), maintenance=self.maintenance
        )
        return _json(answer)

    async def _heartbeat(self, request: web.Request) -> web.Response:
        for command_id in Heartbeat.model_validate_json(await request.read()).received_commands:
            self.commands.pop(command_id, None)
        answer = HeartbeatAnswer(
            server_time=time.time(), maintenance=self.maintenance, commands=list(self.commands.values())
        )
        return _json(answer)

    async def _deposits(self, request: web.Request) -> web.Response:
        rows = Batch.model_validate_json(await request.read()).deposits
        machine = request.headers.get(MACHINE_HEADER, "")
        with self._transaction():
            results = [self._judge(row, machine) for row in rows]
        return _json(DepositsAnswer(results=results))

    def _judge(self, row: dict[str, Any], machine: str) -> DepositResult:
        """One row that makes no sense is refused; the others are credited."""
        try:
            return self._credit(Deposit.model_validate(row), machine)
        except ValidationError as error:
            key = str(row.get("idempotency_key", ""))[:100]
            return DepositResult(idempotency_key=key, status=DepositStatus.REFUSED, reason=_sentence(error))

    def _credit(self, deposit: Deposit, machine: str) -> DepositResult:
        key, body = deposit.idempotency_key, deposit.model_dump_json()
        known = self._connection.execute("SELECT body FROM credits WHERE idempotency_key = ?", (key,)).fetchone()
        if known is not None:
            if known[0] == body:
                return DepositResult(idempotency_key=key, status=DepositStatus.DUPLICATE)
            reason = "this key was used for another deposit"
            return DepositResult(idempotency_key=key, status=DepositStatus.REFUSED, reason=reason)
        account_id = deposit.account_id if deposit.kind == "account" else DONATIONS
        if not self._connection.execute("SELECT 1 FROM accounts WHERE account_id = ?", (account_id,)).fetchone():
            reason = f"account {account_id!r} is not known"
            return DepositResult(idempotency_key=key, status=DepositStatus.REFUSED, reason=reason)
        self._connection.execute(
            "INSERT INTO credits VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key,
                machine,
                account_id,
                deposit.session_id,
                deposit.class_name,
                deposit.points,
                deposit.weight_kg,
                deposit.accepted_at,
                time.time(),
                body,
            ),
        )
        return DepositResult(idempotency_key=key, status=DepositStatus.CREDITED)

    async def _authorize(self, request: web.Request) -> web.Response:
        token = Authorize.model_validate_json(await request.read()).token
        row = self._connection.execute(
            "SELECT account_id, display_name FROM accounts WHERE token = ?", (token,)
        ).fetchone()
        if row is None:
            return _error(404, "the token is not known")
        balance = self._balances()[row[0]]
        return _json(AuthorizeAnswer(account_id=row[0], display_name=row[1], balance_points=balance))

    async def _ledger(self, _: web.Request) -> web.Response:
        """Every credit in order, and every account's balance: what a test compares with."""
        cursor = self._connection.execute("SELECT * FROM credits ORDER BY rowid")
        names = [column[0] for column in cursor.description]
        credited = [dict(zip(names, row, strict=True)) for row in cursor]
        for row in credited:
            del row["body"]
        return web.json_response({"credits": credited, "balances": self._balances()})

    def _balances(self) -> dict[str, int]:
        return dict(
            self._connection.execute(
                "SELECT account_id, COALESCE(SUM(points), 0) FROM accounts LEFT JOIN credits USING (account_id)"
                " GROUP BY account_id"
            )
        )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _sentence(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"[:500]


def _json(body: BaseModel) -> web.Response:
    return web.Response(text=body.model_dump_json(), content_type="application/json")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"status": "error", "message": message}, status=status)


def _cut(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def serve(server: ReferenceServer, port: int, ready_file: Path | None) -> None:
    """Serve until SIGTERM or SIGINT. The URL is printed, and written to `ready_file` once requests are answered."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    print(url, flush=True)
    if ready_file is not None:
        written = ready_file.with_name(ready_file.name + ".part")
        written.write_text(url, encoding="utf-8")
        written.replace(ready_file)
    try:
        await stop.wait()
    finally:
        await runner.cleanup()


def main() -> None:
    """Entry point; the key is `RVM_API_KEY`, or `demo-key` where that is empty."""
    parser = argparse.ArgumentParser(description="Stand-in for MyRVM-Server, for the desk and the tests")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--database", default=":memory:", help="SQLite file, made where it does not exist")
    parser.add_argument("--ready-file", type=Path, help="the URL is written here once requests are answered")
    arguments = parser.parse_args()
    server = ReferenceServer(arguments.database, os.environ.get("RVM_API_KEY") or DEMO_KEY)
    asyncio.run(serve(server, arguments.port, arguments.ready_file))


if __name__ == "__main__":
    main()
