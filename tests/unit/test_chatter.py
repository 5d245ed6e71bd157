"""A sensor that chatters: time is an argument, so an hour of it passes in a moment."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from myrvm_hardware.chatter import PAUSE, WINDOW_NS, Chatter
from myrvm_hardware.drivers import Edge, Role

SECOND = 1_000_000_000
LIMIT_HZ = 200.0
ALLOWED = round(LIMIT_HZ * WINDOW_NS / SECOND)  # edges in a window


def feed(chatter: Chatter, begin_ns: int, period_ns: int, count: int) -> list[int]:
    """Edges of the entry sensor; the times of those with which it is to be muted."""
    times = [begin_ns + index * period_ns for index in range(count)]
    return [at_ns for index, at_ns in enumerate(times) if chatter.feed(Edge(Role.ENTRY, index % 2 == 0, at_ns))]


def test_ten_thousand_edges_a_second_mute_the_sensor_once_and_no_other() -> None:
    chatter = Chatter(LIMIT_HZ)
    assert feed(chatter, 0, 50_000, 5 * ALLOWED) == [ALLOWED * 50_000]
    assert chatter.muted == chatter.unknown == {Role.ENTRY}
    assert not chatter.feed(Edge(Role.DROP, True, 0))


def test_a_busy_sensor_is_none_that_chatters() -> None:
    chatter = Chatter(LIMIT_HZ)
    assert feed(chatter, 0, SECOND // 190, 10_000) == []
    assert chatter.unknown == frozenset()


def test_it_is_tried_after_a_pause_and_known_again_after_a_quiet_window() -> None:
    chatter = Chatter(LIMIT_HZ)
    (muted_ns,) = feed(chatter, 0, 50_000, 2 * ALLOWED)
    assert chatter.look(muted_ns) == ([], [])
    again_ns = muted_ns + SECOND
    assert chatter.look(again_ns) == ([Role.ENTRY], [])
    assert (chatter.muted, chatter.unknown) == (frozenset(), {Role.ENTRY})
    assert feed(chatter, again_ns, 10_000_000, 5) == []
    assert chatter.look(again_ns + WINDOW_NS) == ([], [Role.ENTRY])
    assert chatter.unknown == frozenset()


def test_one_that_goes_on_is_tried_less_and_less_often() -> None:
    chatter = Chatter(LIMIT_HZ)
    (now_ns,) = feed(chatter, 0, 50_000, 2 * ALLOWED)
    pauses: list[float] = []
    for _ in range(6):
        begun_ns = now_ns
        while not chatter.look(now_ns)[0]:
            now_ns += SECOND // 10
        pauses.append((now_ns - begun_ns) / SECOND)
        (now_ns,) = feed(chatter, now_ns, 50_000, 2 * ALLOWED)
    assert pauses == sorted(pauses)
    assert pauses[-1] >= PAUSE.cap_s
    assert pauses[-1] < PAUSE.cap_s + 1


@given(st.lists(st.integers(0, 20_000_000), max_size=400))
def test_whatever_comes_it_heals_when_it_is_quiet(pauses_ns: list[int]) -> None:
    chatter, now_ns = Chatter(LIMIT_HZ), 0
    for index, pause_ns in enumerate(pauses_ns):
        now_ns += pause_ns
        if Role.ENTRY not in chatter.muted:
            chatter.feed(Edge(Role.ENTRY, index % 2 == 0, now_ns))
        chatter.look(now_ns)
    for _ in range(40):
        now_ns += WINDOW_NS
        chatter.look(now_ns)
    assert chatter.unknown == frozenset()
