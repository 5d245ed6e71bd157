"""A machine of production nodes on the guest's own kernel, whose battery runs low: it must switch itself off.

Sensor node (gpio-sim, the kernel's test battery), camera node (vivid), offline buffer, health node and lifecycle
manager come up as processes by `rvm up` with `config/rvm.yaml`. Then mains goes, and the charge falls below what
`config/policy.yaml` allows. Nothing else asks for `systemctl poweroff`.

Usage: `low_battery.py FILE`, in the guest of deploy/device-vm; the file says how far it went, the logs come beside it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml
from chips import LABEL, GpioSimChip

HOME = Path(os.environ["MYRVM_HOME"])
MACHINE = Path("/run/machine")
NODES = ("offline_buffer", "sensor", "camera", "health")
BATTERY = Path("/sys/module/test_power/parameters")
LIMIT_S = 600.0
PROFILE = {
    "lifecycle_manager": {"heartbeat_timeout_s": 60.0},  # an emulated machine is slow
    "sensor": {
        "device": LABEL,
        "lines": ["entry=line0", "drop=line1", "bin_full=line2"],
        "power": {"driver": "power_supply", "device": "test_battery"},
    },
    "camera": {"device": "/dev/v4l/by-path/platform-vivid.0-video-index0", "pixel_format": "YUYV"},
}


def machine() -> subprocess.Popen[bytes]:
    """Bring up the nodes."""
    shutil.copytree(HOME / "config", MACHINE / "config")
    graph_file = MACHINE / "config" / "graph.yaml"
    graph = yaml.safe_load(graph_file.read_text())
    graph["nodes"] = {name: graph["nodes"][name] for name in NODES}
    graph_file.write_text(yaml.safe_dump(graph))
    profile = {node: {"ros__parameters": settings} for node, settings in PROFILE.items()}
    (MACHINE / "config" / "hardware" / "guest.yaml").write_text(yaml.safe_dump(profile))
    environment = {**os.environ, "MYRVM_HOME": str(MACHINE), "MYRVM_DATA": str(MACHINE / "var")}
    command = [sys.executable, "-c", "from myrvm_system.cli import main; main()", "up", "--hardware", "guest"]
    return subprocess.Popen(command, env=environment)


def wait_well() -> None:
    """Until all nodes are active and none of them misses its device."""
    log = MACHINE / "var" / "logs" / "lifecycle_manager.jsonl"
    end_s = time.monotonic() + LIMIT_S
    modes = [""]
    while not (modes[-1] in ("SERVING", "DEGRADED") and '"all nodes active"' in log.read_text()):
        if time.monotonic() > end_s:
            raise TimeoutError(f"not serving within {LIMIT_S:.0f} s: {log.read_text()[-2000:]}")
        time.sleep(0.5)
        if log.exists():
            modes = re.findall('"mode": "([A-Z_]+)"', log.read_text()) or [""]


def main(file: Path) -> None:
    """Bring up, take mains away, wait for the end."""
    chip = GpioSimChip(MACHINE)
    for offset in range(3):
        chip.pull(offset, True)
    (BATTERY / "ac_online").write_text("on")
    (BATTERY / "battery_capacity").write_text("80")
    begun_s = time.monotonic()
    process = machine()
    try:
        wait_well()
        file.write_text(f"{len(NODES)} nodes active and their devices well after {time.monotonic() - begun_s:.0f} s\n")
        (BATTERY / "ac_online").write_text("off")
        (BATTERY / "battery_status").write_text("discharging")
        (BATTERY / "battery_capacity").write_text("20")
        begun_s = time.monotonic()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # systemd ends this service, too, while it switches off
        process.wait(LIMIT_S)
        with file.open("a") as said:
            print(f"ended {time.monotonic() - begun_s:.0f} s after the battery had become low", file=said)
    finally:
        for log in (MACHINE / "var" / "logs").glob("*"):
            shutil.copy(log, file.parent)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
