"""JSON from strangers: UTF-8 without a byte order mark, bounded depth, no name twice, finite and bounded numbers.

RFC 8259 leaves it open what a repeated name or a number beyond all bounds means (sections 4 and 6), and readers differ:
what two of them understand differently is refused here.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, cast

DEPTH = 32
INTEGER_DIGITS = 19  # of 2**63
NUMBER_CHARACTERS = 64
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class StrictJsonError(ValueError):
    """What is no JSON, or more than one reader may understand. The message does not quote it."""


def loads(data: bytes | bytearray | str, depth: int = DEPTH) -> Any:
    """The value that `data` holds.

    Args:
        data: the whole text; its length is for the caller to bound.
        depth: how many arrays and objects may lie in one another.

    Raises:
        StrictJsonError: it is not of that kind.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8")
        text.encode("utf-8")  # a lone surrogate is no text
        value = _DECODER.decode(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")  # half of one, by its escape
    except UnicodeError:
        raise StrictJsonError("not UTF-8") from None
    except RecursionError:
        raise StrictJsonError(f"deeper than {depth}") from None
    except json.JSONDecodeError as error:
        raise StrictJsonError(f"not JSON: {error.msg} at character {error.pos}") from None
    if _deeper(value, depth):
        raise StrictJsonError(f"deeper than {depth}")
    return value


def _deeper(value: Any, depth: int) -> bool:
    level: list[Any] = [value] if isinstance(value, (dict, list)) else []
    for _ in range(depth):
        if not level:
            return False
        level = [
            inner
            for outer in level
            for inner in (cast("dict[str, Any]", outer).values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
    return bool(level)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise StrictJsonError("a name comes twice in one object")
    return made


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > INTEGER_DIGITS:
        raise StrictJsonError(f"an integer has more than {INTEGER_DIGITS} digits")
    return int(text)


def _number(text: str) -> float:
    number = float(text) if len(text) <= NUMBER_CHARACTERS else math.inf
    if not math.isfinite(number):
        raise StrictJsonError("a number is beyond all bounds")
    return number


def _constant(text: str) -> float:
    raise StrictJsonError(f"{text} is no number of JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_constant
)
