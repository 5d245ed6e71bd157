"""What came of looking at one thing: the lines of `rvm doctor` and `rvm check --hardware`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Examined:
    """One thing that was looked at. `advice` says what to do, and is empty when it is well."""

    subject: str
    found: str
    advice: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is to be done."""
        return not self.advice
