"""What the demo tries over the network: a voucher is redeemed, and redeemed again; commands, one of them forged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from myrvm_core.qr_code import qr_code
from myrvm_core.signing import SigningKey
from myrvm_interfaces.msg import Session

from myrvm_sim.customer import Customer
from myrvm_sim.demo_report import Seen
from myrvm_sim.desk import Desk
from myrvm_sim.operator import Operator
from myrvm_sim.server_client import TOKENS

VOUCHER_S, OUTCOME_S = 20.0, 40.0
OWNER, OTHER = "budi", "alice"


class Afar:
    """Tries, and keeps what it has seen."""

    def __init__(self, running: Desk, customer: Customer, say: Callable[[str], None]) -> None:
        self._desk, self._customer, self._say = running, customer, say
        self._links: dict[str, tuple[str, int]] = {}  # by session: link, points
        self.seen: list[Seen] = []

    def take_voucher(self, session: Session, items: int, points: int) -> None:
        """A stranger's session has ended: the machine must show his voucher, with what he was told.

        Raises:
            RvmError: it does not.
        """
        if items == 0:
            self._see("voucher", "none: no item of the stranger was accepted", session.session_id not in self._vouchers)
            return
        self._customer.wait(lambda: session.session_id in self._vouchers, "a voucher", VOUCHER_S)
        voucher = self._vouchers[session.session_id]
        self._links[session.session_id] = voucher.link, points
        self._customer.take_voucher(session.session_id)
        told = f"{voucher.items} items, {voucher.points} points, QR code of version {qr_code(voucher.link).version}"
        self._see("voucher printed while the server is away", told, (voucher.items, voucher.points) == (items, points))

    def redeem(self) -> None:
        """The server is back: the voucher is good once, for one account, and a changed one for nobody."""
        server = self._desk.server
        for link, points in self._links.values():
            before = server.balance(OWNER)
            first = server.redeem(link, TOKENS[OWNER])
            got = server.balance(OWNER) - before
            self._see(f"redeemed by {OWNER}", f"{first}, {got} points", (first, got) == ("redeemed", points))
            again = server.redeem(link, TOKENS[OWNER]), server.redeem(link, TOKENS[OTHER])
            got = server.balance(OWNER) - before
            right = again == ("already_yours", "refused with 409") and got == points
            self._see(f"shown again by {OWNER}, then by {OTHER}", f"{again[0]}, {again[1]}", right)
            forged = server.redeem(link[:-40] + link[-40:][::-1], TOKENS[OTHER])
            self._see("with another signature", forged, forged == "refused with 422")

    def command(self) -> None:
        """A signed command is obeyed; the same one again, and one that somebody else has signed, are not.

        Raises:
            RvmError: the server hears no outcome.
        """
        server, machine = self._desk.server, self._desk.variables["HARDWARE_ID"]
        operator, stranger = self._desk.operator, Operator([SigningKey.generate(self._desk.operator.keys[0].key_id)])
        orders = {
            "signed command: show a text": (operator, "done"),
            "forged command: out of service": (stranger, "refused"),
        }
        for what, (signer, wanted) in orders.items():
            kind = "show_message" if signer is operator else "out_of_service"
            claims = signer.claims(machine, kind, {"text": "Thank you!"} if kind == "show_message" else {})
            envelope = signer.sign(claims)
            digest = hashlib.sha256(envelope.encode()).hexdigest()
            server.command(envelope)
            self._customer.wait(lambda digest=digest: digest in server.outcomes(), "an outcome", OUTCOME_S)
            status, reason = server.outcomes()[digest]
            self._see(what, f"{status} {reason}".strip(), status == wanted)

    @property
    def _vouchers(self) -> dict:
        return self._customer.vouchers

    def _see(self, what: str, seen: str, right: bool) -> None:
        self.seen.append(Seen(what, seen, right))
        self._say(f"{what}: {seen}")
