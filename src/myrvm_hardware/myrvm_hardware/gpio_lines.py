"""GPIO lines through libgpiod v2 (the `gpiod` package): a chip is found, lines are claimed, read, switched, watched.

One `Lines` is one request: either all of its lines are ours or none, outputs in it change together, and the kernel
gives them back when the process dies. Errors are `DeviceError`s of one line that name chip, line and, where a line is
taken, who has it. Source: libgpiod 2 Python bindings, and the kernel's GPIO character device, uAPI v2.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import gpiod
from gpiod.line import Bias, Clock, Direction, Drive, Edge, Value
from myrvm_core.errors import DeviceError, SettingsError

from myrvm_hardware import motor_guard

CONSUMER = "myrvm"
CHIPS = 64  # numbers that are looked at, /dev/gpiochip0 and on
EVENT_BUFFER = 1024  # edges that the kernel keeps for us: its largest
BIASES = {"as_is": Bias.AS_IS, "none": Bias.DISABLED, "up": Bias.PULL_UP, "down": Bias.PULL_DOWN}
DRIVES = {"push_pull": Drive.PUSH_PULL, "open_drain": Drive.OPEN_DRAIN, "open_source": Drive.OPEN_SOURCE}
ENOTSUPP = 524  # the kernel's own, which drivers let out
CANNOT_DEBOUNCE = (errno.EINVAL, errno.EOPNOTSUPP, ENOTSUPP)
# The bindings make a ValueError of EINVAL and a NotImplementedError of EOPNOTSUPP.
REFUSALS = (OSError, ValueError, NotImplementedError)
GONE = (errno.ENODEV, errno.ENXIO, errno.EBADF)


@dataclass(frozen=True)
class Input:
    """How an input line is set up; `debounce_s` is asked of the kernel, 0: not at all."""

    active_low: bool = False
    bias: str = "as_is"
    edges: bool = True
    debounce_s: float = 0.0


@dataclass(frozen=True)
class Output:
    """How an output line is set up; `active` is its value from the request on."""

    active_low: bool = False
    drive: str = "push_pull"
    active: bool = False


@dataclass(frozen=True)
class LineEdge:
    """The line of `purpose` changed to `active` at `monotonic_ns`, kernel time (CLOCK_MONOTONIC)."""

    purpose: str
    active: bool
    monotonic_ns: int


def parse_lines(
    parameter: str, lines: Iterable[str], allowed: Iterable[str], all_of_them: bool
) -> dict[str, int | str]:
    """`["entry=GPIO17", "drop=22"]` as a mapping of a purpose to a line's name or offset.

    Args:
        parameter: its name, for the message.
        lines: `purpose=line`, each purpose and each line once.
        allowed: the purposes.
        all_of_them: whether each purpose must be there.

    Raises:
        SettingsError: one line that says which entry is wrong and what is allowed.
    """
    allowed = tuple(allowed)
    parsed: dict[str, int | str] = {}
    for entry in lines:
        purpose, equals, line = (part.strip() for part in entry.partition("="))
        if not equals or not line:
            raise SettingsError(f"{parameter}: {entry!r} is not allowed: purpose=line, such as {allowed[0]}=GPIO17")
        if purpose not in allowed:
            raise SettingsError(f"{parameter}: {purpose!r} in {entry!r} is not known; allowed: {', '.join(allowed)}")
        if purpose in parsed:
            raise SettingsError(f"{parameter}: {purpose} is there twice ({parsed[purpose]} and {line})")
        identity = int(line) if line.isdecimal() else line
        if identity in parsed.values():
            raise SettingsError(f"{parameter}: line {line} is there twice")
        parsed[purpose] = identity
    missing = [purpose for purpose in allowed if purpose not in parsed]
    if missing and all_of_them:
        raise SettingsError(f"{parameter}: {', '.join(missing)} is missing")
    return parsed


def chip_paths() -> list[str]:
    """The GPIO chips of this machine, `/dev/gpiochipN` in the order of their numbers."""
    paths = (f"/dev/gpiochip{number}" for number in range(CHIPS))
    return [path for path in paths if gpiod.is_gpiochip_device(path)]


def find_chip(identity: str) -> str:
    """The path of the chip named by its path, its name (`gpiochip0`) or its label (`tegra234-gpio`).

    Raises:
        DeviceError: there is none of that name or label, or more than one of that label; says which there are.
    """
    if "/" in identity:
        return identity
    if gpiod.is_gpiochip_device(f"/dev/{identity}"):
        return f"/dev/{identity}"
    labels = {path: _label(path) for path in chip_paths()}
    found = [path for path, label in labels.items() if label == identity]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{Path(path).name} ({label})" for path, label in labels.items()) or "none"
    what = f"label is that of {len(found)} chips, name one by its path" if found else "is not there"
    raise DeviceError(f"GPIO chip {identity} {what}; there are: {known}")


def _label(path: str) -> str:
    try:
        with gpiod.Chip(path) as chip:
            return chip.get_info().label
    except OSError as error:
        return f"unreadable: {error.strerror}"


class Lines:
    """Requested lines of one chip, by purpose.

    `set` and `levels` may be called from any thread (the bindings' own calls may not: they share a buffer), everything
    else from one.

    Args:
        chip: path, name or label.
        lines: name or offset of the line of each purpose.
        consumer: who we are, for whoever asks the kernel.
    """

    def __init__(self, chip: str, lines: Mapping[str, int | str], consumer: str = CONSUMER) -> None:
        self.chip, self.lines, self._consumer = chip, dict(lines), consumer
        self.offsets: dict[str, int] = {}
        self.debounced: frozenset[str] = frozenset()
        self._purposes: dict[int, str] = {}
        self._places: dict[str, int] = {}
        self._settings: dict[str, Input | Output] = {}
        self._driven: dict[str, bool] = {}
        self._request: gpiod.LineRequest | None = None
        self._sequence = 0

    def open(self, settings: Mapping[str, Input | Output]) -> None:
        """Request every line, set up as its purpose wants; what was open is closed before.

        Where the kernel answers that it cannot debounce, the lines are ours without: `debounced` names the purposes
        that it does debounce, the rest is left to the caller.

        Raises:
            DeviceError: no such chip or line, two lines of one name, a line taken twice or by somebody else.
        """
        self.close()
        try:
            with gpiod.Chip(find_chip(self.chip)) as chip:
                self.offsets = self._find(chip)
                self._purposes = {offset: purpose for purpose, offset in self.offsets.items()}
                try:
                    self._take(chip, settings)
                except REFUSALS as error:
                    if _code(error) not in CANNOT_DEBOUNCE or not any(_debounce_s(line) for line in settings.values()):
                        raise
                    self._take(chip, {purpose: _undebounced(line) for purpose, line in settings.items()})
        except REFUSALS as error:
            raise DeviceError(self._sentence(error)) from error

    def _take(self, chip: gpiod.Chip, settings: Mapping[str, Input | Output]) -> None:
        self._settings, self._driven = dict(settings), {}
        self._request = chip.request_lines(
            self._config(self._settings), consumer=self._consumer, event_buffer_size=EVENT_BUFFER
        )
        self._sequence = 0
        places = {offset: 1 << place for place, offset in enumerate(self._request.offsets)}
        self._places = {purpose: places[offset] for purpose, offset in self.offsets.items()}
        self.debounced = frozenset(purpose for purpose, line in settings.items() if _debounce_s(line))

    @property
    def is_open(self) -> bool:
        """Whether the lines are ours."""
        return self._request is not None

    @property
    def fd(self) -> int:
        """File descriptor of the request, readable when edges wait. Raises DeviceError when it is not open."""
        try:
            return self._open_request().fd
        except gpiod.RequestReleasedError as error:  # closed by another thread meanwhile
            raise DeviceError(f"GPIO chip {self.chip} is not open") from error

    def reconfigure(self, changes: Mapping[str, Input | Output]) -> None:
        """Set some lines up anew without giving any back; outputs that are not named keep their value.

        Raises:
            DeviceError: the kernel refuses, or the chip is gone.
        """
        request = self._open_request()
        settings = self._settings | {
            purpose: replace(line, active=self._driven.get(purpose, line.active))
            for purpose, line in self._settings.items()
            if isinstance(line, Output)
        }
        settings |= changes
        try:
            request.reconfigure_lines(self._config(settings))
        except REFUSALS as error:
            raise DeviceError(self._sentence(error)) from error
        self._settings = settings
        self._driven |= {purpose: line.active for purpose, line in changes.items() if isinstance(line, Output)}

    def listen(self, purposes: Set[str]) -> None:
        """Have edges of these inputs reported, and of no others. Raises DeviceError."""
        changes = {
            purpose: replace(line, edges=purpose in purposes)
            for purpose, line in self._settings.items()
            if isinstance(line, Input) and line.edges != (purpose in purposes)
        }
        if changes:
            self.reconfigure(changes)

    def levels(self) -> dict[str, bool]:
        """Whether each line is active, all read at once. Raises DeviceError."""
        try:
            active = motor_guard.get_values(self.fd, self.mask(self.offsets))
        except OSError as error:
            raise DeviceError(self._sentence(error)) from error
        return {purpose: bool(active & place) for purpose, place in self._places.items()}

    def mask(self, purposes: Iterable[str]) -> int:
        """Lines as bits by their places in the request, as the kernel's calls name them."""
        return sum(self._places[purpose] for purpose in purposes)

    def set(self, values: Mapping[str, bool]) -> None:
        """Switch outputs, all at once. Raises DeviceError."""
        active = self.mask(purpose for purpose, wanted in values.items() if wanted)
        try:
            motor_guard.set_values(self.fd, active, self.mask(values))
        except OSError as error:
            raise DeviceError(self._sentence(error)) from error
        self._driven |= values

    def read_edges(self, timeout_s: float) -> tuple[list[LineEdge], int]:
        """Wait for edges, at most `timeout_s`: the edges, oldest first, and how many before the last one were lost.

        The kernel's buffer drops its oldest when it is full; the sequence numbers tell. Read the levels then.

        Raises:
            DeviceError: the chip is gone.
        """
        request = self._open_request()
        try:
            if not request.wait_edge_events(timedelta(seconds=timeout_s)):
                return [], 0
            events = request.read_edge_events(EVENT_BUFFER)
        except REFUSALS as error:
            raise DeviceError(self._sentence(error)) from error
        if not events:
            return [], 0
        lost = max(0, events[-1].global_seqno - self._sequence - len(events))
        self._sequence = events[-1].global_seqno
        rising = gpiod.EdgeEvent.Type.RISING_EDGE
        return [
            LineEdge(self._purposes[event.line_offset], event.event_type == rising, event.timestamp_ns)
            for event in events
        ], lost

    def close(self) -> None:
        """Give the lines back; harmless when they are not ours."""
        request, self._request = self._request, None
        if request is not None:
            request.release()

    def _open_request(self) -> gpiod.LineRequest:
        request = self._request
        if request is None:
            raise DeviceError(f"GPIO chip {self.chip} is not open")
        return request

    def _config(
        self, settings: Mapping[str, Input | Output]
    ) -> dict[Iterable[int | str] | int | str, gpiod.LineSettings | None]:
        return {self.offsets[purpose]: _line_settings(settings[purpose]) for purpose in self.offsets}

    def _find(self, chip: gpiod.Chip) -> dict[str, int]:
        info = chip.get_info()
        where = f"GPIO chip {self.chip} ({info.label}, {info.num_lines} lines)"
        named: dict[str, list[int]] = {}
        if any(isinstance(line, str) for line in self.lines.values()):
            for offset in range(info.num_lines):
                named.setdefault(chip.get_line_info(offset).name, []).append(offset)
        offsets: dict[str, int] = {}
        for purpose, line in self.lines.items():
            found = named.get(line, []) if isinstance(line, str) else [line] if line < info.num_lines else []
            if not found:
                raise DeviceError(f"{where} has no line {line!r} for {purpose}")
            if len(found) > 1:
                numbers = " and ".join(str(offset) for offset in found)
                raise DeviceError(f"{where} has {len(found)} lines {line!r} ({numbers}): name {purpose} by its offset")
            twice = [other for other, offset in offsets.items() if offset == found[0]]
            if twice:
                raise DeviceError(f"{where}: {twice[0]} and {purpose} are the same line, {found[0]}")
            offsets[purpose] = found[0]
        return offsets

    def _sentence(self, error: Exception) -> str:
        code = _code(error)
        if code == errno.EBUSY:
            return f"GPIO chip {self.chip}: {self._users()}"
        if code in (errno.EACCES, errno.EPERM):
            return f"GPIO chip {self.chip} may not be used: add this user to the group gpio ({error})"
        if self._request is not None and code in GONE:
            return f"GPIO chip {self.chip} has gone while it was used"
        if code in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.ENOTTY):
            there = "/" in self.chip and Path(self.chip).exists()
            return f"GPIO chip {self.chip} {'is no GPIO chip' if there else 'is not there'}"
        said = os.strerror(code) if code else str(error)
        return f"GPIO chip {self.chip} cannot be used: {said}"

    def _users(self) -> str:
        try:
            with gpiod.Chip(find_chip(self.chip)) as chip:
                infos = {purpose: chip.get_line_info(offset) for purpose, offset in self.offsets.items()}
        except OSError as error:
            return f"a line is in use, and the chip does not say by whom ({error})"
        taken = [
            f"line {self.lines[purpose]} ({purpose}) is in use by {info.consumer or 'an unnamed program'}"
            for purpose, info in infos.items()
            if info.used
        ]
        return ", ".join(taken) or "a line was in use a moment ago"


def _code(error: Exception) -> int | None:
    code = getattr(error, "errno", None) or (error.args[0] if error.args else None)
    return code if isinstance(code, int) else None


def _debounce_s(line: Input | Output) -> float:
    return line.debounce_s if isinstance(line, Input) else 0.0


def _undebounced(line: Input | Output) -> Input | Output:
    return replace(line, debounce_s=0.0) if isinstance(line, Input) else line


def _line_settings(line: Input | Output) -> gpiod.LineSettings:
    if isinstance(line, Output):
        return gpiod.LineSettings(
            direction=Direction.OUTPUT,
            drive=DRIVES[line.drive],
            active_low=line.active_low,
            output_value=Value.ACTIVE if line.active else Value.INACTIVE,
        )
    return gpiod.LineSettings(
        direction=Direction.INPUT,
        bias=BIASES[line.bias],
        active_low=line.active_low,
        edge_detection=Edge.BOTH if line.edges else Edge.NONE,
        debounce_period=timedelta(seconds=line.debounce_s),
        event_clock=Clock.MONOTONIC,
    )
