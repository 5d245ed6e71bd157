"""The reference server's side of vouchers: a stand-in that redeems each once, whatever order things arrive in.

Deposits that are brought for a voucher are credited to the account `unclaimed`. Redeeming it moves the voucher's points
from there to the customer's account, in one transaction and once: so it does not matter when the deposits come, or how
often. What is never redeemed stays in `unclaimed`, the operator's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

import jwt
from myrvm_cloud.contract import Deposit
from myrvm_core.errors import SignatureError
from myrvm_core.session_start import Offer
from myrvm_core.signing import DOCUMENT_BYTES, KeyRing, PublicKey, thumbprint
from myrvm_core.voucher import Voucher, digest

UNCLAIMED = "unclaimed"
_TABLES = """
CREATE TABLE IF NOT EXISTS machine_keys (
    key_id TEXT PRIMARY KEY, public TEXT NOT NULL UNIQUE, machine TEXT NOT NULL, revoked_from REAL
);
CREATE TABLE IF NOT EXISTS voucher_deposits (
    idempotency_key TEXT PRIMARY KEY, voucher_id TEXT NOT NULL, machine TEXT NOT NULL, points INTEGER NOT NULL,
    received_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS voucher_deposits_voucher ON voucher_deposits (voucher_id);
CREATE TABLE IF NOT EXISTS redemptions (
    voucher_id TEXT PRIMARY KEY, account_id TEXT NOT NULL, machine TEXT NOT NULL, items INTEGER NOT NULL,
    points INTEGER NOT NULL, deposits TEXT NOT NULL, redeemed_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS transfers (
    voucher_id TEXT NOT NULL, account_id TEXT NOT NULL REFERENCES accounts, points INTEGER NOT NULL,
    PRIMARY KEY (voucher_id, account_id)
);
CREATE TABLE IF NOT EXISTS revoked_vouchers (voucher_id TEXT PRIMARY KEY);
"""

MachineClaims = TypeVar("MachineClaims", Voucher, Offer)


class Outcome(str, Enum):
    """What becomes of a voucher that is shown. The first two are good."""

    REDEEMED = "redeemed"
    ALREADY_YOURS = "already_yours"
    ALREADY_REDEEMED = "already_redeemed"
    EXPIRED = "expired"
    REVOKED = "revoked"
    NOT_VALID = "not_valid"


@dataclass(frozen=True)
class Redemption:
    """The answer: points that the voucher is worth to this account, and for an operator why not."""

    outcome: Outcome
    points: int = 0
    reason: str = ""


class VoucherOffice:
    """Keys of machines, deposits for vouchers, redemptions.

    Args:
        connection: of the server, with its table `accounts`.
        transaction: of the server; a call that changes more than one row is one.
        now_s: the time of day, s since the epoch.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        transaction: Callable[[], AbstractContextManager[None]],
        now_s: Callable[[], float],
    ) -> None:
        self._connection, self._transaction, self.now_s = connection, transaction, now_s
        connection.executescript(_TABLES)

    # From machines

    def enrol(self, machine: str, public: str) -> None:
        """A machine that has proved itself by the API key says what it signs with. A key is one machine's for ever."""
        if public:
            self._connection.execute(
                "INSERT OR IGNORE INTO machine_keys VALUES (?, ?, ?, NULL)", (thumbprint(public), public, machine)
            )

    def hold(self, deposit: Deposit, machine: str) -> str:
        """Note a deposit that is for a voucher, in the server's transaction. Returns the account to credit it to."""
        self._open_unclaimed()
        self._connection.execute(
            "INSERT OR IGNORE INTO voucher_deposits VALUES (?, ?, ?, ?, ?)",
            (deposit.idempotency_key, deposit.account_id, machine, deposit.points, self.now_s()),
        )
        return UNCLAIMED

    # From customers

    def redeem(self, document: str, account_id: str) -> Redemption:
        """Credit a voucher to an account that the server knows, once."""
        with self._transaction():
            try:
                voucher, revoked_from = self.read(Voucher, document)
            except SignatureError as error:
                return Redemption(Outcome.NOT_VALID, reason=str(error))
            taken = self._connection.execute(
                "SELECT account_id, points FROM redemptions WHERE voucher_id = ?", (voucher.voucher_id,)
            ).fetchone()
            if taken is not None:
                yours = taken[0] == account_id
                return Redemption(Outcome.ALREADY_YOURS, taken[1]) if yours else Redemption(Outcome.ALREADY_REDEEMED)
            if reason := self._revoked(voucher, revoked_from):
                return Redemption(Outcome.REVOKED, reason=reason)
            if voucher.expires_at <= self.now_s():
                return Redemption(Outcome.EXPIRED)
            self._credit(voucher, account_id)
            return Redemption(Outcome.REDEEMED, voucher.points)

    def read(self, kind: type[MachineClaims], document: str) -> tuple[MachineClaims, float | None]:
        """What a machine has signed, and since when its key is revoked.

        Raises:
            SignatureError: it is not signed by a machine that is known, or says that it is another one.
        """
        key_id = _key_id(document)
        row = self._connection.execute(
            "SELECT public, machine, revoked_from FROM machine_keys WHERE key_id = ?", (key_id,)
        ).fetchone()
        if row is None:
            raise SignatureError(f"signed with {key_id!r}, which is no machine's that is known")
        public, machine, revoked_from = row
        purposes = frozenset({Voucher.PURPOSE, Offer.PURPOSE})
        ring = KeyRing(keys=(PublicKey(key_id=key_id, public=public, purposes=purposes),))
        claims, _ = kind.read(document, ring, self.now_s())
        if claims.machine != machine:
            raise SignatureError(f"says that it is of machine {claims.machine}, but {machine} has signed it")
        return claims, revoked_from

    # From the operator

    def revoke_key(self, key_id: str, from_s: float) -> bool:
        """Trust nothing that a machine's key has signed from `from_s` on. False where there is no such key.

        Who has stolen a key writes any date. So of what bears an earlier one, a voucher is still good only if all its
        deposits had reached the server by then.
        """
        done = self._connection.execute(
            "UPDATE machine_keys SET revoked_from = MIN(COALESCE(revoked_from, ?1), ?1) WHERE key_id = ?2",
            (from_s, key_id),
        )
        return done.rowcount > 0

    def revoke_voucher(self, voucher_id: str) -> None:
        """Redeem this one no more; one that is redeemed already stays so."""
        self._connection.execute("INSERT OR IGNORE INTO revoked_vouchers VALUES (?)", (voucher_id,))

    def statement(self) -> list[dict[str, Any]]:
        """All vouchers that the server knows of: what has arrived for them, who redeemed them, whether it agrees."""
        redeemed = {
            row[0]: row[1:]
            for row in self._connection.execute("SELECT voucher_id, account_id, points, deposits FROM redemptions")
        }
        arrived: dict[str, dict[str, int]] = {}
        for key, voucher_id, points in self._connection.execute(
            "SELECT idempotency_key, voucher_id, points FROM voucher_deposits ORDER BY rowid"
        ):
            arrived.setdefault(voucher_id, {})[key] = points
        lines: list[dict[str, Any]] = []
        for voucher_id in sorted(redeemed.keys() | arrived.keys()):
            account_id, points, named = redeemed.get(voucher_id, (None, None, None))
            deposits = arrived.get(voucher_id, {})
            lines.append(
                {
                    "voucher_id": voucher_id,
                    "redeemed_by": account_id,
                    "points": points,
                    "deposits": len(deposits),
                    "deposited_points": sum(deposits.values()),
                    "agrees": named == digest(deposits) and points == sum(deposits.values()),
                }
            )
        return lines

    # Inside

    def _revoked(self, voucher: Voucher, revoked_from: float | None) -> str:
        if self._connection.execute(
            "SELECT 1 FROM revoked_vouchers WHERE voucher_id = ?", (voucher.voucher_id,)
        ).fetchone():
            return "the voucher is revoked"
        if revoked_from is None:
            return ""
        if voucher.issued_at >= revoked_from:
            return "its key was revoked before it was issued"
        rows = self._connection.execute(
            "SELECT idempotency_key, points FROM voucher_deposits"
            " WHERE voucher_id = ? AND machine = ? AND received_at < ?",
            (voucher.voucher_id, voucher.machine, revoked_from),
        ).fetchall()
        proved = digest(key for key, _ in rows) == voucher.deposits and sum(row[1] for row in rows) == voucher.points
        return "" if proved else "its key is revoked, and its deposits had not arrived by then"

    def _credit(self, voucher: Voucher, account_id: str) -> None:
        self._open_unclaimed()
        self._connection.execute(
            "INSERT INTO redemptions VALUES (?, ?, ?, ?, ?, ?, ?)",
            (voucher.voucher_id, account_id, voucher.machine, voucher.items, voucher.points, voucher.deposits,
             self.now_s()),
        )  # fmt: skip
        self._connection.executemany(
            "INSERT INTO transfers VALUES (?, ?, ?)",
            [(voucher.voucher_id, account_id, voucher.points), (voucher.voucher_id, UNCLAIMED, -voucher.points)],
        )

    def _open_unclaimed(self) -> None:
        self._connection.execute("INSERT OR IGNORE INTO accounts VALUES (?, ?, '')", (UNCLAIMED, "Unclaimed vouchers"))


def _key_id(document: str) -> str:
    """Who says that he has signed it; nothing is checked yet."""
    if len(document) > DOCUMENT_BYTES:
        raise SignatureError(f"a document of {len(document)} characters; allowed: {DOCUMENT_BYTES}")
    try:
        return str(jwt.get_unverified_header(document).get("kid"))[:100]
    except (jwt.InvalidTokenError, RecursionError, ValueError):
        raise SignatureError("no compact JWS") from None
