"""How the reference server breaks on request, and how it reads what strangers send: bounded, never with a 500.

A stand-in for a bad network and a bad day of the server's, for the desk and the tests.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from myrvm_core import strict_json

BODY_BYTES = 256_000
BODY_S = 20.0
LARGE_BYTES = 10_000_000
GZIP_MAGIC = b"\x1f\x8b"
HTML = "<html><body><h1>Welcome to the guest network</h1><a href='/login'>Log in</a></body></html>"
STATUSES = (500, 401, 403, 409, 413, 422, 429, 503)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Faults(BaseModel):
    """Body of `POST /faults`. Counts are of the next requests to `endpoint` (such as "deposits"; empty: to any)."""

    model_config = ConfigDict(extra="forbid")

    endpoint: str = ""
    latency_s: float = Field(default=0.0, ge=0.0, le=60.0)
    answer_latency_s: float = Field(default=0.0, ge=0.0, le=60.0)
    status_500: int = Field(default=0, ge=0)
    status_401: int = Field(default=0, ge=0)
    status_403: int = Field(default=0, ge=0)
    status_409: int = Field(default=0, ge=0)
    status_413: int = Field(default=0, ge=0)
    status_422: int = Field(default=0, ge=0)
    status_429: int = Field(default=0, ge=0)
    status_503: int = Field(default=0, ge=0)
    retry_after: str = Field(default="", max_length=100)
    html: int = Field(default=0, ge=0)
    empty: int = Field(default=0, ge=0)
    large: int = Field(default=0, ge=0)
    redirect: int = Field(default=0, ge=0)
    truncated_json: int = Field(default=0, ge=0)
    duplicate: int = Field(default=0, ge=0)
    cut_before_commit: int = Field(default=0, ge=0)
    cut_after_commit: int = Field(default=0, ge=0)
    down: bool = False

    def spend(self, fault: str) -> bool:
        """Whether this request is to suffer it."""
        left = getattr(self, fault)
        if left:
            setattr(self, fault, left - 1)
        return left > 0


async def suffer(faults: Faults, request: web.Request, handler: Handler) -> web.StreamResponse:
    """Handle a request with the faults that are switched on for its endpoint."""
    if faults.endpoint not in ("", request.path.rsplit("/", 1)[1]):
        return await handler(request)
    if faults.latency_s:
        await asyncio.sleep(faults.latency_s)
    if faults.down or faults.spend("cut_before_commit"):
        return cut(request)
    for status in STATUSES:
        if faults.spend(f"status_{status}"):
            return error(status, "a fault that was asked for", faults.retry_after)
    if (page := _page(faults)) is not None:
        return page
    answer = await handler(request)
    if faults.spend("duplicate"):  # the network has brought the request twice
        answer = await handler(request)
    if faults.answer_latency_s:
        await asyncio.sleep(faults.answer_latency_s)
    if faults.spend("cut_after_commit"):
        return cut(request)
    if faults.spend("truncated_json") and isinstance(answer, web.Response) and isinstance(answer.body, bytes):
        return web.Response(body=answer.body[: len(answer.body) // 2], content_type="application/json")
    return answer


def _page(faults: Faults) -> web.Response | None:
    """An answer that is not of the contract; the request was not looked at."""
    if faults.spend("html"):
        return web.Response(text=HTML, content_type="text/html")
    if faults.spend("empty"):
        return web.Response(status=204)
    if faults.spend("large"):
        return web.Response(body=b" " * LARGE_BYTES, content_type="application/json")
    if faults.spend("redirect"):
        return web.Response(status=302, headers={"Location": "http://elsewhere.invalid/"})
    return None


async def read_json(request: web.Request) -> Any:
    """What a request's body holds, unpacked where it is gzip: at most `BODY_BYTES`, within `BODY_S`.

    Raises:
        web.HTTPException: it takes too long, is too large or damaged.
        StrictJsonError: it is no JSON.
    """
    body = await read_body(request, BODY_BYTES)
    coding = request.headers.get("Content-Encoding", "identity").lower()
    if coding not in ("identity", "gzip"):
        raise web.HTTPUnsupportedMediaType(reason="Content-Encoding is gzip or nothing")
    if coding == "gzip" and body.startswith(GZIP_MAGIC):  # aiohttp has unpacked it, unless it was told not to
        unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
        try:
            body = unpacking.decompress(body, BODY_BYTES + 1)
        except zlib.error:
            raise web.HTTPBadRequest(reason="damaged gzip") from None
        if len(body) > BODY_BYTES:
            raise web.HTTPRequestEntityTooLarge(BODY_BYTES, len(body))
        if not unpacking.eof:
            raise web.HTTPBadRequest(reason="half a gzip")
    return strict_json.loads(body)


async def read_body(request: web.Request, limit_bytes: int) -> bytes:
    """A request's body as it comes.

    Raises:
        web.HTTPException: it takes too long or is too large.
    """
    try:
        return await asyncio.wait_for(request.clone(client_max_size=limit_bytes).read(), BODY_S)
    except asyncio.TimeoutError:
        raise web.HTTPRequestTimeout() from None


def error(status: int, message: str, retry_after: str = "") -> web.Response:
    """An answer of the contract's kind."""
    headers = {"Retry-After": retry_after} if retry_after else {}
    return web.json_response({"status": "error", "message": message}, status=status, headers=headers)


def answer(body: BaseModel, status: int = 200) -> web.Response:
    """A typed answer."""
    return web.Response(text=body.model_dump_json(), content_type="application/json", status=status)


def cut(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()
