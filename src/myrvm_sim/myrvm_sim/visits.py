"""The reference server's side of how a session begins: offers that an app scans, six digits, tokens that hold offline.

A stand-in, as the rest of the server: its customers' keys are made at each start.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from myrvm_core.errors import SignatureError
from myrvm_core.session_start import CODE, CustomerToken, Offer, account_of
from myrvm_core.signing import KeyRing, PublicKey, SigningKey

from myrvm_sim.vouchers import VoucherOffice

CODE_S = 300.0
TOKEN_S = 30 * 86_400
_TABLES = """
CREATE TABLE IF NOT EXISTS codes (code TEXT PRIMARY KEY, account_id TEXT NOT NULL UNIQUE, expires_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS offers (offer_id TEXT PRIMARY KEY, account_id TEXT NOT NULL, expires_at REAL NOT NULL);
"""


@dataclass(frozen=True)
class Account:
    """A customer as the server knows him."""

    account_id: str
    display_name: str
    balance_points: int


class VisitDesk:
    """Lets customers begin sessions.

    Args:
        connection: of the server.
        office: knows the machines' keys.
        now_s: the time of day, s since the epoch.
    """

    def __init__(self, connection: sqlite3.Connection, office: VoucherOffice, now_s: Callable[[], float]) -> None:
        self._connection, self._office, self.now_s = connection, office, now_s
        self._key = SigningKey.generate()
        connection.executescript(_TABLES)

    @property
    def ring(self) -> KeyRing:
        """What machines need to believe the server's tokens without asking it: a part of `config/keys.yaml`."""
        public = PublicKey(
            key_id=self._key.key_id, public=self._key.public, purposes=frozenset({CustomerToken.PURPOSE})
        )
        return KeyRing(keys=(public,))

    def accept(self, document: str, account: Account) -> tuple[str, dict[str, Any]]:
        """A customer has scanned an offer; by the same one it may be scanned again.

        Returns:
            The machine, and the event `session.authorized` that is to be sent to it.

        Raises:
            SignatureError: no machine offers this, not any more, or to somebody else.
        """
        offer, revoked_from = self._office.read(Offer, document)
        if offer.expires_at <= self.now_s() or revoked_from is not None:
            raise SignatureError("an offer that has expired or whose key is revoked")
        self._connection.execute("DELETE FROM offers WHERE expires_at < ?", (self.now_s() - 86_400,))
        self._connection.execute(
            "INSERT OR IGNORE INTO offers VALUES (?, ?, ?)", (offer.offer_id, account.account_id, offer.expires_at)
        )
        taken = self._connection.execute("SELECT account_id FROM offers WHERE offer_id = ?", (offer.offer_id,))
        if taken.fetchone()[0] != account.account_id:
            raise SignatureError("an offer that another customer has scanned")
        user = {"id": account.account_id, "name": account.display_name, "balance": account.balance_points}
        return offer.machine, {"offer_id": offer.offer_id, "user": user}

    def code(self, account_id: str) -> str:
        """Six digits that stand for an account once, within five minutes; the account's last ones end."""
        self._connection.execute("DELETE FROM codes WHERE expires_at < ? OR account_id = ?", (self.now_s(), account_id))
        while True:
            code = f"{secrets.randbelow(10**6):06}"
            made = self._connection.execute(
                "INSERT OR IGNORE INTO codes VALUES (?, ?, ?)", (code, account_id, self.now_s() + CODE_S)
            )
            if made.rowcount:
                return code

    def token(self, account_id: str) -> str:
        """A token for machines that cannot ask the server."""
        return CustomerToken(account_id=account_id, expires_at=int(self.now_s() + TOKEN_S)).sign(self._key)

    def account_of(self, token: str) -> str | None:
        """Whose code or token this is; a code is used up."""
        if CODE.fullmatch(token):
            row = self._connection.execute(
                "DELETE FROM codes WHERE code = ? RETURNING account_id, expires_at", (token,)
            ).fetchone()
            return row[0] if row is not None and row[1] > self.now_s() else None
        try:
            return account_of(token, self.ring, "", self.now_s())
        except SignatureError:
            return None
