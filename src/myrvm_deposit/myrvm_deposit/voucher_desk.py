"""Vouchers at the machine: `deposit/voucher` says which one to show, `deposit/dismiss_voucher` takes it off the screen.

A voucher is signed when its session has ended and the last item that entered in it has come to its end. It is shown
until the customer has it, for `voucher_show_s` at most, or until somebody else begins; after a crash it is shown again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from myrvm_core.claims import link
from myrvm_core.deposit import DepositMachine, Ending, Show, State
from myrvm_core.deposit_record import SessionKind
from myrvm_core.errors import StorageError
from myrvm_core.voucher import PAGE
from myrvm_interfaces.msg import Voucher
from myrvm_interfaces.srv import DismissVoucher
from myrvm_ros.managed_node import ManagedNode
from myrvm_ros.stamps import to_message

from myrvm_core import paths
from myrvm_deposit.machine_identity import MachineIdentity
from myrvm_deposit.settings import DepositSettings
from myrvm_deposit.voucher_book import Entry, VoucherBook
from myrvm_ros import qos

AGAIN_S = 600.0  # after a restart a voucher that is older than that is not shown: its customer has gone
RETRY_S = 5.0


class VoucherDesk:
    """Made when the node is configured; `begin` when it is activated."""

    def __init__(self, node: ManagedNode[DepositSettings], identity: MachineIdentity) -> None:
        self._node, self._identity = node, identity
        self._topic = node.publisher(Voucher, "deposit/voucher", qos.STATE)
        self._book = VoucherBook(paths.data() / "vouchers", identity.name, node.settings.voucher_days * 86_400.0)
        self.unwritten: set[str] = set()  # deposits of which the customer must be told again after a restart

    @property
    def possible(self) -> bool:
        """Whether vouchers can be signed here, and redeemed there."""
        settings = self._node.settings
        return self._identity.key is not None and settings.vouchers != "never" and not settings.unasked_sessions

    @property
    def dated(self) -> bool:
        """Whether the time of day is known well enough for a voucher that the server will take."""
        return self._identity.dated_s() is not None

    @property
    def undated(self) -> int:
        """How many sessions wait for their voucher until somebody tells the time of day."""
        return 0 if self.dated else len(self._book.unsigned)

    def begin(self, machine: DepositMachine, recovering: Mapping[str, Show]) -> None:
        """Serve `machine`; `recovering` are deposits that a crash has left behind and that are not told yet.

        Raises:
            StorageError: an old file cannot be removed.
        """
        self._machine, self._recovering = machine, recovering
        self._on_screen = ""
        self._retrying = False
        self._since_s = self._until_s = 0.0
        for line in self._book.load(self._identity.dated_s() or 0.0):
            self._node.log.error("voucher damaged", error=line)
        self._node.service(DismissVoucher, "deposit/dismiss_voucher", self._dismiss)
        self._publish(None)

    def signed(self, session_id: str) -> bool:
        """Whether that session has its voucher, so that it is over for good."""
        return self._book.signed(session_id)

    def count(self, show: Show) -> None:
        """The customer is going to be told of a deposit: write it down first, if it is a voucher's."""
        if show.ending is not Ending.ACCEPTED or show.session.kind is not SessionKind.VOUCHER:
            return
        try:
            if not self._book.count(show.session, show.deposit_id, show.points):
                self._node.log.error("deposit came after its voucher was signed", deposit_id=show.deposit_id)
        except StorageError as error:
            self.unwritten.add(show.deposit_id)
            self._node.log.error("deposit not written to its voucher", deposit_id=show.deposit_id, error=str(error))

    def fresh(self) -> bool:
        """Whether a voucher has just come on the screen, so that nobody else may begin yet."""
        return bool(self._on_screen) and time.monotonic() - self._since_s < self._node.settings.next_user_s

    def look(self) -> None:
        """Sign what is complete, and put the right voucher on the screen."""
        if self._machine.state is State.RECOVERING:
            return
        try:
            self._sign()
            self._show()
            self._book.prune(self._identity.dated_s() or 0.0)
        except StorageError as error:
            if not self._retrying:
                self._retrying = True
                self._node.log.error("voucher not written", error=str(error))
                self._node.after(RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retrying = False
        self.look()

    def _sign(self) -> None:
        key, now_s = self._identity.key, self._identity.dated_s()
        told_later = {show.session.session_id for show in self._recovering.values()}
        for voucher_id in self._book.unsigned:
            if key and now_s and voucher_id not in told_later and not self._machine.may_grow(voucher_id):
                self._book.sign(voucher_id, key, now_s)
                self._node.log.info("voucher signed", voucher_id=voucher_id)

    def _show(self) -> None:
        entry = self._book.newest()
        while entry is not None and self._is_over(entry):
            self._book.dismiss(entry.session.session_id)
            entry = self._book.newest()
        voucher_id = entry.session.session_id if entry else ""
        if voucher_id != self._on_screen:
            self._on_screen = voucher_id
            self._since_s, self._until_s = time.monotonic(), time.monotonic() + self._node.settings.voucher_show_s
            self._publish(entry)
            if entry is not None:
                self._node.after(self._node.settings.voucher_show_s, self.look)

    def _is_over(self, entry: Entry) -> bool:
        session, voucher_id = self._machine.session, entry.session.session_id
        if session is not None and session.session_id != voucher_id:
            return True
        if voucher_id == self._on_screen:
            return time.monotonic() >= self._until_s
        now_s = self._identity.dated_s()
        return now_s is None or now_s - entry.issued_at_s > AGAIN_S

    def _dismiss(self, request: DismissVoucher.Request, response: DismissVoucher.Response) -> DismissVoucher.Response:
        if request.voucher_id and request.voucher_id == self._on_screen:
            self._until_s = 0.0
            self.look()
            response.dismissed = True
        return response

    def _publish(self, entry: Entry | None) -> None:
        message = Voucher()
        message.header.stamp = to_message(self._node.now_ns())
        if entry is not None:
            message.voucher_id = entry.session.session_id
            message.link = link(self._node.settings.server_url, PAGE, entry.document)
            message.items, message.points = len(entry.points), sum(entry.points.values())
            message.expires_at = to_message(entry.expires_at_s * 10**9)
            message.shown_until = to_message(self._node.now_ns() + int(self._node.settings.voucher_show_s * 1e9))
        self._topic.publish(message)
