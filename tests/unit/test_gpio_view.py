"""`rvm gpio`: lines of a chip with what they are for; through the unmodified gpiod on the simulated chip."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gpiod
import pytest
from gpiod.line import Bias, Direction, Edge, Value
from myrvm_core.errors import SettingsError
from myrvm_system.gpio_view import LineView, Purpose, as_json, look, purposes, table
from rich.console import Console

LIBRARY = Path(sys.prefix) / "lib" / "libmyrvm_gpio.so"
CHIP = "/dev/gpiochip0"


@pytest.fixture
def chip(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A chip with eight lines, `line0` to `line7`, and nothing behind it."""
    if not LIBRARY.is_file():
        pytest.skip(f"{LIBRARY} is not built")
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        monkeypatch.setenv("MYRVM_GPIO", folder)
        command = [sys.executable, "-m", "myrvm_sim.bare_chip", folder, "--lines", "8"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # ends with its stdin
            assert process.stdout is not None
            process.stdout.readline()
            yield CHIP
            process.communicate(timeout=10)


PROFILE = """
sensor:
  ros__parameters:
    device: bare-chip
    lines: ["entry=line0", "drop=1"]
actuator:
  ros__parameters:
    device: /dev/gpiochip0
    motor_lines: ["to_bin=line2", "to_customer=3"]
    outputs: {lines: ["buzzer=line4"], active_low: [buzzer]}
    watchdog_line: line5
    words: ["no=line", 3]
"""


def profile(tmp_path: Path, text: str = PROFILE) -> list[Purpose]:
    file = tmp_path / "profile.yaml"
    file.write_text(text)
    return purposes([file])


def test_purposes_of_a_profile(tmp_path: Path):
    found = profile(tmp_path)
    assert [(one.node, one.group, one.name, one.chip, one.line) for one in found] == [
        ("sensor", "", "entry", "bare-chip", "line0"), ("sensor", "", "drop", "bare-chip", "1"),
        ("actuator", "", "to_bin", CHIP, "line2"), ("actuator", "", "to_customer", CHIP, "3"),
        ("actuator", "outputs", "buzzer", CHIP, "line4"), ("actuator", "", "watchdog", CHIP, "line5"),
    ]  # fmt: skip


def test_a_later_file_that_changes_one_value_of_a_group_keeps_its_lines(tmp_path: Path):
    before = profile(tmp_path)
    local = tmp_path / "local.yaml"
    local.write_text("actuator: {ros__parameters: {outputs: {light_limit_s: 5.0}}}")
    assert purposes([tmp_path / "profile.yaml", local]) == before


@pytest.mark.parametrize("text", ["- a list", "sensor: 3", "sensor: {}", "{", "3"])
def test_a_profile_that_is_none_is_one_clear_line(tmp_path: Path, text: str):
    with pytest.raises(SettingsError, match=r"profile\.yaml cannot be read"):
        profile(tmp_path, text)


def test_lines_with_users_flags_levels_and_purposes(chip: str, tmp_path: Path):
    known = profile(tmp_path)
    inputs = gpiod.LineSettings(direction=Direction.INPUT, bias=Bias.PULL_UP, active_low=True, edge_detection=Edge.BOTH)
    output = gpiod.LineSettings(direction=Direction.OUTPUT, output_value=Value.ACTIVE)
    with gpiod.request_lines(chip, consumer="myrvm", config={0: inputs, 2: output}):
        lines, problems = look(known, lambda purpose: True if purpose.name == "entry" else None)
    assert problems == []
    assert [line.name for line in lines] == [f"line{number}" for number in range(8)]
    entry, drop, motor = lines[0], lines[1], lines[2]
    assert (entry.consumer, entry.direction, entry.active, entry.told) == ("myrvm", "input", True, "sensor")
    assert entry.purposes == ("sensor entry",)
    assert {"active-low", "pull-up", "both edges"} <= set(entry.flags)
    assert (drop.consumer, drop.active, drop.told, drop.purposes) == ("", False, "", ("sensor drop",))
    assert (motor.consumer, motor.direction, motor.active) == ("myrvm", "output", None)  # nobody tells
    assert [line.offset for line in lines if not line.purposes] == [6, 7]
    # reading a free line leaves it free
    assert [line.consumer for line in look(known, lambda _: None)[0]] == [""] * 8


def test_the_table_and_the_document_say_the_same(chip: str, tmp_path: Path):
    lines, problems = look(profile(tmp_path), lambda _: None)
    document = json.loads(json.dumps(as_json(lines, problems)))
    assert document["lines"][4]["purposes"] == ["actuator outputs buzzer"]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table(lines))
    shown = console.export_text()
    assert "actuator outputs buzzer" in shown
    assert "bare-chip" in shown


def test_no_chip_is_an_empty_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MYRVM_GPIO", str(tmp_path))
    monkeypatch.setattr("myrvm_system.gpio_view.gpiod.is_gpiochip_device", lambda path: False)
    assert look([], lambda _: None) == ([], [])


def test_an_unknown_level_is_a_question_mark():
    line = LineView("gpiochip0", "x", 0, "A", "myrvm", "input", (), None, "", ())
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table([line]))
    assert "?" in console.export_text()
