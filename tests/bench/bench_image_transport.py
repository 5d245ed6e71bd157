"""Pictures between two rclpy processes, best effort, depth 1: our environment against Fast DDS as it comes.

Prints frames arrived of 150 sent at 15 Hz, latency from stamp to callback, and how soon a subscriber that was killed
with SIGKILL and started again sees its first frame. All figures from one run on one machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from array import array

import rclpy
from myrvm_core.domain_id import claim_domain
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.publisher import Publisher
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import Image

from myrvm_ros import qos
from myrvm_system import transport

FRAMES = 150
RATE_HZ = 15.0
SIZES = ((640, 480), (1280, 720))


def publish(width_px: int, height_px: int) -> None:
    """Send pictures until told to stop."""
    rclpy.init()
    node = rclpy.create_node("sender")
    publisher = node.create_publisher(Image, "picture", qos.IMAGE)
    message = Image(width=width_px, height=height_px, encoding="bgr8", step=3 * width_px)
    message.data = array("B", bytes(3 * width_px * height_px))
    node.create_timer(1.0 / RATE_HZ, lambda: send(node, publisher, message))
    rclpy.spin(node)


def send(node: Node, publisher: Publisher, message: Image) -> None:
    """Send one picture with the time of now."""
    message.header.stamp = node.get_clock().now().to_msg()
    publisher.publish(message)


def receive(count: int) -> None:
    """Print, as JSON, latencies in ms of what arrives in the time of `count` frames after the first one."""
    rclpy.init()
    node = rclpy.create_node("receiver")
    latencies_ms: list[float] = []

    def heard(message: Image) -> None:
        stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
        latencies_ms.append((node.get_clock().now().nanoseconds - stamp_ns) / 1e6)

    node.create_subscription(Image, "picture", heard, qos.IMAGE)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    print("ready", flush=True)
    limit_s = time.monotonic() + 15.0
    while not latencies_ms and time.monotonic() < limit_s:
        executor.spin_once(timeout_sec=0.1)
    print("first", flush=True)
    end_s = time.monotonic() + (count - 1) / RATE_HZ
    while (left_s := end_s - time.monotonic()) > 0:
        executor.spin_once(timeout_sec=left_s)
    print(json.dumps(latencies_ms), flush=True)


def start(role: str, environment: dict[str, str], *arguments: object) -> subprocess.Popen[str]:
    """Start this file in one of its roles."""
    command = [sys.executable, __file__, role, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline()


def measure(environment: dict[str, str], size: tuple[int, int]) -> list[str]:
    """One row of the table."""
    sender = start("publish", environment, *size)
    receiver = start("receive", environment, FRAMES)
    for _ in range(2):
        line(receiver)
    latencies_ms = sorted(json.loads(line(receiver)))
    receiver.wait()
    killed = start("receive", environment, FRAMES)
    for _ in range(2):
        line(killed)
    killed.kill()
    killed.wait()
    again = start("receive", environment, 1)
    line(again)
    begun_s = time.monotonic()
    line(again)
    first_s = time.monotonic() - begun_s
    for process in (again, sender):
        process.kill()
        process.wait()
    if not latencies_ms:
        return [f"0/{FRAMES}", "-", "-", "-"]
    p99 = latencies_ms[int(0.99 * (len(latencies_ms) - 1))]
    return [f"{len(latencies_ms)}/{FRAMES}", f"{statistics.median(latencies_ms):.1f}", f"{p99:.1f}", f"{first_s:.1f}"]


def main() -> None:
    """Measure and print the table."""
    table = Table("transport", "picture", "frames", "median, ms", "p99, ms", "first frame after kill -9, s")
    ours = transport.environment(True, os.environ)
    with claim_domain() as domain:
        base = {**os.environ, "ROS_DOMAIN_ID": str(domain)}
        profile = {transport.VARIABLE: ours[transport.VARIABLE]}
        plain = {name: value for name, value in base.items() if name != transport.VARIABLE}
        for name, environment in (("profile and memory", base | ours), ("profile alone", base | profile),
                                  ("Fast DDS as it comes", plain)):  # fmt: skip
            for size in SIZES:
                table.add_row(name, f"{size[0]}x{size[1]} bgr8", *measure(environment, size))
    Console(width=120).print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", nargs="?", choices=["publish", "receive"])
    parser.add_argument("numbers", nargs="*", type=int)
    options = parser.parse_args()
    {"publish": publish, "receive": receive, None: main}[options.role](*options.numbers)
