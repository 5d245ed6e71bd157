"""An edge at the GPIO chip to its ROS event in another process, and idle CPU with ten watched lines, beside bare gpiod.

The chip is the simulated one; the edge's time is the chip's, as the kernel stamps it. The peers are a loop around the
unmodified `gpiod`, which takes its time as soon as it has the event, and one that only waits. In between lie, for ours:
the reader's thread, the executor, two messages (event and state) and DDS to a subscriber.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import gpiod
import numpy as np
from gpiod.line import Bias, Direction, Edge
from myrvm_core.domain_id import claim_domain
from myrvm_interfaces.msg import SensorEvent
from myrvm_sim.cabinet_client import CabinetClient, running
from rich.console import Console
from rich.table import Table

from myrvm_ros import qos, stamps
from myrvm_sim import wiring

CHIP = "/dev/gpiochip0"
TICKS_HZ = os.sysconf("SC_CLK_TCK")
PAUSE_S = 0.01  # between two edges
OURS = {
    "sensor": {
        "device": "myrvm-cabinet",
        "lines": '["entry=ENTRY","drop=SPARE1","bin_full=BIN_FULL","power_fail=SPARE2","on_battery=SPARE3",'
        '"battery_low=SPARE4"]',
        "debounce.entry_s": 0.0,
        "kernel_debounce": False,
    },
    "actuator": {
        "device": "myrvm-cabinet",
        "motor_lines": '["to_bin=MOTOR_BIN","to_customer=MOTOR_CUSTOMER"]',
        "switch_lines": '["closed=SWITCH_CLOSED","bin=SWITCH_BIN","customer=SWITCH_CUSTOMER"]',
        "interlock_lines": '["door=DOOR","hand=HAND","emergency=EMERGENCY","power_fail=POWER_FAIL"]',
    },
}


def watch(lines: Sequence[str]) -> None:
    """The peer: print how late each edge of the lines is, ns; wait for nothing else."""
    settings = gpiod.LineSettings(direction=Direction.INPUT, edge_detection=Edge.BOTH, bias=Bias.PULL_UP)
    offsets: dict[Any, Any] = {wiring.OFFSETS[line]: settings for line in lines}
    with gpiod.request_lines(CHIP, consumer="peer", config=offsets) as request:
        print("ready", flush=True)
        while True:
            if request.wait_edge_events(timedelta(seconds=3600)):
                events = request.read_edge_events()
                now_ns = time.monotonic_ns()
                for event in events:
                    print(now_ns - event.timestamp_ns, flush=True)


def peer(*lines: str) -> subprocess.Popen[str]:
    """The peer as a process, when it watches."""
    process = subprocess.Popen([sys.executable, __file__, "--watch", *lines], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def cpu_s(pid: int) -> float:
    """CPU time of a process, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_HZ


def idling(pids: dict[str, int], seconds: float) -> dict[str, float]:
    """CPU of each process while nothing happens, % of a core."""
    time.sleep(3.0)  # what was left to do is done
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    time.sleep(seconds)
    return {name: 100 * (cpu_s(pid) - before[name]) / seconds for name, pid in pids.items()}


def latencies(graph: Any, cabinet: CabinetClient, edges: int) -> tuple[list[float], list[float]]:
    """How late each edge is, ms: as a ROS event here, and in the peer. Ours and its edges alternate."""
    late_ms: list[float] = []

    def on_event(event: SensorEvent) -> None:
        if event.role == 1:
            late_ms.append((time.time_ns() - stamps.to_ns(event.stamp)) / 1e6)

    graph.node.create_subscription(SensorEvent, "sensors/events", on_event, qos.EVENT)
    process = peer("DROP")
    assert process.stdout
    graph.wait(lambda: graph.node.count_publishers("sensors/events") > 0, "publisher")
    for number in range(edges + 20):
        cabinet.stick_line("ENTRY", number % 2 == 0)
        end_s = time.monotonic() + PAUSE_S
        while time.monotonic() < end_s:
            graph.spin_once(PAUSE_S / 10)
        cabinet.stick_line("DROP", number % 2 == 0)
        time.sleep(PAUSE_S)
    graph.wait(lambda: len(late_ms) >= edges, "events")
    process.terminate()
    peers_ms = [int(line) / 1e6 for line in process.stdout.read().split()]
    process.wait(10)
    return late_ms[-edges:], peers_ms[-edges:]


def main() -> None:
    """Measure, and print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--edges", type=int, default=400)
    parser.add_argument("--idle-s", type=float, default=20.0)
    parser.add_argument("--watch", nargs="*", help="be the peer")
    options = parser.parse_args()
    if options.watch:
        watch(options.watch)
        return
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from node_graph import Graph

    with (
        claim_domain() as domain,
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder) / "cabinet") as variables,
        CabinetClient(Path(folder) / "cabinet") as cabinet,
    ):
        os.environ |= {**variables, "ROS_DOMAIN_ID": str(domain), "MYRVM_DATA": folder, "MYRVM_ENV_FILE": os.devnull}
        graph = Graph(Path(folder))
        try:
            for name, parameters in OURS.items():
                graph.bring_up(name, **parameters)
            ours_ms, peers_ms = latencies(graph, cabinet, options.edges)
            idle = idling({name: process.pid for name, process in graph.processes.items()}, options.idle_s)
        finally:
            graph.stop()
        waiter = peer(*(name for name, is_input in wiring.LINES if is_input and not name.startswith("HX711")))
        idle |= idling({"bare gpiod": waiter.pid}, options.idle_s)
        waiter.terminate()
        waiter.wait(10)
    console = Console()
    table = Table("edge at the chip to", "p50, ms", "p99, ms", "edges")
    for what, late_ms in (("ROS event in another process", ours_ms), ("bare gpiod loop", peers_ms)):
        p50, p99 = np.percentile(late_ms, (50, 99))
        table.add_row(what, f"{p50:.2f}", f"{p99:.2f}", str(len(late_ms)))
    ratios = np.percentile(ours_ms, (50, 99)) / np.percentile(peers_ms, (50, 99))
    table.add_row("ratio", f"{ratios[0]:.1f} x", f"{ratios[1]:.1f} x", "")
    console.print(table)
    table = Table("idle", "watched lines", "CPU, % of a core")
    for (name, share), lines in zip(idle.items(), (6, 4, 10), strict=True):
        table.add_row(name, str(lines), f"{share:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
