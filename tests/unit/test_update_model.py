"""A model from afar: fetched whole or not at all, used on trial, gone again where the detector is not well with it."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from fake_graph import MACHINE, NOW_S, Machine, NodeView
from myrvm_cloud.call import CallError
from myrvm_cloud.command import Outcome, Status
from myrvm_cloud.http_line import HttpLine
from myrvm_cloud.model_download import KEPT, RESERVE_BYTES
from myrvm_core.errors import ModelError, SettingsError
from myrvm_core.installed_model import InstalledModel
from myrvm_core.signing import SigningKey
from myrvm_sim.operator import Operator, as_yaml
from myrvm_sim.reference_server import DEMO_KEY, ReferenceServer
from myrvm_vision.model_store import find_model
from plain_line import line_to, serving

from myrvm_core import installed_model, paths

OPERATOR = Operator([SigningKey.generate("a"), SigningKey.generate("b")])
NEW = bytes(range(256)) * 40
URL = "/api/v1/edge/models/new"


def wanted(content: bytes = NEW, **changes: Any) -> dict[str, Any]:
    facts = {"url": URL, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    return {"name": "rvm", "version": "2", **facts, **changes}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("MYRVM_DATA", str(tmp_path / "var"))
    (tmp_path / "keys.yaml").write_text(as_yaml(OPERATOR.ring))
    made = Machine(tmp_path / "var", tmp_path / "keys.yaml", two_keys=[], trial_s=1.0)
    made.server.files[URL] = NEW
    return made


async def sent(machine: Machine, **parameters: Any) -> Outcome:
    await machine.desk.handle(OPERATOR.sign(OPERATOR.claims(MACHINE, "update_model", parameters, NOW_S)))
    return machine.desk.outcomes()[-1]


def files() -> set[str]:
    return {path.name for path in installed_model.folder().glob("*")}


def chosen(machine: Machine) -> Any:
    return machine.overlay.read().current.parameters.get("detector", {}).get("model")


async def test_it_is_fetched_and_used(machine: Machine) -> None:
    outcome = await sent(machine, **wanted())
    assert (outcome.status, outcome.reason) == (Status.DONE, "")
    assert outcome.detail == {
        "version": "1", "restarted": "detector", "model": "rvm@2", "downloaded_bytes": str(len(NEW))
    }  # fmt: skip
    assert files() == {"rvm@2.onnx", "rvm@2.json"}
    assert (machine.graph.restarted, chosen(machine)) == (["detector"], "rvm@2")
    file, model = find_model(paths.home() / "models", "rvm@2")
    assert file.read_bytes() == NEW
    assert (model.name, model.version, model.sha256) == ("rvm", "2", hashlib.sha256(NEW).hexdigest())
    machine.server.files.clear()
    outcome = await sent(machine, **wanted())
    assert (outcome.status, outcome.detail["downloaded_bytes"]) == (Status.DONE, "0"), "it is there"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sha256": "0" * 64}, f"{URL} has sha256 {hashlib.sha256(NEW).hexdigest()}, the command says {'0' * 64}"),
        ({"size_bytes": 100}, f"{URL} has {len(NEW)} bytes, the command says 100"),
        ({"size_bytes": 20_000}, f"{URL} has {len(NEW)} bytes, the command says 20000"),
        ({"size_bytes": 500_000_001}, "parameters: "),
        ({"name": "../../etc/passwd"}, "parameters: "),
        ({"version": "2@3"}, "parameters: "),
    ],
)
async def test_what_does_not_fit_is_refused(machine: Machine, changes: dict[str, Any], reason: str) -> None:
    outcome = await sent(machine, **wanted(**changes))
    assert outcome.status is Status.REFUSED
    assert outcome.reason.startswith(reason)
    assert (files(), machine.graph.restarted, chosen(machine)) == (set(), [], None)


async def test_a_disk_that_is_nearly_full_is_spared(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=RESERVE_BYTES + len(NEW) - 1))
    outcome = await sent(machine, **wanted())
    assert outcome.status is Status.REFUSED
    assert outcome.reason.endswith(f"bytes are free for a model of {len(NEW)}; {RESERVE_BYTES} must stay free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=RESERVE_BYTES + len(NEW)))
    assert (await sent(machine, **wanted())).status is Status.DONE


async def test_a_line_that_breaks_leaves_nothing(machine: Machine) -> None:
    machine.server.files.clear()
    outcome = await sent(machine, **wanted())
    assert (outcome.status, files()) == (Status.FAILED, set())
    assert outcome.reason.startswith("download: server not reached")


async def test_a_file_of_the_machine_counts_more(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_PATH", "/srv/best.onnx")
    outcome = await sent(machine, **wanted())
    assert outcome.status is Status.REFUSED
    assert outcome.reason == "detector.model_path = /srv/best.onnx says which model this machine uses"


async def test_a_detector_that_is_not_well_goes_back(machine: Machine) -> None:
    def judged(service: str, fields: dict[str, Any]) -> None:
        if fields.get("node") == "detector":
            well = chosen(machine) != "rvm@2"
            machine.graph.set_node("detector", NodeView(active=well, ok=well, error="" if well else "sees nothing"))

    machine.graph.before_answer = judged
    outcome = await sent(machine, **wanted())
    assert outcome.status is Status.FAILED
    assert "taken back: detector is not active: sees nothing" in outcome.reason
    assert (files(), chosen(machine)) == (set(), None)
    assert machine.graph.restarted == ["detector", "detector"]


async def test_a_version_is_one_file_for_ever_and_few_are_kept(machine: Machine) -> None:
    await sent(machine, **wanted())
    machine.server.files[URL] = other = NEW + b"x"
    outcome = await sent(machine, **wanted(other))
    assert outcome.status is Status.REFUSED
    assert "a new model has a new version" in outcome.reason
    for version in range(3, 9):
        assert (await sent(machine, **wanted(other, version=str(version)))).status is Status.DONE
    assert files() == {f"rvm@{version}{suffix}" for version in range(9 - KEPT, 9) for suffix in (".onnx", ".json")}


async def test_a_damaged_one_is_fetched_again_and_never_used(machine: Machine) -> None:
    await sent(machine, **wanted())
    installed_model.folder().joinpath("rvm@2.onnx").write_bytes(NEW[:-1])
    with pytest.raises(ModelError, match="damaged or exchanged"):
        find_model(paths.home() / "models", "rvm@2")
    assert (await sent(machine, **wanted())).detail["downloaded_bytes"] == str(len(NEW))
    find_model(paths.home() / "models", "rvm@2")
    installed_model.folder().joinpath("rvm@2.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        find_model(paths.home() / "models", "rvm@2")
    for name in ("../rvm@2", "nobody@2", "rvm"):
        assert installed_model.find(name) is None


async def test_a_partial_of_a_crash_is_cleared(machine: Machine) -> None:
    half = InstalledModel(name="other", version="1", sha256="0" * 64)
    half.partial.parent.mkdir(parents=True)
    half.partial.write_bytes(b"half")
    await sent(machine, **wanted())
    assert files() == {"rvm@2.onnx", "rvm@2.json"}


async def fetched(line: HttpLine, url: str, limit_bytes: int = 100_000) -> tuple[int, bytes]:
    got = bytearray()

    async def sink(chunk: bytes) -> None:
        got.extend(chunk)

    size = await line.download(url, sink, limit_bytes, 5.0)
    return size, bytes(got)


async def test_the_reference_server_has_it() -> None:
    async with TestServer(ReferenceServer(":memory:").application()) as server, aiohttp.ClientSession() as session:
        url = str(server.make_url("")).rstrip("/")
        async with session.put(f"{url}/models/rvm/2", data=NEW) as answer:
            model = await answer.json()
        async with line_to(url, DEMO_KEY) as line:
            assert await fetched(line, model["url"]) == (len(NEW), NEW)
            assert await fetched(line, url + model["url"]) == (len(NEW), NEW)
            with pytest.raises(CallError, match="download answered 404"):
                await fetched(line, "/api/v1/edge/models/none")
        async with line_to(url, "wrong") as line:
            with pytest.raises(CallError, match="download answered 401"):
                await fetched(line, model["url"])


async def test_another_server_is_not_asked() -> None:
    async def handle(_: web.Request) -> web.Response:
        raise AssertionError

    async with serving(handle) as url, line_to(url) as line:
        for elsewhere in (
            "https://elsewhere.invalid/x", url.replace("http", "https"), url.replace("127.0.0.1", "localhost"),
            url.replace("//", "//user@"), "//elsewhere.invalid/x", "file:///etc/passwd", "http://[::1",
            "http://127.0.0.1:1/x",
        ):  # fmt: skip
            with pytest.raises(SettingsError, match=r"one of this machine's server"):
                await fetched(line, elsewhere)


async def test_an_answer_that_is_none_is_refused() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        match request.path:
            case "/large":
                return web.Response(body=bytes(200_000))
            case "/endless":
                answer = web.StreamResponse()
                await answer.prepare(request)
                while True:
                    await answer.write(bytes(10_000))
            case "/cut":
                answer = web.StreamResponse(headers={"Content-Length": "50000"})
                await answer.prepare(request)
                await answer.write(bytes(10_000))
                assert request.transport is not None
                request.transport.abort()
                return answer
            case "/packed":
                return web.Response(body=b"x", headers={"Content-Encoding": "gzip"})
            case _:
                return web.Response(status=302, headers={"Location": "https://elsewhere.invalid/"})

    async with serving(handle) as url, line_to(url) as line:
        assert await fetched(line, "/large") == (200_000, b"")
        size, got = await fetched(line, "/endless")
        assert size > 100_000 >= len(got)
        for path, words in (("/cut", "server not reached"), ("/packed", "encoding"), ("/away", "302")):
            with pytest.raises(CallError, match=words):
                await fetched(line, path)
