"""Which servers are spoken to: real TLS servers that are who they say they are, and those that are not."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from certificates import Authority, Pair
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from myrvm_cloud.call import CallError, ErrorKind, get
from myrvm_cloud.settings import CloudBridgeSettings
from myrvm_core.configuration import check_settings, default_files, settings
from myrvm_core.errors import SettingsError
from myrvm_core.settings import validate
from plain_line import BASE, line_to

from myrvm_cloud import contract, tls
from myrvm_system import check

ASK = get("/edge/models", contract.ModelsAnswer)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@asynccontextmanager
async def https(pair: Pair, heard: list[str], clients: Path | None = None, old: bool = False) -> AsyncIterator[str]:
    """A TLS server; `clients`: who asks must have a certificate of this authority; `old`: TLS 1.1 at most."""

    async def handle(request: web.Request) -> web.Response:
        heard.append(request.headers["X-RVM-API-KEY"])
        return web.json_response({"models": []})

    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(pair.certificate, pair.key)
    if clients:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(clients)
    if old:
        made.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            made.minimum_version, made.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    application = web.Application()
    application.router.add_route("*", f"{BASE}/edge/models", handle)
    server = TestServer(application, scheme="https")
    await server.start_server(ssl=made)
    try:
        yield f"https://127.0.0.1:{server.port}"
    finally:
        await server.close()


async def failure(url: str, context: ssl.SSLContext | None, **limits: Any) -> CallError:
    async with line_to(url, tls_context=context, **limits) as line:
        with pytest.raises(CallError) as caught:
            await line.send(ASK)
    assert not caught.value.sent
    assert "\n" not in str(caught.value)
    return caught.value


async def test_a_server_of_the_pinned_authority_is_spoken_to(authority: Authority) -> None:
    heard: list[str] = []
    context = tls.context(str(authority.file))
    async with https(authority.sign("server"), heard) as url, line_to(url, tls_context=context) as line:
        assert (await line.send(ASK)).models == []
    assert heard == ["a-key-to-keep"]


@pytest.mark.parametrize("case", ["another authority", "the system's authorities", "another host", "expired"])
async def test_a_server_that_does_not_prove_who_it_is_gets_no_key(
    case: str, authority: Authority, tmp_path: Path
) -> None:
    pair, context, heard = authority.sign("server"), tls.context(str(authority.file)), list[str]()
    if case == "another authority":
        context = tls.context(str(Authority(tmp_path, "another").file))
    elif case == "the system's authorities":
        context = tls.context()
    elif case == "another host":
        pair = authority.sign("server", "elsewhere.invalid")
    else:
        pair = authority.sign("server", valid=timedelta(days=-1))
    async with https(pair, heard) as url:
        error = await failure(url, context)
    assert error.kind is ErrorKind.PROTOCOL
    assert "does not prove who it is" in str(error)
    words = {"another host": "mismatch", "expired": "expired"}.get(case, "verify failed")
    assert words in str(error)
    assert heard == []


async def test_old_tls_is_refused(authority: Authority) -> None:
    heard: list[str] = []
    async with https(authority.sign("server"), heard, old=True) as url:
        host, port = "127.0.0.1", int(url.rsplit(":", 1)[1])
        tolerant = ssl.create_default_context(cafile=str(authority.file))
        tolerant.set_ciphers("DEFAULT:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            tolerant.minimum_version = ssl.TLSVersion.TLSv1
        _, writer = await asyncio.open_connection(host, port, ssl=tolerant)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.1", "the server is one that speaks it"
        writer.close()
        await failure(url, tls.context(str(authority.file)))
    assert heard == []


async def test_a_server_that_wants_a_certificate_gets_this_machines(authority: Authority) -> None:
    heard: list[str] = []
    ca, own = str(authority.file), authority.sign("machine", "rvm-7")
    async with https(authority.sign("server"), heard, clients=authority.file) as url:
        async with line_to(url, tls_context=tls.context(ca)) as line:
            with pytest.raises(CallError):  # TLS 1.3 tells it only after the request has begun
                await line.send(ASK)
        assert heard == []
        async with line_to(url, tls_context=tls.context(ca, str(own.certificate), str(own.key))) as line:
            assert (await line.send(ASK)).models == []


async def test_a_handshake_that_does_not_end_is_given_up(authority: Authority) -> None:
    connected = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        error = await failure(url, tls.context(str(authority.file)), connect_s=60.0, tls_s=0.2, total_s=60.0)
        assert error.kind is ErrorKind.NETWORK
        assert "handshake" in str(error)
        assert connected.is_set()


@pytest.mark.parametrize(
    ("certificate", "key", "line"),
    [
        ("", "machine.key", "without tls_client_certificate"),
        ("nowhere.crt", "", "no such file"),
        ("machine.crt", "nowhere.key", "no such file"),
        ("machine.crt", "other.key", "cannot be used"),
        ("machine.crt", "", "cannot be used"),
        ("text", "machine.key", "cannot be used"),
    ],
)
def test_files_that_cannot_be_used_are_named(
    certificate: str, key: str, line: str, authority: Authority, tmp_path: Path
) -> None:
    authority.sign("machine")
    authority.sign("other")
    (tmp_path / "text").write_text("no PEM")
    files = [str(tmp_path / name) if name else "" for name in (certificate, key)]
    with pytest.raises(SettingsError, match=line) as caught:
        tls.context("", *files)
    assert "PRIVATE" not in str(caught.value)
    for bad in ("text", "nowhere"):
        with pytest.raises(SettingsError, match=f"tls_ca_file = .*{bad}"):
            tls.context(str(tmp_path / bad))


def test_an_encrypted_key_is_refused_and_no_password_is_asked_for(authority: Authority, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    pair = authority.sign("machine")
    key = load_pem_private_key(pair.key.read_bytes(), None)
    locked = BestAvailableEncryption(b"word")
    pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    with pytest.raises(SettingsError, match="cannot be used"):
        tls.context("", str(pair.certificate), str(pair.key))


@pytest.mark.parametrize(
    "url",
    [
        "https://host",
        "https://host:8443/rvm",
        "http://127.0.0.1:8080",
        "http://localhost",
        "http://[::1]:1",
        "https://[2001:db8::1]",
    ],
)
def test_servers_that_may_be_spoken_to(url: str) -> None:
    tls.check_url(url)
    assert validate(CloudBridgeSettings, {"server_url": url}, "cloud_bridge").server_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "http://192.168.1.20:8000",
        "http://127.0.0.1.example.org",
        "http://localhost.example.org",
        "http://0.0.0.0",
        "ftp://host",
    ],
)
def test_servers_that_would_hear_the_key_in_the_clear(url: str) -> None:
    with pytest.raises(SettingsError, match="server_url"):
        tls.check_url(url)
    with pytest.raises(SettingsError, match="server_url"):
        validate(CloudBridgeSettings, {"server_url": url}, "cloud_bridge")


@pytest.mark.parametrize(
    "url", ["https://", "https://host:port", "https://host/?key=1", "https://host#x", "https://[::1"]
)
def test_what_is_no_url_of_a_server(url: str) -> None:
    with pytest.raises(SettingsError, match="server_url"):
        tls.check_url(url)


def test_a_password_in_the_url_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError, match="password") as caught:
        tls.check_url("https://user:hush@host")
    assert "hush" not in str(caught.value)
    validate(CloudBridgeSettings, {"server_url": "https://user:hush@host"}, "cloud_bridge")  # said when the node starts


BEFORE = datetime.now(timezone.utc) - timedelta(days=60)  # certificates made now are good for longer than 30 days then


def examine(authority: Authority, mine: Pair, now: datetime = BEFORE) -> list[str]:
    return tls.examine(str(authority.file), str(mine.certificate), str(mine.key), now)


def test_files_that_are_well_are_not_complained_of(authority: Authority, tmp_path: Path) -> None:
    mine = authority.sign("mine")
    assert examine(authority, mine) == []
    assert tls.examine("", "", "", BEFORE) == []
    both = tmp_path / "both.pem"
    both.write_bytes(mine.certificate.read_bytes() + mine.key.read_bytes())
    assert tls.examine("", str(both), "", BEFORE) == []


def test_each_file_that_ends_soon_or_has_ended_has_its_line(authority: Authority) -> None:
    now = datetime.now(timezone.utc)
    ca, mine = examine(authority, authority.sign("mine", valid=timedelta(days=10, hours=1)), now)
    assert ca.startswith(f"tls_ca_file = {str(authority.file)!r} expires in 0 days, on ")
    assert "mine.crt' expires in 10 days, on " in mine
    assert mine.endswith("allowed: more than 30 days")
    _, expired = examine(authority, authority.sign("old", valid=timedelta(days=-1)), now)
    assert "old.crt' has expired, on " in expired
    assert examine(authority, authority.sign("long", valid=timedelta(days=31)), now) == [ca]


def test_each_file_that_cannot_be_used_has_its_line(authority: Authority, tmp_path: Path) -> None:
    mine, other = authority.sign("mine"), authority.sign("other")
    certificate, key = str(mine.certificate), str(mine.key)

    def only(ca_file: str, certificate: str, key: str) -> str:
        (line,) = tls.examine(ca_file, certificate, key, BEFORE)
        return line

    assert only("/no/ca.pem", "", "") == "tls_ca_file = '/no/ca.pem' cannot be read: No such file or directory"
    assert only(key, "", "").endswith("holds no certificate in PEM")
    assert only("", str(tmp_path), "") == f"tls_client_certificate = {str(tmp_path)!r} cannot be read: Is a directory"
    assert only("", certificate, "/no/key.pem").startswith("tls_client_key = '/no/key.pem' cannot be read")
    line = only("", certificate, str(other.key))
    assert line.endswith(f"other.key' does not belong to tls_client_certificate = {certificate!r}")
    assert only("", certificate, certificate).endswith("holds no private key in PEM")
    assert only("", certificate, "").endswith("mine.crt' holds no private key in PEM")
    assert only("", "", key).endswith("is given without tls_client_certificate; allowed: both")
    secret = load_pem_private_key(mine.key.read_bytes(), None)
    mine.key.write_bytes(secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")))
    assert only("", certificate, key).endswith("is encrypted; allowed: a key without a password")


def test_rvm_check_says_it_and_a_change_from_afar_is_not_refused_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RVM_TLS_CA_FILE", "/no/ca.pem")
    files = default_files("desk")
    assert "tls_ca_file = '/no/ca.pem' cannot be read: No such file or directory" in check.check(files)
    check_settings(settings(files))
