"""Carries calls to one server: a pooled aiohttp session, time-outs, compression, bounded answers, retries.

A call is repeated at once only where that does no harm, the budget allows it and its time is not over; an endpoint that
fails time and again is left alone (`circuit_breaker`). Redirects are not followed, cookies are not kept. A call that
must not be sent twice goes out once, on a connection of its own: one that was idle may die while it is written to.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import ssl
import time
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
from myrvm_core.backoff import Backoff
from myrvm_core.errors import SettingsError
from pydantic import SecretStr

from myrvm_cloud import tls
from myrvm_cloud.call import Call, CallError, ErrorKind, header, http_date_s
from myrvm_cloud.circuit_breaker import CircuitBreaker
from myrvm_cloud.clock_skew import DATE_RESOLUTION_S, ClockSkew
from myrvm_cloud.contract import API_KEY_HEADER, MACHINE_HEADER
from myrvm_cloud.retry_budget import RetryBudget

ANSWER_BYTES = 1_000_000
CHUNK_BYTES = 65_536
GZIP_LEVEL = 5
GZIP_WINDOW = 16 + zlib.MAX_WBITS  # zlib.decompressobj: a gzip header, any window
# A server that is restarted, or whose gateway has lost it, is soon back; any other failure waits for the next round.
SOON_BACK = (502, 503, 504)

A = TypeVar("A")
Sink = Callable[[bytes], Awaitable[object]]


class Key(Protocol):
    """The machine's key (`api_key.ApiKey`)."""

    def current(self) -> SecretStr:
        """As it is now."""
        ...

    def read_again(self) -> bool:
        """The server refused it: True where there is another one by now."""
        ...


@dataclass(frozen=True)
class HttpLimits:
    """Durations in s.

    `connect_s` for TCP, `tls_s` for the handshake of TLS, `read_s` for a silence in an answer, `total_s` for a call
    with all its retries. `compress_from_bytes`: smaller bodies go as they are. `retries` at once, of one call.
    `failures`: so many in a row open an endpoint's circuit.
    """

    connect_s: float = 5.0
    tls_s: float = 5.0
    read_s: float = 10.0
    total_s: float = 15.0
    connections: int = 4
    keepalive_s: float = 75.0
    compress_from_bytes: int = 2000
    retries: int = 2
    failures: int = 5
    backoff: Backoff = field(default_factory=lambda: Backoff(1.0, 60.0))


