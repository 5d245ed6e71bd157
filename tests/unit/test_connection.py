from __future__ import annotations

import logging

import pytest
import structlog
from aiohttp import web
from event_server import Listener
from myrvm_cloud.connection import Connection
from myrvm_cloud.contract import WebSocketAccess
from myrvm_cloud.events import LineState
from myrvm_cloud.settings import CloudBridgeSettings
from plain_line import TestKey

TOKEN = "token-that-must-not-be-logged"


@pytest.mark.parametrize("in_url", [False, True])
async def test_the_token_goes_where_the_settings_say_and_into_no_log(
    in_url: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asked: list[web.Request] = []

    async def listen(request: web.Request) -> web.WebSocketResponse:
        asked.append(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        return socket

    application = web.Application()
    application.add_routes([web.get("/ws", listen)])
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"ws://127.0.0.1:{runner.addresses[0][1]}/ws"
        settings = CloudBridgeSettings(ws_url=url)
        if in_url:
            settings = settings.model_copy(update={"ws_token_in_url": True})
        with structlog.testing.capture_logs() as written:
            connection = Connection(settings, TestKey(TOKEN), "m1", "1", "")
            access = WebSocketAccess(protocol="raw", url=url, channel="rvm.m1")
            line = connection._event_line(access, structlog.get_logger())
            assert line is not None
            async with Listener(line) as heard:
                await heard.until(lambda: line.state is LineState.SUBSCRIBED)
    finally:
        await runner.cleanup()
    sent = asked[0].query.get("token"), asked[0].headers.get("Authorization")
    assert sent == ((TOKEN, None) if in_url else (None, f"Bearer {TOKEN}"))
    assert TOKEN not in caplog.text + repr((written, heard.events, line, connection))
