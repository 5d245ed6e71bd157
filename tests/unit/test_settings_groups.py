"""Groups of settings: dotted names for ROS, mappings in a file, one line for a bad value deep inside."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import SettingsError
from myrvm_core.settings import Settings, nested, setting, validate, walk


class Scale(Settings):
    driver: str = setting("", "Driver.")
    factor: float = setting(1.0, "Factor.", minimum=0.0, maximum=10.0)


class Machine(Settings):
    name: str = setting("a", "Name.")
    weight: Scale = setting(Scale(), "The scale.")


def test_a_walk_names_each_setting_with_dots() -> None:
    machine = Machine(weight=Scale(factor=2.0))
    assert [(name, value) for name, _, value in walk(machine)] == [
        ("name", "a"),
        ("weight.driver", ""),
        ("weight.factor", 2.0),
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"weight.factor": 2.0, "weight.driver": "iio"},
        {"weight": {"factor": 2.0, "driver": "iio"}},
        {"weight": {"factor": 2.0}, "weight.driver": "iio"},
        {"weight.driver": "iio", "weight": {"factor": 2.0}},
    ],
)
def test_dots_and_mappings_are_the_same(values: dict[str, Any]) -> None:
    assert validate(Machine, nested(values), "sensor").weight == Scale(driver="iio", factor=2.0)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"weight.factor": 20}, "sensor.weight.factor = 20 is not allowed: float, 0 .. 10"),
        ({"weight": {"colour": 1}}, "sensor.weight.colour is not a known name; allowed: driver, factor"),
        ({"weight.colour": 1}, "sensor.weight.colour is not a known name; allowed: driver, factor"),
        ({"weight": 3}, "sensor.weight = 3 is not allowed: a mapping of driver, factor"),
        ({"size.factor": 3}, "sensor.size is not a known name; allowed: name, weight"),
    ],
)
def test_a_bad_value_in_a_group_is_one_line(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        validate(Machine, nested(values), "sensor")
    assert str(caught.value).startswith(sentence)


NAMES = st.text("abc", min_size=1, max_size=2)


@given(st.recursive(st.integers(), lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=3), max_leaves=8))
def test_flat_and_nested_are_two_spellings(tree: Any) -> None:
    def flatten(value: Any, prefix: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {prefix: value}
        return {name: deep for key, inner in value.items() for name, deep in flatten(inner, f"{prefix}.{key}").items()}

    assert nested(flatten(tree, "root")) == {"root": tree}
    assert nested({"root": tree}) == {"root": tree}
