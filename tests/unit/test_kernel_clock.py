"""Kernel time to ROS time: both clocks are arguments, so drift, jumps and interruptions are played in a millisecond."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_hardware.kernel_clock import CERTAIN_NS, STEP_NS, KernelClock, since_epoch_ns

SECOND = 1_000_000_000
EPOCH = 1_700_000_000 * SECOND


class Clocks:
    """Two clocks, and what happens to them."""

    def __init__(self) -> None:
        self.monotonic, self.epoch = 5 * SECOND, float(EPOCH)
        self.drift = 0.0  # of the time of day against kernel time
        self.read_ns = 50  # what a read costs

    def advance(self, nanoseconds: int) -> None:
        self.monotonic += nanoseconds
        self.epoch += nanoseconds * (1.0 + self.drift)

    def read_monotonic(self) -> int:
        self.advance(self.read_ns)
        return self.monotonic

    def read_epoch(self) -> int:
        self.advance(self.read_ns)
        return round(self.epoch)

    def converter(self) -> KernelClock:
        return KernelClock(self.read_monotonic, self.read_epoch)


def test_a_stamp_of_now_is_now() -> None:
    assert abs(since_epoch_ns(time.monotonic_ns()) - time.time_ns()) < SECOND


def test_a_day_of_drift_is_followed() -> None:
    clocks = Clocks()
    converter = clocks.converter()
    clocks.drift = 500e-6  # the fastest that the kernel slews
    for _ in range(1000):
        clocks.advance(SECOND)
        assert abs(converter.since_epoch_ns(clocks.monotonic) - clocks.epoch) < 100_000
    assert converter.jumps == 0


def test_a_clock_that_is_set_is_taken_at_once_and_told() -> None:
    clocks = Clocks()
    converter = clocks.converter()
    for jump_s in (3600, -7200):
        clocks.epoch += jump_s * SECOND
        assert abs(converter.since_epoch_ns(clocks.monotonic) - clocks.epoch) < 100_000
    assert converter.jumps == 2


def test_a_small_change_is_followed_by_and_by() -> None:
    clocks = Clocks()
    converter = clocks.converter()
    clocks.epoch -= 0.05 * SECOND
    before = converter.since_epoch_ns(clocks.monotonic)
    errors: list[float] = []
    for _ in range(60):
        clocks.advance(SECOND // 100)
        now = converter.since_epoch_ns(clocks.monotonic)
        assert now > before
        before = now
        errors.append(abs(now - clocks.epoch))
    assert errors[0] > 0.045 * SECOND
    assert errors[-1] < 100_000
    assert converter.jumps == 0


@pytest.mark.parametrize("rate", [1 / 12, -1 / 12])
def test_the_fastest_slew_of_an_ntp_daemon_is_no_jump(rate: float) -> None:
    clocks = Clocks()
    converter = clocks.converter()
    clocks.drift = rate  # chrony's maxslewrate
    for _ in range(200):
        clocks.advance(SECOND // 2)
        assert abs(converter.since_epoch_ns(clocks.monotonic) - clocks.epoch) < 100_000
    assert converter.jumps == 0


def test_an_edge_of_before_a_jump_is_told_in_the_new_time() -> None:
    clocks = Clocks()
    converter = clocks.converter()
    edge_ns, told = clocks.monotonic, clocks.epoch
    clocks.advance(SECOND)
    clocks.epoch += 3600 * SECOND
    assert abs(converter.since_epoch_ns(edge_ns) - told - 3600 * SECOND) < 100_000


def test_an_interrupted_measurement_moves_nothing() -> None:
    clocks = Clocks()
    converter = clocks.converter()
    first = converter.since_epoch_ns(10 * SECOND)
    clocks.read_ns = 3 * CERTAIN_NS
    clocks.epoch += 2 * STEP_NS
    assert converter.since_epoch_ns(10 * SECOND) == first
    clocks.read_ns = 50
    assert converter.since_epoch_ns(10 * SECOND) > first + STEP_NS


STEPS = st.tuples(
    st.integers(1, 3 * SECOND),  # time that goes by
    st.integers(0, 1000),  # age of the stamp
    st.floats(-500e-6, 500e-6),  # drift
    st.integers(-STEP_NS // 40, STEP_NS // 40),  # a correction too small for a jump
)


@given(st.lists(STEPS, max_size=30))
def test_a_later_stamp_is_never_an_earlier_time(steps: list[tuple[int, int, float, int]]) -> None:
    clocks = Clocks()
    converter = clocks.converter()
    given: list[tuple[int, int]] = []
    for wait_ns, age_ns, drift, correction_ns in steps:
        clocks.drift = drift
        clocks.epoch += correction_ns
        clocks.advance(wait_ns)
        stamp = clocks.monotonic - age_ns
        given.append((stamp, converter.since_epoch_ns(stamp)))
    assert converter.jumps == 0
    times = [epoch for _, epoch in sorted(given)]
    assert times == sorted(times)
