"""The page that redeems a voucher, in a browser of a phone's size: opened by the QR code's link, and typed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import cv2
import numpy as np
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer
from browser import PHONE, Page, browsing
from myrvm_core.claims import link
from myrvm_core.qr_code import png
from myrvm_core.signing import SigningKey
from myrvm_core.voucher import PAGE, Voucher, digest
from myrvm_sim.phone_page import TEXTS
from myrvm_sim.reference_server import ReferenceServer

MACHINE, KEY, NOW_S = "rvm-7", SigningKey.generate(), 1_800_000_000
SAID = "[role=status], [role=alert]"
SMALLEST_TAP_PX, SMALLEST_FONT_PX, LEAST_CONTRAST = 48.0, 16.0, 4.5
LOOKS = """(() => [...document.querySelectorAll("h1, p, label, input, textarea, button, .button")]
  .filter(found => found.checkVisibility() && found.tagName !== "NOSCRIPT").map(found => {
    const style = getComputedStyle(found), box = found.getBoundingClientRect();
    let under = found;
    while (under && getComputedStyle(under).backgroundColor === "rgba(0, 0, 0, 0)") under = under.parentElement;
    return {what: found.tagName, height: box.height, left: box.left, right: box.right,
      font: parseFloat(style.fontSize), color: style.color, under: under && getComputedStyle(under).backgroundColor};
  }))()"""


@pytest_asyncio.fixture
async def url() -> AsyncIterator[str]:
    """A reference server that knows a machine."""
    server = ReferenceServer(":memory:")
    server.vouchers.now_s = lambda: NOW_S
    server.vouchers.enrol(MACHINE, KEY.public)
    async with TestServer(server.application()) as http:
        yield str(http.make_url("")).rstrip("/")


@pytest_asyncio.fixture
async def phone(tmp_path: Path) -> AsyncIterator[Page]:
    async with browsing(tmp_path) as page:
        yield page


def voucher(number: int, points: int) -> str:
    made = Voucher(
        voucher_id=str(UUID(int=number)), machine=MACHINE, items=2, points=points, deposits=digest(["a", "b"]),
        issued_at=NOW_S, expires_at=NOW_S + 86_400,
    )  # fmt: skip
    return made.sign(KEY)


def scanned(text: str) -> str:
    """What a phone's camera reads from the code on the kiosk."""
    picture = cv2.imdecode(np.frombuffer(png(text), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return cv2.QRCodeDetectorAruco().detectAndDecode(picture)[0]


async def redeem(phone: Page, token: str, taps: int = 1) -> str:
    """Write the account's code, touch the button; what the page says."""
    await phone.write("#account", token)
    await phone.run("window.before = true")
    assert await phone.tap("button", taps), "the button is in view"
    await phone.until(f"!window.before && !!document.querySelector('{SAID}')")
    return await phone.run(f"document.querySelector('{SAID}').innerText")


def luminance(color: str) -> float:
    """WCAG 2, relative luminance."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


async def looks_well(phone: Page, dark: bool) -> None:
    """Nothing is cut off, too small to touch or to read; 16 px also keep a phone from zooming into a field."""
    ground = "rgb(18, 18, 18)" if dark else "rgb(255, 255, 255)"  # Chromium's canvas under `color-scheme`
    for one in await phone.run(LOOKS):
        assert one["left"] >= 0, one
        assert one["right"] <= PHONE["width"], one
        assert one["font"] >= SMALLEST_FONT_PX, one
        if one["what"] in ("INPUT", "TEXTAREA", "BUTTON", "A"):
            assert one["height"] >= SMALLEST_TAP_PX, one
        darker, lighter = sorted(luminance(color) for color in (one["color"], one["under"] or ground))
        assert (lighter + 0.05) / (darker + 0.05) >= LEAST_CONTRAST, one


@pytest.mark.parametrize(("language", "dark"), [("en", False), ("id", True)])
async def test_scanned_it_is_redeemed_once_and_the_second_time_says_so(
    url: str, phone: Page, language: str, dark: bool
) -> None:
    texts = TEXTS[language]
    scheme: list[dict[str, Any]] = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    await phone.send("Emulation.setEmulatedMedia", features=scheme)
    await phone.send("Network.setExtraHTTPHeaders", headers={"Accept-Language": language})
    code = scanned(link(url, PAGE, voucher(1, 15)))
    await phone.open(code)
    assert await phone.run("location.href") == f"{url}/{PAGE}", "the voucher is not left in the address"
    shown = await phone.run("document.body.innerText")
    assert texts["v.read"] in shown
    assert texts["v.document"] not in shown, "nobody has to look at a signed document"
    await looks_well(phone, dark)
    assert await redeem(phone, "nobody") == texts["unknown_account"]
    assert await redeem(phone, "token-alice") == texts["redeemed"].format(points=15), "the voucher is still there"
    await looks_well(phone, dark)
    await phone.open(code)
    assert await redeem(phone, "token-alice") == texts["already_yours"].format(points=15)
    await phone.open(code)
    assert await redeem(phone, "token-budi") == texts["already_redeemed"]
    await looks_well(phone, dark)


async def test_typed_it_is_redeemed_too(url: str, phone: Page) -> None:
    await phone.send("Network.setExtraHTTPHeaders", headers={"Accept-Language": "en"})
    await phone.open(f"{url}/{PAGE}")
    await looks_well(phone, dark=False)
    await phone.write("#document", link(url, PAGE, voucher(2, 5)))
    thanks = TEXTS["en"]["redeemed"].format(points=5)
    assert await redeem(phone, "token-budi", taps=3) == thanks, "impatience redeems once and does not hide the thanks"
    assert await phone.tap(".button")
    await phone.until("!!document.querySelector('#document')")
    await phone.write("#document", "not a voucher")
    assert await redeem(phone, "token-budi") == TEXTS["en"]["not_valid"]
