from __future__ import annotations

import pytest
from myrvm_core.errors import SettingsError
from myrvm_core.verdict import Reason

from myrvm_core import i18n


@pytest.mark.parametrize("language", i18n.LANGUAGES)
@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_words(reason: Reason, language: str) -> None:
    text = i18n.text_for(reason, language)
    assert text.title
    assert text.advice
    assert len(text.title) <= 40, "one line on the screen"


def test_the_languages_have_the_same_messages_and_no_left_overs() -> None:
    expected = {f"{reason.name}.{part}" for reason in Reason for part in ("title", "advice")}
    for language in i18n.LANGUAGES:
        assert set(i18n.catalogue(language)) == expected


def test_the_languages_differ() -> None:
    assert i18n.text_for(Reason.NOT_EMPTY, "id") == i18n.Text(
        "Botol belum kosong", "Kosongkan botol, lalu masukkan lagi."
    )
    assert all(i18n.text_for(reason, "id") != i18n.text_for(reason, "en") for reason in Reason)


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(SettingsError, match="language = 'xx' is not allowed: one of id, en"):
        i18n.text_for(Reason.NONE, "xx")
