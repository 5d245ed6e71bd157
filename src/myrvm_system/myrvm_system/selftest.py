"""The machine's self-test as questions and answers, without I/O.

A check is a generator: it yields an action, is sent what came of it, and returns a `Result`. So the same checks run
with a technician, with a simulator, and in a test without a machine. `selftest_machine` carries the actions out.
The short form only looks: `health` runs it after each start. The full form is `rvm selftest`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

from myrvm_core.errors import RvmError, StorageError

from myrvm_core import durable

SHORT, FULL = "short", "full"
REPORTS = 20  # kept in the folder
PERSON_S = 60.0  # a person gets so long for each thing to do
START_S = 60.0  # the machine gets so long after a start until all is well
AT_REST = ("entry", "drop", "hand", "emergency", "power_fail", "on_battery", "battery_low")
BY_HAND = {
    "entry": ("block the entry beam", "free the entry beam"),
    "drop": ("block the drop sensor", "free the drop sensor"),
    "hand": ("hold a hand into the gate", "take the hand out of the gate"),
    "emergency": ("press the emergency stop", "release the emergency stop"),
    "bin_full": ("block the bin-full sensor", "free the bin-full sensor"),
    "door": ("open the service door", "close the service door"),
}
CYCLE = ("HOME", "OPEN", "CLOSE", "ACCEPT", "RETURN")
DOOR_CLOSED = "outputs are driven with the service door open only"
BLACK, WHITE = 8.0, 247.0  # mean brightness of a picture in which nothing can be told, of 255
LIGHT_STEP = 10.0  # the light makes at least this difference in mean brightness


class Outcome(str, Enum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Facts:
    """What the machine says of itself.

    `levels` and `values` are those of the sensors, None while not known; `watching`: the sensors answer. `outputs` are
    read back from their lines, None while nobody tells. `gate` is the first gate's position, a constant of GateState,
    `more_gates` are the names of others. `problems` are
    what the nodes say of themselves, empty when well; a node that is not there was not heard.
    """

    levels: Mapping[str, bool | None] = field(default_factory=dict[str, "bool | None"])
    values: Mapping[str, float | None] = field(default_factory=dict[str, "float | None"])
    outputs: Mapping[str, bool] | None = None
    watching: bool = False
    gate: str = ""
    problems: Mapping[str, str] = field(default_factory=dict[str, str])
    more_gates: Sequence[str] = ()


# Actions


@dataclass(frozen=True)
class Look:
    """What is so now? Sent back: `Facts`."""


@dataclass(frozen=True)
class Wait:
    """Bring the input `role` to `active`.

    Sent back: how long it took in s, None where it did not come, or `Unable` where nobody here can.
    """

    role: str
    active: bool
    prompt: str


@dataclass(frozen=True)
class Drive:
    """Switch an output. Sent back: `Driven`."""

    name: str
    on: bool


@dataclass(frozen=True)
class TakePicture:
    """Sent back: the mean brightness of a new picture, 0 .. 255, or a sentence why there is none."""


@dataclass(frozen=True)
class Move:
    """Command a gate with a verb of CommandGate and wait for the end. Sent back: `Moved`."""

    verb: str
    gate: str = ""


@dataclass(frozen=True)
class Unable:
    """Nobody here can do that."""


@dataclass(frozen=True)
class Driven:
    """`problem` is empty where the output was switched; `read_back` is the line's value then."""

    read_back: bool
    problem: str = ""


@dataclass(frozen=True)
class Moved:
    """`problem` is empty where the movement ended well; durations in s."""

    duration_s: float
    motor_s: float
    problem: str = ""


@dataclass(frozen=True)
class Result:
    """What a check found; figures carry their unit in the name."""

    outcome: Outcome
    message: str
    figures: Mapping[str, float] = field(default_factory=dict[str, float])


Action: TypeAlias = Look | Wait | Drive | TakePicture | Move
Check: TypeAlias = Generator[Action, Any, Result]


def passed(message: str, **figures: float) -> Result:
    """It is as it should be."""
    return Result(Outcome.PASSED, message, figures)


