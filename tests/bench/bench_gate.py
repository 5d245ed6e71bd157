"""An interlock's edge to the motor's line off, and switching lines, beside bare gpiod, while every core is busy.

The chip is the simulated one; both times, of the edge and of the line, are the chip's. A busy process a core runs
beside it. Rows: the actuator node as it is permitted here, the same without the right to real time, and a loop around
the unmodified `gpiod` that does nothing else, with and without that right. Each alternates between emergency, hand and
door. Goal: p99 at most 20 ms.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import gpiod
import numpy as np
from gpiod.line import Bias, Direction, Edge, Value
from lifecycle_msgs.msg import Transition
from myrvm_core.domain_id import claim_domain
from myrvm_hardware.gpio_lines import Lines, Output
from myrvm_interfaces.srv import CommandGate
from myrvm_sim.cabinet_client import CabinetClient, running
from myrvm_sim.physics import Jam
from rich.console import Console
from rich.table import Table

from myrvm_sim import wiring

CHIP = "/dev/gpiochip0"
GOAL_MS = 20.0
LIMIT_S = 60.0
MOTOR = ("MOTOR_BIN", "MOTOR_CUSTOMER")
NODE = "from myrvm_hardware.actuator_node import main; main()"
ORDINARY = f"""
import os, sys
without = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]
os.execvp("setpriv", [*without, sys.executable, "-c", "{NODE}", *sys.argv[1:]])
"""
# A command that is asked for again must find the motor rested and the guard patient, whatever the load.
PATIENT = {"travel_limit_s": 30.0, "duty_s": 3600.0, "duty_window_s": 3600.0, "current_limit_a": 0.0}


def busy() -> None:
    """Take a core."""
    while True:
        sum(range(100_000))


@contextmanager
def load() -> Iterator[None]:
    """A busy process a core."""
    processes = [multiprocessing.Process(target=busy, daemon=True) for _ in range(os.cpu_count() or 1)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


class GateLog:
    """What the cabinet notes about the motor's lines and the interlocks, as it comes."""

    NAMES: tuple[tuple[str, str], ...] = (("emergency stop", "pressed"), ("hand", "inside"), ("door", "opened"))

    def __init__(self, file: Path) -> None:
        self._file = file.open(encoding="utf-8")
        self.on = dict.fromkeys(MOTOR, False)
        self.late_ms: list[float] = []
        self._edge_ns = 0
        self._rest = ""

    def read(self) -> None:
        """Take in what is new."""
        *rows, self._rest = (self._rest + self._file.read()).split("\n")
        for row in map(json.loads, rows):
            if (row["what"], row["detail"]) in self.NAMES:
                self._edge_ns = row["at_ns"]
            name, _, state = row["detail"].partition(" ")
            if row["what"] == "line" and name in self.on:
                self.on[name] = state == "on"
                if state == "off" and self._edge_ns:
                    self.late_ms.append((row["at_ns"] - self._edge_ns) / 1e6)
                    self._edge_ns = 0

    def wait(self, condition: Callable[[], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
        """Read until it holds."""
        end_s = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end_s, f"nothing happens: {self.on}"
            meanwhile()
            time.sleep(0.002)
            self.read()


def measure(cabinet: CabinetClient, log: GateLog, start: Callable[[], None], rounds: int) -> list[float]:
    """Let `start` switch a motor on, disturb it, again and again; ms from the edge to the line."""
    sets = (cabinet.set_emergency, cabinet.set_hand, cabinet.set_door)
    log.late_ms.clear()
    for number in range(rounds):
        log.wait(lambda: any(log.on.values()), start)
        time.sleep(random.uniform(0.01, 0.05))
        sets[number % 3](True)
        log.wait(lambda: not any(log.on.values()))
        sets[number % 3](False)
    return log.late_ms[:]


def actuator(graph: Any, program: str) -> Callable[[], None]:
    """A node of its own; what asks it to move."""
    graph.bring_up("actuator", "desk", program, **PATIENT)

    def start() -> None:
        verb = CommandGate.Request.OPEN
        request = CommandGate.Request(command_id=str(time.monotonic_ns()), holder="bench", verb=verb)
        graph.call(CommandGate, "actuator/command", request)

    return start


def peer() -> None:
    """The motor on, wait for an edge, off; nothing else."""
    names = ("EMERGENCY", "HAND", "DOOR")
    inputs = gpiod.LineSettings(direction=Direction.INPUT, edge_detection=Edge.BOTH, bias=Bias.PULL_UP, active_low=True)
    motor = wiring.OFFSETS[MOTOR[1]]
    config: Any = {tuple(wiring.OFFSETS[name] for name in names): inputs}
    config[motor] = gpiod.LineSettings(direction=Direction.OUTPUT)
    with gpiod.request_lines(CHIP, consumer="peer", config=config) as request:
        while True:
            request.set_value(motor, Value.ACTIVE)
            while not any(edge.event_type == edge.Type.RISING_EDGE for edge in next_edges(request)):
                pass
            request.set_value(motor, Value.INACTIVE)
            while not any(edge.event_type == edge.Type.FALLING_EDGE for edge in next_edges(request)):
                pass


def next_edges(request: gpiod.LineRequest) -> list[gpiod.EdgeEvent]:
    """Wait for edges."""
    request.wait_edge_events(timedelta(seconds=LIMIT_S))
    return request.read_edge_events()


def switching(rounds: int) -> dict[str, list[float]]:
    """us a call, in turns."""
    spare, other = wiring.OFFSETS["SPARE1"], wiring.OFFSETS["SPARE2"]
    bare = gpiod.request_lines(CHIP, config={other: gpiod.LineSettings(direction=Direction.OUTPUT)})
    lines = Lines(CHIP, {"spare": spare})
    lines.open({"spare": Output()})
    calls: dict[str, Callable[[bool], None]] = {
        "Lines.set": lambda on: lines.set({"spare": on}),
        "gpiod set_values": lambda on: bare.set_values({other: Value.ACTIVE if on else Value.INACTIVE}),
    }
    took: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(2 * rounds):
        for name, call in calls.items():
            begin_s = time.perf_counter()
            call(number % 2 == 0)
            took[name].append(1e6 * (time.perf_counter() - begin_s))
    lines.close()
    bare.release()
    return took


def rows(name: str, values: list[float], table: Table, unit: str) -> None:
    """A row of percentiles."""
    p50, p99 = np.percentile(values, (50, 99))
    table.add_row(name, *(f"{value:.2f} {unit}" for value in (p50, p99, max(values))), str(len(values)))


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--peer", action="store_true", help="be the peer")
    parser.add_argument("--switch", action="store_true", help="switch outputs and print the times, us")
    options = parser.parse_args()
    if options.peer:
        peer()
        return
    if options.switch:
        print(json.dumps(switching(10 * options.rounds)))
        return
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from node_graph import Graph

    console = Console(width=110)
    table = Table("interlock's edge to motor's line off", "p50", "p99", "max", "edges")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        gate_log = folder / "gate.jsonl"
        with (
            claim_domain() as domain,
            running(folder / "cabinet", "--gate-log", str(gate_log)) as variables,
            CabinetClient(folder / "cabinet") as cabinet,
        ):
            os.environ |= {**variables, "ROS_DOMAIN_ID": str(domain), "MYRVM_DATA": text, "MYRVM_ENV_FILE": os.devnull}
            cabinet.stick(Jam.HARD)
            log = GateLog(gate_log)
            graph = Graph(folder)
            kinds = [("real time", NODE, ["chrt", "--fifo", "10"]), ("ordinary", ORDINARY, [])]
            if os.geteuid() or not shutil.which("setpriv") or not shutil.which("chrt"):
                kinds = [("as permitted here", NODE, [])]
            try:
                with load():
                    for kind, program, scheduler in kinds:
                        start = actuator(graph, program)
                        rows(f"actuator node, {kind}", measure(cabinet, log, start, options.rounds), table, "ms")
                        graph.transition("actuator", Transition.TRANSITION_DEACTIVATE)
                        process = graph.processes.pop("actuator")
                        process.terminate()
                        process.wait()
                        process = subprocess.Popen([*scheduler, sys.executable, __file__, "--peer"])
                        late_ms = measure(cabinet, log, lambda: None, options.rounds)
                        rows(f"bare gpiod loop, {kind}", late_ms, table, "ms")
                        process.terminate()
                        process.wait()
            finally:
                graph.stop()
            command = [sys.executable, __file__, "--switch", "--rounds", str(options.rounds)]
            took = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    console.print(table)
    table = Table("switching an output", "p50", "p99", "max", "calls")
    for name, values in took.items():
        rows(name, values, table, "us")
    ratio = np.median(took["Lines.set"]) / np.median(took["gpiod set_values"])
    table.add_row("ratio", f"{ratio:.2f} x", "", "", "")
    console.print(table, f"goal: p99 of the actuator node at most {GOAL_MS:g} ms")


if __name__ == "__main__":
    main()
