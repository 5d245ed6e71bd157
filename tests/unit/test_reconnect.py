from __future__ import annotations

import heapq
import random

import pytest
from myrvm_cloud.event_protocol import Retry
from myrvm_cloud.reconnect import Reconnect

MACHINES = 1000


def test_waits_grow_to_a_minute_and_are_forgotten_only_after_a_connection_that_lasted() -> None:
    reconnect = Reconnect(generator=random.Random(1))
    waits = [reconnect.wait_s(Retry.SOON, 0.0) for _ in range(200)]
    for number, wait_s in enumerate(waits):
        assert 0.0 <= wait_s <= min(60.0, 2.0**number)
    assert max(waits) > 50
    reconnect.connected(100.0)
    assert max(reconnect.wait_s(Retry.SOON, 159.9) for _ in range(20)) > 5
    reconnect.connected(200.0)
    assert reconnect.wait_s(Retry.SOON, 260.0) <= 1.0


def test_what_the_server_demands_is_kept() -> None:
    reconnect = Reconnect(generator=random.Random(1))
    assert all(reconnect.wait_s(Retry.BACK_OFF, 0.0) >= 1.0 for _ in range(50))
    assert all(reconnect.wait_s(Retry.SOON, 0.0, at_least_s=30.0) >= 30.0 for _ in range(50))
    assert all(150.0 <= reconnect.wait_s(Retry.SLOWLY, 0.0) <= 450.0 for _ in range(50))


def test_at_once_is_within_a_second_but_not_over_and_over() -> None:
    reconnect = Reconnect(generator=random.Random(1))
    assert all(reconnect.wait_s(Retry.AT_ONCE, 0.0) <= 1.0 for _ in range(3))
    assert max(reconnect.wait_s(Retry.AT_ONCE, 0.0) for _ in range(20)) > 10.0
    reconnect.connected(0.0)
    assert reconnect.wait_s(Retry.AT_ONCE, 60.0) <= 1.0


def herd(retry: Retry, down_s: float, seed: int, end_s: float = 600.0) -> list[list[float]]:
    """1,000 machines lose a server at 0 s that is back after `down_s`; the moments at which each tries to connect."""
    machines = [Reconnect(generator=random.Random(f"{seed} {number}")) for number in range(MACHINES)]
    tries: list[list[float]] = [[] for _ in machines]
    due: list[tuple[float, int]] = []
    for number, machine in enumerate(machines):
        machine.connected(-1000.0)
        heapq.heappush(due, (machine.wait_s(retry, 0.0), number))
    while due:
        now_s, number = heapq.heappop(due)
        tries[number].append(now_s)
        if now_s < down_s and now_s < end_s:
            heapq.heappush(due, (now_s + machines[number].wait_s(Retry.SOON, now_s), number))
    return tries


def busiest(tries: list[list[float]], begin_s: float, end_s: float) -> int:
    """The most tries in any one second that begins in this span."""
    moments = sorted(moment for one in tries for moment in one if begin_s <= moment < end_s + 1)
    most = first = 0
    for last, moment in enumerate(moments):
        while moments[first] <= moment - 1.0:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("retry", [Retry.SOON, Retry.AT_ONCE])
def test_a_thousand_machines_that_lose_their_server_come_back_under_the_stated_bound(retry: Retry, seed: int) -> None:
    """docs/protocol.md: expected 1.28 tries a machine in the first second (here at most 5 sigma more), then ever less.

    After a sum of n uniform waits no moment is likelier than 1 / (the longest of them), so from the second second on
    the waits of 2, 4, 8 ... s give at most 1/2 + 1/4 + 1/8 + ... < 1 try a machine and second.
    """
    at_once_back = herd(retry, 0.0, seed)
    assert busiest(at_once_back, 0.0, 600.0) <= MACHINES
    assert max(max(one) for one in at_once_back) <= 1.0
    down = herd(retry, 120.0, seed)
    first_second = sum(moment < 1.0 for one in down for moment in one)
    bound = 1.28 if retry is Retry.SOON else 2.0  # sent away: the first wait of one second comes twice
    assert first_second <= MACHINES * bound + 5 * MACHINES**0.5
    assert busiest(down, 1.0, 8.0) <= MACHINES * 1.1
    assert busiest(down, 8.0, 60.0) <= MACHINES / 4
    assert busiest(down, 60.0, 120.0) <= MACHINES / 8
    back_s = [next(moment for moment in one if moment >= 120.0) for one in down]
    assert max(back_s) <= 180.0
    assert busiest([[moment] for moment in back_s], 120.0, 180.0) <= MACHINES / 8


def test_the_probe_of_a_thousand_refused_machines_is_spread() -> None:
    machines = [Reconnect(generator=random.Random(number)) for number in range(MACHINES)]
    waits = [[machine.wait_s(Retry.SLOWLY, 0.0)] for machine in machines]
    assert busiest(waits, 0.0, 600.0) <= 20
