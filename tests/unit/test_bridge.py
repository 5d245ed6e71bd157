"""The bridge with both profiles against the reference server, through what networks and servers do.

The server's ledger is compared with what was put into the buffer: never two credits for one deposit, none lost.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from aiohttp.test_utils import TestServer
from memory_buffer import MemoryBuffer, deposit
from myrvm_cloud.bridge import Bridge, BridgeTimes, Line, State
from myrvm_cloud.call import CallError, ErrorKind, NotOfferedError
from myrvm_cloud.http_line import HttpLine
from myrvm_cloud.myrvm_server_client import MyrvmServerClient
from myrvm_cloud.rest_client import MachineState, MyrvmClient
from myrvm_core.backoff import Backoff
from myrvm_core.deposit_record import TelemetryRecord
from myrvm_sim.reference_server import DEMO_KEY, ReferenceServer
from myrvm_sim.server_faults import Faults
from plain_line import TestKey, limits

from myrvm_cloud import contract

PROFILES = {"myrvm": MyrvmClient, "myrvm-server": MyrvmServerClient}
ENDPOINT = {"myrvm": "deposits", "myrvm-server": "sync-offline"}
LIMIT_S = 30.0
QUICK = Backoff(0.002, 0.01)


@dataclass
class Desk:
    """A server, and a machine that speaks to it."""

    profile: str
    server: ReferenceServer
    url: str
    buffer: MemoryBuffer

    def bridge(self, key: str = DEMO_KEY, heartbeat_s: float = 0.05, **changes: Any) -> Bridge:
        client = PROFILES[self.profile](self.url, "rvm-7", "0.1.0")
        http = HttpLine(
            client.base_url, TestKey(key), "rvm-7", limits(**{"backoff": QUICK, "read_s": 0.2, "retries": 2} | changes)
        )
        times = BridgeTimes(heartbeat_s=heartbeat_s, authorize_s=2.0, lease_s=60.0, backoff=QUICK)
        state = MachineState(ip_local="10.0.0.7", timezone="Asia/Jakarta", cpu_percent=12.5, bin_percent=40.0)
        return Bridge(client, http, self.buffer, times, 4, Line(), structlog.get_logger(), lambda: state)

    @asynccontextmanager
    async def running(self, **changes: Any) -> AsyncIterator[Bridge]:
        bridge = self.bridge(**changes)
        task = asyncio.ensure_future(bridge.run())
        try:
            yield bridge
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def suffer(self, **faults: Any) -> None:
        """Faults of the calls that bring deposits."""
        self.server.faults = Faults(endpoint=ENDPOINT[self.profile], **faults)

    def credited(self) -> list[str]:
        """Ids of deposits in the server's ledger, one for each credit."""
        if self.profile == "myrvm":
            rows = self.server.connection.execute("SELECT idempotency_key FROM credits ORDER BY rowid")
        else:
            rows = self.server.connection.execute("SELECT session_id FROM transactions ORDER BY id")
        return [row[0] for row in rows]

    def audit(self) -> None:
        """None doubled, none lost; what is acked is credited, what is not known is listed with all that is known."""
        credited, states = self.credited(), self.buffer.states
        assert len(credited) == len(set(credited)), "doubled"
        assert set(credited) <= states.keys()
        for deposit_id, state in states.items():
            assert state != "acked" or deposit_id in credited, "lost"
            assert state not in ("pending", "dead") or deposit_id not in credited
            assert state != "uncertain" or self.buffer.reasons[deposit_id]
        if self.profile == "myrvm":
            assert not self.buffer.count("uncertain"), "with keys nothing is uncertain"


@pytest.fixture(params=PROFILES)
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    server = ReferenceServer(":memory:", profile=request.param)
    async with TestServer(server.application()) as running:
        yield Desk(request.param, server, str(running.make_url("")).rstrip("/"), MemoryBuffer())


