"""The pictures in the docs are those of the code."""

from myrvm_core.pictures import drawn, page


def test_the_pictures_are_up_to_date() -> None:
    text = page().read_text(encoding="utf-8")
    assert drawn(text) == text, "python -m myrvm_core.pictures draws them again"
    assert text.count("-->") > 40, "a picture is empty"
