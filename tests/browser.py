"""A headless Chromium for tests, told what to do over its DevTools protocol; a test that needs one is skipped without.

Protocol: chromedevtools.github.io/devtools-protocol. A page has the size of a phone's until it is told otherwise.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
LIMIT_S = 60.0
ANSWER_S = 5.0
LOOK_S = 0.05


class Page:
    """One page."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)

    async def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command; its result."""
        number = next(self._numbers)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            said = json.loads(await asyncio.wait_for(self._socket.recv(), LIMIT_S))
            if said.get("id") == number:
                assert "error" not in said, (method, said)
                return said["result"]

    async def run(self, script: str) -> Any:
        """The value of an expression of JavaScript."""
        said = await self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait for a condition of the page, also while it is loaded anew."""
        end = asyncio.get_running_loop().time() + LIMIT_S
        while True:
            with contextlib.suppress(asyncio.TimeoutError, AssertionError):  # a page that goes may take an answer along
                if await asyncio.wait_for(self.run(script), ANSWER_S):
                    return
            assert asyncio.get_running_loop().time() < end, f"not within {LIMIT_S} s: {script}"
            await asyncio.sleep(LOOK_S)

    async def open(self, url: str) -> None:
        """Go to a page, as a scanned QR code does, and wait until its scripts have run."""
        await self.send("Page.navigate", url="about:blank")
        await self.until("location.href === 'about:blank'")
        await self.send("Page.navigate", url=url)
        await self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    async def write(self, selector: str, text: str) -> None:
        """Type into a field."""
        assert await self.tap(selector)
        await self.send("Input.insertText", text=text)

    async def tap(self, selector: str, times: int = 1) -> bool:
        """Touch the middle of what is found, a few times quickly; whether it was in view and nothing lay over it."""
        place = await self.run(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)}); found.scrollIntoView();"
            " const box = found.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;"
            " return {x, y, hit: found.contains(document.elementFromPoint(x, y))}; })()"
        )
        point = {"x": place["x"], "y": place["y"]}
        for _ in range(times):
            await self.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[point])
            await self.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        return place["hit"]

    async def picture(self, file: Path) -> None:
        """What is to be seen, as PNG."""
        said = await self.send("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(said["data"]))


def program() -> str:
    """The browser; the test is skipped where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), "")
    if not found:
        pytest.skip(f"no browser: needs one of {', '.join(NAMES)}")
    return found


@asynccontextmanager
async def browsing(folder: Path) -> AsyncIterator[Page]:
    """A browser without a past, its profile in `folder`; it is ended at the end."""
    profile = folder / "profile"
    command = [program(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    command += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    with (folder / "browser.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        port = await _port(profile / "DevToolsActivePort", process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=LIMIT_S) as answer:
            [page] = [target for target in json.load(answer) if target["type"] == "page"]
        async with connect(page["webSocketDebuggerUrl"], max_size=None, proxy=None) as socket:
            made = Page(socket)
            await made.send("Network.enable")
            await made.send("Emulation.setDeviceMetricsOverride", **PHONE)
            await made.send("Emulation.setTouchEmulationEnabled", enabled=True)
            yield made
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


async def _port(file: Path, process: subprocess.Popen[bytes]) -> int:
    end = asyncio.get_running_loop().time() + LIMIT_S
    while not file.is_file() or "\n" not in file.read_text():
        assert process.poll() is None, "the browser has ended, see browser.log"
        assert asyncio.get_running_loop().time() < end, f"no browser within {LIMIT_S} s"
        await asyncio.sleep(LOOK_S)
    return int(file.read_text().split("\n")[0])
