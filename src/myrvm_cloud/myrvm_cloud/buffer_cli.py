"""`rvm buffer`: what waits for the server, what waits for a technician, and the queue in a file.

It reads the file beside the running machine. What changes something is asked of the node where it runs, and done here
where it does not; either way the audit log has a line before it happens.
"""

from __future__ import annotations

import getpass
import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from myrvm_core.clock import machine_clock
from myrvm_core.configuration import default_files, settings
from myrvm_core.deposit_record import DepositRecord, SessionKind, Stage
from myrvm_core.environment import environment, identity
from myrvm_core.errors import RvmError, StorageError
from myrvm_core.evidence import Evidence, evidence_key
from rich.console import Console
from rich.table import Table

from myrvm_cloud import export
from myrvm_cloud.buffer import Decision, DepositBuffer
from myrvm_cloud.buffer_access import Decisions, InUseError, claimed, machine_key
from myrvm_cloud.deposit_rows import picked, record_of
from myrvm_cloud.schema import BUSY_TIMEOUT_S
from myrvm_cloud.settings import OfflineBufferSettings
from myrvm_core import durable, paths

NODE = "offline_buffer"
CALL_S, CLAIM_S = 10.0, 0.5
TOGETHER = 500
STATES = ("held", "pending", "leased", "uncertain", "dead", "acked", "void")
FOR_TECHNICIAN = ("uncertain", "dead")
PICTURES = ("unresolved", "refused")

app = typer.Typer(help="The deposits in the machine: list, show, export, decide.", no_args_is_help=True)
console = Console(highlight=False)

Ids = Annotated[list[str], typer.Argument(metavar="DEPOSIT...", help="Ids, or beginnings that only one id has.")]
Who = Annotated[str, typer.Option(help="Who decides [this login].")]
Reason = Annotated[str, typer.Option(help="Why; kept with the deposit and in the audit log.")]
States = Annotated[list[str] | None, typer.Option("--state", "-s", help=f"Of: {', '.join(STATES)}; repeatable.")]


class Format(str, Enum):
    """Of a file."""

    JSONL = "jsonl"
    CSV = "csv"


class Outcome(str, Enum):
    """What a technician has found out."""

    CREDITED = "credited"
    NOT_CREDITED = "not-credited"
    TAKEN = "taken"
    RETURNED = "returned"


@app.command("list")
def list_(
    state: States = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="So many rows, the newest.")] = 50,
) -> None:
    """Show deposits; without --state those that wait for a technician, and how many there are of each state."""
    with _Reader() as reader:
        for name, amount in reader.amounts():
            console.print(f"{amount:8} {name}")
        rows = list(reader.rows(_states(state) or FOR_TECHNICIAN, newest=limit))
    if not rows:
        return
    table = Table("deposit", "state", "accepted", "class", "points", "account", "tries", "reason", box=None)
    for row in rows:
        table.add_row(
            row["deposit_id"], row["state"], _time(row["corrected_at_ns"] or row["accepted_at_ns"]), row["class_name"],
            str(row["points"]), row["account_id"], str(row["attempts"]), row["reason"],
        )  # fmt: skip
    wide = Console(highlight=False, width=200) if not console.is_terminal else console
    wide.print(table)


@app.command()
def show(deposit: Annotated[str, typer.Argument(metavar="DEPOSIT", help="Its id, or the beginning of it.")]) -> None:
    """Show all that is known about one deposit."""
    with _Reader() as reader:
        row = reader.row(deposit)
    stage, kind = Stage(row["stage"]).name, SessionKind(row["session_kind"]).name
    for name, value in row.items():
        shown = _time(value) if name.endswith("_at_ns") or name == "leased_until_ns" else value
        shown = {"stage": stage, "session_kind": kind}.get(name, shown)
        console.print(f"{name.removesuffix('_ns'):24} {'' if shown is None else shown}", soft_wrap=True)
    if row["deposit_id"] in _evidence("unresolved").names():
        console.print(f"{'picture':24} rvm buffer picture {row['deposit_id']} FILE", soft_wrap=True)


