"""A failing endpoint is left alone, and found to be well again, whatever the order of calls and their ends."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from myrvm_cloud.circuit_breaker import Circuit, CircuitBreaker
from myrvm_cloud.retry_budget import RetryBudget
from myrvm_core.backoff import Backoff

LIMIT, BACKOFF = 3, Backoff(1.0, 8.0)


class Breaker(RuleBasedStateMachine):
    """Calls that begin and end as they like; each end belongs to a call that was let through."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = CircuitBreaker(LIMIT, BACKOFF, random.Random(0))
        self.now_s = 100.0
        self.under_way = 0
        self.in_a_row = 0

    @rule()
    def call(self) -> None:
        circuit = self.breaker.circuit(self.now_s)
        wait_s = self.breaker.ask(self.now_s)
        assert 0.0 <= wait_s <= BACKOFF.cap_s
        assert circuit is not Circuit.CLOSED or wait_s == 0.0, "a closed circuit holds nobody up"
        assert circuit is not Circuit.OPEN or wait_s > 0.0, "an open one lets nobody through"
        if wait_s == 0.0:
            self.under_way += 1
            if circuit is Circuit.HALF_OPEN:
                assert self.breaker.ask(self.now_s) > 0.0, "a half open one lets one through"

    @precondition(lambda self: self.under_way)
    @rule()
    def succeed(self) -> None:
        self.under_way -= 1
        self.in_a_row = 0
        self.breaker.succeeded()
        assert self.breaker.circuit(self.now_s) is Circuit.CLOSED

    @precondition(lambda self: self.under_way)
    @rule()
    def fail(self) -> None:
        self.under_way -= 1
        self.in_a_row += 1
        self.breaker.failed(self.now_s)

    @precondition(lambda self: self.under_way)
    @rule()
    def abandon(self) -> None:
        self.under_way -= 1
        self.breaker.abandoned()

    @rule(seconds=st.floats(0.0, 10.0))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def closed_until_so_many_have_failed_in_a_row(self) -> None:
        closed = self.breaker.circuit(self.now_s) is Circuit.CLOSED
        assert closed == (self.in_a_row < LIMIT)

    @invariant()
    def never_open_for_longer_than_the_cap(self) -> None:
        assert self.breaker.circuit(self.now_s + BACKOFF.cap_s) is not Circuit.OPEN


TestBreaker = Breaker.TestCase


def test_a_trial_that_was_given_up_leaves_room_for_another() -> None:
    breaker = CircuitBreaker(1, BACKOFF)
    assert breaker.ask(0.0) == 0.0
    breaker.failed(0.0)
    assert breaker.ask(10.0) == 0.0
    breaker.abandoned()
    assert breaker.ask(10.0) == 0.0


def test_each_failed_trial_may_keep_it_open_for_longer() -> None:
    breaker, now_s = CircuitBreaker(1, Backoff(1.0, 60.0), random.Random(1)), 0.0
    waits = []
    for _ in range(8):
        assert breaker.ask(now_s) == 0.0
        breaker.failed(now_s)
        waits.append(breaker.ask(now_s))
        now_s += 60.0
    assert max(waits[4:]) > 8.0 >= max(waits[:4])


@given(st.lists(st.booleans()))
def test_retries_are_a_tenth_of_the_calls_but_for_a_start(calls: list[bool]) -> None:
    budget, made, retried = RetryBudget(0.1, 10.0), 0, 0
    for wants_retry in calls:
        budget.earn()
        made += 1
        while wants_retry and budget.spend():
            retried += 1
    assert retried <= 10 + 0.1 * made + 1e-9
    assert retried >= min(10, sum(calls)) if any(calls) else retried == 0
