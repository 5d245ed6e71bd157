"""The wiring table of docs/hardware.md against the kernel's port table and the profiles that ship."""

from __future__ import annotations

from pathlib import Path

import pytest
from myrvm_core.configuration import default_files, settings

from myrvm_hardware import probe

PAGE = Path(__file__).resolve().parents[2] / "docs" / "hardware.md"
# Linux, drivers/gpio/gpio-tegra186.c, tegra234_main_ports: lines of each port, in the order of their offsets.
PORTS = {
    "A": 8, "B": 1, "C": 8, "D": 4, "E": 8, "F": 6, "G": 8, "H": 8, "I": 7, "J": 6, "K": 8, "L": 4, "M": 8, "N": 8,
    "P": 8, "Q": 8, "R": 6, "X": 8, "Y": 8, "Z": 8, "AC": 8, "AD": 4, "AE": 2, "AF": 4, "AG": 8,
}  # fmt: skip
# NVIDIA, Jetson.GPIO, gpio_pin_data.py: the pins of the header that may be GPIO.
PINS = {7, 11, 12, 13, 15, 16, 18, 19, 21, 22, 23, 24, 26, 29, 31, 32, 33, 35, 36, 37, 38, 40}


def rows() -> list[list[str]]:
    cells = ([cell.strip() for cell in line.strip("|\n").split("|")] for line in PAGE.open(encoding="utf-8"))
    return [row for row in cells if row[0].isdecimal()]


def test_every_pin_is_there_once_with_the_offset_of_its_line() -> None:
    assert sorted(int(row[0]) for row in rows()) == sorted(PINS)
    ports = list(PORTS)
    for _, line, offset, *_ in rows():
        port, _, number = line.removeprefix("P").partition(".")
        assert int(number) < PORTS[port]
        assert sum(PORTS[before] for before in ports[: ports.index(port)]) + int(number) == int(offset), line
    assert sum(PORTS.values()) == 164


@pytest.mark.parametrize(("profile", "column"), [("orin-nano", 3), ("orin-conveyor", 4)])
def test_the_profile_is_wired_as_the_table_says(
    profile: str, column: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MYRVM_DATA", str(tmp_path))
    said = {row[1]: row[column] for row in rows() if row[column]}
    purposes = probe.purposes_of(settings(default_files(profile)))
    used = {purpose.line: purpose.name for purpose in purposes}
    assert used.keys() == said.keys()
    for line, name in used.items():
        assert said[str(line)].split()[-1] == name.split()[-1], line
    directions = {row[1]: row[5].split(" / ") for row in rows()}
    for purpose in purposes:
        direction = directions[str(purpose.line)]
        assert direction[-1 if column == 4 else 0] == ("out" if purpose.setup is None else "in"), purpose
