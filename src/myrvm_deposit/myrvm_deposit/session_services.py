"""Who may begin a visit, and when: `deposit/start_session`, `deposit/authorized`, `deposit/end_session`.

The server says who a customer is (`cloud/authorize`). Where it cannot be asked, a token that it has signed is good
without it, and anybody may bring items for a voucher.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from myrvm_core.deposit import DepositMachine, Event, SessionEnded, SessionStarted, State
from myrvm_core.deposit_record import Session, SessionKind
from myrvm_core.errors import SignatureError
from myrvm_core.session_start import CODE, CodeTries
from myrvm_interfaces.srv import Authorize, CustomerAuthorized, EndSession, StartSession
from myrvm_ros.conversions import session_to_message
from myrvm_ros.managed_node import ManagedNode
from rclpy.task import Future
from uuid_utils import uuid7

from myrvm_deposit.machine_identity import MachineIdentity
from myrvm_deposit.offer_desk import OfferDesk
from myrvm_deposit.settings import DepositSettings
from myrvm_deposit.voucher_desk import VoucherDesk

LONGEST_TOKEN = 512  # characters, as in StartSession.srv
LONGEST_ACCOUNT = 100
CODE_TRIES = 5
CODE_REFILL_S = 30.0
REFUSED = StartSession.Request


class SessionServices:
    """Serves the services for a machine.

    Args:
        node: of the services.
        machine: the deposit machine.
        handle: takes its events.
        vouchers: whether they are possible, and whether one is on the screen.
        offers: that a customer may have scanned.
        identity: knows whose a token is without the server.
    """

    def __init__(
        self,
        node: ManagedNode[DepositSettings],
        machine: DepositMachine,
        handle: Callable[[Event], None],
        vouchers: VoucherDesk,
        offers: OfferDesk,
        identity: MachineIdentity,
    ) -> None:
        self._node, self._machine, self._handle = node, machine, handle
        self._vouchers, self._offers, self._identity = vouchers, offers, identity
        self._tries = CodeTries(CODE_TRIES, CODE_REFILL_S)
        self._authorize = node.client(Authorize, "cloud/authorize")
        node.service(StartSession, "deposit/start_session", self._start)
        node.service(CustomerAuthorized, "deposit/authorized", self._begin_offered)
        node.service(EndSession, "deposit/end_session", self._end)

    def _start(self, request: StartSession.Request, response: StartSession.Response) -> Any:
        kind, code = request.kind, CODE.fullmatch(request.token) is not None
        refusal = self._invalid(request) or self._occupied(kind)
        if kind == SessionKind.VOUCHER:
            refusal = refusal or self._undated()
        if refusal or kind == SessionKind.DONATION or (kind == SessionKind.VOUCHER and self._unasked_vouchers):
            return self._answer(response, refusal, SessionKind(kind) if not refusal else SessionKind.NONE)
        if code and not self._tries.spend(time.monotonic()):
            return self._answer(response, REFUSED.REFUSED_TRIES)
        answer = Future(executor=self._node.executor)

        def authorized(known: Any | None) -> None:
            if known is not None and known.reachable:
                refusal, began, account_id = self._online(kind, known)
            else:
                refusal, began, account_id = self._offline(request)
            if code and refusal != REFUSED.REFUSED_NOT_AUTHORIZED:
                self._tries.give_back()
            refusal = refusal or self._occupied(kind)  # another may have begun meanwhile
            answer.set_result(self._answer(response, refusal, began, account_id))

        limit_s = self._node.settings.authorize_s
        self._node.call(self._authorize, Authorize.Request(token=request.token), limit_s, authorized)
        return answer

    def _online(self, kind: int, known: Authorize.Response) -> tuple[int, SessionKind, str]:
        if kind == SessionKind.VOUCHER:
            return REFUSED.REFUSED_ONLINE, SessionKind.NONE, ""
        refusal = REFUSED.REFUSED_NONE if known.authorized else REFUSED.REFUSED_NOT_AUTHORIZED
        return refusal, SessionKind.ACCOUNT, known.account_id

    def _offline(self, request: StartSession.Request) -> tuple[int, SessionKind, str]:
        refusal = REFUSED.REFUSED_OFFLINE
        if request.token.count(".") == 2:
            try:
                return REFUSED.REFUSED_NONE, SessionKind.ACCOUNT, self._identity.account_of(request.token)
            except SignatureError as error:
                self._node.log.warning("token refused", error=str(error))
                refusal = REFUSED.REFUSED_NOT_AUTHORIZED
        if request.kind == SessionKind.VOUCHER or (request.or_voucher and self._vouchers.possible):
            return self._undated(), SessionKind.VOUCHER, ""
        return refusal, SessionKind.NONE, ""

    def _begin_offered(
        self, request: CustomerAuthorized.Request, response: CustomerAuthorized.Response
    ) -> CustomerAuthorized.Response:
        unasked = not request.offer_id and self._node.settings.unasked_sessions
        if not 1 <= len(request.account_id) <= LONGEST_ACCOUNT:
            refusal = REFUSED.REFUSED_INVALID
        elif not unasked and not self._offers.good(request.offer_id):
            refusal = REFUSED.REFUSED_OFFER
        else:
            # On a public channel anybody can send such an event: it ends nobody's session.
            refusal = self._occupied(SessionKind.NONE if unasked else SessionKind.ACCOUNT)
        self._answer(response, refusal, SessionKind.ACCOUNT, request.account_id)
        if response.started:
            self._offers.take(request.offer_id)
        return response

    def _answer(self, response: Any, refusal: int, kind: SessionKind = SessionKind.NONE, account_id: str = "") -> Any:
        """Begin a session of that kind, unless there is a refusal."""
        response.refusal = refusal
        if refusal == REFUSED.REFUSED_NONE:
            session_id = str(uuid7())
            account_id = session_id if kind is SessionKind.VOUCHER else account_id
            session = Session(kind, session_id, account_id, self._node.now_ns())
            response.started, response.session = True, session_to_message(session)
            self._handle(SessionStarted(session))
        return response

    @property
    def _unasked_vouchers(self) -> bool:
        return self._node.settings.vouchers == "always"

    def _invalid(self, request: StartSession.Request) -> int:
        account = request.kind == SessionKind.ACCOUNT
        known_kind = account or request.kind == SessionKind.DONATION
        known_kind = known_kind or (request.kind == SessionKind.VOUCHER and self._vouchers.possible)
        if not known_kind or account != bool(request.token) or len(request.token) > LONGEST_TOKEN:
            return REFUSED.REFUSED_INVALID
        return REFUSED.REFUSED_NONE

    def _undated(self) -> int:
        """Why no voucher can be given now."""
        return REFUSED.REFUSED_NONE if self._vouchers.dated else REFUSED.REFUSED_CLOCK

    def _occupied(self, kind: int) -> int:
        """Why nobody may begin now."""
        machine = self._machine
        if machine.state in (State.OUT_OF_ORDER, State.RECOVERING):
            return REFUSED.REFUSED_OUT_OF_ORDER
        free = machine.session is None and machine.state in (State.IDLE, State.SHOWING)
        free = free and machine.entered_in is None  # else an item of the last visit waits for the gate
        if self._vouchers.fresh() or not (free or (kind == SessionKind.ACCOUNT and self._rests())):
            return REFUSED.REFUSED_BUSY
        return REFUSED.REFUSED_NONE

    def _rests(self) -> bool:
        """Whether the open session may be ended by the next user: nothing has happened in it for a while.

        One that has brought items for a voucher may not: its customer has to see the voucher first.
        """
        machine, settings = self._machine, self._node.settings
        if machine.session is None or machine.state is not State.SESSION:
            return False
        if machine.session.kind is SessionKind.VOUCHER and machine.session_items:
            return False
        return machine.deadline_s - time.monotonic() <= settings.session_s - settings.next_user_s

    def _end(self, request: EndSession.Request, response: EndSession.Response) -> EndSession.Response:
        machine = self._machine
        if machine.session is not None and request.session_id == machine.session.session_id:
            response.ended = True
            response.items, response.points = machine.session_items, machine.session_points
            self._handle(SessionEnded())
        return response
