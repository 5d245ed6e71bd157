"""`deposit/start_session` and `deposit/end_session`: who may begin a visit, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from myrvm_core.deposit import DepositMachine, Event, SessionEnded, SessionStarted, State
from myrvm_core.deposit_record import Session, SessionKind
from myrvm_interfaces.srv import Authorize, EndSession, StartSession
from myrvm_ros.conversions import session_to_message
from myrvm_ros.managed_node import ManagedNode
from rclpy.task import Future
from uuid_utils import uuid7

from myrvm_deposit.settings import DepositSettings

LONGEST_TOKEN = 512  # characters, as in StartSession.srv


class SessionServices:
    """Serves the two services for a machine; asks `cloud/authorize` who a customer is."""

    def __init__(
        self, node: ManagedNode[DepositSettings], machine: DepositMachine, handle: Callable[[Event], None]
    ) -> None:
        self._node = node
        self._machine = machine
        self._handle = handle
        self._authorize = node.client(Authorize, "cloud/authorize")
        node.service(StartSession, "deposit/start_session", self._start)
        node.service(EndSession, "deposit/end_session", self._end)

    def _start(self, request: StartSession.Request, response: StartSession.Response) -> Any:
        refusal = self._refusal(request)
        if refusal != StartSession.Request.REFUSED_NONE or request.kind == SessionKind.DONATION:
            return self._open(request, response, refusal)
        answer = Future(executor=self._node.executor)

        def authorized(known: Any | None) -> None:
            if known is None or not known.reachable:
                refusal = StartSession.Request.REFUSED_OFFLINE
            elif not known.authorized:
                refusal = StartSession.Request.REFUSED_NOT_AUTHORIZED
            else:
                refusal = self._refusal(request)  # another may have begun meanwhile
            answer.set_result(self._open(request, response, refusal, known.account_id if known else ""))

        limit_s = self._node.settings.authorize_s
        self._node.call(self._authorize, Authorize.Request(token=request.token), limit_s, authorized)
        return answer

    def _open(
        self, request: StartSession.Request, response: StartSession.Response, refusal: int, account_id: str = ""
    ) -> StartSession.Response:
        response.refusal = refusal
        if refusal == StartSession.Request.REFUSED_NONE:
            session = Session(SessionKind(request.kind), str(uuid7()), account_id, self._node.now_ns())
            response.started, response.session = True, session_to_message(session)
            self._handle(SessionStarted(session))
        return response

    def _refusal(self, request: StartSession.Request) -> int:
        known_kind = request.kind in (SessionKind.ACCOUNT, SessionKind.DONATION)
        token_missing = request.kind == SessionKind.ACCOUNT and not request.token
        if not known_kind or token_missing or len(request.token) > LONGEST_TOKEN:
            return StartSession.Request.REFUSED_INVALID
        if self._machine.state in (State.OUT_OF_ORDER, State.RECOVERING):
            return StartSession.Request.REFUSED_OUT_OF_ORDER
        if self._machine.session is not None or self._machine.state not in (State.IDLE, State.SHOWING):
            return StartSession.Request.REFUSED_BUSY
        return StartSession.Request.REFUSED_NONE

    def _end(self, request: EndSession.Request, response: EndSession.Response) -> EndSession.Response:
        machine = self._machine
        if machine.session is not None and request.session_id == machine.session.session_id:
            response.ended = True
            response.items, response.points = machine.session_items, machine.session_points
            self._handle(SessionEnded())
        return response
