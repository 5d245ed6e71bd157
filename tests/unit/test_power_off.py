"""Switching the machine off: in which order, how long at most, once, and called off at any step."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import DeviceError, SettingsError
from myrvm_core.settings import validate
from myrvm_system.policy import LimitLevel
from myrvm_system.power_off import PowerOff, Step
from myrvm_system.settings import ManagerSettings

from myrvm_core import program

SETTINGS = ManagerSettings(item_limit_s=30.0, stop_limit_s=20.0)
NORMAL, SHUTDOWN = LimitLevel.NORMAL, LimitLevel.SHUTDOWN


def test_the_item_is_finished_the_nodes_end_the_command_is_run_once() -> None:
    power_off = PowerOff(SETTINGS, ordered=False)
    course = [
        (0.0, SHUTDOWN, True, False), (1.0, SHUTDOWN, True, False), (5.0, SHUTDOWN, False, False),
        (6.0, SHUTDOWN, False, False), (9.0, SHUTDOWN, False, True), (10.0, SHUTDOWN, False, True),
    ]  # fmt: skip
    steps = [power_off.decide(*moment) for moment in course]
    assert steps == [Step.FINISHING, None, Step.STOPPING, None, Step.OFF, None]
    assert [power_off.take_order(), power_off.take_order()] == [True, False]


def test_neither_an_item_nor_a_node_that_hangs_holds_it_up_for_ever() -> None:
    power_off = PowerOff(SETTINGS, ordered=False)
    times = (0.0, 29.0, 30.0, 49.0, 50.0)
    steps = [power_off.decide(now_s, SHUTDOWN, True, False) for now_s in times]
    assert steps == [Step.FINISHING, None, Step.STOPPING, None, Step.OFF]


def test_a_manager_that_was_killed_after_the_command_does_not_run_it_again() -> None:
    power_off = PowerOff(SETTINGS, ordered=True)
    for now_s in (0.0, 1.0, 2.0):
        power_off.decide(now_s, SHUTDOWN, False, True)
    assert power_off.step is Step.OFF
    assert not power_off.take_order()
    assert power_off.decide(3.0, NORMAL, False, True) is Step.SERVING
    assert power_off.take_order()  # the next time is another time


MOMENT = st.tuples(
    st.floats(0.1, 20.0), st.sampled_from([None, *LimitLevel]), st.booleans(), st.booleans()
)  # fmt: skip


@given(st.lists(MOMENT, max_size=60))
def test_whatever_the_course_the_order_of_steps_holds(
    course: list[tuple[float, LimitLevel | None, bool, bool]],
) -> None:
    power_off, now_s, orders = PowerOff(SETTINGS, ordered=False), 0.0, 0
    for step_s, level, item_inside, at_rest in course:
        now_s += step_s
        before = power_off.step
        step = power_off.decide(now_s, level, item_inside, at_rest)
        if step is None:
            assert power_off.step is before
        elif step is Step.SERVING:
            assert level is not None
            assert level < SHUTDOWN
            orders = 0
        else:
            assert list(Step).index(step) == list(Step).index(before) + 1
            assert level in (None, SHUTDOWN)
        if step is Step.OFF:
            orders += power_off.take_order()
        assert orders <= 1
        if level is not None and level < SHUTDOWN:
            assert power_off.step is Step.SERVING


@pytest.mark.parametrize("words", [[], "systemctl poweroff", ["systemctl poweroff"], [""], [" "], [1], {"a": 1}])
def test_what_is_no_list_of_words_is_refused(words: object) -> None:
    with pytest.raises(SettingsError, match=r"lifecycle_manager\.power_off_command.* is not allowed"):
        validate(ManagerSettings, {"power_off_command": words}, "lifecycle_manager")


def test_the_command_runs_in_the_data_folder_and_its_failure_has_a_reason(tmp_path: Path) -> None:
    program.run(["touch", "switched_off"], tmp_path)
    assert (tmp_path / "switched_off").exists()
    with pytest.raises(DeviceError, match=r"nowhere/command: .*No such file"):
        program.run(["nowhere/command"], tmp_path)
    failing = [sys.executable, "-c", "import sys; sys.exit('Access denied')"]
    with pytest.raises(DeviceError, match="exit 1: Access denied"):
        program.run(failing, tmp_path)
