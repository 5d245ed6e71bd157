"""The server's clock, from many coarse readings: the true offset is always within the bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_cloud.clock_skew import ClockSkew

EPOCH_S = 1_800_000_000.0
REQUESTS = st.lists(
    st.tuples(st.floats(0.0, 100.0), st.floats(0.001, 3.0), st.floats(0.0, 1.0), st.booleans()), min_size=1, max_size=30
)


@given(REQUESTS, st.floats(-1e6, 1e6))
def test_the_truth_is_within_the_bounds(requests: list[tuple[float, float, float, bool]], offset_s: float) -> None:
    skew, now_s = ClockSkew(), 50.0
    worst_s = math.inf
    for pause_s, round_trip_s, part, coarse in requests:
        now_s += pause_s
        server_s = EPOCH_S + offset_s + now_s + part * round_trip_s
        said_s = math.floor(server_s) if coarse else server_s
        skew.hear(said_s, 1.0 if coarse else 0.0, now_s, now_s + round_trip_s)
        now_s += round_trip_s
        worst_s = min(worst_s, (round_trip_s + (1.0 if coarse else 0.0)) / 2)
        found_s = skew.offset_s(EPOCH_S + now_s, now_s)
        assert abs(found_s - offset_s) <= skew.uncertainty_s + 1e-4
        assert skew.uncertainty_s <= worst_s + 0.2, "bounds are not forgotten, they only age"


def test_dates_of_whole_seconds_together_are_better_than_a_second() -> None:
    skew = ClockSkew()
    for tenth in range(40):
        now_s = 10.0 + tenth * 0.9
        skew.hear(math.floor(EPOCH_S + now_s + 0.005), 1.0, now_s, now_s + 0.01)
    assert skew.uncertainty_s < 0.1
    assert skew.offset_s(EPOCH_S + 100.0, 100.0) == pytest.approx(0.0, abs=0.1)


def test_a_server_whose_clock_was_set_is_followed() -> None:
    skew = ClockSkew()
    skew.hear(EPOCH_S, 0.0, 10.0, 10.1)
    skew.hear(EPOCH_S + 3601.0, 0.0, 11.0, 11.1)
    assert skew.offset_s(EPOCH_S + 1.05, 11.1) == pytest.approx(3600.0, abs=0.1)


def test_a_step_of_this_machines_clock_changes_the_offset_at_once() -> None:
    skew = ClockSkew()
    assert (skew.known, skew.offset_s(5.0, 1.0)) == (False, 0.0)
    skew.hear(EPOCH_S, 0.0, 10.0, 10.0)
    assert skew.offset_s(EPOCH_S, 10.0) == 0.0
    assert skew.offset_s(EPOCH_S - 7200.0, 10.0) == 7200.0
