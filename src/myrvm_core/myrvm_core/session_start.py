"""How a customer becomes known: by an offer that an app scans, by six digits, by a token that holds without the server.

None of it does any I/O; the time is an argument. Who may begin when: `myrvm_deposit.session_services`.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from typing import ClassVar

from pydantic import Field

from myrvm_core.claims import Claims, EpochSeconds, MachineId
from myrvm_core.errors import SignatureError
from myrvm_core.signing import KeyRing, SigningKey

PAGE = "s"  # of the server, where a phone without the app begins a session
CODE = re.compile(r"[0-9]{6}")
OFFERS_KEPT = 10


class Offer(Claims):
    """A machine says: whoever scans this stands before me now. The id is known only to who has seen it."""

    KIND: ClassVar[str] = "rvm-offer"
    PURPOSE: ClassVar[str] = "offer"

    offer_id: str = Field(pattern=r"^[A-Za-z0-9_-]{22}$", description="128 random bits")
    machine: MachineId
    expires_at: EpochSeconds


class CustomerToken(Claims):
    """The server says: who shows this is that account. It gives nothing but points to that account.

    It may be shown at many machines, and again at one, until it expires: offline nobody can tell. With `machine` it is
    good at that one only.
    """

    KIND: ClassVar[str] = "rvm-customer"
    PURPOSE: ClassVar[str] = "customer"

    account_id: str = Field(min_length=1, max_length=100)
    expires_at: EpochSeconds
    machine: str = Field(default="", max_length=100, description="empty: any")


def account_of(token: str, ring: KeyRing, machine: str, epoch_s: float) -> str:
    """Whose token this is, without asking the server.

    Raises:
        SignatureError: it is no token of the server's, has expired, or is for another machine.
    """
    customer, _ = CustomerToken.read(token, ring, epoch_s)
    if customer.expires_at <= epoch_s:
        raise SignatureError(f"a token that has expired {epoch_s - customer.expires_at:.0f} s ago")
    if customer.machine not in ("", machine):
        raise SignatureError(f"a token for machine {customer.machine}; this is {machine}")
    return customer.account_id


class Offers:
    """The offers of one machine. Each can be taken once, until it expires; the last ones stand beside the new one.

    Args:
        key: signs.
        machine: its HARDWARE_ID.
        lifetime_s: of an offer.
    """

    def __init__(self, key: SigningKey, machine: str, lifetime_s: float) -> None:
        self._key, self._machine, self._lifetime_s = key, machine, lifetime_s
        self._open: OrderedDict[str, int] = OrderedDict()  # id, expires_at

    def renew(self, epoch_s: float) -> tuple[Offer, str]:
        """A new offer and the document."""
        expires_at = int(epoch_s + self._lifetime_s)
        offer = Offer(offer_id=secrets.token_urlsafe(16), machine=self._machine, expires_at=expires_at)
        self._open[offer.offer_id] = expires_at
        while len(self._open) > OFFERS_KEPT:
            self._open.popitem(last=False)
        return offer, offer.sign(self._key)

    def good(self, offer_id: str, epoch_s: float) -> bool:
        """Whether it may be taken."""
        return epoch_s < self._open.get(offer_id, 0)

    def take(self, offer_id: str) -> None:
        """A session has begun with it."""
        self._open.pop(offer_id, None)


class CodeTries:
    """How often six digits may be tried at this machine: a bucket of `limit` tries, one comes back each `refill_s`."""

    def __init__(self, limit: int, refill_s: float) -> None:
        self._limit, self._refill_s = limit, refill_s
        self._left, self._since_s = float(limit), 0.0

    def spend(self, now_s: float) -> bool:
        """Take one try, at monotonic time `now_s`; False where none is left."""
        self._left = min(self._limit, self._left + max(0.0, now_s - self._since_s) / self._refill_s)
        self._since_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def give_back(self) -> None:
        """The code was right, or could not be checked: it was no guess."""
        self._left = min(self._limit, self._left + 1.0)