@app.command()
def pictures() -> None:
    """List the pictures of items that are disputed or were refused, oldest first."""
    for kind in PICTURES:
        for name in _evidence(kind).names():
            console.print(f"{kind:12} {name}", soft_wrap=True)


@app.command()
def picture(
    name: Annotated[str, typer.Argument(help="As rvm buffer pictures lists it.")],
    file: Annotated[Path, typer.Argument(help="The JPEG is written here, decrypted.")],
) -> None:
    """Take out one picture."""
    there = (_evidence(kind) for kind in PICTURES)
    found = next((evidence.find(name) for evidence in there if name in evidence.names()), None)
    if found is None:
        raise StorageError(f"no picture is called {name!r}: rvm buffer pictures")
    try:
        durable.replace(file, found, mode=0o600)
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error}") from error


@app.command("export")
def export_(
    signed: Annotated[Path | None, typer.Option(help="Unsent deposits in a signed file, for a server.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file [the terminal].")] = None,
    format_: Annotated[Format, typer.Option("--format", "-f")] = Format.JSONL,
    state: States = None,
    who: Who = "",
) -> None:
    """Write deposits into a file. Signed ones stay in the queue: under the same key, so that none is credited twice."""
    if signed is not None:
        if out or state:
            raise typer.BadParameter("goes with neither --out nor --state", param_hint="--signed")
        header = _export_signed(signed, who or getpass.getuser())
        typer.echo(f"{header.deposits} deposits in {signed}, sha256 {header.body_sha256}", err=True)
        return
    write = export.write_csv if format_ is Format.CSV else export.write_json_lines
    with _Reader() as reader:
        rows = reader.rows(_states(state) or STATES)
        count = export.write_whole(out, lambda text: write(rows, text)) if out else write(rows, sys.stdout)
    typer.echo(f"{count} deposits", err=True)


@app.command()
def retry(deposits: Ids, who: Who = "", reason: Reason = "") -> None:
    """Send again what the server has refused, or what was parked."""
    _decide(Decision.RETRY, deposits, who, reason)


@app.command()
def park(deposits: Ids, who: Who = "", reason: Reason = "") -> None:
    """Take unsent deposits out of the queue, until they are retried."""
    _decide(Decision.PARK, deposits, who, reason)


@app.command()
def resolve(
    deposits: Ids,
    outcome: Annotated[Outcome, typer.Option("--as", help="Uncertain: credited or not; unresolved: where it is.")],
    who: Who = "",
    reason: Reason = "",
) -> None:
    """Say what became of deposits: does the server have an uncertain one, is an unresolved one in the bin."""
    _decide(Decision[outcome.name], deposits, who, reason)


def _decide(decision: Decision, beginnings: Sequence[str], who: str, reason: str) -> None:
    with _Reader() as reader:
        ids = [reader.row(beginning)["deposit_id"] for beginning in beginnings]
    decided = _ask(decision, ids, who or getpass.getuser(), reason)
    for deposit_id in ids:
        typer.echo(f"{deposit_id}: {decision.name.lower() if deposit_id in decided else 'left as it is'}")
    if left := set(ids) - set(decided):
        raise RvmError(f"{len(left)} of {len(ids)} deposits are in no state for this: rvm buffer show")


def _ask(decision: Decision, ids: Sequence[str], who: str, reason: str) -> list[str]:
    """Decide about any number, through the node where it holds the file."""
    decided: list[str] = []
    try:
        with claimed(_file(), CLAIM_S):
            given = _settings()
            now_ns = machine_clock().now().time_ns
            buffer = DepositBuffer(_file(), given.telemetry_limit, given.keep_acked_days, now_ns)
            decisions = Decisions(buffer)
            try:
                for start in range(0, len(ids), TOGETHER):
                    decided += decisions.decide(decision, ids[start : start + TOGETHER], who, reason, now_ns)
            finally:
                decisions.close()
                buffer.close()
        return decided
    except InUseError:
        return _ask_node(decision, ids, who, reason)


