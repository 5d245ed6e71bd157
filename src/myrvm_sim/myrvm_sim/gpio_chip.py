"""A GPIO chip as a model without I/O: lines, who has requested them, edges, debounce, watchers.

A stand-in for the kernel's gpiolib and a chip below it. Time is an argument (CLOCK_MONOTONIC, ns); errors are OSErrors
with the kernel's numbers. Source of the behaviour: Linux 6.1, drivers/gpio/gpiolib-cdev.c and gpiolib.c.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from myrvm_sim import gpio_uapi as uapi

WATCH_BUFFER = 32  # changes of lines that wait to be read
EVENTS_A_LINE = 16  # default event buffer, for each line of a request
SMALLEST_BUFFER = 2


EncodeEvent: TypeAlias = Callable[[int, bool, "Line", int], bytes]  # time, rising, line, sequence number


@dataclass(frozen=True)
class LineConfig:
    """What a request wants of one line: flags as in `gpio_uapi`, the logical value of an output."""

    flags: int = 0
    value: bool = False
    debounce_us: int = 0


class Line:
    """One line. `outside` is the level that the world drives, None: nobody; `rest` what a resistor on the board gives.

    `pull` is the resistor that counts: the board's, or the chip's own, which stays on after the request that asked for
    it, as in most pin controllers. Levels are physical, values are logical: the other way round on an active-low line.
    """

    def __init__(self, offset: int, name: str, rest: bool) -> None:
        self.offset, self.name, self.rest, self.pull = offset, name, rest, rest
        self.outside: bool | None = None
        self.request: Request | None = None
        self.flags = uapi.INPUT
        self.debounce_us = 0
        self.sequence = 0
        self.driven: bool | None = None  # what the chip drives
        self.seen = rest  # the level when it was last looked at
        self.settled = rest  # the level after debounce
        self.settles_ns: int | None = None

    @property
    def level(self) -> bool:
        """The physical level now."""
        if self.driven is not None:
            return self.driven
        return self.pull if self.outside is None else self.outside

    @property
    def value(self) -> bool:
        """The logical value, as a program reads it."""
        level = self.settled if self.debounce_us else self.level
        return level != bool(self.flags & uapi.ACTIVE_LOW)

    def drive(self, value: bool) -> None:
        """As an output: drive the logical value, as far as the line's kind of drive can."""
        level = value != bool(self.flags & uapi.ACTIVE_LOW)
        floats = self.flags & (uapi.OPEN_DRAIN if level else uapi.OPEN_SOURCE)
        self.driven = None if floats else level


class File:
    """An open file of the chip: events wait here until they are read.

    `token` counts how often it became readable; a token is sent to the reader each time.
    """

    def __init__(self, chip: Chip, number: int, capacity: int, drops_oldest: bool) -> None:
        self.number, self.token = number, 0
        self._chip, self._capacity, self._drops_oldest = chip, capacity, drops_oldest
        self._events: deque[bytes] = deque()

    def push(self, event: bytes) -> None:
        """One more event; a full buffer drops one."""
        if len(self._events) == self._capacity:
            if not self._drops_oldest:
                return
            self._events.popleft()
        if not self._events:
            self.token += 1
            self._chip.readable.append(self)
        self._events.append(event)

    def read(self, size: int) -> tuple[bytes, int]:
        """As many whole events as fit into `size` bytes, and the newest token that is dealt with.

        Raises:
            OSError: EINVAL, not even one fits.
        """
        events: list[bytes] = []
        while self._events and len(self._events[0]) <= size:
            size -= len(self._events[0])
            events.append(self._events.popleft())
        if self._events and not events:
            raise OSError(errno.EINVAL, "too small for an event")
        return b"".join(events), self.token - bool(self._events)


class ChipFile(File):
    """The chip itself, opened; the lines that it watches, all of them through one version of the interface."""

    def __init__(self, chip: Chip, number: int) -> None:
        super().__init__(chip, number, WATCH_BUFFER, drops_oldest=False)
        self.watched: set[int] = set()
        self.encode: Callable[[Line, int, int], bytes] | None = None


class Request(File):
    """Lines that one program has.

    Args:
        encode: an event as bytes, from its time, whether it is a rising edge, line, and sequence number.
    """

    def __init__(
        self,
        chip: Chip,
        number: int,
        consumer: bytes,
        capacity: int,
        drops_oldest: bool,
        encode: EncodeEvent,
    ) -> None:
        super().__init__(chip, number, capacity, drops_oldest)
        self.lines: list[Line] = []
        self.consumer, self.encode = consumer, encode
        self.sequence = 0

    def read(self, size: int) -> tuple[bytes, int]:
        """As `File.read`; too small is too small whether an event waits or not."""
        if size < len(self.encode(0, False, self.lines[0], 0)):
            raise OSError(errno.EINVAL, "too small for an event")
        return super().read(size)


