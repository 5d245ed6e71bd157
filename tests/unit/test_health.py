"""What the health monitor makes of figures: the machine's resources, what the policy judged, the nodes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from myrvm_system.board import Board
from myrvm_system.health import Finding, Heartbeat, Level, Monitor, Nodes, Power, Threshold, judged
from myrvm_system.policy import Cause, Judgement, LimitLevel, Policy, load
from myrvm_system.settings import HealthSettings

from myrvm_core import paths
from myrvm_system import health


def monitor_of(sysfs: Path, disk: Path | None = None, clock_known: bool = True) -> Monitor:
    policy = Policy(load(paths.home() / "config" / "policy.yaml"))
    board = Board(sysfs, structlog.get_logger(), root=sysfs)
    return Monitor(HealthSettings(), policy, board, lambda: clock_known, disk or sysfs)


def zone(root: Path, number: int, kind: str, temperature: str | None) -> Path:
    folder = root / "class" / "thermal" / f"thermal_zone{number}"
    folder.mkdir(parents=True)
    (folder / "type").write_text(f"{kind}\n")
    if temperature is not None:
        (folder / "temp").write_text(temperature)
    return folder / "temp"


def named(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


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


def test_a_hot_zone_limits_the_machine_and_says_so_until_it_has_cooled(tmp_path: Path) -> None:
    file = zone(tmp_path, 0, "cpu-thermal", "92000")
    zone(tmp_path, 1, "cpu-thermal", "40000")
    monitor = monitor_of(tmp_path)
    monitor.look(0.0, Power())
    findings = monitor.look(5.0, Power())
    hot, cool = named(findings, "temperature cpu-thermal"), named(findings, "temperature cpu-thermal 2")
    assert (hot.level, hot.message, hot.values) == (Level.ERROR, "92.0 degC: PAUSED", {"limit": "PAUSED"})
    assert (cool.level, cool.message) == (Level.OK, "40.0 degC")
    assert (monitor.limits.level, monitor.limits.causes) == (LimitLevel.PAUSED, (Cause.TEMPERATURE,))
    file.write_text("60000")
    monitor.look(6.0, Power())
    assert monitor.limits.level == LimitLevel.PAUSED
    findings = monitor.look(30.0, Power())
    assert (named(findings, "temperature cpu-thermal").level, monitor.limits.level) == (Level.OK, LimitLevel.NORMAL)


def test_power_counts_at_once_and_only_what_was_ever_there_is_shown(tmp_path: Path) -> None:
    monitor = monitor_of(tmp_path)
    names = {finding.name for finding in monitor.look(0.0, Power())}
    assert {"cpu", "memory", "disk", "disk free", "temperature", "clock unknown"} == names
    assert monitor.judge(0.1, Power(power_fail=True)).level == LimitLevel.PAUSED
    power_fail = named(monitor.look(0.2, Power(power_fail=True)), "power fail")
    assert (power_fail.level, power_fail.message) == (Level.ERROR, "the power fails: PAUSED")
    assert named(monitor.look(20.0, Power()), "power fail").level == Level.ERROR  # the level outlives its sensor
    gone = named(monitor.look(90.0, Power()), "power fail")
    assert (gone.level, gone.message) == (Level.WARN, "no reading for 70 s")


def test_a_zone_that_does_not_answer_is_excused_by_one_that_does() -> None:
    def levels(*zones: tuple[bool, float | None]) -> list[Level]:
        return [
            finding.level
            for finding in judged(
                Judgement(f"temperature {number}", Cause.TEMPERATURE, LimitLevel.NORMAL, "as it is", known, absent_s)
                for number, (known, absent_s) in enumerate(zones)
            )
        ]

    assert levels((False, None), (False, None)) == [Level.OK, Level.OK]
    assert levels((False, 60.0), (True, None)) == [Level.OK, Level.OK]
    assert levels((False, 60.0), (False, 5.0)) == [Level.WARN, Level.OK]


def test_a_clock_that_is_not_known_warns_and_nothing_else(tmp_path: Path) -> None:
    monitor = monitor_of(tmp_path, clock_known=False)
    finding = named(monitor.look(0.0, Power(battery_charge=math.nan)), "clock unknown")
    assert (finding.level, finding.message) == (Level.WARN, "the time of day is not known: WARN")
    assert (monitor.limits.level, monitor.limits.frame_rate_limit_hz) == (LimitLevel.WARN, 0.0)


def test_load_is_smoothed_so_that_one_burst_is_no_alarm(tmp_path: Path) -> None:
    monitor = monitor_of(tmp_path)
    monitor.cpu(10.0)
    assert monitor.cpu(100.0).level == Level.OK
    levels = [monitor.cpu(100.0).level for _ in range(20)]
    assert levels[-1] == Level.WARN


def test_a_disk_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    monitor = monitor_of(tmp_path, tmp_path / "none")
    finding = named(monitor.look(0.0, Power()), "disk")
    assert finding.level == Level.ERROR
    assert "none" in finding.message
    assert monitor.limits.level == LimitLevel.NORMAL


def test_a_full_disk_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"percent": 99.5, "free": 60e6})
    monkeypatch.setattr(health.psutil, "disk_usage", lambda _: usage)
    monitor = monitor_of(tmp_path)
    monitor.look(0.0, Power())
    finding = named(monitor.look(10.0, Power()), "disk free")
    assert (finding.level, finding.message) == (Level.ERROR, "60.0 MB: PAUSED")
    assert monitor.limits.causes == (Cause.STORAGE,)


def test_nodes_by_their_heartbeats_silent_ones_are_stale() -> None:
    nodes = Nodes(("camera", "detector"), stale_after_s=4.0, held_up_s=10.0, now_s=0.0)
    assert {finding.level for finding in nodes.findings(1.0)} == {Level.STALE}
    nodes.heard(Heartbeat("camera", 1.0, Level.ERROR, "no picture", {"frames_hz": "0"}))
    camera, detector = nodes.findings(4.5)
    assert (camera.level, camera.message, camera.values) == (Level.ERROR, "no picture", {"frames_hz": "0"})
    assert (detector.level, detector.message) == (Level.STALE, "no heartbeat for 4 s")
    assert nodes.findings(5.5)[0].level == Level.STALE


def test_time_in_which_the_monitor_itself_was_held_up_makes_nobody_stale() -> None:
    nodes = Nodes(("camera",), stale_after_s=4.0, held_up_s=3.0, now_s=0.0)
    nodes.heard(Heartbeat("camera", 0.5, Level.OK, "ok"))
    assert nodes.findings(1.0)[0].level == Level.OK
    assert nodes.findings(61.0)[0].level == Level.OK
    assert [nodes.findings(float(now_s))[0].level for now_s in (63, 65)] == [Level.OK, Level.STALE]
