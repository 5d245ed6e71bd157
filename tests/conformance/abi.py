"""Calls of the GPIO character device past libgpiod, for the conformance tests."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from ctypes import Structure
from typing import Any, TypeVar

import gpiod
from chips import TestChip, refusal

from myrvm_sim import gpio_uapi as uapi

AnyStructure = TypeVar("AnyStructure", bound=Structure)


def row(info: gpiod.LineInfo) -> dict[str, Any]:
    """All that is known about a line."""
    return {
        "offset": info.offset,
        "name": info.name,
        "consumer": info.consumer,
        "used": info.used,
        "direction": info.direction.name,
        "active_low": info.active_low,
        "bias": info.bias.name,
        "drive": info.drive.name,
        "edges": info.edge_detection.name,
        "clock": info.event_clock.name,
        "debounce_us": round(info.debounce_period.total_seconds() * 1e6) if info.debounced else 0,
    }


@contextlib.contextmanager
def opened(chip: TestChip) -> Iterator[int]:
    """The chip's file, for calls past libgpiod."""
    fd = os.open(chip.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def call(fd: int, number: int, question: AnyStructure) -> AnyStructure:
    """An ioctl; its answer. Raises OSError."""
    buffer = bytearray(bytes(question))
    fcntl.ioctl(fd, number, buffer)
    return type(question).from_buffer_copy(buffer)


def asked(
    offsets: list[int],
    flags: int,
    attributes: list[tuple[int, int, int]] | None = None,
    padding: int = 0,
    buffer: int = 0,
) -> uapi.LineRequest:
    """A line request; attributes are (kind, value, mask)."""
    config = uapi.LineConfig(flags=flags, num_attrs=len(attributes or []))
    for index, (kind, value, mask) in enumerate(attributes or []):
        if index < uapi.LINE_NUM_ATTRS_MAX:
            config.attrs[index] = uapi.LineConfigAttribute(uapi.LineAttribute(kind, 0, value), mask)
    request = uapi.LineRequest(config=config, num_lines=len(offsets), event_buffer_size=buffer)
    for index, offset in enumerate(offsets):
        request.offsets[index] = offset
    request.padding[0] = padding
    return request


def take(fd: int, request: uapi.LineRequest) -> str:
    """Try a request and give its lines back: `done`, or why not."""

    def attempt() -> None:
        os.close(call(fd, uapi.GET_LINE, request).fd)

    return refusal(attempt)
