"""The health node in a real graph: thermal zones from a tree of files, nodes from their heartbeats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray

from myrvm_ros import qos

OK, WARN, STALE = bytes([0]), bytes([1]), bytes([3])


def test_diagnostics_tell_of_resources_and_nodes(graph: Any, tmp_path: Path) -> None:
    folder = tmp_path / "sys" / "class" / "thermal" / "thermal_zone0"
    folder.mkdir(parents=True)
    (folder / "type").write_text("cpu-thermal")
    (folder / "temp").write_text("91000")
    heard = graph.listen(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
    graph.bring_up("health", sysfs_root=str(tmp_path / "sys"), period_s=0.2, stale_after_s=1.5)

    def level(name: str) -> bytes | None:
        found = [status for status in heard[-1].status if status.name == name] if heard else []
        return found[0].level if found else None

    graph.wait(lambda: level("machine: temperature cpu-thermal") == WARN, "a warning of the hot zone")
    (folder / "temp").write_text("40000")
    graph.wait(lambda: level("machine: temperature cpu-thermal") == OK, "the end of the warning")
    graph.wait(lambda: level("nodes: camera") == STALE, "the camera that never was there")
    graph.wait(lambda: level("nodes: health") in (OK, WARN), "its own heartbeat")
    names = {status.name for status in heard[-1].status}
    assert {"machine: cpu", "machine: memory", "machine: disk", "machine: network"} <= names
    figures = {value.key for status in heard[-1].status if status.name == "machine: cpu" for value in status.values}
    assert {"load_percent", "cores"} <= figures
