"""Debounce: time is an argument, so a chattering sensor's day passes in a millisecond."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import SettingsError
from myrvm_hardware.debounce import Debounce
from myrvm_hardware.drivers import Edge, Role
from myrvm_hardware.sensor_reader import DEBOUNCED, hold_times_s

MS = 1_000_000
HOLD_MS = 10


def debounce() -> Debounce:
    built = Debounce({Role.ENTRY: HOLD_MS / 1000, Role.HAND: 0.0})
    built.restart({Role.ENTRY: False, Role.HAND: False}, 0)
    return built


def entry(active: bool, at_ms: int) -> Edge:
    return Edge(Role.ENTRY, active, at_ms * MS)


def test_a_level_that_holds_is_confirmed_with_the_stamp_of_its_edge() -> None:
    sensor = debounce()
    assert sensor.feed(entry(True, 100)) == []
    assert sensor.settle(109 * MS) == []
    assert sensor.settle(110 * MS) == [entry(True, 100)]
    assert sensor.levels[Role.ENTRY] is True
    assert sensor.settle(500 * MS) == []


def test_chatter_is_one_edge_that_begins_where_the_level_settled() -> None:
    sensor = debounce()
    for at_ms in range(100, 109):
        assert sensor.feed(entry(at_ms % 2 == 0, at_ms)) == []
    assert sensor.settle(118 * MS) == [entry(True, 108)]


def test_a_pulse_read_late_in_one_batch_is_not_lost() -> None:
    sensor = debounce()
    confirmed = sensor.feed(entry(True, 100)) + sensor.feed(entry(False, 150)) + sensor.settle(200 * MS)
    assert confirmed == [entry(True, 100), entry(False, 150)]


def test_zero_confirms_at_once() -> None:
    assert debounce().feed(Edge(Role.HAND, True, MS)) == [Edge(Role.HAND, True, MS)]


def test_what_changed_while_the_driver_was_away_is_told_once() -> None:
    sensor = debounce()
    assert sensor.restart({Role.ENTRY: True, Role.DOOR: True}, 5 * MS) == [entry(True, 5)]
    assert sensor.restart({Role.ENTRY: True, Role.DOOR: True}, 6 * MS) == []


def test_a_clock_set_back_holds_nothing_up() -> None:
    sensor = debounce()
    sensor.feed(entry(True, 3_600_000))
    assert sensor.settle(1 * MS) == [entry(True, 3_600_000)]


def test_wait_is_until_the_level_may_be_confirmed() -> None:
    sensor = debounce()
    assert sensor.wait_s(0) is None
    sensor.feed(entry(True, 100))
    assert sensor.wait_s(104 * MS) == pytest.approx(0.006)
    assert sensor.wait_s(300 * MS) == 0.0


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=60), st.data())
def test_any_chatter(steps: list[tuple[bool, int]], data: st.DataObject) -> None:
    """Confirmed edges alternate, are in order, each held its time, and the last level wins."""
    sensor = debounce()
    now_ms, raw, raw_edges, confirmed = 1, False, [], []
    for active, pause_ms in steps:
        now_ms += pause_ms
        raw_edges.append((now_ms, active))
        confirmed += sensor.feed(entry(active, now_ms))
        raw = active
        if data.draw(st.booleans()):
            confirmed += sensor.settle(now_ms * MS)
    confirmed += sensor.settle((now_ms + HOLD_MS) * MS)
    assert sensor.levels[Role.ENTRY] == raw
    assert [edge.active for edge in confirmed] == [index % 2 == 0 for index in range(len(confirmed))]
    assert [edge.stamp_ns for edge in confirmed] == sorted(edge.stamp_ns for edge in confirmed)
    for edge in confirmed:
        held_ns = range(edge.stamp_ns + 1, edge.stamp_ns + HOLD_MS * MS)
        assert all(active == edge.active for at_ms, active in raw_edges if at_ms * MS in held_ns)


def test_hold_times_are_one_value_or_one_a_role() -> None:
    assert set(hold_times_s([0.01]).values()) == {0.01}
    assert hold_times_s([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])[Role.EMERGENCY] == 0.6
    assert list(hold_times_s([0.0])) == list(DEBOUNCED)


@pytest.mark.parametrize("values", [[], [0.1, 0.2], [-0.1], [1.5], [0.1] * 7])
def test_other_hold_times_are_refused(values: list[float]) -> None:
    with pytest.raises(SettingsError, match=r"sensor\.debounce_s = .* is not allowed: 1 or 6 values, each 0 \.\. 1 s"):
        hold_times_s(values)
