"""Lines of a GPIO chip: what they tell about themselves, who has them, what they drive; unchanged on both chips."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from ctypes import Structure
from typing import Any, TypeVar

import gpiod
import pytest
from abi import asked, call, opened, row, take
from chips import LABEL, LIMIT_S, LINES, TestChip, refusal
from gpiod.line import Bias, Clock, Direction, Drive, Edge, Value
from myrvm_hardware.gpio_lines import find_chip

from myrvm_sim import gpio_uapi as uapi

Record = Callable[..., None]
AnyStructure = TypeVar("AnyStructure", bound=Structure)
OUTPUT = gpiod.LineSettings(direction=Direction.OUTPUT)
INPUT = gpiod.LineSettings(direction=Direction.INPUT)
HOLD = """
import sys, gpiod
from gpiod.line import Direction, Value
settings = gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.ACTIVE)
request = gpiod.request_lines(sys.argv[1], {3: settings}, consumer="holder")
print("held", flush=True)
sys.stdin.read()
"""


# What a chip and its lines tell


def test_a_chip_by_path_name_and_label(chip: TestChip, record: Record) -> None:
    with gpiod.Chip(chip.path) as opened_chip:
        info = opened_chip.get_info()
    assert {find_chip(identity) for identity in (chip.path, info.name, LABEL)} == {chip.path}
    seen = {"name": info.name, "label": info.label, "lines": info.num_lines}
    assert (info.label, info.num_lines) == (LABEL, LINES)
    record(**seen, null_is_a_chip=gpiod.is_gpiochip_device("/dev/null"))


def test_free_lines(chip: TestChip, record: Record) -> None:
    with gpiod.Chip(chip.path) as opened_chip:
        for offset in range(LINES):
            record(**row(opened_chip.get_line_info(offset)))
        record(
            by_name=opened_chip.line_offset_from_id("line5"),
            unknown=refusal(lambda: opened_chip.line_offset_from_id("line99")),
        )


def test_lines_that_are_not_there(chip: TestChip, record: Record) -> None:
    with opened(chip) as fd:
        info, changed = uapi.LineInfo(offset=LINES), uapi.LineInfo(offset=0)
        changed.padding[0] = 1
        seen = {
            "info": refusal(lambda: call(fd, uapi.GET_LINEINFO, info)),
            "watch": refusal(lambda: call(fd, uapi.GET_LINEINFO_WATCH, info)),
            "unwatch": refusal(lambda: fcntl.ioctl(fd, uapi.GET_LINEINFO_UNWATCH, LINES.to_bytes(4, sys.byteorder))),
            "request": take(fd, asked([LINES], uapi.INPUT)),
            "padding": refusal(lambda: call(fd, uapi.GET_LINEINFO, changed)),
            "v1 info": refusal(lambda: call(fd, uapi.V1_GET_LINEINFO, uapi.V1LineInfo(offset=LINES))),
            "no such ioctl": refusal(lambda: fcntl.ioctl(fd, uapi.LINE_GET_VALUES, bytes(16))),
        }
    assert set(seen.values()) == {"EINVAL"}
    record(**seen)


SETTINGS = {
    "input": INPUT,
    "as is": gpiod.LineSettings(direction=Direction.AS_IS),
    "active low": gpiod.LineSettings(direction=Direction.INPUT, active_low=True),
    "up": gpiod.LineSettings(direction=Direction.INPUT, bias=Bias.PULL_UP),
    "down": gpiod.LineSettings(direction=Direction.INPUT, bias=Bias.PULL_DOWN),
    "no bias": gpiod.LineSettings(direction=Direction.INPUT, bias=Bias.DISABLED),
    "rising": gpiod.LineSettings(edge_detection=Edge.RISING),
    "both, real time": gpiod.LineSettings(edge_detection=Edge.BOTH, event_clock=Clock.REALTIME),
    "output": OUTPUT,
    "open drain": gpiod.LineSettings(direction=Direction.OUTPUT, drive=Drive.OPEN_DRAIN),
    "open source": gpiod.LineSettings(direction=Direction.OUTPUT, drive=Drive.OPEN_SOURCE),
    "output, up": gpiod.LineSettings(direction=Direction.OUTPUT, bias=Bias.PULL_UP, active_low=True),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_requested_line(chip: TestChip, record: Record, name: str) -> None:
    with gpiod.Chip(chip.path) as other:
        with gpiod.request_lines(chip.path, {3: SETTINGS[name]}, consumer="conformance") as request:
            record(when="requested", **row(other.get_line_info(3)), value=request.get_value(3).name)
        record(when="released", **row(other.get_line_info(3)))


@pytest.mark.parametrize("consumer", ["", "x" * 31, "x" * 40])
def test_the_name_of_whoever_has_a_line(chip: TestChip, record: Record, consumer: str) -> None:
    with gpiod.Chip(chip.path) as other, opened(chip) as fd:
        request = asked([3], uapi.INPUT)
        request.consumer = consumer.encode()[: uapi.MAX_NAME_SIZE]
        mine = call(fd, uapi.GET_LINE, request).fd
        record(consumer=other.get_line_info(3).consumer)
        os.close(mine)


# Levels


@pytest.mark.parametrize("active_low", [False, True])
def test_an_input_follows_its_line(chip: TestChip, record: Record, active_low: bool) -> None:
    settings = gpiod.LineSettings(direction=Direction.INPUT, active_low=active_low)
    with gpiod.request_lines(chip.path, {2: settings}) as request:
        values = [request.get_value(2).name]
        for up in (True, False):
            chip.pull(2, up)
            values.append(request.get_value(2).name)
    assert (values[0] == "ACTIVE") == active_low
    record(values=values)


def test_the_chips_own_resistor(chip: TestChip, record: Record) -> None:
    levels: dict[str, Any] = {}
    for bias in (Bias.PULL_UP, Bias.PULL_DOWN, Bias.PULL_UP):
        with gpiod.request_lines(chip.path, {2: gpiod.LineSettings(bias=bias, direction=Direction.INPUT)}) as request:
            assert (request.get_value(2) == Value.ACTIVE) == (bias == Bias.PULL_UP)
    levels["released"] = chip.level(2)
    with gpiod.request_lines(chip.path, {2: INPUT}) as request:
        levels["as it is"] = request.get_value(2).name
    chip.pull(2, False)
    levels["pulled down from outside"] = chip.level(2)
    record(**levels)


@pytest.mark.parametrize("active_low", [False, True])
@pytest.mark.parametrize("pulled_up", [False, True])
def test_an_output_and_what_stays_of_it(chip: TestChip, record: Record, active_low: bool, pulled_up: bool) -> None:
    chip.pull(4, pulled_up)
    settings = gpiod.LineSettings(direction=Direction.OUTPUT, active_low=active_low, output_value=Value.ACTIVE)
    with gpiod.request_lines(chip.path, {4: settings}) as request:
        levels = [chip.level(4)]
        for value in (Value.INACTIVE, Value.ACTIVE):
            request.set_value(4, value)
            levels.append(chip.level(4))
            assert request.get_value(4) == value
        chip.pull(4, not pulled_up)
        levels.append(chip.level(4))
    assert levels == [not active_low, active_low, not active_low, not active_low]
    record(levels=levels, released=chip.level(4))


def test_outputs_that_change_together(chip: TestChip, record: Record) -> None:
    with gpiod.request_lines(chip.path, {(1, 2, 3): OUTPUT}) as request:
        request.set_values({1: Value.ACTIVE, 3: Value.ACTIVE})
        first = [chip.level(offset) for offset in (1, 2, 3)]
        request.set_values({2: Value.ACTIVE, 3: Value.INACTIVE})
        second = [chip.level(offset) for offset in (1, 2, 3)]
        read = [value.name for value in request.get_values([3, 1])]
    assert (first, second) == ([True, False, True], [True, True, False])
    record(first=first, second=second, read=read, released=[chip.level(offset) for offset in (1, 2, 3)])


def test_an_input_cannot_be_set(chip: TestChip, record: Record) -> None:
    with gpiod.request_lines(chip.path, {1: OUTPUT, 2: INPUT}) as request:
        seen = {
            "input": refusal(lambda: request.set_value(2, Value.ACTIVE)),
            "both": refusal(lambda: request.set_values({1: Value.ACTIVE, 2: Value.ACTIVE})),
            "set none": refusal(lambda: call(request.fd, uapi.LINE_SET_VALUES, uapi.LineValues(1, 0))),
            "get none": refusal(lambda: call(request.fd, uapi.LINE_GET_VALUES, uapi.LineValues(0, 0))),
            "get another": refusal(lambda: call(request.fd, uapi.LINE_GET_VALUES, uapi.LineValues(0, 4))),
            "set another": refusal(lambda: call(request.fd, uapi.LINE_SET_VALUES, uapi.LineValues(4, 4))),
            "level of the output": chip.level(1),
        }
    assert (seen["input"], seen["both"], seen["level of the output"]) == ("EPERM", "EPERM", False)
    record(**seen)


# Who has a line


def test_a_line_that_is_in_use(chip: TestChip, record: Record) -> None:
    with gpiod.request_lines(chip.path, {3: OUTPUT}, consumer="holder"), opened(chip) as fd:
        seen: dict[str, Any] = {
            "the same": take(fd, asked([3], uapi.INPUT)),
            "beside a free one": take(fd, asked([2, 3], uapi.OUTPUT, [(uapi.ATTR_OUTPUT_VALUES, 3, 3)])),
            "as is": take(fd, asked([3], 0)),
            "twice in one request": take(fd, asked([5, 5], uapi.INPUT)),
            "v1": refusal(
                lambda: call(fd, uapi.V1_GET_LINEEVENT, uapi.V1EventRequest(lineoffset=3, handleflags=1, eventflags=1))
            ),
            "the free one": take(fd, asked([2], uapi.INPUT)),
        }
        with gpiod.Chip(chip.path) as other:
            seen["holder"] = other.get_line_info(3).consumer
        seen["level of the free one"] = chip.level(2)
    assert set(seen.values()) == {"EBUSY", "done", "holder", False}
    record(**seen)


FLAWS = {
    "no lines": asked([], uapi.INPUT),
    "padding": asked([1], uapi.INPUT, padding=1),
    "eleven attributes": asked([1], uapi.INPUT, [(uapi.ATTR_DEBOUNCE, 1, 1)] * 11),
    "unknown flag": asked([1], 1 << 40),
    "unknown flag and hardware clock": asked([1], 1 << 40 | uapi.EVENT_CLOCK_HTE | uapi.INPUT),
    "used": asked([1], uapi.USED | uapi.INPUT),
    "input and output": asked([1], uapi.INPUT | uapi.OUTPUT),
    "edges of an output": asked([1], uapi.OUTPUT | uapi.EDGE_RISING),
    "edges as is": asked([1], uapi.EDGE_RISING),
    "two drives": asked([1], uapi.OUTPUT | uapi.OPEN_DRAIN | uapi.OPEN_SOURCE),
    "drive of an input": asked([1], uapi.INPUT | uapi.OPEN_DRAIN),
    "bias as is": asked([1], uapi.BIAS_PULL_UP),
    "two biases": asked([1], uapi.INPUT | uapi.BIAS_PULL_UP | uapi.BIAS_PULL_DOWN),
    "debounce of an output": asked([1], uapi.OUTPUT, [(uapi.ATTR_DEBOUNCE, 1000, 1)]),
    "the second line's flags": asked([1, 2], uapi.INPUT, [(uapi.ATTR_FLAGS, uapi.INPUT | uapi.OUTPUT, 2)]),
    "hardware clock": asked([1], uapi.INPUT | uapi.EDGE_RISING | uapi.EVENT_CLOCK_HTE),
    "buffer of one event": asked([1], uapi.INPUT | uapi.EDGE_RISING, buffer=1),
    "buffer of one event without edges": asked([1], uapi.INPUT, buffer=1),
    "buffer of many events": asked([1], uapi.INPUT | uapi.EDGE_RISING, buffer=1_000_000),
    "attribute of no line": asked([1], uapi.INPUT, [(uapi.ATTR_FLAGS, uapi.INPUT | uapi.OUTPUT, 2)]),
    "two attributes of a kind": asked(
        [1], uapi.INPUT, [(uapi.ATTR_FLAGS, uapi.INPUT, 1), (uapi.ATTR_FLAGS, uapi.INPUT | uapi.OUTPUT, 1)]
    ),
}


def test_requests_that_contradict_themselves(chip: TestChip, record: Record) -> None:
    with opened(chip) as fd:
        seen = {flaw: take(fd, request) for flaw, request in FLAWS.items()}
        free = call(fd, uapi.GET_LINEINFO, uapi.LineInfo(offset=1)).flags & uapi.USED
    assert not free
    record(**seen)


def test_a_process_that_dies_gives_its_lines_back(chip: TestChip, record: Record) -> None:
    command = [sys.executable, "-c", HOLD, chip.path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        held = chip.level(3)
        holder.send_signal(signal.SIGKILL)
        holder.wait(LIMIT_S)
    with opened(chip) as fd:
        again = take(fd, asked([3], uapi.INPUT))
    assert (held, again) == (True, "done")
    record(held=held, after_its_death=chip.level(3), again=again)


def test_a_request_lives_as_long_as_its_last_copy(chip: TestChip, record: Record) -> None:
    levels: list[bool] = []
    with opened(chip) as fd:
        request = call(fd, uapi.GET_LINE, asked([3], uapi.OUTPUT, [(uapi.ATTR_OUTPUT_VALUES, 1, 1)])).fd
        copy = os.dup(request)
        os.close(request)
        levels.append(chip.level(3))
        child = os.fork()
        if not child:
            call(copy, uapi.LINE_SET_VALUES, uapi.LineValues(0, 1))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        levels.append(chip.level(3))
        call(copy, uapi.LINE_SET_VALUES, uapi.LineValues(1, 1))
        levels.append(chip.level(3))
        busy = take(fd, asked([3], uapi.INPUT))
        os.close(copy)
        free = take(fd, asked([3], uapi.INPUT))
    assert (levels, busy, free) == ([True, False, True], "EBUSY", "done")
    record(levels=levels, busy=busy, free=free, level=chip.level(3))


def test_the_chips_file_is_not_needed_by_a_request(chip: TestChip, record: Record) -> None:
    with opened(chip) as fd:
        request = call(fd, uapi.GET_LINE, asked([3], uapi.OUTPUT)).fd
    call(request, uapi.LINE_SET_VALUES, uapi.LineValues(1, 1))
    record(level=chip.level(3))
    assert chip.level(3)
    os.close(request)


# Changes of what a line is


def test_reconfiguring(chip: TestChip, record: Record) -> None:
    on = gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.ACTIVE)
    with gpiod.Chip(chip.path) as other, gpiod.request_lines(chip.path, {3: on, 4: INPUT}) as request:
        changes: list[dict[Iterable[int | str] | int | str, gpiod.LineSettings | None]] = [
            {3: on, 4: gpiod.LineSettings(edge_detection=Edge.BOTH, bias=Bias.PULL_UP)},
            {3: OUTPUT, 4: gpiod.LineSettings(active_low=True, direction=Direction.INPUT)},
            {3: gpiod.LineSettings(direction=Direction.OUTPUT, active_low=True), 4: on},
        ]
        for settings in changes:
            request.reconfigure_lines(settings)
            record(**{str(offset): row(other.get_line_info(offset)) for offset in (3, 4)}, levels=[
                chip.level(3), request.get_value(3).name, request.get_value(4).name,
            ])  # fmt: skip
        record(
            refused=refusal(lambda: call(request.fd, uapi.LINE_SET_CONFIG, uapi.LineConfig(uapi.INPUT | uapi.OUTPUT))),
            as_it_was=[chip.level(3), row(other.get_line_info(4))],
        )


def test_a_configuration_that_is_refused_or_leaves_a_line_as_it_is(chip: TestChip, record: Record) -> None:
    on = gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.ACTIVE)
    with gpiod.Chip(chip.path) as other, gpiod.request_lines(chip.path, {3: on, 4: INPUT}) as request:
        padded = uapi.LineConfig(uapi.OUTPUT)
        padded.padding[0] = 1
        seen = {
            "padding": refusal(lambda: call(request.fd, uapi.LINE_SET_CONFIG, padded)),
            "unknown flag": refusal(lambda: call(request.fd, uapi.LINE_SET_CONFIG, uapi.LineConfig(1 << 40))),
            "edges of an output": refusal(
                lambda: call(request.fd, uapi.LINE_SET_CONFIG, uapi.LineConfig(uapi.OUTPUT | uapi.EDGE_RISING))
            ),
            "level": chip.level(3),
            "as is": refusal(lambda: call(request.fd, uapi.LINE_SET_CONFIG, uapi.LineConfig(0))),
            "level then": chip.level(3),
            "line 3": row(other.get_line_info(3)),
            "line 4": row(other.get_line_info(4)),
            "line 4 as is": refusal(
                lambda: request.reconfigure_lines({3: on, 4: gpiod.LineSettings(direction=Direction.AS_IS)})
            ),
            "active low as is": refusal(
                lambda: call(request.fd, uapi.LINE_SET_CONFIG, uapi.LineConfig(uapi.ACTIVE_LOW))
            ),
            "value then": request.get_value(3).name,
            "set": refusal(lambda: request.set_value(3, Value.ACTIVE)),
            "level at last": chip.level(3),
        }
    record(**seen)


def test_whoever_watches_sees_every_change(chip: TestChip, record: Record) -> None:
    with gpiod.Chip(chip.path) as watcher:
        for offset in (3, 4):
            watcher.watch_line_info(offset)
        with gpiod.request_lines(chip.path, {(3, 4, 5): INPUT}, consumer="watched") as request:
            request.reconfigure_lines({(3, 4, 5): OUTPUT})
            with opened(chip) as fd:
                assert take(fd, asked([3], uapi.INPUT)) == "EBUSY"
        with gpiod.request_lines(chip.path, {5: OUTPUT}), opened(chip) as fd:
            assert take(fd, asked([3, 5], uapi.INPUT)) == "EBUSY"  # taken and given back
        changes: list[str] = []
        while watcher.wait_info_event(0):
            event = watcher.read_info_event()
            info = event.line_info
            changes.append(f"{event.event_type.name} {info.offset} {info.consumer} {info.direction.name}")
        watcher.unwatch_line_info(3)
        with gpiod.request_lines(chip.path, {3: INPUT}):
            quiet = not watcher.wait_info_event(0)
    assert quiet
    record(changes=changes)


def test_watching_twice_or_not_at_all(chip: TestChip, record: Record) -> None:
    with opened(chip) as fd:
        offset = (3).to_bytes(4, sys.byteorder)
        seen = {
            "unwatch": refusal(lambda: fcntl.ioctl(fd, uapi.GET_LINEINFO_UNWATCH, offset)),
            "watch": refusal(lambda: call(fd, uapi.GET_LINEINFO_WATCH, uapi.LineInfo(offset=3))),
            "again": refusal(lambda: call(fd, uapi.GET_LINEINFO_WATCH, uapi.LineInfo(offset=3))),
            "by version 1": refusal(lambda: call(fd, uapi.V1_GET_LINEINFO_WATCH, uapi.V1LineInfo(offset=4))),
            "unwatch it": refusal(lambda: fcntl.ioctl(fd, uapi.GET_LINEINFO_UNWATCH, offset)),
            "then by version 1": refusal(lambda: call(fd, uapi.V1_GET_LINEINFO_WATCH, uapi.V1LineInfo(offset=3))),
        }
    assert seen["again"] == "EBUSY"
    record(**seen)


def test_changes_that_nobody_reads(chip: TestChip, record: Record) -> None:
    with gpiod.Chip(chip.path) as watcher, opened(chip) as fd:
        watcher.watch_line_info(3)
        for _ in range(20):
            assert take(fd, asked([3], uapi.INPUT)) == "done"
        kinds: list[str] = []
        while watcher.wait_info_event(0):
            kinds.append(watcher.read_info_event().event_type.name)
    record(kept=len(kinds), first=kinds[0], last=kinds[-1])


# A chip that vanishes


def test_a_chip_that_vanishes_while_it_is_used(chip: TestChip, record: Record) -> None:
    with opened(chip) as fd, contextlib.ExitStack() as stack:
        request = stack.enter_context(gpiod.request_lines(chip.path, {3: OUTPUT, 4: INPUT}))
        chip.unplug()
        seen = {
            "set": refusal(lambda: request.set_value(3, Value.ACTIVE)),
            "get": refusal(lambda: request.get_values()),
            "reconfigure": refusal(lambda: request.reconfigure_lines({3: OUTPUT, 4: INPUT})),
            "info": refusal(lambda: call(fd, uapi.GET_LINEINFO, uapi.LineInfo(offset=1))),
            "chip info": refusal(lambda: call(fd, uapi.GET_CHIPINFO, uapi.ChipInfo())),
            "request": take(fd, asked([1], uapi.INPUT)),
            "there": os.path.exists(chip.path),  # noqa: PTH110  # as any program asks
        }
        chip.plug()
        with opened(chip) as new, gpiod.request_lines(chip.path, {3: INPUT, 4: INPUT}):
            seen["another beside the new request"] = take(new, asked([3], uapi.INPUT))
            seen["the old request"] = refusal(lambda: request.get_values())
            seen["the old chip"] = refusal(lambda: call(fd, uapi.GET_LINEINFO, uapi.LineInfo(offset=1)))
    assert (seen["set"], seen["get"], seen["another beside the new request"]) == ("ENODEV", "ENODEV", "EBUSY")
    record(**seen)
