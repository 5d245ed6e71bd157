"""Settings, environment, graph, backoff, logs: the small things on which all nodes stand."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.backoff import Backoff
from myrvm_core.environment import environment, identity
from myrvm_core.errors import SettingsError
from myrvm_core.settings import Settings, setting, validate

from myrvm_core import graph as graph_file
from myrvm_core import log


class Example(Settings):
    rate_hz: float = setting(15.0, "Rate.", unit="Hz", minimum=1, maximum=120)
    name: str = setting("a", "Name.", pattern=r"^[a-z]+$")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rate_hz": 500}, ["camera.rate_hz", "500", "1 .. 120 Hz"]),
        ({"rate_hz": "fast"}, ["camera.rate_hz", "'fast'", "float"]),
        ({"rate_hz": float("nan")}, ["camera.rate_hz", "nan"]),
        ({"name": "A B"}, ["camera.name", "'A B'", "^[a-z]+$"]),
        ({"rat_hz": 5}, ["camera.rat_hz", "not a known name", "rate_hz"]),
    ],
)
def test_a_bad_setting_is_refused_with_name_value_and_what_is_allowed(values: dict[str, Any], said: list[str]) -> None:
    with pytest.raises(SettingsError) as error:
        validate(Example, values, "camera")
    message = str(error.value)
    assert "\n" not in message
    assert all(part in message for part in said), message


def test_the_environment_beats_the_file_and_the_key_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / ".env"
    file.write_text("HARDWARE_ID=from-file\nRVM_API_KEY=very-secret-key\n")
    monkeypatch.delenv("HARDWARE_ID", raising=False)
    monkeypatch.delenv("RVM_API_KEY", raising=False)
    who = identity(environment(file))
    assert (who.hardware_id, who.api_key.get_secret_value()) == ("from-file", "very-secret-key")
    assert "very-secret-key" not in repr(who) + str(who)
    monkeypatch.setenv("HARDWARE_ID", "from-process")
    assert identity(environment(file)).hardware_id == "from-process"


def test_a_bad_identity_is_refused_without_showing_the_key() -> None:
    with pytest.raises(SettingsError, match="hardware_id"):
        identity({"HARDWARE_ID": "two words"})
    with pytest.raises(SettingsError) as error:
        identity({"RVM_API_KEY": "k" * 600})
    assert "kkk" not in str(error.value)


def test_the_shipped_graph_can_be_started() -> None:
    graph = graph_file.load()
    layers = graph.layers()
    position = {name: number for number, layer in enumerate(layers) for name in layer}
    for node in graph.nodes:
        assert all(position[other] < position[node.name] for other in node.start_after)
    assert graph.restarted_with("sensor") == [], "the actuator watches its interlocks itself"
    assert graph.restarted_with("camera") == [], "the detector subscribes when it needs a frame"


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ({"a": {"start_after": ["b"]}, "b": {"start_after": ["a"]}}, "circle"),
        ({"a": {"start_after": ["nobody"]}}, "nobody"),
        ({"A!": {}}, "A!"),
        ({"a": {"restart": {"limit": -1}}}, "limit"),
        ({"a": {"colour": "red"}}, "colour"),
    ],
)
def test_a_graph_that_cannot_be_started_is_refused_in_one_line(nodes: dict[str, Any], said: str) -> None:
    whole = {name: {"package": "p", "executable": "e"} | body for name, body in nodes.items()}
    with pytest.raises(SettingsError) as error:
        graph_file.parse({"nodes": whole, "manager": {"package": "p", "executable": "m"}}, "graph.yaml")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@given(st.floats(0.01, 10), st.floats(0.01, 1000), st.integers(0, 10_000), st.integers())
def test_backoff_stays_between_zero_and_its_ceiling(base_s: float, cap_s: float, attempt: int, seed: int) -> None:
    backoff = Backoff(base_s, cap_s)
    assert 0 <= backoff.delay_s(attempt, random.Random(seed)) <= backoff.ceiling_s(attempt) <= cap_s


def test_logs_are_json_lines_without_secrets(tmp_path: Path) -> None:
    before = logging.getLogger().handlers[:]
    try:
        logger = log.configure("camera", tmp_path)
        logger.info("handshake", api_key="very-secret", token="also", deposit_id="d-1")
        logging.getLogger("library").warning("from a library")
        logging.shutdown()
    finally:
        logging.getLogger().handlers[:] = before
    lines = [json.loads(line) for line in (tmp_path / "camera.jsonl").read_text().splitlines()]
    assert lines[0] | {"level": "info", "node": "camera", "message": "handshake", "deposit_id": "d-1"} == lines[0]
    assert lines[0]["time"].endswith("Z")
    assert lines[1]["message"] == "from a library"
    assert "very-secret" not in (tmp_path / "camera.jsonl").read_text()


def test_an_unknown_log_level_is_refused() -> None:
    with pytest.raises(SettingsError, match="loud"):
        log.configure("camera", None, "loud")