def _ask_node(decision: Decision, ids: Sequence[str], who: str, reason: str) -> list[str]:
    from myrvm_interfaces.srv import DecideDeposits
    from myrvm_ros.graph_client import GraphClient  # ROS: only where the machine runs

    decided: list[str] = []
    with GraphClient("rvm_buffer") as client:
        for start in range(0, len(ids), TOGETHER):
            request = DecideDeposits.Request(
                decision=int(decision), deposit_ids=list(ids[start : start + TOGETHER]), who=who, reason=reason
            )
            answer = client.call(DecideDeposits, "buffer/decide", request, CALL_S)
            if answer.message:
                raise StorageError(answer.message)
            decided += answer.decided
    return decided


def _export_signed(file: Path, who: str) -> export.Header:
    with _Reader() as reader:
        ids = [row["deposit_id"] for row in reader.rows(("pending", "leased"))]
    # From here on what they say does not change: a corrected time would be another content under the same key.
    decided = set(_ask(Decision.EXPORTED, ids, who, str(file)) if ids else ())

    def records() -> Iterator[DepositRecord]:
        with _Reader() as reader:
            for row in reader.rows(STATES):
                if row["deposit_id"] in decided and (record := record_of(picked(row), as_sent=True)) is not None:
                    yield record

    key, machine = machine_key(), identity().hardware_id
    return export.write_signed(file, records(), machine, key, machine_clock().now().time_ns / 1e9)


class _Reader:
    """Reads the buffer's file; changes nothing, whoever has it open."""

    def __enter__(self) -> _Reader:
        file = _file()
        if not file.exists():
            raise StorageError(f"{file} is not there: no deposit was ever kept")
        self._connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT_S)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA query_only=ON")
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def amounts(self) -> list[tuple[str, int]]:
        """Rows by state."""
        query = "SELECT state, COUNT(*) AS amount FROM deposits GROUP BY state"
        found = {row["state"]: row["amount"] for row in self._query(query)}
        return [(name, found[name]) for name in STATES if name in found]

    def rows(self, states: Sequence[str], newest: int = 0) -> Iterator[dict[str, Any]]:
        """Deposits in these states, oldest first; only the newest where a number is given."""
        query = "SELECT * FROM deposits WHERE state IN (SELECT value FROM json_each(?))"
        query += " ORDER BY seq" if not newest else f" ORDER BY seq DESC LIMIT {newest}"
        found = self._query(query, json.dumps(list(states)))
        return found if not newest else iter(list(found)[::-1])

    def row(self, beginning: str) -> dict[str, Any]:
        """The one deposit whose id begins so."""
        query = "SELECT * FROM deposits WHERE deposit_id BETWEEN ?1 AND ?1 || 'g' LIMIT 2"
        found = list(self._query(query, beginning))
        if len(found) != 1 or not beginning:
            raise StorageError(f"{'no' if not found else 'more than one'} deposit has an id that begins {beginning!r}")
        return found[0]

    def _query(self, query: str, *values: Any) -> Iterator[dict[str, Any]]:
        try:
            for row in self._connection.execute(query, values):
                yield dict(row)
        except sqlite3.Error as error:
            raise StorageError(f"{_file()} cannot be read: {error}") from error


def _evidence(kind: str) -> Evidence:
    return Evidence(paths.data() / kind, 0, evidence_key(environment()))


def _settings() -> OfflineBufferSettings:
    found = settings(default_files())[NODE]
    assert isinstance(found, OfflineBufferSettings)
    return found


def _file() -> Path:
    return paths.data() / _settings().file


def _states(given: list[str] | None) -> list[str]:
    if unknown := set(given or ()) - set(STATES):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}; allowed: {', '.join(STATES)}", param_hint="--state")
    return given or []


def _time(time_ns: int | None) -> str:
    if not time_ns:
        return ""
    return f"{datetime.fromtimestamp(time_ns / 1e9, timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
