"""The contract's document: it is what the code says, valid, and the reference server keeps it whatever is sent."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Iterator
from typing import Any

import aiohttp
import jsonschema
import pytest
import schemathesis
import yaml
from aiohttp import web
from hypothesis import HealthCheck, settings, strategies
from memory_buffer import deposit
from myrvm_cloud.contract import BASE_PATH
from myrvm_cloud.rest_client import MachineState, MyrvmClient
from myrvm_core.deposit_record import TelemetryRecord
from myrvm_sim.reference_server import DEMO_KEY, ReferenceServer, made_runner
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from myrvm_cloud import contract, openapi
from myrvm_core import paths

DOCUMENT = openapi.document()
EXAMPLES_EACH = 20
HEADERS = {"X-RVM-API-KEY": DEMO_KEY, "X-Machine-UUID": "rvm-7"}
LOGS = gzip.compress(b"{}\n")
PICTURE = b"\xff\xd8jpeg"
BINARY = {contract.GZIP: LOGS, contract.JPEG: PICTURE}
# A row that is not of the contract is refused by itself within a 200: what is sent wrong is not always answered so.
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The reference server in a thread; its URL."""
    ready, stop, urls = threading.Event(), asyncio.Event(), list[str]()

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        runner = made_runner(ReferenceServer(":memory:").application())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}{BASE_PATH}")
        ready.set()
        await stop.wait()
        await runner.cleanup()

    loops: list[asyncio.AbstractEventLoop] = []
    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield urls[0]
    loops[0].call_soon_threadsafe(stop.set)
    thread.join(30)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    return schema | {"components": DOCUMENT["components"]}


def test_the_file_is_what_the_code_says() -> None:
    file = paths.home() / "docs" / "openapi.yaml"
    assert file.read_text(encoding="utf-8") == openapi.text(), "python -m myrvm_cloud.openapi > docs/openapi.yaml"
    assert yaml.safe_load(openapi.text()) == DOCUMENT


def test_it_is_valid() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_every_call_of_client_and_server_is_in_it() -> None:
    described = {(endpoint.method.upper(), endpoint.path) for endpoint in openapi.ENDPOINTS}
    routes = ReferenceServer(":memory:").routes()
    assert {(route.method, route.path.removeprefix(BASE_PATH)) for route in routes} == described
    client = MyrvmClient("https://host", "rvm-7", "0.1.0")
    outcome = contract.CommandOutcome(digest="0" * 64, status="done")
    calls: list[Any] = [
        client.handshake(MachineState()),
        client.heartbeat(MachineState(pending=1), []),
        client.deposits([deposit(1)]),
        client.authorize("t"),
        client.telemetry("b", [TelemetryRecord(0, "s", "n", 1.0)]),
        client.models(contract.Model(name="", version="", sha256="")),
        client.configuration(),
        client.command_outcomes([outcome]),
        client.logs("17", LOGS),
        client.picture("17", contract.PictureKind.REFUSED, PICTURE),
    ]
    assert {(call.method, call.name) for call in calls} == described
    for call in calls:
        if call.body and call.content_type == "application/json":
            body = DOCUMENT["paths"][call.path]["post"]["requestBody"]["content"]["application/json"]
            jsonschema.validate(yaml.safe_load(call.body), resolved(body["schema"]))


@pytest.mark.parametrize("endpoint", openapi.ENDPOINTS, ids=[endpoint.path for endpoint in openapi.ENDPOINTS])
async def test_its_examples_run(endpoint: openapi.Endpoint, server: str) -> None:
    operation = DOCUMENT["paths"][endpoint.path][endpoint.method]
    answer_schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(endpoint.answer_example, resolved(answer_schema))
    assert endpoint.answer.model_validate(endpoint.answer_example)
    if endpoint.request is not None:
        body = operation["requestBody"]["content"]["application/json"]
        jsonschema.validate(endpoint.request_example, resolved(body["schema"]))
    binary = BINARY.get(endpoint.content_type)
    given: dict[str, Any] = {"json": endpoint.request_example} if binary is None else {"data": binary}
    async with (
        aiohttp.ClientSession(headers=HEADERS | {"Content-Type": endpoint.content_type}) as session,
        session.request(
            endpoint.method,
            server + endpoint.path,
            params={name: example for name, _, example in endpoint.query},
            **given,
        ) as answer,
    ):
        assert answer.status == (204 if endpoint.empty else 200)
        if not endpoint.empty:
            said = await answer.json()
            jsonschema.validate(said, resolved(answer_schema))
            assert endpoint.answer_example.keys() <= said.keys()


for content_type in BINARY:
    schemathesis.openapi.media_type(content_type, strategies.binary(max_size=1000))
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES_EACH,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    database=None,
)
def test_whatever_is_sent_the_answer_is_of_the_contract(case: Any, server: str) -> None:
    case.call_and_validate(base_url=server, headers={"X-RVM-API-KEY": DEMO_KEY}, checks=CHECKS, timeout=20)
