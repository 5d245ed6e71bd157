"""The REST contract without any I/O: requests are built, answers are judged. `bridge.py` carries them."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from myrvm_core.deposit_record import DepositRecord
from myrvm_core.environment import Identity
from myrvm_core.errors import ServerError, SettingsError
from pydantic import ValidationError

from myrvm_cloud import contract

NS_PER_S = 1_000_000_000
ANSWER_BYTES = 1_000_000
LONGEST_RETRY_AFTER_S = 300.0
ALONE_AFTER_ATTEMPTS = 3

A = TypeVar("A", bound=contract.Body)


class ErrorKind(IntEnum):
    """Numbers of `msg/CloudStatus` ERROR_*."""

    NONE = 0
    NETWORK = 1
    SERVER = 2
    REFUSED = 3
    PROTOCOL = 4


class CallError(ServerError):
    """A call that did not succeed. `status` is the HTTP status, None where there was no answer."""

    def __init__(
        self, kind: ErrorKind, message: str, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def unauthorized(self) -> bool:
        """The machine's key was refused."""
        return self.kind is ErrorKind.REFUSED and self.status == 401

    @property
    def body_refused(self) -> bool:
        """The server understood and will never take this body: too large (413) or not valid (422)."""
        return self.kind is ErrorKind.REFUSED and self.status in (413, 422)


@dataclass(frozen=True)
class Call(Generic[A]):
    """One POST: where, what, and the judge of its answer."""

    path: str
    body: bytes
    answer_type: type[A]

    def judge(self, status: int, headers: Mapping[str, str], body: bytes) -> A:
        """The answer, typed.

        Raises:
            CallError: the server refused or failed, or this is no answer of the contract (a captive portal's page).
        """
        if 200 <= status < 300:
            try:
                return self.answer_type.model_validate_json(body)
            except ValidationError as error:
                problem = error.errors()[0]
                where = ".".join(str(part) for part in problem["loc"])
                line = f"{self.path} answered {status} with what is not of the contract: {where} {problem['msg']}"
                raise CallError(ErrorKind.PROTOCOL, line, status) from None
        wait_s = retry_after_s(headers)
        if status >= 500 or status in (408, 429):
            raise CallError(ErrorKind.SERVER, f"{self.path} answered {status}", status, wait_s)
        try:
            message = contract.ErrorAnswer.model_validate_json(body).message
        except ValidationError:
            line = f"{self.path} answered {status} with what is not of the contract"
            raise CallError(ErrorKind.PROTOCOL, line, status, wait_s) from None
        raise CallError(ErrorKind.REFUSED, f"{self.path} was refused with {status}: {message}", status, wait_s)


class RestClient:
    """Builds the calls of one machine.

    Raises:
        SettingsError: the key cannot be sent in a header, or the URL carries a password.
    """

    def __init__(self, server_url: str, identity: Identity, software_version: str) -> None:
        key = identity.api_key.get_secret_value()
        if not re.fullmatch(r"[\x21-\x7e]*", key):
            raise SettingsError("RVM_API_KEY holds a space or a letter that is not ASCII; allowed: printable ASCII")
        if "@" in urlsplit(server_url).netloc:
            raise SettingsError("server_url holds a user name or password; allowed: https://host[:port][/path]")
        self.base_url = server_url.rstrip("/") + contract.BASE_PATH
        self.headers = {contract.API_KEY_HEADER: key, contract.MACHINE_HEADER: identity.hardware_id}
        self._handshake = contract.Handshake(hardware_id=identity.hardware_id, software_version=software_version)

    def handshake(self) -> Call[contract.HandshakeAnswer]:
        """Say who this machine is."""
        return _call("/edge/handshake", self._handshake, contract.HandshakeAnswer)

    def heartbeat(self, pending: int, dead: int, received: Sequence[str]) -> Call[contract.HeartbeatAnswer]:
        """Say that the machine lives; `received` are ids of commands that need not be sent again."""
        body = contract.Heartbeat(pending=pending, dead=dead, received_commands=list(received))
        return _call("/edge/heartbeat", body, contract.HeartbeatAnswer)

    def authorize(self, token: str) -> Call[contract.AuthorizeAnswer]:
        """Ask who a customer is; ValueError for a token that is empty or longer than 512 characters."""
        return _call("/edge/authorize", contract.Authorize(token=token), contract.AuthorizeAnswer)

    def deposits(self, records: Sequence[DepositRecord]) -> Call[contract.DepositsAnswer]:
        """Have deposits credited."""
        body = contract.Deposits(deposits=[_deposit(record) for record in records])
        return _call("/edge/deposits", body, contract.DepositsAnswer)


@dataclass
class Outcome:
    """What became of a batch: ids credited, ids refused for ever with the reason, ids to be sent again."""

    credited: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    again: list[str] = field(default_factory=list)


def outcome(records: Sequence[DepositRecord], answer: contract.DepositsAnswer) -> Outcome:
    """Sort a batch by the server's results; what it said nothing about, or two things, is sent again."""
    said: dict[str, set[bool]] = {}
    reasons: dict[str, str] = {}
    for result in answer.results:
        refused = result.status is contract.DepositStatus.REFUSED
        said.setdefault(result.idempotency_key, set()).add(refused)
        reasons[result.idempotency_key] = result.reason or "refused without a reason"
    sorted_out = Outcome()
    for record in records:
        verdicts = said.get(record.deposit_id)
        if verdicts == {False}:
            sorted_out.credited.append(record.deposit_id)
        elif verdicts == {True}:
            sorted_out.refused[record.deposit_id] = reasons[record.deposit_id]
        else:
            sorted_out.again.append(record.deposit_id)
    return sorted_out


def batches(records: Sequence[DepositRecord], generator: random.Random) -> list[list[DepositRecord]]:
    """What is new goes together; what failed often goes alone, in any order, so that it blocks no other."""
    together = [record for record in records if record.attempts <= ALONE_AFTER_ATTEMPTS]
    alone = [[record] for record in records if record.attempts > ALONE_AFTER_ATTEMPTS]
    generator.shuffle(alone)
    return [*([together] if together else []), *alone]


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in s, at most five minutes; None where it is missing or a date (RFC 9110, 10.2.3)."""
    value = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    return min(float(value), LONGEST_RETRY_AFTER_S) if re.fullmatch(r"[0-9]{1,9}", value) else None


def _call(path: str, body: contract.Body, answer_type: type[A]) -> Call[A]:
    return Call(path, body.model_dump_json().encode(), answer_type)


def _deposit(record: DepositRecord) -> contract.Deposit:
    return contract.Deposit(
        idempotency_key=record.deposit_id,
        session_id=record.session.session_id,
        kind=record.session.kind.name.lower(),
        account_id=record.session.account_id,
        class_name=record.class_name,
        score=record.score,
        points=record.points,
        weight_kg=record.weight_kg,
        accepted_at=record.accepted_at_ns / NS_PER_S,
        accepted_at_trusted=record.clock_synchronised,
        model=contract.Model(**vars(record.model)),
    )
