"""What the customer reads: a title and what to do, for each reason, from gettext catalogues in `locale/`.

The catalogues are read as they are (`.po`, by Babel): a translator edits one text file, nothing is compiled. Ids of the
messages are `REASON.title` and `REASON.advice`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from babel.messages.pofile import PoFileError, read_po

from myrvm_core.errors import SettingsError
from myrvm_core.verdict import Reason

LOCALE = Path(__file__).with_name("locale")
LANGUAGES = ("id", "en")


@dataclass(frozen=True)
class Text:
    """One screen's words."""

    title: str
    advice: str


def text_for(reason: Reason, language: str) -> Text:
    """The words for a reason.

    Args:
        reason: of a verdict; NONE is the accepted item.
        language: one of `LANGUAGES`.

    Raises:
        SettingsError: no such language, or the catalogue lacks the words.
    """
    texts = catalogue(language)
    try:
        return Text(texts[f"{reason.name}.title"], texts[f"{reason.name}.advice"])
    except KeyError as error:
        raise SettingsError(f"{_file(language)} has no text for {error.args[0]!r}") from None


@cache
def catalogue(language: str) -> dict[str, str]:
    """All translated messages of a language, by id; fuzzy and empty ones are left out.

    Raises:
        SettingsError: no such language, or the file cannot be read.
    """
    if language not in LANGUAGES:
        raise SettingsError(f"language = {language!r} is not allowed: one of {', '.join(LANGUAGES)}")
    try:
        with _file(language).open("rb") as file:
            messages = read_po(file, locale=language, abort_invalid=True)
    except (OSError, UnicodeDecodeError, PoFileError) as error:
        raise SettingsError(f"{_file(language)} cannot be read: {error}") from error
    return {
        str(message.id): str(message.string)
        for message in messages
        if message.id and message.string and not message.fuzzy
    }


def _file(language: str) -> Path:
    return LOCALE / language / "LC_MESSAGES" / "myrvm.po"
