"""A stand-in for MyRVM-Server, for the desk and the tests: accounts, deposits with idempotency keys, a ledger, faults.

It speaks the contract of `docs/protocol.md` (aiohttp, SQLite) and is no server to run in the field: its accounts are
made up and `POST /faults` lets anyone who reaches the port break it. It listens on the loopback address only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from myrvm_cloud.command import ENVELOPE_CHARACTERS
from myrvm_cloud.contract import (
    API_KEY_HEADER,
    BASE_PATH,
    COMMANDS_AT_ONCE,
    MACHINE_HEADER,
    Authorize,
    AuthorizeAnswer,
    CommandOutcomes,
    CommandOutcomesAnswer,
    ConfigurationAnswer,
    Deposit,
    DepositResult,
    DepositsAnswer,
    DepositStatus,
    Facts,
    Handshake,
    HandshakeAnswer,
    Heartbeat,
    HeartbeatAnswer,
    Telemetry,
    TelemetryAnswer,
    TelemetryStatus,
    WebSocketAccess,
)
from myrvm_core.strict_json import StrictJsonError
from pydantic import BaseModel, Field, ValidationError

from myrvm_sim.imports import Imports
from myrvm_sim.model_shelf import ModelShelf
from myrvm_sim.phone_page import PhonePage
from myrvm_sim.public_server import PROFILE, PublicServer
from myrvm_sim.raw_socket import RawSocket
from myrvm_sim.reverb import Reverb
from myrvm_sim.server_faults import BODY_BYTES, Faults, answer, error, read_json, suffer
from myrvm_sim.uploads import Uploads
from myrvm_sim.visits import Account, VisitDesk
from myrvm_sim.vouchers import VoucherOffice

DEMO_KEY = "demo-key"
MACHINE = r"[A-Za-z0-9._-]{0,100}"
DONATIONS = "donations"
DEMO_ACCOUNTS = (("alice", "Alice", "token-alice"), ("budi", "Budi", "token-budi"), (DONATIONS, "Donations", ""))
_TABLES = """
CREATE TABLE IF NOT EXISTS accounts (account_id TEXT PRIMARY KEY, display_name TEXT NOT NULL, token TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS credits (
    idempotency_key TEXT PRIMARY KEY, machine TEXT NOT NULL, account_id TEXT NOT NULL REFERENCES accounts,
    session_id TEXT NOT NULL, class_name TEXT NOT NULL, points INTEGER NOT NULL, weight_kg REAL,
    accepted_at REAL NOT NULL, credited_at REAL NOT NULL, body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS telemetry (batch_id TEXT PRIMARY KEY, machine TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outcomes (
    digest TEXT NOT NULL, machine TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (machine, digest)
);
"""


class Order(BaseModel):
    """Body of `POST /commands`."""

    envelope: str = Field(min_length=1, max_length=ENVELOPE_CHARACTERS)


class Batch(BaseModel):
    """Body of a post of deposits as the server reads it: each row is judged by itself."""

    deposits: list[dict[str, Any]] = Field(min_length=1, max_length=500)


@dataclass
class ReferenceServer:
    """One server. `database` is a file, or `:memory:`; `profile` is `myrvm`, or `myrvm-server` as `public_server` is.

    What else it serves has a class of its own with `routes()`, made with this server: it may use `connection` (SQLite,
    for statements that change one row) and `transaction`.
    """

    database: str
    api_key: str = DEMO_KEY
    profile: str = "myrvm"
    faults: Faults = field(default_factory=Faults)
    commands: dict[str, str] = field(default_factory=dict)  # envelopes by their SHA-256
    maintenance: bool = False
    events: str = "reverb"  # how machines hear of what happens: reverb, raw, or none
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)  # by machine, as it has told
    machines: set[str] = field(default_factory=set)  # that have shaken hands
    configuration: ConfigurationAnswer = field(default_factory=ConfigurationAnswer)

    def __post_init__(self) -> None:
        self.connection = sqlite3.connect(self.database, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.executescript(_TABLES)
        self.connection.executemany("INSERT OR IGNORE INTO accounts VALUES (?, ?, ?)", DEMO_ACCOUNTS)
        self._public = PublicServer(self.connection, self.transaction)
        self._uploads, self.shelf = Uploads(self.connection), ModelShelf()
        self.reverb, self.raw = Reverb(self.api_key), RawSocket(self.api_key)
        self.vouchers = VoucherOffice(self.connection, self.transaction, time.time)
        self.visits = VisitDesk(self.connection, self.vouchers, time.time)

    def application(self) -> web.Application:
        """The routes."""
        application = web.Application(middlewares=[self._errors, self._guard], client_max_size=BODY_BYTES)
        application.add_routes(self._public.routes() if self.profile == PROFILE else self.routes())
        application.add_routes(Imports(self.connection, self.transaction, self._judge).routes())
        application.add_routes([*self.reverb.routes(), *self.raw.routes()])
        application.add_routes([*self._uploads.routes(), *self.shelf.routes()])
        application.add_routes(PhonePage(self.vouchers, self.visits, self._customer, self._tell).routes())
        application.add_routes(
            [
                web.get(f"{BASE_PATH}/ledger", self._ledger),
                web.post("/faults", self._set_faults),
                web.post("/commands", self._add_command),
                web.post("/configuration", self._set_configuration),
                web.get("/reported", self._reported),
            ]
        )
        application.on_cleanup.append(self._close)
        return application

    def routes(self) -> list[web.RouteDef]:
        """The contract of docs/openapi.yaml."""
        return [
            web.post(f"{BASE_PATH}/edge/handshake", self._handshake),
            web.post(f"{BASE_PATH}/edge/heartbeat", self._heartbeat),
            web.post(f"{BASE_PATH}/edge/deposits", self._deposits),
            web.post(f"{BASE_PATH}/edge/authorize", self._authorize),
            web.post(f"{BASE_PATH}/edge/telemetry", self._telemetry),
            *self.shelf.calls(),
            web.get(f"{BASE_PATH}/edge/configuration", self._configuration),
            web.post(f"{BASE_PATH}/edge/command-outcomes", self._command_outcomes),
            *self._uploads.calls(),
        ]

    async def _close(self, _: web.Application) -> None:
        self.connection.close()

    # Around every request

    @web.middleware
    async def _errors(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Whatever is sent, the answer is of the contract, and no 500."""
        try:
            return await handler(request)
        except web.HTTPException as refused:
            return error(refused.status, refused.reason)
        except ValidationError as problem:
            return error(422, sentence(problem))
        except (StrictJsonError, web.RequestPayloadError) as problem:
            return error(400, str(problem)[:500] or "the request is damaged")

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Check the key and the machine's name, and apply the faults that are switched on."""
        if not request.path.startswith((f"{BASE_PATH}/edge/", f"{BASE_PATH}/devices/")):
            return await handler(request)
        key = request.headers.get(API_KEY_HEADER, "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(key, self.api_key.encode()):
            return error(401, "the key is not known")
        if not re.fullmatch(MACHINE, machine_of(request)):
            return error(400, f"{MACHINE_HEADER} is no machine's name")
        return await suffer(self.faults, request, handler)

    # For desk and tests: what the server is to do, and what it was told

    async def _set_faults(self, request: web.Request) -> web.Response:
        self.faults = Faults.model_validate(await read_json(request))
        return answer(self.faults)

    async def _add_command(self, request: web.Request) -> web.Response:
        """A signed command, for the machine that it names: all get it, and the others refuse it."""
        order = Order.model_validate(await read_json(request))
        self.commands[hashlib.sha256(order.envelope.encode()).hexdigest()] = order.envelope
        await self._publish("command", {"document": order.envelope})
        return answer(order)

    async def _set_configuration(self, request: web.Request) -> web.Response:
        self.configuration = ConfigurationAnswer.model_validate(await read_json(request))
        return answer(self.configuration)

    async def _reported(self, _: web.Request) -> web.Response:
        """Measurements and outcomes of commands in the order in which they came; what machines say of themselves."""
        rows = {
            table: [json.loads(body) for (body,) in self.connection.execute(f"SELECT body FROM {table} ORDER BY rowid")]
            for table in ("telemetry", "outcomes")
        }
        return web.json_response(rows | {"machines": self.facts, "public": self._public.reported()})

    # The contract

    async def _handshake(self, request: web.Request) -> web.Response:
        machine = Handshake.model_validate(await read_json(request))
        self._told(machine_of(request), machine)
        self.machines.add(machine.hardware_id)
        self.vouchers.enrol(machine.hardware_id, machine.voucher_key)
        greeting = HandshakeAnswer(
            machine_name=f"RVM {machine.hardware_id}",
            server_time=time.time(),
            maintenance=self.maintenance,
            accepts_gzip=True,
            websocket=self._access(request, machine.hardware_id),
        )
        return answer(greeting)

    def _told(self, machine: str, body: Facts) -> None:
        """What machines have said of themselves last."""
        self.facts[machine] = body.model_dump(mode="json")

    def _access(self, request: web.Request, machine: str) -> WebSocketAccess | None:
        """Where this machine hears events."""
        root = f"ws://{request.host}"
        if self.events == "reverb":
            return WebSocketAccess(
                protocol="reverb", url=root, app_key=self.reverb.app_key, channel=f"private-rvm.{machine}"
            )
        return WebSocketAccess(url=f"{root}/ws/{machine}") if self.events == "raw" else None

    async def _publish(self, event: str, data: dict[str, str]) -> None:
        """To every machine that listens, by either protocol."""
        for machine in list(self.machines):
            await self._tell(machine, event, data)

    async def _tell(self, machine: str, event: str, data: dict[str, Any]) -> None:
        await self.reverb.publish(f"private-rvm.{machine}", event, data)
        await self.raw.send(machine, event, data)

    async def _heartbeat(self, request: web.Request) -> web.Response:
        self._told(machine_of(request), Heartbeat.model_validate(await read_json(request)))
        told = {digest for (digest,) in self.connection.execute(
            "SELECT digest FROM outcomes WHERE machine = ?", (machine_of(request),)
        )}  # fmt: skip
        waiting = [envelope for digest, envelope in self.commands.items() if digest not in told]
        beat = HeartbeatAnswer(
            server_time=time.time(), maintenance=self.maintenance, commands=waiting[:COMMANDS_AT_ONCE]
        )
        return answer(beat)

    async def _deposits(self, request: web.Request) -> web.Response:
        rows = Batch.model_validate(await read_json(request)).deposits
        machine = machine_of(request)
        with self.transaction():
            results = [self._judge(row, machine) for row in rows]
        return answer(DepositsAnswer(results=results))

    def _judge(self, row: dict[str, Any], machine: str) -> DepositResult:
        """One row that makes no sense is refused; the others are credited."""
        try:
            return self._credit(Deposit.model_validate(row), machine)
        except ValidationError as problem:
            key = str(row.get("idempotency_key", ""))[:100]
            return DepositResult(idempotency_key=key, status=DepositStatus.REFUSED, reason=sentence(problem))

    def _credit(self, deposit: Deposit, machine: str) -> DepositResult:
        key, body = deposit.idempotency_key, deposit.model_dump_json()
        known = self.connection.execute("SELECT body FROM credits WHERE idempotency_key = ?", (key,)).fetchone()
        if known is not None:
            if known[0] == body:
                return DepositResult(idempotency_key=key, status=DepositStatus.DUPLICATE)
            reason = "this key was used for another deposit"
            return DepositResult(idempotency_key=key, status=DepositStatus.REFUSED, reason=reason)
        account_id = deposit.account_id if deposit.kind == "account" else DONATIONS
        if deposit.kind == "voucher":
            account_id = self.vouchers.hold(deposit, machine)
        if not self.connection.execute("SELECT 1 FROM accounts WHERE account_id = ?", (account_id,)).fetchone():
            reason = f"account {account_id!r} is not known"
            return DepositResult(idempotency_key=key, status=DepositStatus.REFUSED, reason=reason)
        self.connection.execute(
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
        token = Authorize.model_validate(await read_json(request)).token
        customer = self._customer(token) or self._account("account_id", self.visits.account_of(token) or "")
        return answer(AuthorizeAnswer(**vars(customer))) if customer else error(404, "the token is not known")

    def _customer(self, token: str) -> Account | None:
        return self._account("token", token)

    def _account(self, column: str, value: str) -> Account | None:
        row = self.connection.execute(
            f"SELECT account_id, display_name FROM accounts WHERE {column} = ? AND token != ''", (value,)
        ).fetchone()
        return Account(row[0], row[1], self._balances()[row[0]]) if row else None

    async def _telemetry(self, request: web.Request) -> web.Response:
        batch = Telemetry.model_validate(await read_json(request))
        stored = self.connection.execute(
            "INSERT OR IGNORE INTO telemetry VALUES (?, ?, ?)",
            (batch.batch_id, machine_of(request), batch.model_dump_json()),
        )
        status = TelemetryStatus.STORED if stored.rowcount else TelemetryStatus.DUPLICATE
        return answer(TelemetryAnswer(status=status))

    async def _configuration(self, _: web.Request) -> web.Response:
        return answer(self.configuration) if self.configuration.document else web.Response(status=204)

    async def _command_outcomes(self, request: web.Request) -> web.Response:
        outcomes = CommandOutcomes.model_validate(await read_json(request)).outcomes
        rows = [(outcome.digest, machine_of(request), outcome.model_dump_json()) for outcome in outcomes]
        with self.transaction():
            self.connection.executemany("INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?)", rows)
        return answer(CommandOutcomesAnswer(recorded=[outcome.digest for outcome in outcomes]))

    async def _ledger(self, _: web.Request) -> web.Response:
        """Every credit in order, and every account's balance: what a test compares with."""
        cursor = self.connection.execute("SELECT * FROM credits ORDER BY rowid")
        names = [column[0] for column in cursor.description]
        credited = [dict(zip(names, row, strict=True)) for row in cursor]
        for row in credited:
            del row["body"]
        ledger = {"credits": credited, "balances": self._balances()}
        return web.json_response(ledger | ({"transactions": self._public.ledger()} if self.profile == PROFILE else {}))

    def _balances(self) -> dict[str, int]:
        return dict(
            self.connection.execute(
                "SELECT account_id, COALESCE(SUM(points), 0) FROM accounts LEFT JOIN (SELECT account_id, points"
                " FROM credits UNION ALL SELECT account_id, points FROM transfers) USING (account_id)"
                " GROUP BY account_id"
            )
        )

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, on disk at the end."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")


def sentence(problem: ValidationError) -> str:
    """What is wrong with a body, in one line."""
    first = problem.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"[:500]


def machine_of(request: web.Request) -> str:
    """Who says that it is asking."""
    return request.headers.get(MACHINE_HEADER, "")


def made_runner(application: web.Application) -> web.AppRunner:
    """What runs it; bodies stay packed, so that `read_json` bounds what comes out of them."""
    return web.AppRunner(application, access_log=None, shutdown_timeout=1.0, auto_decompress=False)


async def serve(server: ReferenceServer, port: int, ready_file: Path | None) -> None:
    """Serve until SIGTERM or SIGINT. The URL is printed, and written to `ready_file` once requests are answered."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    runner = made_runner(server.application())
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
    parser.add_argument("--profile", choices=("myrvm", PROFILE), default="myrvm", help="what it speaks")
    arguments = parser.parse_args()
    server = ReferenceServer(arguments.database, os.environ.get("RVM_API_KEY") or DEMO_KEY, arguments.profile)
    asyncio.run(serve(server, arguments.port, arguments.ready_file))


if __name__ == "__main__":
    main()
