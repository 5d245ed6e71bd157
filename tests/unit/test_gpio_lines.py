"""Our GPIO lines and drivers, and Debian's own commands, on the simulated chip, through the unmodified `gpiod`."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gpiod
import pytest
from myrvm_core.errors import DeviceError
from myrvm_hardware.drivers import Direction, EndSwitch, Role
from myrvm_hardware.gpio_lines import Input, Lines, Output, find_chip
from myrvm_hardware.gpiod_gate import GpiodGate
from myrvm_hardware.gpiod_sensors import GpiodSensors
from myrvm_hardware.settings import ActuatorSettings, SecondGateSettings, SensorSettings

CHIP = "/dev/gpiochip0"
IN_USE = rf"GPIO chip {CHIP}: line 6 \(motor\) is in use by somebody"


class Bench:
    """The outside of the chip: what the cabinet would do to its lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @property
    def open_files(self) -> int:
        """Descriptors of the chip's process."""
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    def do(self, command: str) -> Any:
        """A command of `myrvm_sim.bare_chip`, done when this returns."""
        assert self._process.stdin
        assert self._process.stdout
        print(command, file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("MYRVM_GPIO", str(tmp_path))
    command = [sys.executable, "-m", "myrvm_sim.bare_chip", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline()) == {"ready": str(tmp_path)}
        yield Bench(process)
        assert process.stdin
        process.stdin.close()
        assert process.wait(10) == 0


def test_a_chip_by_path_name_and_label(bench: Bench) -> None:
    assert {find_chip(name) for name in (CHIP, "gpiochip0", "bare-chip")} == {CHIP}
    with pytest.raises(DeviceError, match=r"GPIO chip tegra is not there; there are: gpiochip0 \(bare-chip\)"):
        find_chip("tegra")


def test_lines_by_name_and_offset_switch_and_read(bench: Bench) -> None:
    lines = Lines("bare-chip", {"motor": "line6", "switch": 3})
    lines.open({"motor": Output(), "switch": Input(active_low=True, bias="up", edges=False)})
    assert lines.levels() == {"motor": False, "switch": False}
    lines.set({"motor": True})
    bench.do("drive 3 0")
    assert lines.levels() == {"motor": True, "switch": True}
    assert bench.do("level 6") == 1
    lines.close()
    with pytest.raises(DeviceError, match="is not open"):
        lines.levels()


def test_edges_come_in_order_with_kernel_time(bench: Bench) -> None:
    lines = Lines(CHIP, {"entry": 1})
    lines.open({"entry": Input()})
    for level in "101":
        bench.do(f"drive 1 {level}")
    edges, lost = lines.read_edges(10.0)
    assert ([edge.active for edge in edges], lost) == ([True, False, True], 0)
    assert sorted(edge.monotonic_ns for edge in edges) == [edge.monotonic_ns for edge in edges]
    assert lines.read_edges(0.0) == ([], 0)
    lines.close()


def test_a_line_in_use_names_its_user_and_nothing_is_half_taken(bench: Bench) -> None:
    other = Lines(CHIP, {"motor": 6}, consumer="somebody")
    other.open({"motor": Output()})
    lines = Lines(CHIP, {"motor": 6, "spare": 7})
    with pytest.raises(DeviceError, match=IN_USE):
        lines.open({"motor": Output(), "spare": Output()})
    assert not lines.is_open
    other.close()
    lines.open({"motor": Output(), "spare": Output()})
    lines.close()


def test_a_chip_that_vanishes_is_said_and_can_be_opened_again(bench: Bench) -> None:
    lines = Lines(CHIP, {"entry": 1})
    lines.open({"entry": Input()})
    bench.do("unplug")
    with pytest.raises(DeviceError, match="has gone while it was used"):
        lines.levels()
    lines.close()
    with pytest.raises(DeviceError, match="is not there"):
        lines.open({"entry": Input()})
    bench.do("plug")
    lines.open({"entry": Input()})
    assert lines.levels() == {"entry": False}
    lines.close()


def test_a_second_chip_does_not_take_the_place_of_one_that_runs(bench: Bench, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "myrvm_sim.bare_chip", str(tmp_path)]
    second = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    assert "is there already: another cabinet runs" in second.stderr
    assert find_chip("bare-chip") == CHIP


def test_threads_and_children_use_the_chip_at_once_and_leave_nothing_behind(bench: Bench) -> None:
    def use(offset: int) -> None:
        for _ in range(30):
            lines = Lines(CHIP, {"motor": offset})
            lines.open({"motor": Output()})
            for active in (True, False, True):
                lines.set({"motor": active})
                assert lines.levels() == {"motor": active}
            lines.close()

    use(8)
    ours, theirs = len(os.listdir("/proc/self/fd")), bench.open_files  # noqa: PTH208  # the folder's own among them
    child = os.fork()  # before the threads: it would have their lines too
    if not child:
        use(9)
        os._exit(0)
    with ThreadPoolExecutor(8) as threads:
        for result in [threads.submit(use, offset) for offset in range(8)]:
            result.result(60.0)
    assert os.waitpid(child, 0)[1] == 0
    idle = 8  # connections that are kept
    assert len(os.listdir("/proc/self/fd")) <= ours + idle  # noqa: PTH208
    assert bench.open_files <= theirs + idle
    assert [bench.do(f"level {offset}") for offset in range(10)] == [0] * 10


def test_a_chip_that_comes_and_goes_under_everybody_is_an_error_and_nothing_worse(bench: Bench) -> None:
    done = threading.Event()

    def use(offset: int) -> int:
        lines, errors = Lines(CHIP, {"motor": offset, "entry": offset + 8}), 0
        while not done.is_set():
            try:
                if not lines.is_open:
                    lines.open({"motor": Output(), "entry": Input()})
                lines.set({"motor": True})
                lines.read_edges(0.001)
                lines.levels()
            except DeviceError:
                errors += 1
                lines.close()
        lines.close()
        return errors

    with ThreadPoolExecutor(4) as threads:
        results = [threads.submit(use, offset) for offset in range(4)]
        for _ in range(30):
            bench.do("unplug")
            bench.do("plug")
            time.sleep(0.01)  # used for a while
        done.set()
        assert sum(result.result(60.0) for result in results) > 0
    lines = Lines(CHIP, {"motor": 0})
    lines.open({"motor": Output(active=True)})
    assert bench.do("level 0") == 1
    lines.close()


@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.EOPNOTSUPP, 524])
def test_a_chip_that_cannot_debounce_gives_its_lines_without(bench: Bench, refusal: int) -> None:
    bench.do(f"refuse {refusal}")
    lines = Lines(CHIP, {"entry": 1})
    lines.open({"entry": Input(debounce_s=0.005)})
    assert lines.debounced == frozenset()
    lines.close()
    bench.do("refuse 0")
    lines.open({"entry": Input(debounce_s=0.005)})
    assert lines.debounced == {"entry"}
    lines.close()


