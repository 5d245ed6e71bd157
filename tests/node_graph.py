"""A small graph of real nodes for a test: processes started, transitions driven, conditions waited for."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from myrvm_interfaces.msg import NodeHealth
from myrvm_ros.managed_node import HEARTBEAT_TOPIC
from myrvm_sim.cabinet_client import CabinetClient
from myrvm_sim.cabinet_client import running as running_cabinet
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile

from myrvm_core import graph as graph_file
from myrvm_core import profiles
from myrvm_ros import qos

LIMIT_S = 60.0


class Graph:
    """Node processes and one test node that watches and calls them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("test", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._clients: dict[str, Any] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._pids: dict[str, int] = {}
        self.node.create_subscription(NodeHealth, HEARTBEAT_TOPIC, self._on_heartbeat, qos.HEARTBEAT)

    def _on_heartbeat(self, message: NodeHealth) -> None:
        self._pids[message.node] = message.pid

    def start(self, name: str, hardware: str = "", program: str = "", **parameters: Any) -> subprocess.Popen[bytes]:
        """Start the process of node `name` of `config/graph.yaml` with a hardware profile and ROS parameters.

        Args:
            program: Python text in the place of the node's own, for a node with a defect.
        """
        description = graph_file.load().node(name)
        module = f"{description.package}.{description.executable}_node"
        arguments = [part for key, value in parameters.items() for part in ("-p", f"{key}:={_yaml(value)}")]
        profile = ["--params-file", str(profiles.file(hardware))] if hardware else []
        text = program or f"from {module} import main; main()"
        command = [sys.executable, "-c", text, "--ros-args", *profile, *arguments]
        output = (self.folder / f"{name}.log").open("ab")
        self.processes[name] = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        output.close()
        # A dead process is still in the discovery for seconds: its heartbeat says that the new one hears us.
        self.wait(lambda: self._pids.get(name) == self.processes[name].pid, f"heartbeat of {name}")
        return self.processes[name]

    def bring_up(self, name: str, hardware: str = "", program: str = "", **parameters: Any) -> None:
        """Start, configure and activate a node."""
        self.start(name, hardware, program, **parameters)
        assert self.transition(name, Transition.TRANSITION_CONFIGURE), self.log(name)
        assert self.transition(name, Transition.TRANSITION_ACTIVATE), self.log(name)

    def transition(self, name: str, transition: int) -> bool:
        """Ask a node for a transition; True when it was made."""
        request = ChangeState.Request()
        request.transition.id = transition
        return self.call(ChangeState, f"{name}/change_state", request).success

    def call(self, service_type: Any, name: str, request: Any, limit_s: float = LIMIT_S) -> Any:
        """Call a service and wait for the answer."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(service_type, name)
        client = self._clients[name]
        self.wait(client.service_is_ready, f"service {name}", limit_s)
        future = client.call_async(request)
        self.wait(future.done, f"answer of {name}", limit_s)
        return future.result()

    def listen(self, message_type: Any, topic: str, profile: QoSProfile) -> list[Any]:
        """Subscribe; messages are appended to the list as the graph is waited on."""
        heard: list[Any] = []
        self.node.create_subscription(message_type, topic, heard.append, profile)
        return heard

    def wait(self, condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> None:
        """Spin until the condition holds; fail after `limit_s` seconds."""
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, f"no {what} within {limit_s} s; logs:\n{self.logs()}"
            self.spin_once(0.05)

    def spin_once(self, timeout_s: float = 0.0) -> None:
        """Handle what has come, for tests that wait in their own loop."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def log(self, name: str) -> str:
        """What a node printed."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def logs(self) -> str:
        """What all nodes printed."""
        return "\n".join(f"--- {name}\n{self.log(name)}" for name in self.processes)

    def stop(self) -> None:
        """End every process, then the test node."""
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.fixture
def cabinet(monkeypatch: pytest.MonkeyPatch) -> Iterator[CabinetClient]:
    """A simulated cabinet: its GPIO chip is /dev/gpiochip0 here and in the nodes, its `/sys` is MYRVM_SYSFS."""
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        path = Path(folder) / "cabinet"
        with running_cabinet(path, "--seed", "1") as variables, CabinetClient(path) as client:
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            yield client


@pytest.fixture
def graph(ros_domain: int, tmp_path: Path) -> Iterator[Graph]:
    """An empty graph in a domain of its own."""
    built = Graph(tmp_path)
    try:
        yield built
    finally:
        built.stop()