class HttpLine:
    """The line to `base_url`; an asynchronous context manager, used by one event loop.

    Args:
        base_url: with the path that all calls have in common.
        key: sent with each call.
        hardware_id: this machine's name, sent with each call.
        limits: see there.
        tls_context: what a server is checked with; None: the system's authorities.
        generator: of the jitter.
    """

    accepts_gzip = False  # what the server has said in its handshake

    def __init__(
        self,
        base_url: str,
        key: Key,
        hardware_id: str,
        limits: HttpLimits,
        tls_context: ssl.SSLContext | None = None,
        generator: random.Random | None = None,
    ) -> None:
        tls.check_url(base_url)
        self.base_url = base_url
        self.clock = ClockSkew()
        self._key, self._hardware_id, self._limits = key, hardware_id, limits
        self._tls = tls_context
        self._generator = generator or random.Random()
        self._budget = RetryBudget()
        self._breakers: defaultdict[str, CircuitBreaker] = defaultdict(
            lambda: CircuitBreaker(limits.failures, limits.backoff, self._generator)
        )
        self._failures: dict[str, CallError] = {}  # the last one of each call
        self._open = AsyncExitStack()
        self._sessions: dict[bool, aiohttp.ClientSession] = {}  # by whether a call is repeatable

    async def __aenter__(self) -> HttpLine:
        for repeatable in (True, False):
            session = self._session(force_close=not repeatable)
            self._sessions[repeatable] = await self._open.enter_async_context(session)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sessions.clear()
        await self._open.aclose()

    async def send(self, call: Call[A], total_s: float | None = None) -> A:
        """Send it and judge the answer; at most `total_s` s altogether.

        Raises:
            CallError: there is no answer that counts.
        """
        breaker = self._breakers[call.name]
        end_s = time.monotonic() + (total_s or self._limits.total_s)
        self._budget.earn()
        attempt = 0
        while True:
            wait_s = breaker.ask(time.monotonic())
            if wait_s > 0.0:
                last = self._failures[call.name]
                line = f"{call.name} is left alone for {wait_s:.1f} s more after failures, the last one: {last}"
                raise CallError(last.kind, line, retry_after_s=wait_s, sent=False)
            try:
                answer = await self._once(call, max(end_s - time.monotonic(), 0.001))
            except CallError as error:
                if error.kind is ErrorKind.REFUSED:
                    breaker.succeeded()
                else:
                    breaker.failed(time.monotonic())
                    self._failures[call.name] = error
                pause_s = self._pause_s(call, error, attempt)
                if pause_s is None or time.monotonic() + pause_s >= end_s:
                    raise
            except BaseException:
                breaker.abandoned()
                raise
            else:
                breaker.succeeded()
                return answer
            attempt += 1
            await asyncio.sleep(pause_s)

    def _pause_s(self, call: Call[Any], error: CallError, attempt: int) -> float | None:
        """How long to wait before the next attempt; None: there is none."""
        if error.unauthorized:
            return 0.0 if attempt == 0 and self._key.read_again() else None
        worth_it = error.kind is ErrorKind.NETWORK or error.status in SOON_BACK
        harmless = call.repeatable or not error.sent
        if not (worth_it and harmless and attempt < self._limits.retries and self._budget.spend()):
            return None
        return max(self._limits.backoff.delay_s(attempt, self._generator), error.retry_after_s or 0.0)

    async def _once(self, call: Call[A], total_s: float) -> A:
        limits, progress = self._limits, _Progress()
        connect_s = limits.connect_s + (limits.tls_s if self.base_url.startswith("https:") else 0.0)
        session = self._sessions.get(call.repeatable)
        if session is None:
            raise CallError(ErrorKind.NETWORK, f"{call.name}: the line is not open", sent=False)
        body, headers = self._packed(call)
        sent_s = time.monotonic()
        with _told(call.name, progress):
            async with session.request(
                call.method,
                self.base_url + call.path,
                data=body or None,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=total_s, sock_connect=connect_s, sock_read=limits.read_s),
                trace_request_ctx=progress,
            ) as response:
                answer = await _read(call.name, response)
        return self._judged(call, response, answer, sent_s)

    async def download(self, url: str, sink: Sink, limit_bytes: int, total_s: float) -> int:
        """Fetch a file of this server, piece by piece, once.

        Args:
            url: whole, or relative to `base_url`.
            sink: takes the pieces, at most `limit_bytes` altogether.
            limit_bytes: a larger file is not read to its end.
            total_s: longest time, s.

        Returns:
            The file's size in bytes, or of it what was seen: more than `limit_bytes` where it is larger.

        Raises:
            SettingsError: it is of another server.
            CallError: it was not fetched to its end.
        """
        target, origin = _joined(self.base_url, url), _origin(self.base_url)
        if _origin(target) != origin:
            raise SettingsError(f"url = {url!r} is not allowed: one of this machine's server, {origin}")
        session, progress, name = self._sessions.get(True), _Progress(), "download"
        if session is None:
            raise CallError(ErrorKind.NETWORK, f"{name}: the line is not open", sent=False)
        headers = self._own_headers() | {"Accept-Encoding": "identity"}
        timeout = aiohttp.ClientTimeout(
            total=total_s, sock_connect=self._limits.connect_s + self._limits.tls_s, sock_read=self._limits.read_s
        )
        with _told(name, progress):
            async with session.get(
                target, headers=headers, allow_redirects=False, timeout=timeout, trace_request_ctx=progress
            ) as response:
                if response.status != 200 or header(response.headers, "content-encoding"):
                    line = f"{name} answered {response.status}, or an encoding that was not asked for"
                    raise CallError(ErrorKind.PROTOCOL, line, response.status)
                if (response.content_length or 0) > limit_bytes:
                    return response.content_length or 0
                size = 0
                async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                    size += len(chunk)
                    if size > limit_bytes:
                        break
                    await sink(chunk)
        return size

    def _judged(self, call: Call[A], response: aiohttp.ClientResponse, answer: bytes, sent_s: float) -> A:
        """The judgement; a server whose answer is of the contract is believed about the time, too."""
        try:
            judged = call.judge(response.status, response.headers, answer)
        except CallError as error:
            if error.kind is ErrorKind.REFUSED:
                self._hear_date(response, sent_s)
            raise
        self._hear_date(response, sent_s)
        return judged

    def _hear_date(self, response: aiohttp.ClientResponse, sent_s: float) -> None:
        date_s = http_date_s(header(response.headers, "date"))
        if date_s is not None and "Age" not in response.headers:  # with an age it is a cache's
            self.clock.hear(date_s, DATE_RESOLUTION_S, sent_s, time.monotonic())

    def _packed(self, call: Call[Any]) -> tuple[bytes, dict[str, str]]:
        headers = self._own_headers() | {"Accept": "application/json", "Accept-Encoding": "gzip"}
        body = call.body
        if body:
            headers["Content-Type"] = call.content_type
            if self.accepts_gzip and call.packable and len(body) >= self._limits.compress_from_bytes:
                body, headers["Content-Encoding"] = gzip.compress(body, GZIP_LEVEL, mtime=0), "gzip"
        return body, headers

    def _own_headers(self) -> dict[str, str]:
        return {API_KEY_HEADER: self._key.current().get_secret_value(), MACHINE_HEADER: self._hardware_id}

    def _session(self, force_close: bool) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_connected)
        trace.on_connection_reuseconn.append(_connected)
        connector = _Connector(
            self._limits.tls_s,
            limit=self._limits.connections,
            force_close=force_close,
            ssl=self._tls or True,
            **({} if force_close else {"keepalive_timeout": self._limits.keepalive_s}),
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trace_configs=[trace],
            # A proxy of the environment is for the world, never for this machine itself.
            trust_env=not tls.is_loopback(urlsplit(self.base_url).hostname or ""),
        )


