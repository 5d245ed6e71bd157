"""Vouchers: what a machine signs for a customer whom it cannot ask the server about, and who shows it gets the credit.

A voucher's id is the id of the session that it is for: one session has one voucher. Its deposits stand in it as a
digest, since a phone reads it from a QR code. When it is signed: `myrvm_deposit.voucher_book`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from typing import ClassVar

from pydantic import Field

from myrvm_core.claims import Claims, EpochSeconds, MachineId

PAGE = "v"  # of the server, where a phone redeems it


class Voucher(Claims):
    """The claims of a voucher; times as the machine's clock told them."""

    KIND: ClassVar[str] = "rvm-voucher"
    PURPOSE: ClassVar[str] = "voucher"

    voucher_id: str = Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", description="the session's")
    machine: MachineId
    items: int = Field(ge=1, le=65_535)
    points: int = Field(ge=0, lt=2**32)
    deposits: str = Field(pattern=r"^[A-Za-z0-9_-]{43}$", description="`digest` of their ids")
    issued_at: EpochSeconds
    expires_at: EpochSeconds


def digest(deposit_ids: Iterable[str]) -> str:
    """SHA-256 of deposits' ids in order, a line each, in base64url."""
    lines = "".join(f"{deposit_id}\n" for deposit_id in sorted(deposit_ids))
    return base64.urlsafe_b64encode(hashlib.sha256(lines.encode()).digest()).rstrip(b"=").decode()
