"""The whole graph on the simulated desk: start to all active, idle CPU over 20 s, memory of each process (PSS).

Goals: start < 10 s, idle < 30 % of a core in all, whole graph < 2 GB, detector < 600 MB.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import rclpy
from myrvm_interfaces.msg import SystemStatus
from myrvm_sim.desk import Desk, Options, desk
from rclpy.executors import SingleThreadedExecutor
from rich.console import Console
from rich.table import Table

from myrvm_ros import qos

START_LIMIT_S = 60.0
TICKS_HZ = os.sysconf("SC_CLK_TCK")


def wait_for_all(limit_s: float) -> SystemStatus:
    """Spin until the manager says that all nodes are active."""
    rclpy.init()
    node = rclpy.create_node("bench")
    heard: list[SystemStatus] = []
    node.create_subscription(SystemStatus, "system/status", heard.append, qos.STATE)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    end_s = time.monotonic() + limit_s
    while not (heard and heard[-1].start_time_s > 0):
        if time.monotonic() > end_s:
            raise SystemExit(f"not all active within {limit_s:g} s: {heard[-1:]}")
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown()
    return heard[-1]


def cpu_s(pid: int) -> float:
    """CPU time of a process, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_HZ


def pss_mb(pid: int) -> float:
    """Proportional set size of a process, MB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024


def measure(machine: Desk, begun_s: float, idle_s: float) -> None:
    """Print both tables."""
    status = wait_for_all(START_LIMIT_S)
    start_s = time.monotonic() - begun_s
    time.sleep(5.0)  # what was left to do at the start is done
    pids = {name: machine.machine.pid(name) for name in machine.machine.names}
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    time.sleep(idle_s)
    percent = {name: 100 * (cpu_s(pid) - before[name]) / idle_s for name, pid in pids.items()}
    memory_mb = {name: pss_mb(pid) for name, pid in pids.items()}
    table = Table("process", "idle, % of a core", "PSS, MB")
    for name in pids:
        table.add_row(name, f"{percent[name]:.1f}", f"{memory_mb[name]:.0f}")
    goals = Table("figure", "measured", "goal")
    goals.add_row("processes begun to all active", f"{start_s:.1f} s", "< 10 s")
    goals.add_row("of that, from the manager on", f"{status.start_time_s:.1f} s", "")
    goals.add_row("idle CPU, all processes", f"{sum(percent.values()):.0f} % of a core", "< 30 %")
    goals.add_row("memory, all processes", f"{sum(memory_mb.values()):.0f} MB", "< 2048 MB")
    goals.add_row("memory, detector", f"{memory_mb['detector']:.0f} MB", "< 600 MB")
    goals.add_row("load of the machine meanwhile", f"{os.getloadavg()[0]:.1f}", f"{os.cpu_count()} cores")
    console = Console(width=100)
    console.print(table, goals)


def main() -> None:
    """Bring the desk up, measure, end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=float, default=20.0, help="seconds of idling")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rvm-") as folder:
        begun_s = time.monotonic()
        with desk(Path(folder), Options()) as machine:
            measure(machine, begun_s, options.idle)
            stopped_s = time.monotonic()
            machine.machine.stop()
            print(f"clean stop: {time.monotonic() - stopped_s:.1f} s; {machine.machine.cleaned[-1]}")


if __name__ == "__main__":
    main()
