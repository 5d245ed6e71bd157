"""The board's figures from trees of files, and from a stand-in of jetson-stats."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import structlog
from myrvm_system.board import Board, Throttles, gpu_load_percent, power_mode, thermal_zones

LOG = structlog.get_logger()
LIMIT_S = 30.0


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def test_every_thermal_zone_is_read_also_those_that_do_not_answer(tmp_path: Path) -> None:
    thermal = tmp_path / "class" / "thermal"
    write(thermal / "thermal_zone0", type="cpu-thermal\n", temp="48500\n")
    write(thermal / "thermal_zone1", type="gpu-thermal", temp="garbage")
    write(thermal / "thermal_zone2", type="cv0-thermal")
    write(thermal / "thermal_zone10", type="cpu-thermal", temp="-5000")
    assert [(zone.name, zone.temperature_c) for zone in thermal_zones(tmp_path)] == [
        ("cpu-thermal", 48.5),
        ("gpu-thermal", None),
        ("cv0-thermal", None),
        ("cpu-thermal 2", -5.0),
    ]


@pytest.mark.parametrize(
    "path", ["devices/gpu.0", "devices/platform/bus@0/17000000.gpu", "class/devfreq/17000000.gpu/device"]
)
def test_load_of_the_gpu_only_where_it_can_be_read(tmp_path: Path, path: str) -> None:
    assert gpu_load_percent(tmp_path) is None
    write(tmp_path / path, load="garbage")
    assert gpu_load_percent(tmp_path) is None
    write(tmp_path / path, load="423\n")
    assert gpu_load_percent(tmp_path) == 42.3


def test_power_mode_by_name_where_the_table_has_it(tmp_path: Path) -> None:
    assert power_mode(tmp_path) == ""
    write(tmp_path / "var/lib/nvpmodel", status="pmode:0001 fmode:quiet\n")
    assert power_mode(tmp_path) == "mode 1"
    table = "< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=1 NAME=7W >\n"
    write(tmp_path / "etc", **{"nvpmodel.conf": table})
    assert power_mode(tmp_path) == "7W"
    write(tmp_path / "var/lib/nvpmodel", status="nonsense")
    assert power_mode(tmp_path) == ""


def test_throttling_is_what_takes_speed_away(tmp_path: Path) -> None:
    throttles = Throttles(tmp_path)
    assert throttles.look().devices == 0
    thermal = tmp_path / "class" / "thermal"
    write(thermal / "cooling_device0", type="pwm-fan", cur_state="3", max_state="3")
    write(thermal / "cooling_device1", type="hot-surface-alert", cur_state="1", max_state="1")
    cpu = write(thermal / "cooling_device2", type="cpufreq-cpu0", cur_state="0", max_state="20")
    write(thermal / "cooling_device3", type="intel_powerclamp", cur_state="-1", max_state="50")
    events = write(tmp_path / "class" / "hwmon" / "hwmon2", oc1_event_cnt="7")
    assert (throttles.look().devices, throttles.look().active) == (3, ())
    write(cpu, cur_state="4")
    write(events, oc1_event_cnt="9")
    assert throttles.look().active == ("cpufreq-cpu0 4/20", "over-current oc1, 9 events since boot")
    write(cpu, cur_state="0")
    assert throttles.look().active == ()


class Jetson:
    """Stands in for `jtop.jtop`: one sample, or an error."""

    nvpmodel: Any = "MAXN_SUPER"
    gpu: Any = {"gpu": {"status": {"load": 37.5}}, "other": {"status": {}}}

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error
        self.samples = 0
        self.seen, self.done = threading.Event(), threading.Event()

    def __call__(self) -> Jetson:
        return self

    def __enter__(self) -> Jetson:
        if self._error is not None:
            self.seen.set()
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.done.set()

    def ok(self) -> bool:
        self.samples += 1
        if self.samples == 2:
            self.seen.set()  # the first sample has been taken
            self.done.wait(LIMIT_S)
        return True


def looked(tmp_path: Path, jetson: Jetson, check: Callable[[Board], None]) -> None:
    board = Board(tmp_path, LOG, root=tmp_path, jtop=jetson)
    try:
        assert jetson.seen.wait(LIMIT_S)
        check(board)
    finally:
        jetson.done.set()
        board.close()


def test_jetson_stats_tells_mode_and_load_where_it_runs(tmp_path: Path) -> None:
    def check(board: Board) -> None:
        figures = board.look()
        assert (figures.power_mode, figures.gpu_load_percent) == ("MAXN_SUPER", 37.5)

    looked(tmp_path, Jetson(), check)


def test_sysfs_serves_where_jetson_stats_does_not_answer(tmp_path: Path) -> None:
    write(tmp_path / "devices/gpu.0", load="500")

    def check(board: Board) -> None:
        assert (board.look().power_mode, board.look().gpu_load_percent) == ("", 50.0)

    looked(tmp_path, Jetson(RuntimeError("the jtop.service is not active")), check)
