"""Debounce: time is an argument, so a chattering sensor's day passes in a millisecond."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_hardware.debounce import Debounce
from myrvm_hardware.drivers import Edge, Role

MS = 1_000_000
HOLD_MS = 10
HOLD_S = {Role.ENTRY: HOLD_MS / 1000, Role.HAND: 0.0}


def debounce() -> Debounce:
    built = Debounce()
    built.restart({Role.ENTRY: False, Role.HAND: False}, HOLD_S, 0)
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
    assert sensor.restart({Role.ENTRY: True, Role.DOOR: True}, HOLD_S, 5 * MS) == [entry(True, 5)]
    assert sensor.restart({Role.ENTRY: True, Role.DOOR: True}, HOLD_S, 6 * MS) == []


def test_levels_read_after_a_loss_replace_what_was_under_way() -> None:
    sensor = debounce()
    sensor.feed(entry(True, 100))
    assert sensor.reconcile({Role.ENTRY: False, Role.HAND: True}, 105 * MS) == [Edge(Role.HAND, True, 105 * MS)]
    assert sensor.settle(200 * MS) == []
    assert sensor.reconcile({Role.ENTRY: True, Role.DROP: True}, 300 * MS) == []  # drop is not of this driver
    assert sensor.settle(310 * MS) == [entry(True, 300)]


def test_a_dropped_edge_is_never_confirmed() -> None:
    sensor = debounce()
    sensor.feed(entry(True, 100))
    sensor.drop(Role.ENTRY)
    assert sensor.settle(200 * MS) == []
    assert sensor.levels[Role.ENTRY] is False


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
    assert [edge.monotonic_ns for edge in confirmed] == sorted(edge.monotonic_ns for edge in confirmed)
    for edge in confirmed:
        held_ns = range(edge.monotonic_ns + 1, edge.monotonic_ns + HOLD_MS * MS)
        assert all(active == edge.active for at_ms, active in raw_edges if at_ms * MS in held_ns)
