"""The motor guard's judgement, whatever it hears and sees in whatever order, without a chip or a process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_hardware.motor_guard import INTERLOCK, REST, RUN, SILENT, TOO_LONG, UNANNOUNCED, Guard

MOTORS, INTERLOCKS = 0b0011, 0b1100
SILENCE_S, BOUND_S = 0.2, 1.0


def guard() -> Guard:
    return Guard(MOTORS, INTERLOCKS, SILENCE_S, BOUND_S)


def test_a_run_that_is_announced_and_kept_up_is_let_be() -> None:
    one, now_s = guard(), 10.0
    assert one.judge(0, now_s) == b""
    one.heard(REST + RUN, now_s)
    assert one.watching
    while now_s < 10.9:
        now_s += 0.1
        assert one.judge(1, now_s) == b""
        one.heard(RUN, now_s)
    assert one.judge(0, now_s) == b""
    one.heard(REST, now_s)
    assert not one.watching


@pytest.mark.parametrize(
    ("words", "active", "after_s", "why"),
    [
        (b"", 0b0001, 0.0, UNANNOUNCED),
        (RUN, 0b0101, 0.0, INTERLOCK),
        (RUN, 0b0010, 0.21, SILENT),
        (RUN * 2 + REST, 0b0001, 0.0, UNANNOUNCED),
    ],
)
def test_why_it_acts(words: bytes, active: int, after_s: float, why: bytes) -> None:
    one = guard()
    one.heard(words, 10.0)
    assert one.judge(active, 10.0 + after_s) == why
    one.heard(RUN, 10.0 + after_s)  # frozen in the middle, the control goes on as if nothing had been
    assert one.judge(active & MOTORS, 10.0 + after_s) == UNANNOUNCED
    one.heard(REST + RUN, 10.0 + after_s)
    assert one.judge(active & MOTORS, 10.0 + after_s) == b""


def test_each_line_has_its_bound_and_one_after_the_other_is_no_long_run() -> None:
    one = guard()
    for now_s, active in ((10.0, 1), (10.9, 1), (10.95, 2), (11.8, 2), (11.9, 2)):
        one.heard(RUN, now_s)
        assert one.judge(active, now_s) == b""
    one.heard(RUN, 11.96)
    assert one.judge(2, 11.96) == TOO_LONG


def test_the_interlocks_are_nothing_to_a_motor_that_is_off() -> None:
    assert guard().judge(INTERLOCKS, 10.0) == b""


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.01, 0.15, 0.3]),
            st.sampled_from([b"", b"", RUN, REST, REST + RUN]),
            st.integers(0, 15),
        )
    )
)
def test_a_motor_runs_on_only_while_all_is_well(steps: list[tuple[float, bytes, int]]) -> None:
    one, now_s, heard_s, armed = guard(), 10.0, 0.0, False
    since_s: dict[int, float] = {}
    off = False
    for pause_s, words, active in steps:
        now_s += pause_s
        one.heard(words, now_s)
        armed = words.endswith(RUN) or (armed and REST not in words)
        off = off and REST not in words
        heard_s = now_s if words.endswith(RUN) else heard_s
        why = one.judge(active, now_s)
        since_s = {line: since_s.get(line, now_s) for line in (1, 2) if active & line}
        well = (
            armed
            and not off
            and not active & INTERLOCKS
            and now_s - heard_s <= SILENCE_S
            and all(now_s - begin_s <= BOUND_S for begin_s in since_s.values())
        )
        assert bool(why) == (bool(active & MOTORS) and not well)
        off = off or bool(why)
