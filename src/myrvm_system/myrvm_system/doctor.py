"""What a technician would look at first: each line is ok, or says what to do (`rvm doctor`)."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from myrvm_core.errors import RvmError
from myrvm_core.examination import Examined
from myrvm_core.graph import Graph

from myrvm_core import environment, paths
from myrvm_core import graph as graph_file
from myrvm_system import bring_up, check, selftest, shared_memory, standing_order
from myrvm_system.devices import about_selftest
from myrvm_system.health import Level
from myrvm_system.manager import Verb

SERVER_TIMEOUT_S = 3.0
FREE_DISK_GB = 1.0
FREE_SHARED_MEMORY_MB = 256
BUILT_YEAR = 2025


def examine(files: list[Path]) -> Iterator[Examined]:
    """Look at everything, one line each."""
    try:
        graph = graph_file.load()
    except RvmError as error:
        yield Examined("graph", str(error), "mend config/graph.yaml")
        return
    for look in (_setup, _transport, _shared_memory, lambda: _programs(graph), lambda: _configuration(files), _devices,
                 _model, _clock, _disk, _server, _order, _selftests):  # fmt: skip
        yield from look()


def _setup() -> Iterator[Examined]:
    for module, advice in (
        ("rclpy", "source ROS 2's setup.bash, or on the desk . .venv/desk.sh"),
        ("myrvm_interfaces.msg", "build the workspace: colcon build, or on the desk make setup"),
    ):
        try:
            importlib.import_module(module)
            yield Examined(module, "found")
        except ImportError as error:
            yield Examined(module, str(error), advice)


def _transport() -> Iterator[Examined]:
    name = os.environ.get("FASTRTPS_DEFAULT_PROFILES_FILE", "")
    if name and Path(name).is_file():
        yield Examined("Fast DDS profile", name)
    else:
        advice = "export FASTRTPS_DEFAULT_PROFILES_FILE=<installation>/config/fastdds.xml: it keeps to the loopback"
        yield Examined("Fast DDS profile", name or "not set", advice)
    yield Examined("ROS domain", os.environ.get("ROS_DOMAIN_ID", "0"))


def _shared_memory() -> Iterator[Examined]:
    free_mb = shutil.disk_usage(shared_memory.SHARED_MEMORY).free / 1e6
    advice = "" if free_mb > FREE_SHARED_MEMORY_MB else "make /dev/shm larger (in a container: shm_size: 1gb)"
    yield Examined("/dev/shm", f"{free_mb:.0f} MB free", advice)


def _programs(graph: Graph) -> Iterator[Examined]:
    missing: list[str] = []
    for description in (*graph.nodes, graph.manager):
        check.with_problems(missing, lambda node=description: bring_up.executable(node))
    if not missing:
        yield Examined("programs", f"all {len(graph.nodes) + 1} installed")
    for line in missing:
        yield Examined("programs", line, "build the workspace: colcon build, or on the desk make setup")


def _configuration(files: list[Path]) -> Iterator[Examined]:
    problems = check.check(files)
    if problems:
        yield Examined("configuration", f"{len(problems)} problems, first: {problems[0]}", "rvm check lists all")
    else:
        yield Examined("configuration", "valid")


def _devices() -> Iterator[Examined]:
    for kind, pattern, group in (("cameras", "video*", "video"), ("GPIO chips", "gpiochip*", "gpio")):
        found = sorted(Path("/dev").glob(pattern))
        closed = [str(path) for path in found if not os.access(path, os.R_OK | os.W_OK)]
        if closed:
            yield Examined(kind, f"no permission: {', '.join(closed)}", f"sudo usermod -aG {group} $USER, log in again")
        else:
            yield Examined(kind, ", ".join(map(str, found)) or "none (needed only by the drivers v4l2 and gpiod)")


def _model() -> Iterator[Examined]:
    folder = paths.home() / "models"
    manifest = folder / "manifest.json"
    if manifest.is_file():
        yield Examined("models", str(manifest))
    else:
        yield Examined("models", f"{manifest} is not there", "install a model, see docs/vision.md")


def _clock() -> Iterator[Examined]:
    now = time.gmtime()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", now)
    if now.tm_year < BUILT_YEAR:
        yield Examined("clock", shown, "set the clock: timedatectl set-ntp true, or fit a battery")
        return
    synchronized = ""
    if program := shutil.which("timedatectl"):
        result = subprocess.run(
            [program, "show", "-p", "NTPSynchronized", "--value"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
        synchronized = result.stdout.strip()
    advice = "timedatectl set-ntp true" if synchronized == "no" else ""
    word = {"yes": "synchronized", "no": "not synchronized"}.get(synchronized, "synchronization unknown here")
    yield Examined("clock", f"{shown}, {word}", advice)


def _disk() -> Iterator[Examined]:
    folder = paths.data()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free_gb = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        yield Examined("disk", f"{folder}: {error.strerror}", "give this user the folder, or set MYRVM_DATA")
        return
    if not os.access(folder, os.W_OK):
        yield Examined("disk", f"{folder} cannot be written", "give this user the folder, or set MYRVM_DATA")
        return
    yield Examined("disk", f"{free_gb:.1f} GB free at {folder}", "" if free_gb > FREE_DISK_GB else "free some space")


def _server() -> Iterator[Examined]:
    try:
        url = environment.environment().get("RVM_SERVER_URL", "")
    except RvmError as error:
        yield Examined("server", str(error), "mend config/.env")
        return
    if not url:
        yield Examined("server", "RVM_SERVER_URL is not set: the default of config/rvm.yaml is used")
        return
    parts = urlsplit(url)
    try:
        port = parts.port or {"https": 443, "http": 80}[parts.scheme]
        begun = time.monotonic()
        with socket.create_connection((parts.hostname or "", port), timeout=SERVER_TIMEOUT_S):
            yield Examined("server", f"{parts.hostname}:{port} answers in {(time.monotonic() - begun) * 1e3:.0f} ms")
    except (KeyError, ValueError):
        yield Examined("server", f"RVM_SERVER_URL = {parts.scheme}://{parts.hostname}", "give http(s):// and a host")
    except OSError as error:
        advice = "the machine serves offline meanwhile; look at the network and RVM_SERVER_URL"
        yield Examined("server", f"{parts.hostname}: {error}", advice)


def _order() -> Iterator[Examined]:
    verb = standing_order.standing(paths.data() / standing_order.FILE)
    if verb is not None:
        advice = "rvm maintenance off, before you leave" if verb is Verb.MAINTENANCE else "RESUME (system/manage)"
        yield Examined("order", f"{verb.name} stands, also after a restart", advice)


def _selftests() -> Iterator[Examined]:
    for kind, command in ((selftest.SHORT, "rvm selftest --short"), (selftest.FULL, "rvm selftest")):
        for finding in about_selftest(selftest.latest(paths.data() / "selftest", kind), kind):
            yield Examined(
                finding.name, finding.message, "" if finding.level == Level.OK else f"repair, then {command}"
            )