class _Connector(aiohttp.TCPConnector):
    """Bounds the TLS handshake by itself; aiohttp bounds it together with connecting only (`sock_connect`)."""

    def __init__(self, tls_s: float, **options: Any) -> None:
        super().__init__(**options)
        self._tls_s = tls_s

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("ssl"):
            kwargs["ssl_handshake_timeout"] = self._tls_s
        return await super()._wrap_create_connection(*args, **kwargs)


@dataclass
class _Progress:
    """What is known about one request: before it has a connection, nothing of it was sent."""

    connected: bool = False


async def _connected(_session: Any, context: Any, _parameters: Any) -> None:
    context.trace_request_ctx.connected = True


@contextmanager
def _told(name: str, progress: _Progress) -> Iterator[None]:
    """What goes wrong on the way becomes a CallError."""
    try:
        yield
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
        line = f"{name}: the server does not prove who it is: {_reason(error)}"
        raise CallError(ErrorKind.PROTOCOL, line, sent=False) from error
    except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
        line = f"{name}: no answer in HTTP: {type(error).__name__}"
        raise CallError(ErrorKind.PROTOCOL, line, sent=progress.connected) from error
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
        line = f"{name}: server not reached: {_reason(error)}"
        raise CallError(ErrorKind.NETWORK, line, sent=progress.connected) from error


def _joined(base_url: str, url: str) -> str:
    """What `url` is from there; empty for what is no URL."""
    try:
        return urljoin(base_url + "/", url)
    except ValueError:
        return ""


def _origin(url: str) -> str:
    """Scheme, host and port (RFC 6454); empty for what is no such URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}" if parts.hostname and "@" not in parts.netloc else ""


async def _read(name: str, response: aiohttp.ClientResponse) -> bytes:
    """The body, unpacked; both its sizes are bounded."""
    coding = header(response.headers, "content-encoding").lower()
    if coding not in ("", "identity", "gzip"):
        raise CallError(ErrorKind.PROTOCOL, f"{name} answered in an encoding that was not asked for", response.status)
    unpacking = zlib.decompressobj(GZIP_WINDOW) if coding == "gzip" else None
    body, received = bytearray(), 0
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        received += len(chunk)
        try:
            body += unpacking.decompress(chunk, ANSWER_BYTES + 1 - len(body)) if unpacking else chunk
        except zlib.error:
            raise CallError(ErrorKind.PROTOCOL, f"{name} answered with damaged gzip", response.status) from None
        if len(body) > ANSWER_BYTES or received > ANSWER_BYTES:
            line = f"{name} answered with more than {ANSWER_BYTES} bytes"
            raise CallError(ErrorKind.PROTOCOL, line, response.status)
    if unpacking and not unpacking.eof:
        raise CallError(ErrorKind.PROTOCOL, f"{name} answered with half a gzip", response.status)
    return bytes(body)


def _reason(error: BaseException) -> str:
    """One line, the kind of the error first; aiohttp does not say what a failed handshake has failed of."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) and not error.os_error.strerror else ""
    return " ".join(f"{type(error).__name__} {error} {cause}".split())
