"""The ioctls of a GPIO chip's files on the model of `gpio_chip`: structures in, structures out; uAPI v2 and v1.

A stand-in for the kernel's drivers/gpio/gpiolib-cdev.c; errors are OSErrors with its numbers.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Sequence
from typing import TypeAlias

from myrvm_sim import gpio_uapi as uapi
from myrvm_sim.gpio_chip import EVENTS_A_LINE, Chip, ChipFile, EncodeEvent, File, Line, LineConfig, Request

VALUES = struct.Struct("=QQ")  # LineValues, on the way that must be short
U32 = struct.Struct("=I")
Answer: TypeAlias = tuple[bytes, File | None]


Handler: TypeAlias = Callable[[Chip, File, bytes, int], Answer]  # raises OSError


def ioctl(chip: Chip, number: int, file: File, data: bytes, now_ns: int) -> Answer:
    """Do an ioctl on an open file.

    Raises:
        OSError: with the errno that the program gets.
    """
    handlers = LINE_HANDLERS[file.encode] if isinstance(file, Request) else CHIP_HANDLERS
    if number not in handlers:
        raise OSError(errno.EINVAL, f"ioctl {number:#x}")
    return handlers[number](chip, file, data, now_ns)


# On the chip


def _chip_info(chip: Chip, _file: File, _data: bytes, _now_ns: int) -> Answer:
    return bytes(uapi.ChipInfo(chip.name.encode(), chip.label.encode(), len(chip.lines))), None


def _line_info(chip: Chip, _file: File, data: bytes, _now_ns: int) -> Answer:
    asked = uapi.LineInfo.from_buffer_copy(data)
    if any(asked.padding):
        raise OSError(errno.EINVAL, "padding")
    return bytes(_info(chip.line(asked.offset))), None


def _v1_line_info(chip: Chip, _file: File, data: bytes, _now_ns: int) -> Answer:
    return bytes(_v1_info(chip.line(uapi.V1LineInfo.from_buffer_copy(data).offset))), None


def _watch(chip: Chip, file: File, data: bytes, now_ns: int) -> Answer:
    answer = _line_info(chip, file, data, now_ns)
    _begin_watch(file, uapi.LineInfo.from_buffer_copy(data).offset, _changed)
    return answer


def _v1_watch(chip: Chip, file: File, data: bytes, now_ns: int) -> Answer:
    answer = _v1_line_info(chip, file, data, now_ns)
    _begin_watch(file, uapi.V1LineInfo.from_buffer_copy(data).offset, _v1_changed)
    return answer


def _begin_watch(file: File, offset: int, encode: Callable[[Line, int, int], bytes]) -> None:
    assert isinstance(file, ChipFile)
    if file.encode not in (None, encode):
        raise OSError(errno.EPERM, "watches by the other version")
    file.encode = encode
    if offset in file.watched:
        raise OSError(errno.EBUSY, "watched already")
    file.watched.add(offset)


def _unwatch(chip: Chip, file: File, data: bytes, _now_ns: int) -> Answer:
    (offset,) = U32.unpack(data)
    assert isinstance(file, ChipFile)
    chip.line(offset)
    if offset not in file.watched:
        raise OSError(errno.EBUSY, "not watched")
    file.watched.remove(offset)
    return data, None


def _request(chip: Chip, _file: File, data: bytes, now_ns: int) -> Answer:
    asked = uapi.LineRequest.from_buffer_copy(data)
    count = asked.num_lines
    if not 0 < count <= uapi.LINES_MAX or any(asked.padding):
        raise OSError(errno.EINVAL, "number of lines, or padding")
    capacity = min(asked.event_buffer_size or count * EVENTS_A_LINE, uapi.LINES_MAX * EVENTS_A_LINE)
    request = chip.request(
        asked.offsets[:count], _configs(asked.config, count), asked.consumer, capacity, _event, now_ns
    )
    return data, request


def _v1_handle(chip: Chip, _file: File, data: bytes, now_ns: int) -> Answer:
    asked = uapi.V1HandleRequest.from_buffer_copy(data)
    count = asked.lines
    if not 0 < count <= uapi.V1_HANDLES_MAX:
        raise OSError(errno.EINVAL, "number of lines")
    configs = _v1_configs(asked.flags, asked.default_values[:count])
    offsets = asked.lineoffsets[:count]
    return data, chip.request(offsets, configs, asked.consumer_label, 0, _no_event, now_ns)


def _v1_event_request(chip: Chip, _file: File, data: bytes, now_ns: int) -> Answer:
    asked = uapi.V1EventRequest.from_buffer_copy(data)
    (config,) = _v1_configs(asked.handleflags, [0])
    edges = _translate(asked.eventflags, uapi.V1_EDGES)
    if config.flags & (uapi.OUTPUT | uapi.DRIVES):
        raise OSError(errno.EINVAL, "events of an output")
    config = LineConfig(config.flags | uapi.INPUT | edges)
    request = chip.request(
        [asked.lineoffset], [config], asked.consumer_label, EVENTS_A_LINE, _v1_event, now_ns, drops_oldest=False
    )
    return data, request


# On requested lines


def _get_values(_chip: Chip, file: File, data: bytes, _now_ns: int) -> Answer:
    _, mask = VALUES.unpack(data)
    bits = 0
    lines = _lines(file)
    if not mask & ((1 << len(lines)) - 1):
        raise OSError(errno.EINVAL, "no line")
    for index, line in enumerate(lines):
        if mask >> index & 1 and line.value:
            bits |= 1 << index
    return VALUES.pack(bits, mask), None


def _set_values(chip: Chip, file: File, data: bytes, now_ns: int) -> Answer:
    bits, mask = VALUES.unpack(data)
    chosen = [(line, bool(bits >> index & 1)) for index, line in enumerate(_lines(file)) if mask >> index & 1]
    if not chosen:
        raise OSError(errno.EINVAL, "no line")
    chip.set_values(chosen, now_ns)
    return data, None


def _set_config(chip: Chip, file: File, data: bytes, now_ns: int) -> Answer:
    assert isinstance(file, Request)
    chip.configure(file, _configs(uapi.LineConfig.from_buffer_copy(data), len(file.lines)), now_ns)
    return data, None


def _v1_get_values(_chip: Chip, file: File, _data: bytes, _now_ns: int) -> Answer:
    return bytes(line.value for line in _lines(file)).ljust(uapi.V1_HANDLES_MAX, b"\0"), None


def _v1_set_values(chip: Chip, file: File, data: bytes, now_ns: int) -> Answer:
    chip.set_values([(line, bool(value)) for line, value in zip(_lines(file), data, strict=False)], now_ns)
    return data, None


def _v1_set_config(chip: Chip, file: File, data: bytes, now_ns: int) -> Answer:
    assert isinstance(file, Request)
    asked = uapi.V1HandleConfig.from_buffer_copy(data)
    chip.configure(file, _v1_configs(asked.flags, asked.default_values[: len(file.lines)]), now_ns)
    return data, None


def _lines(file: File) -> Sequence[Line]:
    assert isinstance(file, Request)
    return file.lines


# Structures


def _configs(config: uapi.LineConfig, count: int) -> list[LineConfig]:
    """The configuration of each line: the first attribute of a kind that names the line counts, as in the kernel."""
    if config.num_attrs > uapi.LINE_NUM_ATTRS_MAX or any(config.padding):
        raise OSError(errno.EINVAL, "attributes, or padding")

    def attribute(kind: int, index: int) -> int | None:
        return next(
            (
                entry.attr.value >> index & 1 if kind == uapi.ATTR_OUTPUT_VALUES else entry.attr.value
                for entry in config.attrs[: config.num_attrs]
                if entry.attr.id == kind and entry.mask >> index & 1
            ),
            None,
        )

    return [
        LineConfig(
            config.flags if (flags := attribute(uapi.ATTR_FLAGS, index)) is None else flags,
            bool(attribute(uapi.ATTR_OUTPUT_VALUES, index)),
            (attribute(uapi.ATTR_DEBOUNCE, index) or 0) & 0xFFFFFFFF,
        )
        for index in range(count)
    ]


def _v1_configs(flags: int, values: Sequence[int]) -> list[LineConfig]:
    translated = _translate(flags, uapi.V1_REQUEST)
    return [LineConfig(translated, bool(value)) for value in values]


def _translate(flags: int, table: dict[int, int]) -> int:
    if flags & ~sum(table):
        raise OSError(errno.EINVAL, f"flags {flags:#x}")
    return sum(other for flag, other in table.items() if flags & flag)


def _info(line: Line) -> uapi.LineInfo:
    info = uapi.LineInfo(name=line.name.encode(), offset=line.offset, flags=line.flags)
    if line.request is not None:
        info.flags |= uapi.USED
        info.consumer = line.request.consumer
        if line.request.encode is _v1_event:
            info.flags &= ~uapi.EDGES  # version 1 does not tell of them
    if line.debounce_us:
        info.num_attrs = 1
        info.attrs[0] = uapi.LineAttribute(uapi.ATTR_DEBOUNCE, 0, line.debounce_us)
    return info


def _v1_info(line: Line) -> uapi.V1LineInfo:
    info = _info(line)
    flags = sum(old for flag, old in uapi.V1_INFO.items() if info.flags & flag)
    return uapi.V1LineInfo(line.offset, flags, info.name, info.consumer)


def _changed(line: Line, at_ns: int, change: int) -> bytes:
    return bytes(uapi.LineInfoChanged(_info(line), at_ns, change))


def _v1_changed(line: Line, at_ns: int, change: int) -> bytes:
    return bytes(uapi.V1LineInfoChanged(_v1_info(line), at_ns, change))


def _event(at_ns: int, rising: bool, line: Line, sequence: int) -> bytes:
    kind = uapi.EVENT_RISING_EDGE if rising else uapi.EVENT_FALLING_EDGE
    return bytes(uapi.LineEvent(at_ns, kind, line.offset, sequence & 0xFFFFFFFF, line.sequence & 0xFFFFFFFF))


def _v1_event(at_ns: int, rising: bool, _line: Line, _sequence: int) -> bytes:
    return bytes(uapi.V1EventData(at_ns, uapi.EVENT_RISING_EDGE if rising else uapi.EVENT_FALLING_EDGE))


def _no_event(_at_ns: int, _rising: bool, _line: Line, _sequence: int) -> bytes:
    raise OSError(errno.EINVAL, "a handle of version 1 has nothing to read")


CHIP_HANDLERS: dict[int, Handler] = {
    uapi.GET_CHIPINFO: _chip_info,
    uapi.GET_LINEINFO: _line_info,
    uapi.GET_LINEINFO_WATCH: _watch,
    uapi.GET_LINEINFO_UNWATCH: _unwatch,
    uapi.GET_LINE: _request,
    uapi.V1_GET_LINEINFO: _v1_line_info,
    uapi.V1_GET_LINEINFO_WATCH: _v1_watch,
    uapi.V1_GET_LINEHANDLE: _v1_handle,
    uapi.V1_GET_LINEEVENT: _v1_event_request,
}
V1_READS: dict[int, Handler] = {uapi.V1_GET_LINE_VALUES: _v1_get_values}
LINE_HANDLERS: dict[EncodeEvent, dict[int, Handler]] = {  # by the kind of file: what its events look like
    _event: {
        uapi.LINE_GET_VALUES: _get_values,
        uapi.LINE_SET_VALUES: _set_values,
        uapi.LINE_SET_CONFIG: _set_config,
    },
    _no_event: {**V1_READS, uapi.V1_SET_LINE_VALUES: _v1_set_values, uapi.V1_SET_CONFIG: _v1_set_config},
    _v1_event: V1_READS,
}
