"""Edges of a GPIO chip's lines: order, numbers, clock, debounce, a full buffer; unchanged on both chips."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import gpiod
import pytest
from chips import LIMIT_S, PACE_S, SPARE_EDGES, TestChip, refusal
from gpiod.line import Bias, Clock, Direction, Edge, Value

Record = Callable[..., None]
INPUT = gpiod.LineSettings(direction=Direction.INPUT)
BOTH = gpiod.LineSettings(direction=Direction.INPUT, edge_detection=Edge.BOTH)
DEBOUNCE_S = 0.3  # a pulse of a tenth is made in time by a slow machine too


def read(request: gpiod.LineRequest, count: int) -> list[gpiod.EdgeEvent]:
    """So many events. Fails when they do not come."""
    events: list[gpiod.EdgeEvent] = []
    while len(events) < count:
        assert request.wait_edge_events(LIMIT_S), f"{len(events)} of {count} events"
        events += request.read_edge_events()
    return events


def pulse(chip: TestChip, request: gpiod.LineRequest, offset: int, levels: str) -> list[gpiod.EdgeEvent]:
    """Give a line levels one after the other; the event of each."""
    events: list[gpiod.EdgeEvent] = []
    for level in levels:
        chip.pull(offset, level == "1")
        events += read(request, 1)
    return events


def told(events: list[gpiod.EdgeEvent]) -> list[str]:
    """Kind, line and numbers of each event."""
    return [
        f"{event.event_type.name} line {event.line_offset} seqno {event.global_seqno} of line {event.line_seqno}"
        for event in events
    ]


def fill(chip: TestChip, count: int) -> None:
    """So many edges of line 1 and some more, nobody reads them; it is down at the end."""
    for number in range(count + SPARE_EDGES):
        chip.pull(1, number % 2 == 0)
        time.sleep(PACE_S)


def is_quiet(request: gpiod.LineRequest) -> bool:
    return not request.wait_edge_events(timedelta(0))


def test_edges_in_their_order_with_the_kernels_clock(chip: TestChip, record: Record) -> None:
    with gpiod.request_lines(chip.path, {1: BOTH}) as request:
        times_ns = [time.monotonic_ns()]
        for level in "1010":
            events = pulse(chip, request, 1, level)
            times_ns += [event.timestamp_ns for event in events]
            times_ns.append(time.monotonic_ns())
            record(events=told(events))
        chip.pull(1, False)  # as it is
        record(in_order=times_ns == sorted(times_ns), quiet=is_quiet(request))
    assert times_ns == sorted(times_ns)


@pytest.mark.parametrize("edge", [Edge.RISING, Edge.FALLING])
@pytest.mark.parametrize("active_low", [False, True])
def test_one_kind_of_edge(chip: TestChip, record: Record, edge: Edge, active_low: bool) -> None:
    settings = gpiod.LineSettings(edge_detection=edge, active_low=active_low)
    with gpiod.request_lines(chip.path, {1: settings}) as request:
        events: list[gpiod.EdgeEvent] = []
        for _ in range(2):
            for up in (True, False):
                chip.pull(1, up)
                if up == ((edge == Edge.RISING) != active_low):
                    events += read(request, 1)
                else:
                    assert is_quiet(request)
    assert {event.event_type.name for event in events} == {f"{edge.name}_EDGE"}
    record(events=told(events))


def test_lines_of_one_request_are_numbered_together_and_apart(chip: TestChip, record: Record) -> None:
    with gpiod.request_lines(chip.path, {(1, 2): BOTH}) as request:
        events = pulse(chip, request, 1, "1") + pulse(chip, request, 2, "10") + pulse(chip, request, 1, "0")
    assert [event.global_seqno for event in events] == [1, 2, 3, 4]
    record(events=told(events))


def test_real_time(chip: TestChip, record: Record) -> None:
    settings = gpiod.LineSettings(edge_detection=Edge.BOTH, event_clock=Clock.REALTIME)
    with gpiod.request_lines(chip.path, {1: settings}) as request:
        before_ns = time.time_ns()
        (event,) = pulse(chip, request, 1, "1")
        near = before_ns - 1_000_000 <= event.timestamp_ns <= time.time_ns() + 1_000_000
    assert near
    record(near=near)


@pytest.mark.parametrize(("asked", "kept"), [(0, 16), (10, 16), (2, 2), (33, 64)])
def test_a_full_buffer_drops_its_oldest(chip: TestChip, record: Record, asked: int, kept: int) -> None:
    with gpiod.request_lines(chip.path, {1: BOTH}, event_buffer_size=asked) as request:
        fill(chip, kept)
        events = read(request, kept)
        assert is_quiet(request)
        events += pulse(chip, request, 1, "1")
    numbers = [event.line_seqno for event in events]
    assert len(events) == kept + 1
    record(kept=kept, consecutive=numbers == list(range(numbers[0], numbers[-1] + 1)), dropped=numbers[0] > 1)


def test_a_buffer_is_shared_by_the_lines_of_a_request(chip: TestChip, record: Record) -> None:
    with gpiod.request_lines(chip.path, {(1, 2, 3): BOTH}) as request:  # 3 x 16, and a power of two
        fill(chip, 64)
        events = read(request, 64)
        assert is_quiet(request)
    record(kept=len(events), dropped=events[0].global_seqno > 1)


def test_reading_what_is_not_there_or_does_not_fit(chip: TestChip, record: Record) -> None:
    with gpiod.request_lines(chip.path, {1: BOTH}) as request:
        fd = request.fd
        seen: dict[str, Any] = {"too short and empty": refusal(lambda: os.read(fd, 24))}
        os.set_blocking(fd, False)
        seen["empty"] = refusal(lambda: os.read(fd, 480))
        chip.pull(1, True)
        assert request.wait_edge_events(LIMIT_S)
        seen["too short"] = refusal(lambda: os.read(fd, 24))
        seen["one and a half"] = len(os.read(fd, 72))
        seen["empty again"] = refusal(lambda: os.read(fd, 480))
    with gpiod.request_lines(chip.path, {1: INPUT}) as request:
        os.set_blocking(request.fd, False)
        seen["without edges"] = refusal(lambda: os.read(request.fd, 480))
    assert seen["one and a half"] == 48
    record(**seen)


def test_a_file_is_readable_while_events_wait(chip: TestChip, record: Record) -> None:
    with gpiod.request_lines(chip.path, {1: BOTH}) as request:
        poll = select.poll()
        poll.register(request.fd, select.POLLIN)
        seen = {"nothing": poll.poll(0) == []}
        for up in (True, False):
            chip.pull(1, up)
            assert poll.poll(LIMIT_S * 1000)
            time.sleep(PACE_S)
        seen["two"] = bool(poll.poll(0))
        request.read_edge_events(1)
        seen["one"] = bool(poll.poll(0))
        request.read_edge_events(1)
        seen["none"] = poll.poll(0) == []
    assert set(seen.values()) == {True}
    record(**seen)


def test_edges_switched_on_and_off(chip: TestChip, record: Record) -> None:
    events: list[gpiod.EdgeEvent] = []
    with gpiod.request_lines(chip.path, {1: INPUT}) as request:
        chip.pull(1, True)
        assert is_quiet(request)
        request.reconfigure_lines({1: BOTH})
        events += pulse(chip, request, 1, "01")
        request.reconfigure_lines({1: gpiod.LineSettings(edge_detection=Edge.RISING)})
        chip.pull(1, False)
        assert is_quiet(request)
        events += pulse(chip, request, 1, "1")
        request.reconfigure_lines({1: INPUT})
        chip.pull(1, False)
        assert is_quiet(request)
        request.reconfigure_lines({1: BOTH})
        events += pulse(chip, request, 1, "1")
    record(events=told(events))


def test_the_chips_own_resistor_makes_an_edge_of_a_watched_line(chip: TestChip, record: Record) -> None:
    up = gpiod.LineSettings(edge_detection=Edge.BOTH, bias=Bias.PULL_UP)
    with gpiod.request_lines(chip.path, {1: BOTH}) as request:
        request.reconfigure_lines({1: up})
        events = read(request, 1)
        request.reconfigure_lines({1: up})
        record(events=told(events), quiet=is_quiet(request))


def test_events_that_wait_survive_a_reconfiguration(chip: TestChip, record: Record) -> None:
    with gpiod.request_lines(chip.path, {1: BOTH}) as request:
        chip.pull(1, True)
        assert request.wait_edge_events(LIMIT_S)
        request.reconfigure_lines({1: INPUT})
        record(events=told(read(request, 1)), quiet=is_quiet(request))


def test_a_short_pulse_is_no_edge_of_a_debounced_line(chip: TestChip, record: Record) -> None:
    settings = gpiod.LineSettings(edge_detection=Edge.BOTH, debounce_period=timedelta(seconds=DEBOUNCE_S))
    with gpiod.Chip(chip.path) as other, gpiod.request_lines(chip.path, {(1, 2): settings}) as request:
        info = other.get_line_info(1)
        chip.pull(1, True)
        chip.pull(1, False)
        chip.pull(2, True)
        pulled_ns, at_once = time.monotonic_ns(), request.get_value(2)
        events = read(request, 1)
        late = events[0].timestamp_ns >= pulled_ns - 1_000_000 + round(DEBOUNCE_S * 0.9e9)
        settled = request.get_values([1, 2])
        request.reconfigure_lines({(1, 2): BOTH})
        events += pulse(chip, request, 1, "10")
        record(
            debounced=info.debounced,
            period_s=info.debounce_period.total_seconds(),
            events=told(events),
            stamped_when_it_has_held=late,
            at_once=at_once.name,
            settled=[value.name for value in settled],
            switched_off=other.get_line_info(1).debounced,
        )
    assert (at_once, settled) == (Value.INACTIVE, [Value.INACTIVE, Value.ACTIVE])
    assert late


def test_a_debounce_time_that_changes(chip: TestChip, record: Record) -> None:
    def settings(period_s: float) -> dict[Iterable[int | str] | int | str, gpiod.LineSettings | None]:
        return {1: gpiod.LineSettings(edge_detection=Edge.BOTH, debounce_period=timedelta(seconds=period_s))}

    with gpiod.Chip(chip.path) as other, gpiod.request_lines(chip.path, settings(30.0)) as request:
        chip.pull(1, True)
        values, quiet = [request.get_value(1).name], is_quiet(request)
        request.reconfigure_lines(settings(0.01))
        values.append(request.get_value(1).name)
        chip.pull(1, False)
        chip.pull(1, True)
        events = read(request, 1)
        values.append(request.get_value(1).name)
        period_s = other.get_line_info(1).debounce_period.total_seconds()
        record(values=values, quiet=quiet, period_s=period_s, events=told(events))


def test_debounce_without_edges(chip: TestChip, record: Record) -> None:
    settings = gpiod.LineSettings(direction=Direction.INPUT, debounce_period=timedelta(seconds=DEBOUNCE_S))
    with gpiod.request_lines(chip.path, {1: settings}) as request:
        chip.pull(1, True)
        values = [request.get_value(1)]
        end_s = time.monotonic() + LIMIT_S
        while request.get_value(1) == Value.INACTIVE:
            assert time.monotonic() < end_s
            time.sleep(0.01)
        values.append(request.get_value(1))
        record(values=[value.name for value in values], quiet=is_quiet(request))


def test_waiting_for_edges_of_a_chip_that_vanishes(chip: TestChip, record: Record) -> None:
    with contextlib.ExitStack() as stack:
        request = stack.enter_context(gpiod.request_lines(chip.path, {1: BOTH}))
        chip.unplug()
        seen = {"wait": request.wait_edge_events(LIMIT_S), "read": refusal(request.read_edge_events)}
        chip.plug()
    assert seen == {"wait": True, "read": "ENODEV"}
    record(**seen)
