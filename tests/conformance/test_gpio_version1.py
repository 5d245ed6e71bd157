"""The older version of a GPIO chip's interface, which Debian's commands speak; unchanged on both chips."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable

import gpiod
from abi import call, opened, row
from chips import LIMIT_S, PACE_S, SPARE_EDGES, TestChip, refusal

from myrvm_sim import gpio_uapi as uapi

Record = Callable[..., None]
INPUT, OUTPUT, ACTIVE_LOW, OPEN_DRAIN = 1 << 0, 1 << 1, 1 << 2, 1 << 3
RISING, FALLING = 1 << 0, 1 << 1


def events_of(chip: TestChip, fd: int, offset: int, flags: int, edges: int) -> int:
    """A file with the edges of a line."""
    request = uapi.V1EventRequest(lineoffset=offset, handleflags=flags, eventflags=edges, consumer_label=b"old")
    return call(fd, uapi.V1_GET_LINEEVENT, request).fd


def read_one(events: int) -> uapi.V1EventData:
    """The next event; it has to come."""
    ready, _, _ = select.select([events], [], [], LIMIT_S)
    assert ready
    return uapi.V1EventData.from_buffer_copy(os.read(events, 16))


def test_a_handle(chip: TestChip, record: Record) -> None:
    with opened(chip) as fd, gpiod.Chip(chip.path) as other:
        request = uapi.V1HandleRequest(flags=1 << 1 | 1 << 2, lines=2, consumer_label=b"old")
        request.lineoffsets[0], request.lineoffsets[1] = 3, 4
        request.default_values[0] = 1
        handle = call(fd, uapi.V1_GET_LINEHANDLE, request).fd
        levels = [chip.level(3), chip.level(4)]
        data = uapi.V1HandleData()
        data.values[1] = 1
        call(handle, uapi.V1_SET_LINE_VALUES, data)
        levels += [chip.level(3), chip.level(4)]
        record(
            levels=levels,
            read=list(call(handle, uapi.V1_GET_LINE_VALUES, uapi.V1HandleData()).values[:2]),
            flags=call(fd, uapi.V1_GET_LINEINFO, uapi.V1LineInfo(offset=3)).flags,
            line=row(other.get_line_info(3)),
            new_calls=refusal(lambda: call(handle, uapi.LINE_GET_VALUES, uapi.LineValues(0, 1))),
            reading=refusal(lambda: os.read(handle, 64)),
        )
        os.close(handle)
        flaws = {"no lines": (0, 1), "both": (1, 3), "unknown flag": (1, 1 << 9), "drive of an input": (1, 1 | 1 << 3)}
        record(
            **{
                flaw: refusal(
                    lambda lines=lines, flags=flags: call(
                        fd, uapi.V1_GET_LINEHANDLE, uapi.V1HandleRequest(lines=lines, flags=flags)
                    )
                )
                for flaw, (lines, flags) in flaws.items()
            }
        )


def test_edges(chip: TestChip, record: Record) -> None:
    with opened(chip) as fd, gpiod.Chip(chip.path) as other:
        events = events_of(chip, fd, 1, ACTIVE_LOW, RISING | FALLING)
        kinds: list[int] = []
        times_ns = [time.monotonic_ns()]
        for up in (True, False, True):
            chip.pull(1, up)
            event = read_one(events)
            kinds.append(event.id)
            times_ns.append(event.timestamp)
        value = call(events, uapi.V1_GET_LINE_VALUES, uapi.V1HandleData()).values[0]
        in_order = times_ns == sorted(times_ns)
        assert in_order
        record(
            kinds=kinds,
            in_order=in_order,
            value=value,
            line=row(other.get_line_info(1)),
            setting=refusal(lambda: call(events, uapi.V1_SET_LINE_VALUES, uapi.V1HandleData())),
            configuring=refusal(lambda: call(events, uapi.V1_SET_CONFIG, uapi.V1HandleConfig())),
        )
        os.close(events)


def test_one_kind_of_edge(chip: TestChip, record: Record) -> None:
    with opened(chip) as fd:
        events = events_of(chip, fd, 1, INPUT, FALLING)
        kinds: list[int] = []
        for _ in range(2):
            chip.pull(1, True)
            assert not select.select([events], [], [], 0)[0]
            chip.pull(1, False)
            kinds.append(read_one(events).id)
        record(kinds=kinds)
        os.close(events)


def test_a_full_buffer_drops_its_newest(chip: TestChip, record: Record) -> None:
    with opened(chip) as fd:
        events = events_of(chip, fd, 1, INPUT, RISING | FALLING)
        half_ns = 0
        for number in range(2 * (16 + SPARE_EDGES)):
            if number == 16 + SPARE_EDGES:
                half_ns = time.monotonic_ns()
            chip.pull(1, number % 2 == 0)
            time.sleep(PACE_S)
        data = os.read(events, 16 * 64)
        stamps = [uapi.V1EventData.from_buffer_copy(data[at : at + 16]).timestamp for at in range(0, len(data), 16)]
        assert stamps[-1] < half_ns
        record(kept=len(stamps))
        os.close(events)


def test_what_is_refused(chip: TestChip, record: Record) -> None:
    with opened(chip) as fd:
        flaws = {
            "output": (1, OUTPUT, RISING), "open drain": (1, INPUT | OPEN_DRAIN, RISING), "no such line": (16, 0, 1),
            "no edge": (1, INPUT, 0), "unknown edge": (1, INPUT, 1 << 2), "unknown flag": (1, INPUT | 1 << 9, 1),
        }  # fmt: skip

        def attempt(offset: int, flags: int, edges: int) -> None:
            os.close(events_of(chip, fd, offset, flags, edges))

        record(**{name: refusal(lambda flaw=flaw: attempt(*flaw)) for name, flaw in flaws.items()})
        many = uapi.V1HandleRequest(lines=65, flags=INPUT)
        twice = uapi.V1HandleRequest(lines=2, flags=INPUT)
        record(
            many=refusal(lambda: call(fd, uapi.V1_GET_LINEHANDLE, many)),
            twice=refusal(lambda: call(fd, uapi.V1_GET_LINEHANDLE, twice)),
        )


def test_a_handle_that_becomes_an_input(chip: TestChip, record: Record) -> None:
    with opened(chip) as fd, gpiod.Chip(chip.path) as other:
        request = uapi.V1HandleRequest(flags=OUTPUT, lines=1)
        request.lineoffsets[0] = 3
        handle = call(fd, uapi.V1_GET_LINEHANDLE, request).fd
        seen = {"both": refusal(lambda: call(handle, uapi.V1_SET_CONFIG, uapi.V1HandleConfig(flags=INPUT | OUTPUT)))}
        call(handle, uapi.V1_SET_CONFIG, uapi.V1HandleConfig(flags=INPUT | ACTIVE_LOW))
        seen["set"] = refusal(lambda: call(handle, uapi.V1_SET_LINE_VALUES, uapi.V1HandleData()))
        record(**seen, line=row(other.get_line_info(3)))
        os.close(handle)


def test_watching(chip: TestChip, record: Record) -> None:
    with opened(chip) as fd, opened(chip) as another:
        call(fd, uapi.V1_GET_LINEINFO_WATCH, uapi.V1LineInfo(offset=3))
        os.set_blocking(fd, False)
        seen: dict[str, object] = {"nothing": refusal(lambda: os.read(fd, 104))}
        handle = call(another, uapi.V1_GET_LINEHANDLE, request := uapi.V1HandleRequest(lines=1, flags=OUTPUT))
        request.lineoffsets[0] = 3
        os.close(handle.fd)
        os.close(call(another, uapi.V1_GET_LINEHANDLE, request).fd)
        seen["too short"] = refusal(lambda: os.read(fd, 64))
        seen["sizes"] = [len(os.read(fd, 150)), len(os.read(fd, 1000))]
        seen["nothing more"] = refusal(lambda: os.read(fd, 104))
        record(**seen)
