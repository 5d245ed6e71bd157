"""The simulated chip's model alone: what gpio-sim cannot show (lines that float), and debounce against a plain rule."""

from __future__ import annotations

import errno
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_sim.gpio_chip import Chip, Line, LineConfig, Request

from myrvm_sim import gpio_uapi as uapi

EVENT = struct.Struct("=q?II")  # time, rising, number in the request, number of the line


def encode(at_ns: int, rising: bool, line: Line, sequence: int) -> bytes:
    return EVENT.pack(at_ns, rising, sequence, line.sequence)


def chip(rest: bool = False, keeps_outputs: bool = False) -> Chip:
    return Chip("gpiochip0", "model", [("line0", rest), ("line1", rest)], keeps_outputs=keeps_outputs)


def take(model: Chip, flags: int, value: bool = False, debounce_us: int = 0) -> Request:
    return model.request([0], [LineConfig(flags, value, debounce_us)], b"test", 1024, encode, 0)


def events(request: Request) -> list[tuple[int, bool, int, int]]:
    return [EVENT.unpack_from(data) for data in [request.read(10**6)[0]] for data in _slices(data)]


def _slices(data: bytes) -> list[bytes]:
    return [data[at : at + EVENT.size] for at in range(0, len(data), EVENT.size)]


@pytest.mark.parametrize(("drive", "driven"), [(uapi.OPEN_DRAIN, False), (uapi.OPEN_SOURCE, True)])
@pytest.mark.parametrize("outside", [False, True])
def test_an_open_output_floats_one_way(drive: int, driven: bool, outside: bool) -> None:
    model = chip()
    request = take(model, uapi.OUTPUT | drive, value=driven)
    line = request.lines[0]
    model.drive(0, outside, 1)
    assert line.level == driven
    model.set_values([(line, not driven)], 2)
    assert line.level == outside
    model.drive(0, None, 3)
    assert line.level is False, "the resistor"


def test_an_output_that_becomes_an_input_follows_the_world() -> None:
    model = chip()
    request = take(model, uapi.OUTPUT, value=True)
    model.drive(0, False, 1)
    assert request.lines[0].level
    model.configure(request, [LineConfig(uapi.INPUT)], 2)
    assert not request.lines[0].level
    assert model.take_levels() == [(0, True, 0), (0, False, 2)]


@pytest.mark.parametrize("keeps_outputs", [False, True])
def test_a_released_output(keeps_outputs: bool) -> None:
    model = chip(keeps_outputs=keeps_outputs)
    request = take(model, uapi.OUTPUT, value=True)
    model.close(request.number, 1)
    assert model.lines[0].level == keeps_outputs


def test_a_chip_that_refuses_debounce_gives_nothing() -> None:
    model = chip()
    model.debounce_error = errno.EOPNOTSUPP
    with pytest.raises(OSError, match="no debounce"):
        take(model, uapi.INPUT | uapi.EDGES, debounce_us=1000)
    assert model.lines[0].request is None
    take(model, uapi.INPUT | uapi.EDGES)


PERIOD_NS = 1_000_000
STEPS = st.lists(st.tuples(st.booleans(), st.integers(1, 3 * PERIOD_NS)), max_size=40)


@given(STEPS, st.booleans())
def test_a_debounced_edge_is_a_level_that_has_held(steps: list[tuple[bool, int]], looked_at: bool) -> None:
    model = chip()
    request = take(model, uapi.INPUT | uapi.EDGES, debounce_us=PERIOD_NS // 1000)
    now_ns, expected, settled = 0, [], False
    changes: list[tuple[int, bool]] = []
    for level, pause_ns in steps:
        now_ns += pause_ns
        if not changes or changes[-1][1] != level:
            changes.append((now_ns, level))
        if looked_at:
            model.advance(now_ns - 1)
        model.drive(0, level, now_ns)
    changes = changes if not changes or changes[0][1] else changes[1:]  # it was low before
    for (at_ns, level), (next_ns, _) in pairwise([*changes, (10**12, False)]):
        if level != settled and next_ns >= at_ns + PERIOD_NS:
            settled = level
            expected.append((at_ns + PERIOD_NS, level))
    model.advance(10**12)
    seen = events(request)
    assert [(at_ns, rising) for at_ns, rising, _, _ in seen] == expected
    assert [number for *_, number in seen] == list(range(1, len(seen) + 1))


@given(st.lists(st.booleans(), max_size=60), st.integers(2, 32))
def test_no_edge_is_lost_without_a_gap_in_the_numbers(levels: list[bool], capacity: int) -> None:
    model = chip()
    config = LineConfig(uapi.INPUT | uapi.EDGES)
    request = model.request([0, 1], [config, config], b"test", capacity, encode, 0)
    edges, before = 0, [False, False]
    for at_ns, level in enumerate(levels, 1):
        offset = at_ns % 2
        edges += level != before[offset]
        before[offset] = level
        model.drive(offset, level, at_ns)
    numbers = [number for _, _, number, _ in events(request)]
    kept = min(edges, 1 << (capacity - 1).bit_length())
    assert numbers == list(range(edges - kept + 1, edges + 1))