def test_the_sensor_driver_says_that_edges_were_lost(bench: Bench) -> None:
    sensors = GpiodSensors(CHIP, SensorSettings(lines=["entry=1"], kernel_debounce=False))
    sensors.open()
    assert sensors.levels() == {Role.ENTRY: False}
    bench.do("pulses 1 2000 1000")
    edges, lost = sensors.read_edges(10.0)
    assert (len(edges), lost) == (1024, 3999 - 1024)  # pulled up already: the first pulse has no rising edge
    sensors.close()


def test_the_gate_driver_never_has_both_directions_on(bench: Bench) -> None:
    gate = GpiodGate(CHIP, ActuatorSettings())
    gate.open()
    for direction, levels in ((Direction.TO_BIN, [1, 0]), (Direction.TO_CUSTOMER, [0, 1]), (Direction.OFF, [0, 0])):
        gate.drive({"gate": direction})
        assert [bench.do("level 6"), bench.do("level 7")] == levels
    assert gate.positions() == {"gate": EndSwitch.BETWEEN}
    bench.do("drive 9 0")
    assert gate.positions() == {"gate": EndSwitch.BIN}
    bench.do("drive 8 0")
    assert gate.positions() == {"gate": EndSwitch.IMPOSSIBLE}
    gate.drive({"gate": Direction.TO_BIN})
    gate.close()
    assert bench.do("level 6") == 0