def failed(message: str, **figures: float) -> Result:
    """It is not."""
    return Result(Outcome.FAILED, message, figures)


# The checks


def sensors_answer() -> Check:
    """Every sensor's line or device is readable."""
    facts: Facts = yield Look()
    unknown = sorted(name for name, level in [*facts.levels.items(), *facts.values.items()] if level is None)
    if not facts.watching:
        return failed("the sensors do not answer")
    if unknown:
        return failed(f"not known: {', '.join(unknown)}")
    return passed(f"{len(facts.levels)} inputs and {len(facts.values)} measured", inputs=float(len(facts.levels)))


def at_rest() -> Check:
    """With nothing in the machine and nobody at it, its inputs are inactive and its measurements are numbers."""
    facts: Facts = yield Look()
    active = sorted(name for name in AT_REST if facts.levels.get(name))
    figures = {name: value for name, value in facts.values.items() if value is not None}
    odd = sorted(name for name, value in figures.items() if not math.isfinite(value))
    if active:
        return failed(f"active with nothing in the machine: {', '.join(active)}", **figures)
    if odd:
        return failed(f"no number: {', '.join(odd)}")
    return passed("inputs inactive", **figures)


def well(node: str) -> Check:
    """The node says that it is well; the camera's does so only with live pictures, the sensors' without chatter."""
    facts: Facts = yield Look()
    problem = facts.problems.get(node, "not heard")
    return failed(problem) if problem else passed("well")


def gate_home() -> Check:
    """The gate has found its home after the start, by itself."""
    facts: Facts = yield Look()
    return passed("closed") if facts.gate == "CLOSED" else failed(facts.gate.lower() or "not heard")


def outputs_read() -> Check:
    """Every output is read back from its line; `actuator` says whether it reads as it is driven."""
    facts: Facts = yield Look()
    if facts.outputs is None:
        return failed("not heard")
    on = ", ".join(name for name, value in facts.outputs.items() if value) or "none"
    return passed(f"{len(facts.outputs)} read back, on: {on}", outputs=float(len(facts.outputs)))


def camera() -> Check:
    """The camera gives a picture that is neither black nor white."""
    brightness: float | str = yield TakePicture()
    if isinstance(brightness, str):
        return failed(brightness)
    if not BLACK <= brightness <= WHITE:
        return failed(f"brightness {brightness:.0f} of 255: lens covered, light off, or sun", brightness=brightness)
    return passed(f"brightness {brightness:.0f} of 255", brightness=brightness)


def gate(*verbs: str, name: str = "") -> Check:
    """The gate `name`, empty for the first, does each of `verbs`, with the door closed and nothing in the chamber."""
    door = yield Wait("door", False, "close the service door")
    if isinstance(door, Unable) or door is None:
        return failed("the service door is open: the gate must not move")
    facts: Facts = yield Look()
    if facts.levels.get("entry"):
        return failed("something is in the chamber: take it out")
    figures: dict[str, float] = {}
    for verb in verbs:
        moved: Moved = yield Move(verb, name)
        figures |= {f"{verb.lower()}_s": moved.duration_s, f"{verb.lower()}_motor_s": moved.motor_s}
        if moved.problem:
            return failed(f"{verb}: {moved.problem}", **figures)
    return passed(", ".join(f"{verb} {figures[f'{verb.lower()}_s']:.2f} s" for verb in verbs), **figures)


def wiggled(role: str) -> Check:
    """The input follows when it is made active and inactive again."""
    if role not in BY_HAND:
        return Result(Outcome.SKIPPED, "not to be wiggled by hand")
    figures: dict[str, float] = {}
    for active, prompt in zip((True, False), BY_HAND[role], strict=True):
        took_s = yield Wait(role, active, prompt)
        if isinstance(took_s, Unable):
            return Result(Outcome.SKIPPED, "nobody here can wiggle it")
        if took_s is None:
            return failed(f"stays {'inactive' if active else 'active'} ({prompt})", **figures)
        figures["active_s" if active else "inactive_s"] = took_s
    return passed("follows", **figures)


