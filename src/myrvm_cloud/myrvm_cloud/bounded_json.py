"""JSON from a stranger: bounded in size, depth and numbers, with each name once (RFC 8259 leaves all that open)."""

from __future__ import annotations

import json
import math
from typing import Any

from myrvm_core.errors import ServerError

CHARACTERS = 65_536
DEPTH = 16
DIGITS = 18  # of an integer: what fits 64 bits


def parse(text: str, characters: int = CHARACTERS, depth: int = DEPTH) -> Any:
    """Read a JSON text.

    Raises:
        ServerError: it is too long, too deep or no JSON; a name comes twice in an object; a number is not finite or has
            more than `DIGITS` digits; a string is no Unicode text.
    """
    if len(text) > characters:
        raise ServerError(f"{len(text)} characters; allowed: {characters}")
    try:
        value = json.loads(
            text, object_pairs_hook=_once, parse_int=_integer, parse_float=_finite, parse_constant=_constant
        )
    except RecursionError:
        raise ServerError(f"JSON deeper than {depth}") from None
    except ValueError as error:
        raise ServerError(f"no JSON: {error}") from None
    _check(value, depth)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name comes twice")
    return made


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits; allowed: {DIGITS}")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("a number that is not finite")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _check(value: Any, depth: int) -> None:
    level = [value]
    for _ in range(depth + 1):
        inner: list[Any] = []
        for part in level:
            if isinstance(part, dict):
                _unicode(*part)
                inner.extend(part.values())
            elif isinstance(part, list):
                inner.extend(part)
            elif isinstance(part, str):
                _unicode(part)
        if not inner:
            return
        level = inner
    raise ServerError(f"JSON deeper than {depth}")


def _unicode(*texts: str) -> None:
    """A lone surrogate comes through JSON and breaks whoever writes it."""
    try:
        for text in texts:
            text.encode()
    except UnicodeEncodeError:
        raise ServerError("a string that is no Unicode text") from None
