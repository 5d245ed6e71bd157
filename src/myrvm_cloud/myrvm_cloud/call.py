"""One request and the judging of its answer, without any I/O: `http_line` carries it.

An answer counts only if it is of the contract; everything else is a `CallError` that says what is known about the
request: whether anything was sent, whether the server surely did nothing, whether it will ever take this body.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import IntEnum
from typing import Any, Generic, TypeVar

from myrvm_core.errors import ServerError
from myrvm_core.strict_json import StrictJsonError
from pydantic import ValidationError

from myrvm_cloud import contract
from myrvm_core import strict_json

LONGEST_RETRY_AFTER_S = 300.0
OVERLOADED = (408, 425, 429)
# Answers of a server that has looked at the request and done nothing; a proxy's own 5xx and 408 say nothing about it.
NOTHING_DONE = (400, 401, 403, 404, 405, 406, 411, 413, 415, 422, 429)
TOO_LARGE = 413
BODY_REFUSED = (400, TOO_LARGE, 422)

A = TypeVar("A")
B = TypeVar("B", bound=contract.Body)


class ErrorKind(IntEnum):
    """Numbers of `msg/CloudStatus` ERROR_*."""

    NONE = 0
    NETWORK = 1
    SERVER = 2
    REFUSED = 3
    PROTOCOL = 4


class CallError(ServerError):
    """A call that did not succeed.

    Args:
        kind: what went wrong.
        message: one line.
        status: of HTTP, None where there was no answer.
        retry_after_s: how long the server wants to be left alone.
        sent: False where it is sure that not a byte of the request went out.
    """

    def __init__(
        self,
        kind: ErrorKind,
        message: str,
        status: int | None = None,
        retry_after_s: float | None = None,
        sent: bool = True,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status
        self.retry_after_s = retry_after_s
        self.sent = sent

    @property
    def unauthorized(self) -> bool:
        """The machine's key was refused."""
        return self.kind is ErrorKind.REFUSED and self.status == 401

    @property
    def forbidden(self) -> bool:
        """The server is there and knows the machine, but does not serve it now: not a lost connection."""
        return self.kind is ErrorKind.REFUSED and self.status == 403

    @property
    def already_done(self) -> bool:
        """The server has it (409)."""
        return self.kind is ErrorKind.REFUSED and self.status == 409

    @property
    def body_refused(self) -> bool:
        """The server understood and will never take this body: malformed (400), too large (413), not valid (422)."""
        return self.kind is ErrorKind.REFUSED and self.status in BODY_REFUSED

    @property
    def undone(self) -> bool:
        """It is sure that the server did nothing: nothing was sent, or it said no."""
        refused = self.kind is ErrorKind.REFUSED or self.status == 429
        return not self.sent or (refused and self.status in NOTHING_DONE)


class NotOfferedError(CallError):
    """The server of this profile has no such call."""

    def __init__(self, profile: str, what: str) -> None:
        super().__init__(ErrorKind.PROTOCOL, f"profile {profile} offers no {what}", sent=False)


@dataclass(frozen=True)
class Call(Generic[A]):
    """One request: where, what, and the judge of its answer.

    Args:
        method: of HTTP.
        path: below the base URL, with the query.
        read: makes the answer of parsed JSON; ValueError where it is not of the contract.
        body: what is sent, empty for a GET.
        content_type: of the body.
        endpoint: name of the call in messages, the same for all its paths; empty: the path.
        repeatable: a second time does no harm; False: never sent twice, and on a connection of its own.
        nothing: the answer that an empty body stands for; None: an empty body is not of the contract.
        error_type: body of an answer with 4xx.
    """

    method: str
    path: str
    read: Callable[[Any], A]
    body: bytes = b""
    content_type: str = "application/json"
    endpoint: str = ""
    repeatable: bool = True
    nothing: A | None = None
    error_type: type[contract.Refusal] = contract.ErrorAnswer

    @property
    def packable(self) -> bool:
        """Whether gzip makes the body smaller."""
        return self.content_type not in (contract.GZIP, contract.JPEG)

    @property
    def name(self) -> str:
        """For messages; no ids, no query."""
        return self.endpoint or self.path

    def judge(self, status: int, headers: Mapping[str, str], body: bytes) -> A:
        """The answer, typed.

        Raises:
            CallError: the server refused or failed, or this is no answer of the contract (a captive portal's page).
        """
        if 200 <= status < 300:
            return self._accepted(status, body)
        wait_s = retry_after_s(headers)
        if 300 <= status < 400:
            raise CallError(ErrorKind.PROTOCOL, f"{self.name} answered {status}: redirects are not followed", status)
        if status >= 500 or status in OVERLOADED:
            raise CallError(ErrorKind.SERVER, f"{self.name} answered {status}", status, wait_s)
        try:
            message = self.error_type.model_validate(strict_json.loads(body)).message
        except ValueError:  # pydantic's too
            if status == TOO_LARGE:  # said by a gateway in words of its own, and meant
                raise CallError(ErrorKind.REFUSED, f"{self.name} was refused with {status}", status, wait_s) from None
            line = f"{self.name} answered {status} with what is not of the contract"
            raise CallError(ErrorKind.PROTOCOL, line, status, wait_s) from None
        line = " ".join(message.split())
        raise CallError(ErrorKind.REFUSED, f"{self.name} was refused with {status}: {line}", status, wait_s)

    def _accepted(self, status: int, body: bytes) -> A:
        if (status == 204 or not body) and self.nothing is not None:
            return self.nothing
        try:
            return self.read(strict_json.loads(body))
        except ValidationError as error:
            problem = error.errors()[0]
            what = f"{'.'.join(str(part) for part in problem['loc'])} {problem['msg']}".strip()
        except StrictJsonError as error:
            what = "an empty body" if not body else str(error)
        except ValueError as error:
            what = str(error)
        line = f"{self.name} answered {status} with what is not of the contract: {what}"
        raise CallError(ErrorKind.PROTOCOL, " ".join(line.split()), status) from None


def post(path: str, body: contract.Body, answer_type: type[B], **options: Any) -> Call[B]:
    """A call with a JSON body and a JSON answer."""
    return Call("POST", path, answer_type.model_validate, body.model_dump_json().encode(), **options)


def get(path: str, answer_type: type[B], **options: Any) -> Call[B]:
    """A call without a body."""
    return Call("GET", path, answer_type.model_validate, **options)


def compact(value: Any) -> bytes:
    """JSON as it is sent, without blanks."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in s, at most five minutes: seconds or a date (RFC 9110, 10.2.3); None where there is none.

    A date is measured from the answer's own `Date`, since the clock of this machine may be wrong.
    """
    value = header(headers, "retry-after")
    if re.fullmatch(r"[0-9]{1,9}", value):
        return min(float(value), LONGEST_RETRY_AFTER_S)
    until_s = http_date_s(value)
    if until_s is None:
        return None
    now_s = http_date_s(header(headers, "date"))
    return min(max(until_s - (time.time() if now_s is None else now_s), 0.0), LONGEST_RETRY_AFTER_S)


def http_date_s(text: str) -> float | None:
    """A date of HTTP (RFC 9110, 5.6.7) in s since the epoch; None where it is none."""
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, OverflowError, IndexError, TypeError):
        return None


def header(headers: Mapping[str, str], name: str) -> str:
    """A header's value by its name in small letters, empty where it is missing."""
    return next((value for key, value in headers.items() if key.lower() == name), "").strip()