def test_a_second_gate_a_belt_and_the_watchdog_line(bench: Bench) -> None:
    second = SecondGateSettings(
        name="sluice", motor_lines=["to_bin=12", "to_customer=13"], switch_lines=["closed=0", "bin=1", "customer=2"]
    )
    gate = GpiodGate(
        CHIP, ActuatorSettings(second_gate=second, belt_line="15", watchdog_line="14", guard_silence_s=5.0)
    )
    gate.open()
    off = {"gate": Direction.OFF, "sluice": Direction.OFF, "belt": Direction.OFF}
    for motor, line in (("gate", 6), ("sluice", 12), ("belt", 15)):
        kicked = bench.do("level 14")
        gate.drive(off | {motor: Direction.TO_BIN})
        assert [other for other in (6, 7, 12, 13, 15) if bench.do(f"level {other}")] == [line]
        assert bench.do("level 14") != kicked
        assert gate.keep()
        gate.off()
        assert bench.do(f"level {line}") == 0
        gate.drive(off)
    bench.do("drive 1 0")
    assert gate.positions() == {"gate": EndSwitch.BETWEEN, "sluice": EndSwitch.BIN}
    bench.do("drive 5 0")
    assert [role for role, active in gate.levels().items() if active] == [Role.EMERGENCY]
    gate.close()


def gpiod_version() -> str:
    """Of Debian's commands, whose options differ; empty without them."""
    if shutil.which("gpiodetect") is None:
        return ""
    said = subprocess.run(["gpiodetect", "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    return "2" if "(libgpiod) v2" in said else "1"


VERSION = gpiod_version()
ON_CHIP = ["-c", "gpiochip0"] if VERSION == "2" else ["gpiochip0"]
with_commands = pytest.mark.skipif(not VERSION, reason="Debian's package gpiod is not installed")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def holding(offset: int, *command: str) -> Iterator[subprocess.Popen[str]]:
    """A command that has taken a line."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process, gpiod.Chip(CHIP) as chip:
        try:
            end_s = time.monotonic() + 30.0
            while not chip.get_line_info(offset).used:
                assert process.poll() is None
                assert time.monotonic() < end_s
                time.sleep(0.01)
            yield process
        finally:
            process.terminate()


@with_commands
def test_gpiodetect_gpioinfo_and_gpioget(bench: Bench) -> None:
    assert "gpiochip0 [bare-chip] (16 lines)" in run("gpiodetect")
    lines = Lines(CHIP, {"motor": 6}, consumer="somebody")
    lines.open({"motor": Output()})
    row = next(line for line in run("gpioinfo", *ON_CHIP).splitlines() if '"line6"' in line)
    assert '"somebody"' in row
    assert "output" in row
    lines.close()
    bench.do("drive 3 1")
    assert run("gpioget", *ON_CHIP, "3").strip() in ("1", '"3"=active')


@with_commands
def test_gpioset_drives_a_line_as_long_as_it_runs(bench: Bench) -> None:
    stays = [] if VERSION == "2" else ["--mode=signal"]
    with holding(6, "gpioset", *stays, *ON_CHIP, "6=1"):
        assert bench.do("level 6") == 1
        lines = Lines(CHIP, {"motor": 6})
        with pytest.raises(DeviceError, match=r"line 6 \(motor\) is in use by gpioset"):
            lines.open({"motor": Output()})
    assert bench.do("level 6") == 0


@with_commands
def test_gpiomon_prints_every_edge(bench: Bench) -> None:
    with holding(1, "gpiomon", "--num-events=3", "--format=%e %o", *ON_CHIP, "1") as monitor:
        for level in "101":
            bench.do(f"drive 1 {level}")
        printed, _ = monitor.communicate(timeout=30)
    falling = "2" if VERSION == "2" else "0"
    assert printed.splitlines() == ["1 1", f"{falling} 1", "1 1"]
