from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import ServerError

from myrvm_cloud import bounded_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("{}{}", "no JSON"),
        ("'a'", "no JSON"),
        ('{"a": 1, "a": 1}', "comes twice"),
        ('[{"a": {"b": 1, "b": 2}}]', "comes twice"),
        ("NaN", "NaN"),
        ("[-Infinity]", "Infinity"),
        ("1e999", "not finite"),
        ("1" * 19, "19 digits"),
        ("1" * 5000, "5000 digits"),
        ('"\\ud800"', "Unicode"),
        ('{"\\udfff": 1}', "Unicode"),
        ("[" * 18 + "]" * 18, "deeper"),
        ("[" * 30_000 + "]" * 30_000, "deeper"),
        ('{"a":' * 9000 + "1" + "}" * 9000, "deeper"),
        ('"' + "a" * bounded_json.CHARACTERS + '"', "characters"),
    ],
)
def test_what_is_out_of_bounds_is_refused(text: str, says: str) -> None:
    with pytest.raises(ServerError, match=says):
        bounded_json.parse(text)


def test_the_bounds_themselves_are_allowed() -> None:
    assert bounded_json.parse("[" * 16 + "1" + "]" * 16)
    assert bounded_json.parse("9" * 18) == 10**18 - 1
    assert len(bounded_json.parse('"' + "a" * (bounded_json.CHARACTERS - 2) + '"')) == bounded_json.CHARACTERS - 2
    with pytest.raises(ServerError, match="deeper"):
        bounded_json.parse("[" * 17 + "1" + "]" * 17)


@given(JSON)
def test_other_json_is_read_as_ever(value: object) -> None:
    text = json.dumps(value)
    assert bounded_json.parse(text, depth=100) == json.loads(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        value = bounded_json.parse(text)
    except ServerError:
        return
    json.dumps(value, allow_nan=False).encode()
