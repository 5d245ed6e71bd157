"""What the GPIO chips of this machine look like now (`rvm gpio`), through libgpiod v2, and what each line is for.

A line that nobody has is taken for a moment, as it is, to read its level. Nobody but its owner can read a line that is
in use: its level is what the nodes say of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gpiod
from gpiod.line import Bias, Clock, Direction, Drive, Edge, Value
from myrvm_core.configuration import parameters
from rich.table import Table
from rich.text import Text

CHIPS = 64  # numbers that are looked at, /dev/gpiochip0 and on
CONSUMER = "rvm gpio"
BIASES = {Bias.PULL_UP: "pull-up", Bias.PULL_DOWN: "pull-down", Bias.DISABLED: "no bias"}
DRIVES = {Drive.OPEN_DRAIN: "open-drain", Drive.OPEN_SOURCE: "open-source"}
EDGES = {Edge.RISING: "rising edges", Edge.FALLING: "falling edges", Edge.BOTH: "both edges"}
CLOCKS = {Clock.REALTIME: "real-time clock", Clock.HTE: "hardware clock"}


@dataclass(frozen=True)
class Purpose:
    """What a hardware profile says a line is for; `chip` by path, name or label, `line` by name or offset.

    `group` is the group of the node's settings in which it stands, such as `outputs`.
    """

    node: str
    group: str
    name: str
    chip: str
    line: str

    def __str__(self) -> str:
        return " ".join(word for word in (self.node, self.group, self.name) if word)

    def is_of(self, path: str, label: str, offset: int, name: str) -> bool:
        """Whether it is this line of this chip."""
        return self.chip in (path, Path(path).name, label) and self.line in (str(offset), name)


@dataclass(frozen=True)
class LineView:
    """One line. `active` is None where nobody tells; `told` is empty where the line itself was read."""

    chip: str
    label: str
    offset: int
    name: str
    consumer: str
    direction: str
    flags: tuple[str, ...]
    active: bool | None
    told: str
    purposes: tuple[str, ...]


def purposes(files: Sequence[Path]) -> list[Purpose]:
    """Every `purpose=line` of a list of lines in ROS parameter files, later ones win.

    Raises:
        SettingsError: a file cannot be read.
    """
    return [purpose for node, given in parameters(files).items() for purpose in _of_group(node, "", given, "")]


def _of_group(node: str, group: str, given: Mapping[str, Any], chip: str) -> Iterator[Purpose]:
    chip = str(given.get("chip") or given.get("device") or chip)
    for name, value in given.items():
        if isinstance(value, dict):
            yield from _of_group(node, name, value, chip)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, list) and name.endswith("lines"):
            for entry in value:  # pyright: ignore[reportUnknownVariableType]
                purpose, equals, line = str(entry).partition("=")  # pyright: ignore[reportUnknownArgumentType]
                if equals:
                    yield Purpose(node, group, purpose.strip(), chip, line.strip())
        elif name.endswith("_line") and isinstance(value, str | int) and value != "":
            yield Purpose(node, group, name.removesuffix("_line"), chip, str(value))


def look(known: Sequence[Purpose], heard: Callable[[Purpose], bool | None]) -> tuple[list[LineView], list[str]]:
    """Every line of every chip, and one sentence for each chip that cannot be read.

    Args:
        known: purposes of the hardware profile.
        heard: what the nodes say of a purpose: active or not, None where they say nothing.
    """
    lines: list[LineView] = []
    problems: list[str] = []
    for number in range(CHIPS):
        path = f"/dev/gpiochip{number}"
        try:
            if gpiod.is_gpiochip_device(path):
                with gpiod.Chip(path) as chip:
                    lines += _lines_of(chip, path, known, heard)
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}")
    return lines, problems


def _lines_of(
    chip: gpiod.Chip, path: str, known: Sequence[Purpose], heard: Callable[[Purpose], bool | None]
) -> Iterator[LineView]:
    about = chip.get_info()
    for offset in range(about.num_lines):
        info = chip.get_line_info(offset)
        its = [purpose for purpose in known if purpose.is_of(path, about.label, offset, info.name)]
        told = [level for purpose in its if (level := heard(purpose)) is not None] if info.used else []
        yield LineView(
            chip=about.name,
            label=about.label,
            offset=offset,
            name=info.name,
            consumer=(info.consumer or "the kernel") if info.used else "",
            direction="output" if info.direction == Direction.OUTPUT else "input",
            flags=tuple(_flags(info)),
            active=told[0] if told else None if info.used else _read(chip, offset),
            told=its[0].node if told else "",
            purposes=tuple(map(str, its)),
        )


def _flags(info: gpiod.LineInfo) -> Iterator[str]:
    if info.active_low:
        yield "active-low"
    for table, value in ((BIASES, info.bias), (DRIVES, info.drive), (EDGES, info.edge_detection)):
        if value in table:
            yield table[value]  # pyright: ignore[reportArgumentType]
    if info.edge_detection != Edge.NONE and info.event_clock in CLOCKS:
        yield CLOCKS[info.event_clock]
    if info.debounced:
        yield f"debounce {info.debounce_period.total_seconds() * 1e3:g} ms"


def _read(chip: gpiod.Chip, offset: int) -> bool | None:
    try:
        with chip.request_lines({offset: gpiod.LineSettings(direction=Direction.AS_IS)}, consumer=CONSUMER) as request:
            return request.get_value(offset) == Value.ACTIVE
    except OSError:
        return None  # taken since, or not ours to read


def table(lines: Sequence[LineView]) -> Table:
    """The lines as a table for the terminal, chip by chip."""
    drawn = Table("line", "name", "level", "direction", "flags", "used by", "for", box=None, pad_edge=False)
    chip = ""
    for line in lines:
        if line.chip != chip:
            chip = line.chip
            drawn.add_row("", Text(f"{chip} ({line.label})", style="bold"))
        word = "?" if line.active is None else "active" if line.active else "inactive"
        level = Text(word, style="green" if line.active else "dim" if line.active is None else "")
        drawn.add_row(
            str(line.offset), line.name, level, line.direction, ", ".join(line.flags), line.consumer,
            ", ".join(line.purposes),
        )  # fmt: skip
    return drawn


def as_json(lines: Sequence[LineView], problems: Sequence[str]) -> dict[str, Any]:
    """The lines for a program."""
    return {"lines": [asdict(line) for line in lines], "problems": list(problems)}
