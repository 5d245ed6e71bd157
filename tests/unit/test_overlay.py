"""What was changed from afar: kept and taken back as a whole, ignored where it is damaged, seen by every node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rclpy
from hypothesis import given
from hypothesis import strategies as st
from myrvm_cloud.config_update import patchable
from myrvm_core.configuration import default_files, settings, settings_class
from myrvm_core.errors import SettingsError
from myrvm_core.graph import load
from myrvm_core.overlay import FILE, Overlay, OverlayFile, State
from myrvm_core.settings import walk
from myrvm_deposit.settings import DepositSettings
from myrvm_ros.parameters import Parameters
from myrvm_vision.settings import DetectorSettings
from rclpy.context import Context
from rclpy.parameter import Parameter

from myrvm_system import start_up

CHANGED = Overlay(3, {"deposit": {"show_s": 3.5}, "detector": {"votes": 5}}, "id-1", "a, b", 1_800_000_000.0)
VALUES = (
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | st.text() | st.lists(st.text(), max_size=3)
)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OverlayFile:
    monkeypatch.setenv("MYRVM_DATA", str(tmp_path))
    return OverlayFile()


@given(
    parameters=st.dictionaries(
        st.text(max_size=5), st.dictionaries(st.text(max_size=5), VALUES, max_size=3), max_size=3
    )
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, parameters: Any) -> None:
    file = OverlayFile(tmp_path_factory.mktemp("overlay") / "overlay.json")
    state = State(Overlay(1, parameters), CHANGED, on_trial=True, newest=4)
    file.write(state)
    assert OverlayFile(file._path).read() == state


def test_nothing_is_changed_where_there_is_no_file(file: OverlayFile) -> None:
    assert (file.read(), file.problem) == (State(), "")


@pytest.mark.parametrize("damage", [b"", b"[]", b"null", b"\0" * 50, b"changed"])
def test_a_damaged_file_counts_as_none(file: OverlayFile, tmp_path: Path, damage: bytes) -> None:
    file.write(State(CHANGED))
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content.replace(b"3.5", b"9.5") if damage == b"changed" else damage)
    assert file.read() == State()
    assert "nothing in it counts" in file.problem
    assert settings(default_files("desk"))["deposit"] == settings(default_files("desk"), {})["deposit"]


def test_a_trial_is_taken_back_once_at_the_next_start(file: OverlayFile, tmp_path: Path) -> None:
    file.write(State(CHANGED, Overlay(2, {"deposit": {"show_s": 2.0}}), on_trial=True, newest=3))
    found = start_up.clear(tmp_path)
    assert found.taken_back == ("3",)
    assert "configuration 3 taken back" in str(found)
    state = file.read()
    assert (state.current.version, state.newest, state.on_trial) == (2, 3, False)
    assert start_up.clear(tmp_path).taken_back == ()


def test_settings_have_it_under_the_environment(file: OverlayFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write(State(replace(CHANGED, parameters={"detector": {"threshold": 0.9, "votes": 5}})))
    detector = settings(default_files("desk"))["detector"]
    assert isinstance(detector, DetectorSettings)
    assert (detector.threshold, detector.votes) == (0.9, 5)
    monkeypatch.setenv("DETECTION_THRESHOLD", "0.6")
    detector = settings(default_files("desk"))["detector"]
    assert isinstance(detector, DetectorSettings)
    assert (detector.threshold, detector.votes) == (0.6, 5)


def test_a_node_takes_it_at_each_configure_and_gives_it_back(file: OverlayFile) -> None:
    context = Context()
    rclpy.init(context=context)
    node = rclpy.create_node("deposit", context=context)
    try:
        parameters = Parameters(node, DepositSettings, {})
        default = DepositSettings()
        assert parameters.read() == default
        file.write(State(CHANGED))
        assert parameters.read() == default.model_copy(update={"show_s": 3.5})
        file.write(State(replace(CHANGED, parameters={"deposit": {"points_by_class": ["can=3"]}})))
        assert parameters.read() == default.model_copy(update={"points_by_class": ["can=3"]})
        file.write(State(replace(CHANGED, parameters={"deposit": {"session_s": 90}})))
        assert parameters.read() == default.model_copy(update={"session_s": 90.0})
        node.set_parameters([Parameter("session_s", value=70.0)])
        file.write(State())
        assert parameters.read() == default.model_copy(update={"session_s": 70.0}), "what was set by hand stays"
        file.write(State(replace(CHANGED, parameters={"deposit": {"show_s": -1.0}})))
        with pytest.raises(SettingsError, match="show_s"):
            parameters.read()
        file.write(State())
        assert parameters.read() == default.model_copy(update={"session_s": 70.0})
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_what_may_be_changed_from_afar_is_this() -> None:
    """A parameter that is added appears here: somebody has to say whether it may be changed from afar."""
    free = {
        f"{node.name}.{name}"
        for node in (*load().nodes, load().manager)
        for name, _, _ in walk(settings_class(node)())
        if patchable(node.name, name)
    }
    whole = ("deposit.", "detector.", "camera.", "health.", "offline_buffer.", "sensor.")
    assert {name for name in free if not name.startswith(whole)} == {
        "actuator.outputs.light_limit_s",
        "actuator.reopen_first_s",
        "actuator.reopen_longest_s",
        "actuator.wear_period_s",
    }
    for word in ("file", "dir", "path", "url", "device", "driver", "lines", "roles", "command", "root", "engine"):
        assert not [name for name in free if word in name.rpartition(".")[2].split("_")], word
    sensor = {name for name in free if name.startswith("sensor.")}
    assert not [name for name in sensor if "interlock" in name or "motor" in name]
    assert "sensor.debounce.entry_s" in sensor
    assert not {f"sensor.debounce.{role}_s" for role in ("door", "hand", "emergency", "power_fail")} & sensor
    assert {"deposit.points_per_item", "detector.threshold", "camera.frame_rate_hz"} <= free