def door_open() -> Check:
    """The door's input follows; the door stays open for what comes next."""
    took_s = yield Wait("door", True, BY_HAND["door"][0])
    if isinstance(took_s, Unable):
        return Result(Outcome.SKIPPED, "nobody here can open it")
    return failed("stays inactive with the door open") if took_s is None else passed("opens", active_s=took_s)


def door_closed() -> Check:
    """The door's input follows back."""
    took_s = yield Wait("door", False, BY_HAND["door"][1])
    if isinstance(took_s, Unable):
        return Result(Outcome.SKIPPED, "nobody here can close it")
    return failed("stays active with the door closed") if took_s is None else passed("closes", inactive_s=took_s)


def driven(name: str) -> Check:
    """The output switches on and off, and its line says so; it ends as it was."""
    facts: Facts = yield Look()
    if not facts.levels.get("door"):
        return Result(Outcome.SKIPPED, DOOR_CLOSED)
    before = (facts.outputs or {}).get(name, False)
    for on in (not before, before):
        answer: Driven = yield Drive(name, on)
        if answer.problem:
            return failed(answer.problem)
        if answer.read_back != on:
            return failed(f"switched {_word(on)}, the line reads {_word(not on)}")
    return passed(f"{_word(not before)} and {_word(before)} again, read back")


def light(name: str) -> Check:
    """The camera sees the light ring."""
    seen: dict[bool, float] = {}
    facts: Facts = yield Look()
    if not facts.levels.get("door"):
        return Result(Outcome.SKIPPED, DOOR_CLOSED)
    before = (facts.outputs or {}).get(name, False)
    for on in (False, True):
        answer: Driven = yield Drive(name, on)
        if answer.problem:
            return failed(answer.problem)
        brightness: float | str = yield TakePicture()
        if isinstance(brightness, str):
            yield Drive(name, before)
            return failed(brightness)
        seen[on] = brightness
    yield Drive(name, before)
    figures = {"brightness_off": seen[False], "brightness_on": seen[True]}
    step = f"brightness {seen[False]:.0f} off, {seen[True]:.0f} on, of 255"
    if seen[True] - seen[False] < LIGHT_STEP:
        return failed(f"{step}: the light makes no difference", **figures)
    return passed(step, **figures)


def _word(on: bool) -> str:
    return "on" if on else "off"


def short_checks() -> list[tuple[str, Check]]:
    """What is known by looking: nothing is switched, nobody is needed."""
    nodes = [(f"node {node}", well(node)) for node in ("sensor", "camera", "actuator")]
    return [
        ("sensors answer", sensors_answer()), ("sensors at rest", at_rest()), ("gate home", gate_home()),
        ("outputs read", outputs_read()), *nodes,
    ]  # fmt: skip


def full_checks(facts: Facts) -> list[tuple[str, Check]]:
    """Everything: with the door closed first, then with it open, then closed again."""
    outputs = list(facts.outputs or ())
    checks = [
        ("gate cycle", gate(*CYCLE)), *((f"gate cycle {name}", gate(*CYCLE, name=name)) for name in facts.more_gates),
        *short_checks(), ("camera picture", camera()),
    ]  # fmt: skip
    if "door" in facts.levels:
        checks.append(("input door opens", door_open()))
    checks += [(f"input {role}", wiggled(role)) for role in facts.levels if role != "door"]
    checks += [(f"output {name}", driven(name)) for name in outputs]
    checks += [(f"light {name}", light(name)) for name in outputs if "light" in name.lower()]
    if "door" in facts.levels:
        checks.append(("input door closes", door_closed()))
    return checks


# Running them


@dataclass(frozen=True)
class Entry:
    """One line of the report; figures carry their unit in the name."""

    name: str
    outcome: Outcome
    message: str
    figures: Mapping[str, float]
    duration_s: float


