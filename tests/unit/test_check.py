"""Garbage in each field of each settings class, in the parameter file and in the environment: one clear line each."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from myrvm_core.settings import Settings, bounds, extra, walk
from myrvm_system.check import check, default_files, settings_class

from myrvm_core import graph as graph_file
from myrvm_core import paths

GRAPH = graph_file.load()
CLASSES: dict[str, type[Settings]] = {node.name: settings_class(node) for node in (*GRAPH.nodes, GRAPH.manager)}
FIELDS = [(node, name, field) for node, settings in CLASSES.items() for name, field, _ in walk(settings())]
VARIABLES = {extra(field, "env") for _, _, field in FIELDS} - {""}


def garbage() -> list[Any]:
    """(node, field, value) for each field: a wrong type, and below and above its range."""
    cases: list[Any] = []
    for node, name, field in FIELDS:
        low, high, pattern = bounds(field)
        wrong = [{"no": "mapping"}]
        wrong += [low - 1 if field.annotation is int else low - 0.5] if low is not None else []
        wrong += [high + 1 if field.annotation is int else high + 0.5] if high is not None else []
        wrong += ["\n\n"] if pattern else []
        cases += [pytest.param(node, name, value, id=f"{node}-{name}-{value}") for value in wrong]
    return cases


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "LOG_LEVEL", "HARDWARE_ID", "RVM_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MYRVM_ENV_FILE", os.devnull)


def write(folder: Path, content: object) -> Path:
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_shipped_configuration_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(default_files()) == []
    example = paths.home() / "config" / ".env.example"
    monkeypatch.setenv("MYRVM_ENV_FILE", str(example))
    assert check(default_files()) == []


@pytest.mark.parametrize(("node", "name", "value"), garbage())
def test_garbage_in_a_field_gives_one_line_with_name_value_and_what_is_allowed(
    node: str, name: str, value: Any, tmp_path: Path
) -> None:
    problems = check([write(tmp_path, {node: {"ros__parameters": {name: value}}})])
    assert len(problems) == 1, problems
    assert f"{node}.{name} = {value!r} is not allowed" in problems[0]
    assert "\n" not in problems[0]


NUMBERS = sorted(
    {
        variable
        for _, _, field in FIELDS
        if (variable := extra(field, "env")) and (field.annotation in (int, float) or bounds(field)[2])
    }
)


@pytest.mark.parametrize("variable", NUMBERS)
def test_a_variable_with_garbage_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "garbage in")
    problems = check([])
    assert problems
    for problem in problems:  # one for each node that reads it
        assert f"[from {variable}]" in problem
        assert "'garbage in' is not allowed" in problem


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"cammera": {"ros__parameters": {}}}, ("cammera is no node", "camera")),
        ({"camera": {"driver": "v4l2"}}, ("camera must hold one mapping, ros__parameters",)),
        ({"camera": {"ros__parameters": {"colour": 1}}}, ("camera.colour is not a known name", "width_px")),
        (["camera"], ("must be a mapping",)),
    ],
)
def test_a_file_of_the_wrong_shape(content: object, words: tuple[str, ...], tmp_path: Path) -> None:
    problems = check([write(tmp_path, content)])
    assert len(problems) == 1
    assert all(word in problems[0] for word in words)


def test_every_problem_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("RVM_API_KYE=secret\nLOG_LEVEL=LOUD\nHARDWARE_ID=a b\n")
    monkeypatch.setenv("MYRVM_ENV_FILE", str(tmp_path / ".env"))
    (tmp_path / "broken.yaml").write_text("camera: [")
    problems = "\n".join(check([tmp_path / "broken.yaml", tmp_path / "none.yaml"]))
    for word in (
        "broken.yaml cannot be read",
        "none.yaml cannot be read",
        "RVM_API_KYE",
        "LOG_LEVEL = 'LOUD'",
        "HARDWARE",
    ):
        assert word.lower() in problems.lower()
    assert "secret" not in problems


def test_a_broken_graph_policy_rules_or_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(paths.home() / "config", tmp_path / "config")
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("MYRVM_HOME", str(tmp_path))
    (tmp_path / "config" / "rules.yaml").write_text("[]")
    (tmp_path / "models" / "manifest.json").write_text("{}")
    (tmp_path / "models" / "segmenters.json").write_text("{}")
    policy = (tmp_path / "config" / "policy.yaml").read_text()
    (tmp_path / "config" / "policy.yaml").write_text(policy.replace("below: 82", "below: 81"))
    problems = check([])
    assert len(problems) == 4
    assert "policy.yaml: temperature_c has a hole: nothing is said from 81 to 82" in problems[0]
    assert "rules.yaml" in problems[1]
    assert "manifest.json" in problems[2]
    assert "segmenters.json" in problems[3]
    text = (tmp_path / "config" / "graph.yaml").read_text()
    (tmp_path / "config" / "graph.yaml").write_text(text.replace("essential: true", "essential: maybe"))
    problems = check([])
    assert len(problems) == text.count("essential: true")
    assert all("essential = 'maybe' is not allowed" in problem for problem in problems)
    (tmp_path / "config" / "graph.yaml").write_text(text.replace("settings:CameraSettings", "settings:Nothing"))
    assert any("camera.settings" in problem and "is not allowed" in problem for problem in check([]))
