"""An HTTP line as tests need it: quick, with a key that can be replaced, to a server of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from myrvm_cloud.http_line import HttpLimits, HttpLine
from myrvm_core.backoff import Backoff
from pydantic import SecretStr

BASE = "/api/v1"


class TestKey:
    """A key; the ones that follow it are found by reading again."""

    __test__ = False

    def __init__(self, *keys: str) -> None:
        self._keys = list(keys)

    def current(self) -> SecretStr:
        return SecretStr(self._keys[0])

    def read_again(self) -> bool:
        if len(self._keys) > 1:
            self._keys.pop(0)
            return True
        return False


def limits(**changes: Any) -> HttpLimits:
    """Quick ones; no retries and no circuit that opens unless asked for."""
    quick: dict[str, Any] = {"connect_s": 2.0, "tls_s": 2.0, "read_s": 2.0, "total_s": 5.0}
    quick |= {"retries": 0, "failures": 1000, "backoff": Backoff(0.01, 0.05)}
    return HttpLimits(**quick | changes)


@asynccontextmanager
async def line_to(url: str, *keys: str, tls_context: Any = None, **changes: Any) -> AsyncIterator[HttpLine]:
    """An open line."""
    line = HttpLine(url + BASE, TestKey(*keys or ("a-key-to-keep",)), "rvm-7", limits(**changes), tls_context)
    async with line:
        yield line


@asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[str]:
    """A server that answers everything with `handler`; gives its URL."""
    application = web.Application(client_max_size=10_000_000)
    application.router.add_route("*", "/{rest:.*}", handler)
    async with TestServer(application) as server:
        yield str(server.make_url("")).rstrip("/")
