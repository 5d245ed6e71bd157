"""Calibration and what is not plausible; and how readings are shown."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import SettingsError
from myrvm_core.settings import nested, validate
from myrvm_hardware.analog_sensor import in_units
from myrvm_hardware.plausibility import STANDS, ImplausibleError, Plausibility
from myrvm_hardware.settings import AnalogSettings, BinLevelSettings, SensorSettings, WeightSettings


def test_offset_scale_and_tare() -> None:
    settings = WeightSettings(offset=8_412_000, scale=2.1e-6, tare=0.05, median=1)
    assert Plausibility("weight", settings).take(8_512_000, 0.0) == pytest.approx(0.16)


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (math.nan, "weight reads nan: no number"),
        (math.inf, "weight reads inf: no number"),
        (-0.06, r"weight = -0.06 is not plausible: -0.05 .. 20"),
        (20.5, r"weight = 20.5 is not plausible: -0.05 .. 20"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_no_trace(raw: float, sentence: str) -> None:
    scale = Plausibility("weight", WeightSettings())
    scale.take(1.0, 0.0)
    with pytest.raises(ImplausibleError, match=sentence):
        scale.take(raw, 0.5)
    assert scale.take(1.0, 1.0) == 1.0


def test_a_spike_is_no_weight() -> None:
    scale = Plausibility("weight", WeightSettings(median=3))
    assert [scale.take(raw, index) for index, raw in enumerate([1.0, 1.0, 9.0, 1.0, 1.0])] == [1.0] * 5


def test_a_fast_change_is_believed_once_it_stands() -> None:
    scale = Plausibility("weight", WeightSettings(median=1, largest_rate=1.0))
    scale.take(0.0, 0.0)
    for index in range(STANDS):
        with pytest.raises(ImplausibleError, match="jumps from 0 to 5"):
            scale.take(5.0, 0.1 * index)
    assert scale.take(5.0, 0.5) == 5.0
    assert scale.take(5.2, 1.0) == 5.2


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=30))
def test_whatever_is_read_what_comes_out_is_in_the_range(samples: list[float]) -> None:
    scale = Plausibility("weight", WeightSettings(largest_rate=2.0))
    for index, raw in enumerate(samples):
        try:
            value = scale.take(raw, index / 2)
        except ImplausibleError:
            continue
        assert -0.05 <= value <= 20.0


def test_a_distance_is_shown_as_a_fill_level() -> None:
    settings = BinLevelSettings(empty_m=0.8, full_m=0.2)
    assert [in_units(metres, settings) for metres in (0.9, 0.8, 0.5, 0.2, 0.1)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert in_units(-0.01, WeightSettings()) == 0.0


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"weight.scale": 0}, "sensor.weight.scale = 0 is not allowed: float (Value error, it must not be zero"),
        ({"weight.scale": math.nan}, "sensor.weight.scale = nan is not allowed: float"),
        ({"weight.minimum": 5, "weight.maximum": 1}, "sensor.weight = {"),
        ({"bin_level.empty_m": 0.1, "bin_level.full_m": 0.8}, "sensor.bin_level = {"),
        ({"power.low_charge": 15}, "sensor.power.low_charge = 15 is not allowed: float, 0 .. 1"),
    ],
)
def test_a_calibration_that_can_never_work_is_refused(values: dict[str, float], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        validate(SensorSettings, nested(values), "sensor")
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_defaults_are_a_calibration() -> None:
    assert AnalogSettings().scale == 1.0
