"""The pictures and tables in the docs are those of the code."""

from myrvm_core.pictures import drawn, pages

from myrvm_core import crash_points


def test_the_pictures_are_up_to_date() -> None:
    texts = [page.read_text(encoding="utf-8") for page in pages()]
    for text in texts:
        assert drawn(text) == text, "python -m myrvm_core.pictures draws them again"
    assert texts[0].count("-->") > 40, "a picture is empty"
    assert crash_points.table() in texts[1]
