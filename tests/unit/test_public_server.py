"""Profile `myrvm-server`: what is said to the public server, and that its stand-in has the weaknesses that it has."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

import pytest
import structlog
from aiohttp.test_utils import TestServer
from memory_buffer import deposit
from myrvm_cloud.bridge import Bridge, BridgeTimes, Line
from myrvm_cloud.call import CallError, ErrorKind, NotOfferedError
from myrvm_cloud.http_line import HttpLine
from myrvm_cloud.myrvm_server_client import MyrvmServerClient
from myrvm_cloud.rest_client import CommandAnswer, MachineState
from myrvm_core.deposit_record import TelemetryRecord
from myrvm_sim.public_server import RVM_ID, RVM_UUID
from myrvm_sim.reference_server import DEMO_KEY, ReferenceServer
from myrvm_sim.server_faults import Faults
from plain_line import TestKey, limits

from myrvm_cloud import contract

STATE = MachineState(
    ip_local="10.0.0.7",
    ip_vpn="100.64.0.5",
    timezone="Asia/Jakarta",
    bin_percent=39.6,
    cpu_percent=12.5,
    memory_percent=40.0,
    disk_percent=50.0,
    temperature_c=45.0,
    model=contract.Model(name="net", version="1", sha256="0" * 64),
)
METRICS = {
    "cpu_usage_percent": 12.5,
    "memory_usage_percent": 40.0,
    "disk_usage_percent": 50.0,
    "cpu_temperature": 45.0,
}


class Desk:
    """The server and a line to it."""

    def __init__(self) -> None:
        self.server = ReferenceServer(":memory:", profile="myrvm-server")
        self.public = self.server._public
        self.client: MyrvmServerClient
        self.line: HttpLine


@pytest.fixture
async def desk() -> Any:
    made = Desk()
    async with TestServer(made.server.application()) as running:
        made.client = MyrvmServerClient(str(running.make_url("")), "rvm-7", "0.1.0")
        async with HttpLine(made.client.base_url, TestKey(DEMO_KEY), "rvm-7", limits()) as made.line:
            yield made


async def test_a_naive_client_doubles_where_the_answer_is_lost(desk: Desk) -> None:
    call = desk.client.deposits([deposit(1)])
    desk.server.faults = Faults(endpoint="sync-offline", cut_after_commit=1)
    with pytest.raises(CallError) as caught:
        await desk.line.send(call)
    assert not caught.value.undone
    await desk.line.send(call)  # what ours never does: test_bridge
    assert len(desk.public.ledger()) == 2


async def test_a_transaction_as_the_server_reads_it(desk: Desk) -> None:
    call = desk.client.deposits([deposit(1, account_id="42")])
    assert not call.repeatable
    answer = await desk.line.send(call)
    assert [result.status for result in answer.results] == [contract.DepositStatus.CREDITED]
    (row,) = desk.public.ledger()
    assert (row["session_id"], row["points"]) == (deposit(1).deposit_id, 5)
    assert row["completed_at"] == "1970-01-01T00:00:01.500000+00:00"
    assert b'"user_id":42' in call.body
    assert b"user_id" not in desk.client.deposits([deposit(1, account_id="alice")]).body
    with pytest.raises(ValueError, match="too many"):
        desk.client.deposits([deposit(1), deposit(2)])


@pytest.mark.parametrize(
    ("said", "credited"),
    [
        ({"status": "success", "synced_count": 1}, True),
        ({"status": "success", "synced_count": 0, "errors": ["User not found: 9"]}, False),
        ({"status": "success", "synced_count": 0}, None),
        ({"status": "success", "synced_count": 2}, None),
        ({"status": "success", "synced_count": 1, "errors": ["User not found: 9"]}, None),
        ({"status": "success"}, None),
    ],
)
def test_only_one_of_one_is_a_credit(said: dict[str, Any], credited: bool | None) -> None:
    call = MyrvmServerClient("https://host", "rvm-7", "0.1.0").deposits([deposit(1)])
    if credited is None:
        with pytest.raises(ValueError):  # noqa: PT011  # pydantic's or ours: not of the contract
            call.read(said)
    else:
        status = contract.DepositStatus.CREDITED if credited else contract.DepositStatus.REFUSED
        assert call.read(said).results[0].status is status


async def test_handshake_and_heartbeat(desk: Desk) -> None:
    answer = await desk.line.send(desk.client.handshake(STATE))
    assert answer.machine_name == "RVM rvm-7"
    assert answer.websocket is not None
    assert (answer.websocket.protocol, answer.websocket.channel) == ("reverb", f"rvm.{RVM_UUID}")
    assert answer.websocket.url == "wss://server.invalid:443"
    assert answer.websocket.auth_token.get_secret_value() not in repr(answer)
    (told,) = desk.public.reported()["handshakes"]
    assert told["system"]["ai_models"] == {"model_name": "net", "model_version": "1", "hash": "0" * 64}
    assert told["system"]["firmware_version"] == "0.1.0"
    wanted = {"hardware_id": "rvm-7", "name": "rvm-7", "ip_local": "10.0.0.7", "ip_vpn": "100.64.0.5"}
    assert wanted.items() <= told.items()
    assert (told["timezone"], told["health_metrics"]) == ("Asia/Jakarta", METRICS)
    beat = await desk.line.send(desk.client.heartbeat(STATE, [CommandAnswer("1", "GIT_PULL", "no")]))
    assert desk.line.clock.known
    assert abs(beat.server_time - (await desk.line.send(desk.client.heartbeat(STATE, []))).server_time) < 60.0
    first, second = desk.public.reported()["heartbeats"]
    assert first == {
        "bin_capacity": 40,
        "health_metrics": METRICS,
        "ip_local": "10.0.0.7",
        "tailscale_ip": "100.64.0.5",
        "version": "0.1.0",
        "command_results": [{"request_id": "1", "command": "GIT_PULL", "status": "refused", "message": "no"}],
    }
    assert "command_results" not in second


async def test_commands_are_handed_out_once_refused_and_answered(desk: Desk) -> None:
    for kind in ("GIT_PULL", "RESTART", "OUT_OF_SERVICE"):
        desk.public.pending.append(kind)
    obeyed: list[Any] = []

    class Port:
        @property
        def buffer(self) -> Any:
            return self

        async def lease(self, *_: Any) -> Any:
            return "", []

        def line_changed(self, _: Any) -> None: ...

        def welcomed(self, _: Any) -> None: ...

        command = obeyed.append

    times = BridgeTimes(0.01, 1.0, 60.0, limits().backoff)
    port: Any = Port()
    http = HttpLine(desk.client.base_url, TestKey(DEMO_KEY), "rvm-7", limits())
    task = asyncio.ensure_future(Bridge(desk.client, http, port, times, 1, Line(), structlog.get_logger()).run())
    answers: list[Any] = []
    for _ in range(2000):
        beats = desk.public.reported()["heartbeats"]
        answers = [beat["command_results"] for beat in beats if "command_results" in beat]
        if answers and len(beats) > 4:
            break
        await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    said = {answer["command"]: (answer["status"], answer["message"]) for answer in answers[0]}
    assert len(answers) == 1, "answered once"
    assert said["GIT_PULL"] == ("refused", "not supported, use the signed update")
    assert said["RESTART"] == said["OUT_OF_SERVICE"] == ("refused", "not signed: refused, use a signed command")
    assert obeyed == []


async def test_403_while_no_technician_is_assigned(desk: Desk) -> None:
    desk.public.technician = False
    with pytest.raises(CallError) as caught:
        await desk.line.send(desk.client.heartbeat(STATE, []))
    assert caught.value.forbidden


async def test_a_picture_credits_nothing(desk: Desk) -> None:
    jpeg = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 2000 + b"\r\n--\r\n"
    await desk.line.send(desk.client.picture("picture-1", contract.PictureKind.REFUSED, jpeg))
    (told,) = desk.public.reported()["pictures"]
    assert (told["bytes"], told["sha256"]) == (len(jpeg), hashlib.sha256(jpeg).hexdigest())
    assert (told["status"], told["data"]["upload_id"]) == ("REFUSED", "picture-1")
    assert desk.public.ledger() == []
    with pytest.raises(ValueError, match="5242880"):
        desk.client.picture("x", contract.PictureKind.REFUSED, bytes(5 * 1024 * 1024 + 1))


async def test_telemetry_is_summed(desk: Desk) -> None:
    def measured(name: str, value: float) -> TelemetryRecord:
        return TelemetryRecord(0, "sensor", name, value)

    records = [measured("plastic_kg", 0.5), measured("plastic_kg", 0.25), measured("items", 2.0)]
    records += [measured("temperature_c", 20.0), measured("temperature_c", 21.5), measured("stray_idle", 1.0)]
    with pytest.raises(NotOfferedError, match="before a handshake"):
        desk.client.telemetry("b", records)
    await desk.line.send(desk.client.handshake(STATE))
    call = desk.client.telemetry("b", records)
    assert (call.path, call.name) == (f"/devices/{RVM_ID}/telemetry", "/devices/telemetry")
    assert not call.repeatable
    assert (await desk.line.send(call)).status is contract.TelemetryStatus.STORED
    weights = {"plastic_weight": 0.75, "aluminum_weight": 0.0, "glass_weight": 0.0}
    assert desk.public.reported()["telemetry"] == [weights | {"total_items": 2, "temperature": 21.5}]


async def test_the_model_that_should_run(desk: Desk) -> None:
    running = contract.Model(name="my net", version="1", sha256="")
    assert (await desk.line.send(desk.client.models(running))).models == []
    wanted = contract.WantedModel(name="my net", version="2", sha256="a" * 64, size_bytes=3_000_000)
    desk.public.model = wanted
    (model,) = (await desk.line.send(desk.client.models(running))).models
    assert (model.version, model.sha256, model.size_bytes) == ("2", "a" * 64, 3_000_000)
    assert model.url.endswith("a" * 64)
    assert (await desk.line.send(desk.client.models(running.model_copy(update={"version": "2"})))).models == []


def test_what_this_server_lacks_is_not_offered() -> None:
    client = MyrvmServerClient("https://host", "rvm-7", "0.1.0")
    outcome = contract.CommandOutcome(digest="0" * 64, status="done")
    for asked in (client.configuration, lambda: client.authorize("t"), lambda: client.command_outcomes([outcome])):
        with pytest.raises(NotOfferedError) as caught:
            asked()
        assert (caught.value.kind, caught.value.sent) == (ErrorKind.PROTOCOL, False)


async def test_errors_of_its_framework_are_of_the_contract(desk: Desk) -> None:
    call = desk.client.deposits([deposit(1)])
    for body, status in ((b"{}", 422), (b"{", 400)):
        with pytest.raises(CallError) as caught:
            await desk.line.send(replace(call, body=body))
        assert (caught.value.status, caught.value.body_refused, caught.value.undone) == (status, True, True)
