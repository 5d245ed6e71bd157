"""What the actuator tells about its sensors, passed on: changes, staleness, absence."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import SettingsError
from myrvm_hardware.drivers import Role
from myrvm_hardware.interlock_readings import InterlockReadings, Passed, interlock_roles

STALE_S = 2.0
UNKNOWN = Passed(None)


def readings() -> InterlockReadings:
    return InterlockReadings((Role.DOOR, Role.HAND), STALE_S)


def test_nothing_is_known_before_the_first_report() -> None:
    passed = readings()
    assert passed.unknown == ["door", "hand"]
    assert not passed.check(100.0)


def test_changes_come_out_in_their_order_and_the_first_report_is_none() -> None:
    passed = readings()
    assert passed.heard({Role.DOOR: Passed(False, 1), Role.HAND: Passed(False, 1)}, 0.0) == []
    changed = {Role.DOOR: Passed(True, 9), Role.HAND: Passed(True, 5)}
    assert passed.heard(changed, 0.5) == [(Role.HAND, Passed(True, 5)), (Role.DOOR, Passed(True, 9))]
    assert passed.heard(changed, 1.0) == []


def test_what_is_stale_is_unknown_and_a_change_meanwhile_is_told() -> None:
    passed = readings()
    passed.heard({Role.DOOR: Passed(False, 1), Role.HAND: Passed(False, 1)}, 0.0)
    assert not passed.check(STALE_S)
    assert passed.check(STALE_S + 0.1)
    assert not passed.check(STALE_S + 0.2)
    assert passed.unknown == ["door", "hand"]
    assert passed.heard({Role.DOOR: Passed(True, 7), Role.HAND: Passed(False, 1)}, 9.0) == [
        (Role.DOOR, Passed(True, 7))
    ]


def test_a_role_that_is_missing_or_unknown_in_a_report() -> None:
    passed = readings()
    passed.heard({Role.DOOR: Passed(False, 1), Role.HAND: Passed(False, 1), Role.EMERGENCY: Passed(True, 1)}, 0.0)
    assert passed.heard({Role.HAND: UNKNOWN}, 0.1) == []
    assert passed.levels == {Role.DOOR: UNKNOWN, Role.HAND: UNKNOWN}


def test_what_this_node_reads_itself_is_left_out() -> None:
    passed = readings()
    passed.leave({Role.DOOR, Role.ENTRY})
    assert passed.unknown == ["hand"]
    assert passed.heard({Role.DOOR: Passed(True, 1)}, 0.0) == []


def test_names_of_roles() -> None:
    assert interlock_roles("sensor.interlock_roles", ["door", "power_fail"]) == (Role.DOOR, Role.POWER_FAIL)
    with pytest.raises(SettingsError, match=r"sensor.interlock_roles: 'weight' is not known; allowed: entry, drop"):
        interlock_roles("sensor.interlock_roles", ["weight"])


REPORTS = st.lists(st.tuples(st.sampled_from([True, False, None]), st.floats(0.0, 5.0)), max_size=40)


@given(REPORTS)
def test_told_changes_alternate(reports: list[tuple[bool | None, float]]) -> None:
    passed, now_s, told = readings(), 0.0, []
    known: list[bool] = []
    for active, wait_s in reports:
        now_s += wait_s
        passed.check(now_s)
        told += [change.active for _, change in passed.heard({Role.DOOR: Passed(active)}, now_s)]
        if active is not None:
            known.append(active)
    expected = [after for before, after in itertools.pairwise(known) if before != after]
    assert told == expected
