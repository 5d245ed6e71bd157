"""Our lines and drivers on a GPIO chip; unchanged on both chips."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from chips import LABEL, LIMIT_S, PACE_S, SPARE_EDGES, TestChip
from myrvm_core.errors import DeviceError
from myrvm_hardware.drivers import Direction, Role
from myrvm_hardware.gpio_lines import EVENT_BUFFER, Input, Lines, Output
from myrvm_hardware.gpiod_gate import GpiodGate
from myrvm_hardware.gpiod_sensors import GpiodSensors
from myrvm_hardware.settings import ActuatorSettings, SensorSettings

Record = Callable[..., None]
KILLED = """
import sys
from myrvm_hardware.drivers import Direction
from myrvm_hardware.gpiod_gate import GpiodGate
from myrvm_hardware.settings import ActuatorSettings
gate = GpiodGate(sys.argv[1], ActuatorSettings(guard_silence_s=5.0))
gate.open()
gate.drive({"gate": Direction.TO_BIN})
print("driving", flush=True)
sys.stdin.read()
"""


def complaint(call: Callable[[], object]) -> str:
    """The sentence of a DeviceError."""
    with pytest.raises(DeviceError) as caught:
        call()
    return str(caught.value)


def test_lines_by_label_name_and_offset(chip: TestChip, record: Record) -> None:
    lines = Lines(LABEL, {"motor": "line6", "switch": 3})
    lines.open({"motor": Output(), "switch": Input(active_low=True, edges=False)})
    levels = [lines.levels()]
    lines.set({"motor": True})
    chip.pull(3, True)
    levels += [lines.levels(), {"motor": chip.level(6)}]
    lines.close()
    assert levels[1:] == [{"motor": True, "switch": False}, {"motor": True}]
    record(levels=levels, released=chip.level(6))


def test_what_cannot_be_opened(chip: TestChip, record: Record) -> None:
    holder = Lines(chip.path, {"motor": 6}, consumer="somebody")
    holder.open({"motor": Output()})
    motor, spare = Lines(chip.path, {"motor": 6, "spare": 7}), Lines(chip.path, {"spare": 7})
    record(
        taken=complaint(lambda: motor.open({"motor": Output(), "spare": Output(active=True)})),
        name=complaint(lambda: Lines(chip.path, {"motor": "MOTOR"}).open({"motor": Output()})),
        offset=complaint(lambda: Lines(chip.path, {"motor": 16}).open({"motor": Output()})),
        twice=complaint(lambda: Lines(chip.path, {"a": 7, "b": "line7"}).open({"a": Output(), "b": Output()})),
    )
    spare.open({"spare": Output()})
    spare.close()
    holder.close()
    motor.open({"motor": Output(), "spare": Output(active=True)})
    record(free_again=[chip.level(6), chip.level(7)])
    motor.close()


def test_reconfiguring_keeps_what_outputs_drive(chip: TestChip, record: Record) -> None:
    lines = Lines(chip.path, {"motor": 6, "entry": 1})
    lines.open({"motor": Output(), "entry": Input(edges=False)})
    lines.set({"motor": True})
    lines.reconfigure({"entry": Input(bias="up")})
    record(levels=lines.levels(), motor=chip.level(6))
    assert chip.level(6)
    lines.close()


def test_lost_edges_are_counted(chip: TestChip, record: Record) -> None:
    lines = Lines(chip.path, {"entry": 1, "drop": 2})
    lines.open({"entry": Input(), "drop": Input()})
    chip.pull(2, True)
    first = lines.read_edges(LIMIT_S)
    for number in range(EVENT_BUFFER + SPARE_EDGES):
        chip.pull(1, number % 2 == 0)
        time.sleep(PACE_S / 3)
    edges, lost = lines.read_edges(LIMIT_S)
    assert ([edge.purpose for edge in first[0]], first[1]) == (["drop"], 0)
    assert (len(edges), lost > 0, lines.levels()) == (EVENT_BUFFER, True, {"entry": False, "drop": True})
    record(kept=len(edges), lost=lost > 0, levels=lines.levels(), again=lines.read_edges(0.0))
    lines.close()


def test_debounce_by_the_kernel(chip: TestChip, record: Record) -> None:
    lines = Lines(chip.path, {"entry": 1, "motor": 6})
    lines.open({"entry": Input(debounce_s=0.02), "motor": Output()})
    chip.pull(1, True)
    edges, lost = lines.read_edges(LIMIT_S)
    record(debounced=sorted(lines.debounced), edges=[(edge.purpose, edge.active) for edge in edges], lost=lost)
    assert [edge.active for edge in edges] == [True]
    lines.close()


def test_the_sensor_driver(chip: TestChip, record: Record) -> None:
    sensors = GpiodSensors(LABEL, SensorSettings(lines=["entry=line1", "drop=2"], kernel_debounce=False))
    sensors.open()
    levels = [sensors.levels()]
    chip.pull(1, False)  # active low
    edges, lost = sensors.read_edges(LIMIT_S)
    chip.pull(1, True)
    edges += sensors.read_edges(LIMIT_S)[0]
    sensors.listen({Role.DROP})
    chip.pull(1, False)
    quiet = sensors.read_edges(0.0)
    chip.pull(2, False)
    edges += sensors.read_edges(LIMIT_S)[0]
    levels.append(sensors.levels())
    seen = [(edge.role.name, edge.active) for edge in edges]
    assert seen == [("ENTRY", True), ("ENTRY", False), ("DROP", True)]
    record(
        levels=[{role.name: active for role, active in read.items()} for read in levels],
        edges=seen, lost=lost, quiet=quiet,
    )  # fmt: skip
    sensors.close()


def test_the_gate_driver_and_its_guard(chip: TestChip, record: Record) -> None:
    gate = GpiodGate(LABEL, ActuatorSettings(guard_silence_s=5.0))
    gate.open()
    levels: dict[str, list[bool]] = {}
    for direction in (Direction.TO_BIN, Direction.TO_CUSTOMER, Direction.OFF):
        gate.drive({"gate": direction})
        levels[direction.name] = [chip.level(6), chip.level(7)]
    positions = [gate.positions()["gate"].name]
    chip.pull(9, False)  # active low
    positions.append(gate.positions()["gate"].name)
    gate.drive({"gate": Direction.TO_BIN})
    chip.pull(3, False)  # the door
    end_s = time.monotonic() + LIMIT_S
    while chip.level(6):  # nobody but the guard looks
        assert time.monotonic() < end_s
        time.sleep(0.001)
    edges, lost = gate.read_edges(LIMIT_S)
    gate.close()
    assert positions == ["BETWEEN", "BIN"]
    assert [(edge.role, edge.active) for edge in edges] == [(Role.DOOR, True)]
    record(levels=levels, positions=positions, edges=[edge.role.name for edge in edges], lost=lost,
           closed=[chip.level(6), chip.level(7)])  # fmt: skip


def test_a_gate_driver_that_is_killed(chip: TestChip, record: Record) -> None:
    command = [sys.executable, "-c", KILLED, LABEL]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout
        assert driver.stdout.readline() == "driving\n"
        driving = chip.level(6)
        driver.kill()
        driver.wait(LIMIT_S)
    end_s = time.monotonic() + LIMIT_S
    while chip.level(6):  # the guard holds the lines, and switches off
        assert time.monotonic() < end_s
        time.sleep(0.001)
    lines, problem = Lines(LABEL, {"motor": 6}), "not tried"
    while problem:
        assert time.monotonic() < end_s, problem
        try:
            lines.open({"motor": Output()})
            problem = ""
        except DeviceError as error:  # the guard is about to go
            problem = str(error)
    lines.close()
    record(driving=driving, then=chip.level(6))


def test_a_chip_that_vanishes_and_another_in_its_place(chip: TestChip, record: Record) -> None:
    lines = Lines(LABEL, {"motor": 6, "entry": 1})
    settings: dict[str, Input | Output] = {"motor": Output(active=True), "entry": Input()}
    lines.open(settings)
    chip.unplug()
    said = [
        complaint(lines.levels),
        complaint(lambda: lines.set({"motor": False})),
        complaint(lambda: lines.read_edges(LIMIT_S)),
        complaint(lambda: lines.reconfigure({"entry": Input(edges=False)})),
    ]
    lines.close()
    said.append(re.sub("there are: .*", "there are: ...", complaint(lambda: lines.open(settings))))
    chip.plug()
    lines.open(settings)
    assert chip.level(6)
    record(said=said, again=lines.levels())
    lines.close()