AnyFile = TypeVar("AnyFile", bound=File)


class Chip:
    """A chip. After each call, `take_levels` and `readable` tell what came of it.

    Args:
        name: such as `gpiochip0`.
        label: such as `tegra234-gpio`.
        lines: name and level at rest of each line, in the order of their offsets.
        to_realtime: CLOCK_REALTIME at a time of CLOCK_MONOTONIC, ns.
        keeps_outputs: a released output stays as it was, as on most chips; else its resistor decides.
    """

    def __init__(
        self,
        name: str,
        label: str,
        lines: Iterable[tuple[str, bool]],
        to_realtime: Callable[[int], int] = lambda at_ns: at_ns,
        keeps_outputs: bool = False,
    ) -> None:
        self.name, self.label = name, label
        self.lines = [Line(offset, line, rest) for offset, (line, rest) in enumerate(lines)]
        self.files: dict[int, File] = {}
        self.readable: list[File] = []
        self.debounce_error = 0  # an errno with which debounce is refused; 0: it works
        self.longest_buffer = 0  # the longest event buffer that is granted; 0: as asked
        self._to_realtime, self._keeps_outputs = to_realtime, keeps_outputs
        self._levels: list[tuple[int, bool, int]] = []
        self._files_ever = 0

    # The world behind the chip

    def drive(self, offset: int, level: bool | None, at_ns: int) -> None:
        """The world drives a line, or with None lets it go."""
        self.advance(at_ns)
        self.lines[offset].outside = level
        self._look(self.lines[offset], at_ns)

    def pull(self, offset: int, up: bool, at_ns: int) -> None:
        """The resistor on the board is another, and stronger than the chip's."""
        self.advance(at_ns)
        self.lines[offset].rest = self.lines[offset].pull = up
        self._look(self.lines[offset], at_ns)

    def take_levels(self) -> list[tuple[int, bool, int]]:
        """Offset, level and time of each change since the last call."""
        levels, self._levels = self._levels, []
        return levels

    def advance(self, now_ns: int) -> None:
        """Let debounce times end."""
        due = [line for line in self.lines if line.settles_ns is not None and line.settles_ns <= now_ns]
        for line in sorted(due, key=lambda line: line.settles_ns or 0):
            at_ns, line.settles_ns = line.settles_ns or 0, None
            if line.settled != line.seen:
                line.settled = line.seen
                self._edge(line, at_ns)

    def next_event_ns(self) -> int | None:
        """When a debounce time ends; None: none is under way."""
        return min((line.settles_ns for line in self.lines if line.settles_ns is not None), default=None)

    def _look(self, line: Line, at_ns: int) -> None:
        level = line.level
        if level == line.seen:
            return
        line.seen = level
        self._levels.append((line.offset, level, at_ns))
        if line.debounce_us:
            line.settles_ns = at_ns + line.debounce_us * 1000
        else:
            line.settled = level
            self._edge(line, at_ns)

    def _edge(self, line: Line, at_ns: int) -> None:
        request, rising = line.request, line.value
        if request is None or not line.flags & (uapi.EDGE_RISING if rising else uapi.EDGE_FALLING):
            return
        request.sequence += 1
        line.sequence += 1
        stamp_ns = self._to_realtime(at_ns) if line.flags & uapi.EVENT_CLOCK_REALTIME else at_ns
        request.push(request.encode(stamp_ns, rising, line, request.sequence))

    # Programs

    def open(self) -> ChipFile:
        """Open the chip."""
        return self._file(ChipFile(self, self._number()))

    def close(self, number: int, now_ns: int) -> None:
        """The last copy of a file is closed; a request's lines are free, and no longer driven."""
        self.advance(now_ns)
        file = self.files.pop(number, None)
        if isinstance(file, Request):
            self._free(file.lines, now_ns)

    def line(self, offset: int) -> Line:
        """A line. Raises OSError (EINVAL)."""
        if offset >= len(self.lines):
            raise OSError(errno.EINVAL, f"line {offset}")
        return self.lines[offset]

    def request(
        self,
        offsets: Sequence[int],
        configs: Sequence[LineConfig],
        consumer: bytes,
        capacity: int,
        encode: EncodeEvent,
        now_ns: int,
        drops_oldest: bool = True,
    ) -> Request:
        """Take lines, all or none. Raises OSError: EINVAL, EBUSY.

        They are taken one after the other; whoever watches sees those that were given back because of another's fault.
        """
        self.advance(now_ns)
        for config in configs:
            self._check(config)
        if self.longest_buffer:
            capacity = min(capacity, self.longest_buffer)
        capacity = 1 << (capacity - 1).bit_length()  # the kernel's ring buffers are powers of two
        request = Request(
            self, self._number(), consumer[: uapi.MAX_NAME_SIZE - 1] or b"?", capacity, drops_oldest, encode
        )
        try:
            for offset, config in zip(offsets, configs, strict=True):
                line = self.line(offset)
                if line.request:
                    raise OSError(errno.EBUSY, "a line is in use")
                request.lines.append(line)
                line.request, line.sequence = request, 0
                if config.flags & uapi.EDGES and capacity < SMALLEST_BUFFER:
                    raise OSError(errno.EINVAL, "event buffer")
                self._refuse_debounce(config)
                self._configure(line, config, now_ns)
                self._tell([line], uapi.CHANGED_REQUESTED, now_ns)
        except OSError:
            self._free(request.lines, now_ns)
            raise
        return self._file(request)

    def configure(self, request: Request, configs: Sequence[LineConfig], now_ns: int) -> None:
        """Change what the lines of a request are; one without a direction is left alone. Raises OSError (EINVAL)."""
        self.advance(now_ns)
        for config in configs:
            self._check(config)
            self._refuse_debounce(config)
        for line, config in zip(request.lines, configs, strict=True):
            if config.flags & uapi.DIRECTIONS:
                self._configure(line, config, now_ns)
                self._tell([line], uapi.CHANGED_CONFIG, now_ns)

    def set_values(self, lines: Iterable[tuple[Line, bool]], now_ns: int) -> None:
        """Drive outputs, all at once. Raises OSError (EPERM)."""
        lines = list(lines)
        if not all(line.flags & uapi.OUTPUT for line, _ in lines):
            raise OSError(errno.EPERM, "an input cannot be set")
        self.advance(now_ns)
        for line, value in lines:
            line.drive(value)
        for line, _ in lines:
            self._look(line, now_ns)

    def _check(self, config: LineConfig) -> None:
        flags = config.flags
        if flags & uapi.EVENT_CLOCK_HTE and not flags & ~uapi.VALID:
            raise OSError(errno.EOPNOTSUPP, "no hardware timestamps")
        contradictions = (
            flags & ~uapi.VALID,
            (flags & uapi.DIRECTIONS) == uapi.DIRECTIONS,
            flags & uapi.EDGES and not flags & uapi.INPUT,
            (flags & uapi.DRIVES) == uapi.DRIVES,
            flags & uapi.DRIVES and not flags & uapi.OUTPUT,
            flags & uapi.BIASES and not flags & uapi.DIRECTIONS,
            (flags & uapi.BIASES).bit_count() > 1,
            config.debounce_us and not flags & uapi.INPUT,
        )
        if any(contradictions):
            raise OSError(errno.EINVAL, "contradictory flags")

    def _refuse_debounce(self, config: LineConfig) -> None:
        if config.debounce_us and self.debounce_error:
            raise OSError(self.debounce_error, "no debounce")

    def _configure(self, line: Line, config: LineConfig, now_ns: int) -> None:
        flags = config.flags if config.flags & uapi.DIRECTIONS else config.flags | line.flags & uapi.DIRECTIONS
        if flags & uapi.BIASES:
            line.pull = line.rest if flags & uapi.BIAS_DISABLED else bool(flags & uapi.BIAS_PULL_UP)
            if line.flags & uapi.EDGES or line.debounce_us:
                self._look(line, now_ns)  # the resistor comes first: what it changes is an edge of a watched line
        goes_on = line.debounce_us and config.debounce_us  # a debounce under way does, with its time
        line.flags, line.debounce_us = flags, config.debounce_us
        if goes_on:
            return
        line.settles_ns = None
        if config.flags & uapi.OUTPUT:
            line.drive(config.value)
        elif config.flags & uapi.INPUT:
            line.driven = None
        changed = line.level != line.seen
        line.seen = line.settled = line.level  # a change by the request itself is no edge
        if changed:
            self._levels.append((line.offset, line.level, now_ns))

    def _free(self, lines: Sequence[Line], now_ns: int) -> None:
        for line in lines:
            line.request, line.debounce_us, line.settles_ns = None, 0, None
            line.flags &= uapi.DIRECTIONS | uapi.EVENT_CLOCK_REALTIME  # the kernel forgets to forget it
            if not self._keeps_outputs:
                line.driven = None
        for line in lines:
            self._look(line, now_ns)
        self._tell(lines, uapi.CHANGED_RELEASED, now_ns)

    def _tell(self, lines: Iterable[Line], change: int, now_ns: int) -> None:
        watchers = [file for file in self.files.values() if isinstance(file, ChipFile) and file.watched]
        for line in lines:
            for watcher in watchers:
                if watcher.encode and line.offset in watcher.watched:
                    watcher.push(watcher.encode(line, now_ns, change))

    def _number(self) -> int:
        self._files_ever += 1
        return self._files_ever

    def _file(self, file: AnyFile) -> AnyFile:
        self.files[file.number] = file
        return file