@dataclass
class Report:
    """What was found. Times are ISO 8601 in UTC."""

    machine: str
    kind: str
    started_at: str
    finished_at: str = ""
    entries: list[Entry] = field(default_factory=list[Entry])

    @property
    def failed(self) -> list[str]:
        """Names of the checks that failed."""
        return [entry.name for entry in self.entries if entry.outcome is Outcome.FAILED]

    def as_json(self) -> str:
        """For programs; figures that are no numbers are null."""
        document: dict[str, Any] = {**asdict(self), "failed": self.failed}
        for entry in document["entries"]:
            entry["figures"] = {
                name: value if math.isfinite(value) else None for name, value in entry["figures"].items()
            }
        return json.dumps(document, indent=1, allow_nan=False)

    def as_text(self) -> str:
        """For people."""
        lines = [f"self-test ({self.kind}) of {self.machine}, {self.started_at} to {self.finished_at}"]
        for entry in self.entries:
            lines.append(f"{entry.outcome.value:8} {entry.name:20} {entry.message} ({entry.duration_s:.1f} s)")
            lines += [f"{'':29} {name} = {value:.4g}" for name, value in entry.figures.items()]
        counts = ", ".join(f"{sum(entry.outcome is one for entry in self.entries)} {one.value}" for one in Outcome)
        return "\n".join([*lines, counts, ""])


def run_check(check: Check, perform: Callable[[Action], Any]) -> Result:
    """Run one check; an action that fails with an `RvmError` fails it."""
    try:
        action = next(check)
        while True:
            action = check.send(perform(action))
    except StopIteration as ended:
        return ended.value
    except RvmError as error:
        return failed(str(error))
    finally:
        check.close()


def run(
    report: Report,
    checks: Iterable[tuple[str, Check]],
    perform: Callable[[Action], Any],
    now_s: Callable[[], float],
    told: Callable[[Entry], None],
) -> None:
    """Run all checks into `report`; `told` gets each entry as it is made, `now_s` is monotonic."""
    for name, check in checks:
        began_s = now_s()
        result = run_check(check, perform)
        entry = Entry(name, result.outcome, result.message, result.figures, now_s() - began_s)
        report.entries.append(entry)
        told(entry)


def utc(time_ns: int) -> str:
    """ISO 8601, seconds."""
    return datetime.fromtimestamp(time_ns // 1_000_000_000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def latest(folder: Path, kind: str) -> Path:
    """Where the latest report of a kind is."""
    return folder / f"latest-{kind}.json"


def keep(report: Report, folder: Path) -> Path:
    """Write the report as text and JSON, and as the latest of its kind; the oldest of more than 20 are deleted.

    Returns the text's path.

    Raises:
        StorageError: the disk does not take it.
    """
    stem = f"selftest-{report.started_at.replace(':', '').replace('-', '')}-{report.kind}"
    text, document = folder / f"{stem}.txt", folder / f"{stem}.json"
    try:
        durable.replace(text, report.as_text().encode())
        durable.replace(document, report.as_json().encode())
        durable.replace(latest(folder, report.kind), report.as_json().encode())
        for suffix in ("txt", "json"):
            durable.remove(*sorted(folder.glob(f"selftest-*.{suffix}"))[:-REPORTS])
    except OSError as error:
        raise StorageError(f"self-test report {text} cannot be written: {error.strerror}") from error
    return text


class StartTest:
    """The short form after a start: passed as soon as all is well, or failed with what is not after `START_S`.

    Args:
        machine: its name in the report.
        begun_ns: time of the begin, ns since the epoch.
    """

    def __init__(self, machine: str, begun_ns: int) -> None:
        self._report = Report(machine, SHORT, utc(begun_ns))
        self._until_s: float | None = None
        self._ended = False

    def look(self, facts: Facts, now_s: float, now_ns: int) -> Report | None:
        """Call again and again while the nodes are up; the report, once. `now_s` is monotonic."""
        if self._ended:
            return None
        self._until_s = self._until_s or now_s + START_S
        entries: list[Entry] = []
        self._report.entries = []
        run(self._report, short_checks(), lambda _: facts, lambda: now_s, entries.append)
        if self._report.failed and now_s < self._until_s:
            return None
        self._ended = True
        self._report.finished_at = utc(now_ns)
        return self._report
