"""Starts the processes of `config/graph.yaml` and keeps them present; the lifecycle manager keeps the nodes active.

For the desk, where no `launch` is installed. Each process has a session of its own, so Ctrl-C reaches only this one,
which then ends all in reverse order. The kernel ends them when this process is killed (PR_SET_PDEATHSIG, by setpriv).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from myrvm_core.backoff import Backoff
from myrvm_core.errors import SettingsError
from myrvm_core.graph import Graph, NodeDescription

from myrvm_core import paths
from myrvm_system import shared_memory, start_up, transport
from myrvm_system.process import look

RESPAWN = Backoff(0.1, 5.0)
LOOK_S, STILL_LOOKS = 1.0, 3  # the manager acts five times a second: one that stands still for so long is replaced
STEADY_S = 10.0  # a process that lived so long starts again without a wait
POLITE = 0.6, 0.2  # shares of the time to stop: after SIGINT, after SIGTERM; SIGKILL then


def executable(description: NodeDescription) -> Path:
    """The program of a node, `<prefix>/lib/<package>/<executable>`.

    Raises:
        SettingsError: the package or the program is not installed.
    """
    try:
        prefix = get_package_prefix(description.package)
    except PackageNotFoundError as error:
        raise SettingsError(f"{description.name}: package {description.package} is not in AMENT_PREFIX_PATH") from error
    path = Path(prefix) / "lib" / description.package / description.executable
    if not os.access(path, os.X_OK):
        raise SettingsError(f"{description.name}: {path} is no program; build it with colcon build")
    return path


class BringUp:
    """All processes of a graph. A context manager: whatever happens inside, none is left behind.

    Args:
        graph: which nodes; the manager is one of the processes.
        parameter_files: ROS parameter files, later ones win.
        extra_environment: on top of this process's environment.
        echo: the processes write to this terminal; otherwise to `<data>/logs/<node>.out`.
    """

    def __init__(
        self,
        graph: Graph,
        parameter_files: Sequence[Path] = (),
        extra_environment: Mapping[str, str] | None = None,
        echo: bool = True,
    ) -> None:
        arguments = ["--ros-args", *(part for file in parameter_files for part in ("--params-file", str(file)))]
        environment = {**os.environ, **(extra_environment or {})}
        self._data = Path(environment.get("MYRVM_DATA") or paths.data())
        environment |= start_up.environment(self._data)
        self._stopping = threading.Event()
        self._layers = [[graph.manager.name], *reversed(graph.layers())]
        self._processes = {
            description.name: _Process(
                description.name,
                [str(executable(description)), *arguments],
                environment | transport.environment(description.pictures, environment),
                echo,
                self._stopping,
                watched=description is graph.manager,
            )
            for description in (graph.manager, *graph.nodes)
        }
        self.found = start_up.Found()
        self.cleaned = shared_memory.Cleaned((), 0, 0)

    def start(self) -> None:
        """Clear what earlier runs have left, then start all processes at once; the manager orders their transitions.

        Raises:
            SettingsError: another machine runs on this data folder.
        """
        self.found = start_up.clear(self._data)
        for process in self._processes.values():
            process.start()

    def stop(self, limit_s: float = 5.0) -> None:
        """End all processes, the manager first, then the layers in reverse order; SIGKILL before `limit_s` seconds."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        begun_s = time.monotonic()
        until_s = begun_s + limit_s * POLITE[0]
        for layer in self._layers:
            for name in layer:
                self._processes[name].signal(signal.SIGINT)
            for name in layer:
                self._processes[name].wait(until_s)
        until_s = begun_s + limit_s * sum(POLITE)
        for number, deadline_s in ((signal.SIGTERM, until_s), (signal.SIGKILL, begun_s + limit_s)):
            for process in self._processes.values():
                process.signal(number)
            for process in self._processes.values():
                process.wait(deadline_s)
        self.cleaned = shared_memory.clean()

    def pid(self, name: str) -> int:
        """Process id of a node (or the manager) now, 0 between two lives."""
        return self._processes[name].pid

    def restarts(self, name: str) -> int:
        """How often the process of a node was started again."""
        return self._processes[name].restarts

    @property
    def names(self) -> tuple[str, ...]:
        """The manager and all nodes."""
        return tuple(self._processes)

    def __enter__(self) -> BringUp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Process(threading.Thread):
    """One program, started again whenever it ends. Its thread is its parent: the kernel ends the child with it.

    A watched one is killed when it stands still: stopped, or its main thread does not run.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        echo: bool,
        stopping: threading.Event,
        watched: bool,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._command = ["setpriv", "--pdeathsig", "KILL", *command]
        self._environment = environment
        self._echo = echo
        self._stopping = stopping
        self._watched = watched
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # no signal to a number that was reaped
        self.restarts = 0

    @property
    def pid(self) -> int:
        child = self._child
        return child.pid if child is not None and child.returncode is None else 0

    def run(self) -> None:
        attempt = 0
        while True:
            with self._lock:
                if self._stopping.is_set():
                    return
                begun_s = time.monotonic()
                child = self._child = self._spawn()
            if self._watched:
                self._watch(child.pid)
            # Wait without reaping, so that the number stays this child's until no one can send it a signal.
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            with self._lock:
                code = child.wait()
            if self._stopping.is_set():
                return
            attempt = 0 if time.monotonic() - begun_s > STEADY_S else attempt + 1
            print(f"bring-up: {self.name} ended ({_how(code)}); starting it again", file=sys.stderr, flush=True)
            self._stopping.wait(RESPAWN.delay_s(attempt))
            self.restarts += 1

    def _watch(self, pid: int) -> None:
        """Return when the child has ended."""
        still, before = 0, None
        with open(os.pidfd_open(pid)) as file:  # noqa: PTH123  # closes it
            poll = select.poll()
            poll.register(file, select.POLLIN)
            while not poll.poll(LOOK_S * 1000):
                sample = look(pid)
                idle = sample is not None and sample.state == "S" and sample == before
                still = still + 1 if idle or (sample is not None and sample.state in "Tt") else 0
                before = sample
                if still == STILL_LOOKS:
                    print(f"bring-up: {self.name} stands still; killing it", file=sys.stderr, flush=True)
                    self.signal(signal.SIGKILL)

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self._echo:
            return self._popen(None)
        folder = paths.data() / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{self.name}.out").open("ab") as output:
            return self._popen(output)

    def _popen(self, output: IO[bytes] | None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command, env=self._environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and what it started."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self.pid:
                os.killpg(self.pid, number)

    def wait(self, until_s: float) -> None:
        """Wait for the end of the process until `until_s` (monotonic)."""
        if self.ident is not None:
            self.join(max(0.0, until_s - time.monotonic()))


def _how(code: int) -> str:
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name
