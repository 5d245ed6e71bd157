"""A machine of tiny nodes under the real bring-up and lifecycle manager, for tests of these two."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from myrvm_interfaces.msg import SystemStatus
from myrvm_interfaces.srv import ManageSystem
from myrvm_system.bring_up import BringUp

from myrvm_core import graph as graph_file
from myrvm_ros import qos

GRAPH = """
nodes:
  base: {package: tiny, executable: base, reason: BUFFER}
  follower: {package: tiny, executable: follower, start_after: [base], restart_with: [base], reason: GATE}
  other: {package: tiny, executable: other, essential: false, reason: HEALTH}
manager: {package: myrvm_system, executable: lifecycle_manager}
defaults:
  restart: {limit: 2, window_s: 60.0, backoff_s: [0.05, 0.1]}
"""
NODE = """#!{python}
# A stand-in for a node: refuses to configure while a file says so, notes what it does.
import os, sys, time
from pathlib import Path
from myrvm_core.errors import DeviceError
from myrvm_core.settings import Settings
from myrvm_ros.managed_node import ManagedNode, run
name = Path(sys.argv[0]).name
folder = Path(__file__).parent
class Tiny(ManagedNode):
    settings_type = Settings
    def __init__(self):
        super().__init__(name)
    def configure(self):
        self.note("configure")
        if (folder / (name + ".refuse")).exists():
            raise DeviceError("no device here")
    def activate(self):
        self.note("activate")
        self.on_release(self.note, "deactivate")
    def note(self, word):
        with open(folder / "notes", "a") as file:
            file.write(f"{{name}} {{word}}\\n")
run(Tiny)
"""
PARAMETERS = "lifecycle_manager: {ros__parameters: {heartbeat_timeout_s: 2.0, manage_timeout_s: 60.0}}\n"
NAMES = ("base", "follower", "other")
ACTIVE = 3


class Machine:
    """A brought-up graph, seen through its topics."""

    def __init__(
        self,
        graph: Any,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        description: str = GRAPH,
        parameters: str = PARAMETERS,
    ) -> None:
        self.graph = graph
        self.programs = folder / "prefix" / "lib" / "tiny"
        self.programs.mkdir(parents=True)
        marker = folder / "prefix" / "share" / "ament_index" / "resource_index" / "packages" / "tiny"
        marker.parent.mkdir(parents=True)
        marker.touch()
        for name in NAMES:
            (self.programs / name).write_text(NODE.format(python=sys.executable))
            (self.programs / name).chmod(0o755)
        (folder / "config").mkdir()
        (folder / "config" / "graph.yaml").write_text(description)
        self.parameters = folder / "parameters.yaml"
        self.parameters.write_text(parameters)
        monkeypatch.setenv("AMENT_PREFIX_PATH", f"{folder / 'prefix'}:{os.environ['AMENT_PREFIX_PATH']}")
        monkeypatch.setenv("MYRVM_HOME", str(folder))
        self.bring_up = BringUp(graph_file.load(), [self.parameters], echo=False)
        self._heard = graph.listen(SystemStatus, "system/status", qos.STATE)

    @property
    def mode(self) -> int:
        return self._heard[-1].mode if self._heard else 0

    def node(self, name: str) -> Any:
        nodes = self._heard[-1].nodes if self._heard else ()
        return next((node for node in nodes if node.name == name), None)

    def wait(self, condition: Callable[[], Any], what: str, limit_s: float = 30.0) -> None:
        try:
            self.graph.wait(condition, what, limit_s)
        except AssertionError as error:
            outs = "\n".join(
                f"--- {p.name}\n{p.read_text()[-2000:]}" for p in Path(os.environ["MYRVM_DATA"]).glob("logs/*.out")
            )
            raise AssertionError(f"{error}\n{outs}\n{self._heard[-1:]}") from None

    def wait_mode(self, mode: int) -> None:
        self.wait(lambda: self.mode == mode, f"mode {mode}")

    def manage(self, verb: int, node: str = "") -> Any:
        return self.graph.call(ManageSystem, "system/manage", ManageSystem.Request(verb=verb, node=node), 90.0)

    def notes(self) -> list[str]:
        file = self.programs / "notes"
        return file.read_text().splitlines() if file.is_file() else []

    def forget(self) -> None:
        (self.programs / "notes").unlink(missing_ok=True)

    def up(self) -> None:
        self.bring_up.start()
        self.wait_mode(SystemStatus.SERVING)

    def replaced(self, name: str, old: int) -> bool:
        node = self.node(name)
        return node.pid not in (0, old) and node.lifecycle_state == ACTIVE
