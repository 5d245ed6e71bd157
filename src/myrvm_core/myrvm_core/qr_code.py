"""QR codes as pictures, for the kiosk: error correction M, and no larger than a phone reads from a screen."""

from __future__ import annotations

import io

import segno

VERSION_LIMIT = 20  # 97 modules a side
QUIET_ZONE = 4  # modules, ISO/IEC 18004


def qr_code(text: str) -> segno.QRCode:
    """The code of a text.

    Raises:
        ValueError: it does not fit into version 20.
    """
    code = segno.make_qr(text, error="m", boost_error=False)
    if int(code.version) > VERSION_LIMIT:
        raise ValueError(f"{len(text)} characters give a QR code of version {code.version}; allowed: {VERSION_LIMIT}")
    return code


def svg(text: str) -> bytes:
    """The code of a text as an SVG that takes the size of its box; ValueError where it does not fit."""
    picture = io.BytesIO()
    qr_code(text).save(picture, kind="svg", border=QUIET_ZONE, omitsize=True, xmldecl=False, light="#fff")
    return picture.getvalue()


def png(text: str, module_px: int = 8) -> bytes:
    """The code of a text as a PNG, each module a square of `module_px`; ValueError where it does not fit."""
    picture = io.BytesIO()
    qr_code(text).save(picture, kind="png", border=QUIET_ZONE, scale=module_px)
    return picture.getvalue()
