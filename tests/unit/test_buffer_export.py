"""The queue in a file: written by `rvm buffer`, imported once by the reference server, a bad one refused as a whole."""

from __future__ import annotations

import csv
import gzip
import json
import random
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from myrvm_cloud.audit_log import entries, verify_log
from myrvm_cloud.buffer import Decision, DepositBuffer
from myrvm_cloud.buffer_access import audit_folder, claimed, machine_key
from myrvm_cloud.export import Header, write_signed
from myrvm_core.deposit_record import DepositRecord, Session, SessionKind, Stage
from myrvm_core.errors import RvmError, StorageError
from myrvm_core.evidence import Evidence
from myrvm_core.signing import SigningKey
from myrvm_sim.imports import Imports
from myrvm_sim.reference_server import ReferenceServer
from myrvm_system.cli import app
from typer.testing import CliRunner

from myrvm_core import paths

MACHINE = "rvm-7"
NOW_S = 1_800_000_000.0


def record(number: int) -> DepositRecord:
    session = Session(SessionKind.ACCOUNT, f"0190-{number // 3}", "alice", 1)
    name = f"{number:08x}-0000-7000-8000-000000000000"
    return DepositRecord(
        name, "mineral", 0.875, 5, 1_000_000_000 + number, session, accepted_monotonic_ns=7, boot_id="now"
    )


def open_buffer() -> DepositBuffer:
    return DepositBuffer(paths.data() / "buffer" / "deposits.db", 10, 30.0, 0)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MYRVM_DATA", str(tmp_path))
    monkeypatch.setenv("MYRVM_ENV_FILE", "/dev/null")
    monkeypatch.setenv("HARDWARE_ID", MACHINE)
    return tmp_path


@pytest.fixture
def buffer(data: Path) -> Iterator[DepositBuffer]:
    made = open_buffer()
    for number in range(7):
        made.enqueue(record(number), 0)
    for number in range(5):
        made.update(record(number).deposit_id, Stage.TAKEN, True, 0)
    made.update(record(5).deposit_id, Stage.UNRESOLVED, True, 0)
    yield made
    made.close()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[TestClient[Any, Any], ReferenceServer]]:
    reference = ReferenceServer(":memory:")
    application = web.Application()
    application.add_routes(Imports(reference.connection, reference.transaction, reference._judge).routes())
    async with TestClient(TestServer(application)) as client:
        yield client, reference
    reference.connection.close()


