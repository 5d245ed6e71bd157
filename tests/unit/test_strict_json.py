"""What strangers send as JSON: the same as the standard library where both agree, refused where readers may differ."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.strict_json import StrictJsonError

from myrvm_core import strict_json

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_fine_is_read_as_it_was_written(value: object) -> None:
    assert strict_json.loads(json.dumps(value), depth=100) == value
    assert strict_json.loads(json.dumps(value, ensure_ascii=False).encode(), depth=100) == value


@given(st.binary() | st.text())
def test_anything_else_is_refused_in_one_line(data: bytes | str) -> None:
    try:
        strict_json.loads(data)
    except StrictJsonError as error:
        line = str(error)
    else:
        line = ""
        assert json.loads(data) is not Ellipsis
    assert "\n" not in line


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"1" * 20,
        b"-" + b"9" * 5000,
        b"0." + b"1" * 100,
        b'{"a": 1, "a": 1}',
        b'[{"b": {"a": 1, "\\u0061": 2}}]',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        b"\xff\xfe{\x00}\x00",
        b'"\xed\xa0\x80"',
        b"[" * 33 + b"]" * 33,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        "\ud800",
        b'{"a": ["\\ud800"]}',
        b'{"\\uDC00": 1}',
    ],
)
def test_what_readers_may_understand_differently_is_refused(data: bytes | str) -> None:
    with pytest.raises(StrictJsonError):
        strict_json.loads(data)


@pytest.mark.parametrize("depth", [0, 1, 5, 32])
def test_depth_counts_arrays_and_objects(depth: int) -> None:
    text = "[" * depth + "1" + "]" * depth
    assert strict_json.loads(text, depth) is not None
    with pytest.raises(StrictJsonError, match="deeper"):
        strict_json.loads(f'{{"a": {text}}}', depth)
