from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_system.health import Heartbeat, Level, Monitor, Nodes, Threshold, gpu_load_percent, thermal_zones
from myrvm_system.settings import HealthSettings

from myrvm_system import health


def zone(root: Path, number: int, kind: str, temperature: str | None) -> Path:
    folder = root / "class" / "thermal" / f"thermal_zone{number}"
    folder.mkdir(parents=True)
    (folder / "type").write_text(f"{kind}\n")
    if temperature is not None:
        (folder / "temp").write_text(temperature)
    return folder / "temp"


def test_a_threshold_warns_above_and_ends_below_the_band() -> None:
    threshold = Threshold(80.0, 3.0)
    assert [threshold.above(value) for value in (80, 80.1, 79, 77.1, 77, 79, 81)] == [
        False, True, True, True, False, False, True,
    ]  # fmt: skip


@given(st.lists(st.floats(0, 100)))
def test_within_the_band_a_threshold_never_changes(values: list[float]) -> None:
    threshold = Threshold(50.0, 10.0)
    before = False
    for value in values:
        now = threshold.above(value)
        assert now == before or value > 50.0 or value <= 40.0
        before = now


def test_every_thermal_zone_is_read_also_those_that_do_not_answer(tmp_path: Path) -> None:
    zone(tmp_path, 0, "cpu-thermal", "48500\n")
    zone(tmp_path, 1, "gpu-thermal", "garbage")
    zone(tmp_path, 2, "cv0-thermal", None)
    assert [(each.name, each.temperature_c) for each in thermal_zones(tmp_path)] == [
        ("cpu-thermal", 48.5),
        ("gpu-thermal", None),
        ("cv0-thermal", None),
    ]


def test_a_hot_zone_warns_with_figure_and_limit_until_it_has_cooled(tmp_path: Path) -> None:
    file = zone(tmp_path, 0, "cpu-thermal", "75100")
    zone(tmp_path, 1, "cpu-thermal", "40000")
    monitor = Monitor(HealthSettings(sysfs_root=str(tmp_path)), tmp_path)
    hot, cool = monitor.temperatures()
    assert (hot.name, hot.level, hot.message) == ("temperature cpu-thermal", Level.WARN, "75 degC, limit 75 degC")
    assert (cool.name, cool.level) == ("temperature cpu-thermal 2", Level.OK)
    file.write_text("73000")
    assert next(monitor.temperatures()).level == Level.WARN
    file.write_text("72000")
    assert next(monitor.temperatures()).level == Level.OK


def test_gpu_only_where_it_can_be_read(tmp_path: Path) -> None:
    monitor = Monitor(HealthSettings(sysfs_root=str(tmp_path)), tmp_path)
    assert gpu_load_percent(tmp_path) is None
    assert "gpu" not in [finding.name for finding in monitor.look()]
    load = tmp_path / "devices" / "gpu.0" / "load"
    load.parent.mkdir(parents=True)
    load.write_text("423\n")
    assert gpu_load_percent(tmp_path) == 42.3
    assert "gpu" in [finding.name for finding in monitor.look()]


def test_load_is_smoothed_so_that_one_burst_is_no_alarm(tmp_path: Path) -> None:
    monitor = Monitor(HealthSettings(), tmp_path)
    monitor.cpu(10.0)
    assert monitor.cpu(100.0).level == Level.OK
    levels = [monitor.cpu(100.0).level for _ in range(20)]
    assert levels[-1] == Level.WARN


def test_a_disk_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    finding = Monitor(HealthSettings(), tmp_path / "none").disk()
    assert finding.level == Level.ERROR
    assert "none" in finding.message


def test_a_full_disk_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"percent": 90.5, "free": 1e6})
    monkeypatch.setattr(health.psutil, "disk_usage", lambda _: usage)
    finding = Monitor(HealthSettings(), tmp_path).disk()
    assert (finding.level, finding.message) == (Level.WARN, "90 %, limit 90 %")


def test_nodes_by_their_heartbeats_silent_ones_are_stale() -> None:
    nodes = Nodes(("camera", "detector"), stale_after_s=4.0, now_s=0.0)
    assert {finding.level for finding in nodes.findings(1.0)} == {Level.STALE}
    nodes.heard(Heartbeat("camera", 1.0, Level.ERROR, "no picture", {"frames_hz": "0"}))
    camera, detector = nodes.findings(4.5)
    assert (camera.level, camera.message, camera.values) == (Level.ERROR, "no picture", {"frames_hz": "0"})
    assert (detector.level, detector.message) == (Level.STALE, "no heartbeat for 4 s")
    assert nodes.findings(5.5)[0].level == Level.STALE