def rvm(*arguments: str) -> str:
    """Run `rvm buffer`; RvmError for what it refuses."""
    if not any(group.name == "buffer" for group in app.registered_groups):
        from myrvm_cloud.buffer_cli import app as commands

        app.add_typer(commands, name="buffer")
    result = CliRunner().invoke(app, ["buffer", *arguments], catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def signed(folder: Path, count: int = 40, key: SigningKey | None = None, machine: str = MACHINE) -> Path:
    file = folder / "deposits.rvm"
    write_signed(file, [record(number) for number in range(count)], machine, key or SigningKey.generate(), NOW_S)
    return file


async def enrol(client: Any, key: SigningKey, machine: str = MACHINE) -> None:
    assert (await client.put(f"/machines/{machine}/key", data=key.public)).status == 200


async def imported(client: Any, content: bytes) -> tuple[int, dict[str, Any]]:
    answer = await client.post("/imports", data=content)
    return answer.status, await answer.json()


def credits(reference: ReferenceServer) -> list[str]:
    return [row[0] for row in reference.connection.execute("SELECT idempotency_key FROM credits ORDER BY rowid")]


async def test_a_stick_and_the_network_credit_each_deposit_once(
    buffer: DepositBuffer, server: Any, tmp_path: Path
) -> None:
    client, reference = server
    file = tmp_path / "stick" / "deposits.rvm"
    file.parent.mkdir()
    buffer.close()
    rvm("export", "--signed", str(file), "--who", "budi")
    assert [path.name for path in file.parent.iterdir()] == ["deposits.rvm"]
    await enrol(client, machine_key())
    status, first = await imported(client, file.read_bytes())
    assert (status, first["credited"], first["imported_before"]) == (200, 5, False)
    status, second = await imported(client, file.read_bytes())
    assert (status, second["credited"], second["duplicate"], second["imported_before"]) == (200, 0, 5, True)
    again = open_buffer()
    assert again.correct("now", 9_000_000_000_000, 100) == 2  # held and dead; what was exported keeps its time
    lease_id, records = again.lease(100, 10**12, 0)
    assert len(records) == 5
    assert lease_id
    from myrvm_cloud.rest_client import MyrvmClient

    rows = json.loads(MyrvmClient("http://localhost", MACHINE, "1").deposits(records).body)["deposits"]
    assert {reference._judge(row, MACHINE).status.value for row in rows} == {"duplicate"}
    assert sorted(credits(reference)) == [record(number).deposit_id for number in range(5)]
    again.close()


async def test_a_damaged_file_is_refused_as_a_whole_wherever_the_damage_is(server: Any, tmp_path: Path) -> None:
    client, reference = server
    key = SigningKey.generate()
    await enrol(client, key)
    whole = signed(tmp_path, key=key).read_bytes()
    chance = random.Random(7)
    head = whole.index(b"\n") + 1
    trailer = len(whole) - 9  # the byte before CRC and size may end in bits that say nothing
    anywhere = [chance.randrange(head + 10, trailer) for _ in range(60)]
    for position in [0, 1, head - 1, head + 12, len(whole) - 6, len(whole) - 1, *anywhere]:
        damaged = bytearray(whole)
        damaged[position] ^= 1 << chance.randrange(8)
        status, said = await imported(client, bytes(damaged))
        assert (status, said.get("message", "")[:18]) == (422, "refused as a whole"), position - head
    for content in (b"", b"\n", b"x" * 100_000, whole[: len(whole) // 2], whole[:head], whole + whole[head:]):
        status, said = await imported(client, content)
        assert (status, said["message"][:18]) == (422, "refused as a whole")
    assert credits(reference) == []
    assert (await imported(client, whole))[1]["credited"] == 40


async def test_a_forged_file_is_refused_as_a_whole(server: Any, tmp_path: Path) -> None:
    client, reference = server
    key, other = SigningKey.generate(), SigningKey.generate()
    whole = signed(tmp_path, key=key).read_bytes()
    assert "not known" in (await imported(client, whole))[1]["message"]
    await enrol(client, key)
    await enrol(client, other, "rvm-8")
    for content, problem in (
        (signed(tmp_path, key=other).read_bytes(), "signed by rvm-8, but of rvm-7"),
        (signed(tmp_path, key=SigningKey.generate()).read_bytes(), "not known"),
        (whole.split(b"\n")[0] + b"\n" + signed(tmp_path, 41, key).read_bytes().split(b"\n", 1)[1], "damaged"),
        (whole.split(b"\n")[0] + b"\n" + gzip.compress(b"0" * 50_000_000), "damaged"),
        (key.sign({"machine": MACHINE}, "rvm-command").encode() + b"\n", "header that is not"),
        (key.sign({"machine": MACHINE}, Header.KIND).encode() + b"\n", "no rvm-deposits"),
    ):
        status, said = await imported(client, content)
        assert status == 422
        assert problem in said["message"]
    assert credits(reference) == []


async def test_a_deposit_that_the_server_refuses_is_named_and_the_others_are_credited(
    server: Any, tmp_path: Path
) -> None:
    from dataclasses import replace

    client, reference = server
    key = SigningKey.generate()
    await enrol(client, key)
    stranger = replace(record(1), session=Session(SessionKind.ACCOUNT, "0190", "stranger", 1))
    file = tmp_path / "deposits.rvm"
    write_signed(file, [record(0), stranger, record(2)], MACHINE, key, NOW_S)
    _, said = await imported(client, file.read_bytes())
    assert (said["credited"], said["refused"]) == (2, 1)
    assert said["reasons"][0]["idempotency_key"] == stranger.deposit_id
    assert len(credits(reference)) == 2


async def test_a_key_that_is_none_is_refused(server: Any) -> None:
    assert (await server[0].put("/machines/x/key", data="x")).status == 422


def test_nothing_to_export_writes_nothing(data: Path) -> None:
    open_buffer().close()
    with pytest.raises(StorageError, match="no deposit to export"):
        rvm("export", "--signed", str(data / "x"))
    assert not (data / "x").exists()


def test_a_technician_parks_retries_and_resolves_each_with_an_audit_line(buffer: DepositBuffer) -> None:
    ids = [record(number).deposit_id for number in range(7)]
    lease_id, _ = buffer.lease(1, 10**12, 0, once=True)
    (leased,) = [row for row in ids if buffer.nack(lease_id, [row], False, "cut", 0, uncertain=True)]
    buffer.close()
    assert "uncertain" in rvm("list")
    assert leased in rvm("list")
    assert "cut" in rvm("show", leased[:8])
    rvm("resolve", leased[:8], "--as", "credited", "--who", "budi", "--reason", "seen in the history")
    rvm("park", ids[0], "--who", "budi")
    rvm("retry", ids[0], "--who", "budi")
    rvm("resolve", ids[5], "--as", "returned", "--who", "budi")
    with pytest.raises(RvmError, match="1 of 2 deposits are in no state"):
        rvm("park", ids[1], ids[5])
    states = {line.split()[1]: int(line.split()[0]) for line in rvm("list", "-s", "held").splitlines()[:5]}
    assert states == {"held": 1, "pending": 3, "dead": 1, "acked": 1, "void": 1}
    lines = [entry for entry in entries(audit_folder()) if entry["kind"] == "deposits"]
    assert [(line["decision"], line["ids"]) for line in lines] == [
        ("credited", [leased]), ("park", [ids[0]]), ("retry", [ids[0]]), ("returned", [ids[5]]), ("park", [ids[1]])
    ]  # fmt: skip
    assert lines[0]["who"] == "budi"
    report = verify_log(audit_folder(), machine_key().public)
    assert report.problems == []


def test_a_file_of_rows_can_be_read_by_others(buffer: DepositBuffer, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in rvm("export", "--out", str(tmp_path / "all")).splitlines() if line[0] == "{"]
    assert rows == []
    rows = [json.loads(line) for line in (tmp_path / "all").read_text().splitlines()]
    assert [row["deposit_id"] for row in rows] == [record(number).deposit_id for number in range(7)]
    rvm("export", "-f", "csv", "-s", "dead", "--out", str(tmp_path / "dead.csv"))
    with (tmp_path / "dead.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["deposit_id"], row["state"]) == (record(5).deposit_id, "dead")


def test_what_is_asked_for_wrongly_is_one_clear_line(buffer: DepositBuffer) -> None:
    for arguments, problem in (
        (["show", "ffff"], "no deposit"),
        (["show", "0000"], "more than one"),
        (["park", ""], "more than one"),
    ):
        with pytest.raises(StorageError, match=problem):
            rvm(*arguments)


def test_without_a_line_in_the_audit_log_nothing_is_decided(buffer: DepositBuffer) -> None:
    audit_folder().parent.mkdir(parents=True)
    audit_folder().write_text("in the way")
    buffer.close()
    with pytest.raises(StorageError, match="audit log"):
        rvm("park", record(0).deposit_id)
    connection = sqlite3.connect(buffer.file)
    assert connection.execute("SELECT COUNT(*) FROM deposits WHERE state = 'pending'").fetchone() == (5,)
    connection.close()


def test_a_decision_about_damaged_rows_is_not_possible(buffer: DepositBuffer) -> None:
    buffer._connection.execute("UPDATE deposits SET points = 6 WHERE seq = 1")
    assert len(buffer.lease(100, 1, 0)[1]) == 4
    assert buffer.status(0).dead == 2
    assert buffer.decide(Decision.RETRY, [record(0).deposit_id], "", 0) == []
    assert buffer.decide(Decision.TAKEN, [record(0).deposit_id], "", 0) == []


def test_who_holds_the_file_is_asked_and_nobody_else_writes(buffer: DepositBuffer) -> None:
    with claimed(buffer.file), pytest.raises(StorageError, match="in use"), claimed(buffer.file, 0.0):
        pass
    with claimed(buffer.file, 0.0):
        pass


def test_a_picture_is_listed_and_taken_out_decrypted(
    buffer: DepositBuffer, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "key").write_bytes(bytes(32))
    (data / "key").chmod(0o600)
    monkeypatch.setenv("RVM_EVIDENCE_KEY_FILE", str(data / "key"))
    disputed = record(5).deposit_id
    Evidence(data / "unresolved", 1000, bytes(32)).keep(disputed, b"picture")
    assert disputed in rvm("pictures")
    assert f"picture {disputed}" in rvm("show", disputed)
    rvm("picture", disputed, str(data / "out.jpg"))
    assert (data / "out.jpg").read_bytes() == b"picture"
    with pytest.raises(StorageError, match="no picture"):
        rvm("picture", "other", str(data / "out.jpg"))
