"""Global Trade Item Numbers: the check digit, and one form for all of them. Pure.

Source: GS1 General Specifications, release 24: 7.9 (check digit), 3.3.2 (a shorter
GTIN is written with leading zeros).
"""

from __future__ import annotations

import re

LENGTHS = (8, 12, 13, 14)
WIDTH = 14


def check_digit(digits: str) -> str:
    """The digit that follows `digits`: weights 3 and 1 in turn from the right, up to the next ten."""
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(digits)))
    return str(-total % 10)


def is_gtin(text: str) -> bool:
    """Whether that is a GTIN-8, 12, 13 or 14 with the right check digit."""
    return len(text) in LENGTHS and re.fullmatch(r"[0-9]+", text) is not None and check_digit(text[:-1]) == text[-1]


def normalised(text: str) -> str:
    """A GTIN as 14 digits.

    Raises:
        ValueError: it is none; the message says what is allowed.
    """
    if not is_gtin(text):
        lengths = ", ".join(map(str, LENGTHS))
        raise ValueError(f"{text!r} is no GTIN: {lengths} digits of which the last is the check digit")
    return text.zfill(WIDTH)