async def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(round(LIMIT_S / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{what}: not within {LIMIT_S} s")


async def test_deposits_are_credited_in_order(desk: Desk) -> None:
    records = [deposit(number) for number in range(10)]
    desk.buffer.add(*records)
    async with desk.running():
        await until(lambda: desk.buffer.settled, "all sent")
        await until(lambda: desk.buffer.lines[-1].credited == 10, "the line to say so")
    desk.audit()
    assert desk.credited() == [record.deposit_id for record in records]
    line = desk.buffer.lines[-1]
    assert (line.state, line.machine_name, line.forbidden) == (State.ONLINE, "RVM rvm-7", False)
    assert abs(line.clock_offset_s) <= line.clock_uncertainty_s + 0.01
    assert line.clock_uncertainty_s < 1.0


FAULTS = [
    "cut_before_commit",
    "cut_after_commit",
    "status_500",
    "status_503",
    "html",
    "empty",
    "truncated_json",
    "large",
]


@pytest.mark.parametrize("fault", [*FAULTS, "redirect", "status_429", "status_401", "status_403"])
async def test_whatever_becomes_of_the_answer_there_is_no_second_credit(desk: Desk, fault: str) -> None:
    desk.suffer(**{fault: 3})
    desk.buffer.add(*(deposit(number) for number in range(6)))
    async with desk.running():
        await until(lambda: desk.buffer.settled, "all settled")
    desk.audit()
    certain = desk.profile == "myrvm" or fault in ("status_429", "status_401", "status_403")
    assert desk.buffer.count("uncertain") == (0 if certain else 3)
    assert desk.buffer.count("acked") == (6 if certain else 3)
    if fault == "cut_after_commit" and not certain:
        assert len(desk.credited()) == 6, "credited, and not known"
        assert all("sent to http" in reason for reason in desk.buffer.reasons.values())


async def test_a_delayed_answer_is_a_lost_one(desk: Desk) -> None:
    desk.suffer(latency_s=0.6)  # longer than the bridge waits
    desk.buffer.add(deposit(1))  # it is credited all the same
    async with desk.running():
        await until(lambda: any(line.consecutive_failures for line in desk.buffer.lines), "a failure")
        desk.suffer()
        await until(lambda: desk.buffer.settled, "settled")
    desk.audit()
    assert desk.buffer.count("uncertain") == (desk.profile == "myrvm-server")


async def test_what_was_never_sent_is_sent_later(desk: Desk) -> None:
    desk.buffer.add(*(deposit(number) for number in range(3)))
    reached, desk.url = desk.url, "http://127.0.0.1:9"
    async with desk.running():
        await until(lambda: any(line.consecutive_failures > 2 for line in desk.buffer.lines), "failures")
    desk.buffer.expire()
    desk.url = reached
    async with desk.running():
        await until(lambda: desk.buffer.settled, "all sent")
    desk.audit()
    assert desk.buffer.count("acked") == 3


async def test_a_campaign_of_faults_and_deaths(desk: Desk) -> None:
    generator, number = random.Random(4), 0
    faults = [*FAULTS, "status_429", "status_403", "redirect", *(["duplicate"] if desk.profile == "myrvm" else [])]
    for _ in range(60):
        desk.suffer(
            **{generator.choice(faults): generator.randint(1, 3), "latency_s": generator.choice((0.0, 0.01, 0.5))}
        )
        for _ in range(generator.randint(1, 5)):
            number += 1
            desk.buffer.add(deposit(number))
        async with desk.running(heartbeat_s=0.02) as bridge:
            bridge.buffer_changed(1, 0)
            await asyncio.sleep(generator.uniform(0.0, 0.06))  # it is killed wherever it is
        desk.buffer.expire()
    desk.suffer()
    async with desk.running():
        await until(lambda: desk.buffer.settled, "all settled")
    await asyncio.sleep(0.4)  # what was under way has come by now
    desk.audit()
    assert desk.buffer.count("acked") + desk.buffer.count("uncertain") == number
    assert desk.buffer.count("acked") > number // 4
    assert (desk.buffer.count("uncertain") > 0) == (desk.profile == "myrvm-server")


async def test_one_bad_deposit_is_set_aside_and_the_others_are_credited(desk: Desk) -> None:
    desk.buffer.add(*(deposit(number) for number in range(2)))
    desk.suffer(status_422=3 if desk.profile == "myrvm" else 1)  # the batch, its half, and the one
    async with desk.running():
        await until(lambda: desk.buffer.settled, "all settled")
    desk.audit()
    assert (desk.buffer.count("dead"), desk.buffer.count("acked")) == ((2, 0) if desk.profile == "myrvm" else (1, 1))
    assert "422" in next(iter(desk.buffer.reasons.values()))


async def test_a_batch_that_is_too_large_is_split(desk: Desk) -> None:
    desk.buffer.add(*(deposit(number) for number in range(4)))
    desk.suffer(status_413=2 if desk.profile == "myrvm" else 0)
    async with desk.running():
        await until(lambda: desk.buffer.settled, "all settled")
    desk.audit()
    assert desk.buffer.count("acked") == 4


async def test_what_the_server_has_already_is_settled(desk: Desk) -> None:
    record = deposit(1)
    desk.buffer.add(record)
    async with desk.running():
        await until(lambda: desk.buffer.settled, "sent")
    desk.buffer.states[record.deposit_id] = "pending"
    desk.suffer(status_409=1)
    async with desk.running():
        await until(lambda: desk.buffer.settled, "settled")
    assert desk.buffer.count("acked") == 1
    desk.audit()


async def test_a_refused_key_is_told_and_the_machine_goes_on(desk: Desk) -> None:
    desk.buffer.add(deposit(1))
    async with desk.running(key="wrong"):
        await until(lambda: desk.buffer.lines[-1:] != [] and desk.buffer.lines[-1].state is State.UNAUTHORIZED, "told")
        await asyncio.sleep(0.05)
    line = desk.buffer.lines[-1]
    assert (line.state, line.last_error) == (State.UNAUTHORIZED, ErrorKind.REFUSED)
    assert desk.buffer.count("pending") == 1
    assert desk.credited() == []


async def test_403_is_not_a_lost_connection(desk: Desk) -> None:
    desk.server.faults = Faults(endpoint="heartbeat", status_403=1000)
    desk.buffer.add(deposit(1))
    async with desk.running():
        await until(lambda: desk.buffer.settled, "sent")
        await until(lambda: desk.buffer.lines[-1].last_error is ErrorKind.REFUSED, "told")
        line = desk.buffer.lines[-1]
        assert (line.state, line.forbidden, line.consecutive_failures) == (State.ONLINE, True, 0)
        desk.server.faults = Faults()
        await until(lambda: desk.buffer.lines[-1].last_error is ErrorKind.NONE, "served again")
    assert not desk.buffer.lines[-1].forbidden
    assert not any(line.state is State.OFFLINE for line in desk.buffer.lines[1:])


async def test_a_handshake_that_was_answered_403_is_made_up_for(desk: Desk) -> None:
    desk.server.faults = Faults(endpoint="handshake", status_403=3)
    async with desk.running():
        await until(lambda: any(line.forbidden for line in desk.buffer.lines), "forbidden")
        await until(lambda: desk.buffer.lines[-1].machine_name != "", "a handshake in the end")
        assert desk.buffer.lines[-1].state is State.ONLINE
        assert not desk.buffer.lines[-1].forbidden


async def test_a_defect_of_ours_ends_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = True
    lease = desk.buffer.lease

    async def sometimes(*arguments: Any) -> Any:
        if broken:
            raise RuntimeError("a defect")
        return await lease(*arguments)

    monkeypatch.setattr(desk.buffer, "lease", sometimes)
    desk.buffer.add(deposit(1))
    async with desk.running():
        await asyncio.sleep(0.05)
        broken = False
        await until(lambda: desk.buffer.settled, "sent")
    desk.audit()


async def test_who_a_customer_is(desk: Desk) -> None:
    async with desk.running() as bridge:
        await until(lambda: desk.buffer.welcomes != [], "a handshake")
        if desk.profile == "myrvm":
            assert (await bridge.authorize("token-alice")).account_id == "alice"
            with pytest.raises(CallError) as caught:
                await bridge.authorize("nobody")
            assert caught.value.status == 404
        else:
            with pytest.raises(CallError, match="offers no") as caught:
                await bridge.authorize("token-alice")
            assert caught.value.kind is not ErrorKind.REFUSED, "nobody has said that the customer is not known"


async def test_bodies_are_packed_once_the_server_has_said_that_it_takes_them(desk: Desk) -> None:
    async with desk.running(compress_from_bytes=100) as bridge:
        await until(lambda: desk.buffer.welcomes != [], "a handshake")
        await until(lambda: bridge._http.accepts_gzip == (desk.profile == "myrvm"), "to be known")
        desk.buffer.add(*(deposit(number) for number in range(40)))
        bridge.buffer_changed(40, 0)
        await until(lambda: desk.buffer.settled, "all sent")
    desk.audit()
    assert desk.buffer.count("acked") == 40


async def test_measurements_models_configuration_and_outcomes(desk: Desk) -> None:
    if desk.profile != "myrvm":
        return  # test_public_server
    measured = [TelemetryRecord(1_500_000_000, "health", "temperature_c", 45.5)]
    outcome = contract.CommandOutcome.model_validate({"digest": "0" * 64, "status": "done", "audit": {"sequence": 7}})
    model = contract.WantedModel(name="net", version="2", sha256="a" * 64)
    async with desk.running() as bridge:
        client = bridge.client
        await until(lambda: desk.buffer.welcomes != [], "a handshake")
        for status in ("stored", "duplicate"):
            assert (await bridge.ask(client.telemetry("b", measured))).status.value == status
        running = contract.Model(name="net", version="1", sha256="")
        assert (await bridge.ask(client.models(running))).models == []
        assert (await bridge.ask(client.configuration())).document == ""
        desk.server.shelf.wanted = contract.ModelsAnswer(models=[model])
        desk.server.configuration = contract.ConfigurationAnswer(document="signed")
        assert (await bridge.ask(client.models(running))).models == [model]
        assert (await bridge.ask(client.configuration())).document == "signed"
        assert (await bridge.ask(client.command_outcomes([outcome]))).recorded == ["0" * 64]
        with pytest.raises(NotOfferedError):
            MyrvmServerClient("https://host", "rvm-7", "0.1.0").configuration()
    (stored,) = desk.server.connection.execute("SELECT body FROM outcomes").fetchone()
    assert json.loads(stored)["audit"] == {"sequence": 7}
