"""The set-up of the desk: a step that was interrupted is done again, and what is missing is said in one line."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[2] / "deploy" / "desk" / "setup.py"


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, working in a folder of the test's own."""
    specification = importlib.util.spec_from_file_location("desk_setup", FILE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(module, "HOME", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "INSTALLING", tmp_path / ".venv" / ".installing")
    (tmp_path / ".venv").mkdir()
    return module


def test_a_step_is_done_once_and_again_when_its_inputs_change(setup: Any, tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    lock.write_text("a==1")
    done: list[str] = []
    for _ in range(3):
        setup.step("packages", "desk", [lock], lambda: done.append("once"))
    lock.write_text("a==2")
    setup.step("packages", "desk", [lock], lambda: done.append("again"))
    assert done == ["once", "again"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_step_is_not_taken_for_done(setup: Any, interruption: type[BaseException]) -> None:
    def interrupted() -> None:
        raise interruption

    done: list[str] = []
    setup.step("packages", "desk", ["1"], lambda: done.append("first"))
    with pytest.raises(interruption):
        setup.step("packages", "desk", ["2"], interrupted)
    setup.step("packages", "desk", ["1"], lambda: done.append("what was there may be half of the other"))
    assert len(done) == 2


def refusal(setup: Any) -> str:
    with pytest.raises(setup.SetupError) as error:
        setup.check_machine()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_machine_that_will_not_do_is_refused_in_one_line(setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "version_info", (3, 9, 18))
        assert "3.10 .. 3.13" in refusal(setup)
    with monkeypatch.context() as patch:
        patch.setattr(platform, "machine", lambda: "aarch64")
        assert "docs/jetson.md" in refusal(setup)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "which", lambda program: None if program == "g++" else f"/usr/bin/{program}")
        patch.setattr(os, "geteuid", lambda: 1000)
        assert "missing: g++; get it with: sudo apt-get install -y g++" in refusal(setup)


def test_too_little_disk_is_said_before_anything_is_installed(setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, 10**9))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was installed"))
    with pytest.raises(setup.SetupError, match=r"disk: 1\.0 GB free .* needs 3 GB"):
        setup.install("desk")


def test_without_network_the_line_says_so(setup: Any) -> None:
    folder = setup.HOME / "requirements"
    folder.mkdir()
    (folder / "desk.txt").write_text("nothing-of-that-name==1 --hash=sha256:" + "0" * 64 + "\n")
    (setup.VENV / "bin").mkdir()
    (setup.VENV / "bin" / "python").symlink_to(sys.executable)
    setup.PYTHON = setup.VENV / "bin" / "python"
    environment = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        with pytest.raises(setup.SetupError, match="is the network up"):
            setup.install("desk")
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_a_half_installed_environment_is_thrown_away(setup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.INSTALLING.touch()
    (setup.VENV / "half-a-package").touch()
    steps: list[str] = []
    monkeypatch.setattr(setup, "step", lambda title, *_: steps.append(title))
    monkeypatch.setattr(setup, "check_machine", lambda: None)
    monkeypatch.setattr(setup, "sources", list)
    setup.main([])
    assert not setup.VENV.exists()
    assert steps[0] == "virtual environment"


def test_an_unknown_extra_is_refused(setup: Any) -> None:
    with pytest.raises(setup.SetupError, match="'tourch' is not known; allowed: dev, torch"):
        setup.main(["tourch"])


def test_programs_that_only_tests_need_are_no_condition(
    setup: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    setup.offer_test_programs()
    assert "skipped: missing: gpiod, nut-client, nut-server; get it with: sudo apt-get" in capsys.readouterr().out
