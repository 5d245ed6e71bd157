"""The audit log: what was written cannot be changed, left out, put in or cut off without being seen."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_cloud.audit_log import CHECKPOINT_LINES, AuditLog, Head, entries, log_files, verify_log
from myrvm_core.errors import StorageError
from myrvm_core.signing import SigningKey
from typer.testing import CliRunner

from myrvm_cloud import audit_cli, audit_log

KEY = SigningKey.generate()


def opened(folder: Path, **options: int) -> AuditLog:
    return AuditLog(folder, KEY, lambda: (1_800_000_000.0, True), **options)


def written(folder: Path, lines: int, **options: int) -> AuditLog:
    log = opened(folder, **options)
    for number in range(lines):
        log.append("ended", {"number": number})
    return log


def problems(folder: Path, anchor: Head | None = None, **options: int) -> list[str]:
    return verify_log(folder, KEY.public, anchor, **options).problems


def only_file(folder: Path) -> Path:
    (file,) = log_files(folder)
    return file


def test_an_honest_log_is_whole(tmp_path: Path) -> None:
    log = written(tmp_path, 40)
    assert problems(tmp_path) == []
    log.close()
    report = verify_log(tmp_path, KEY.public)
    assert (report.problems, report.notes) == ([], [])
    assert report.signed == report.head.sequence == log.head.sequence
    assert [entry["number"] for entry in entries(tmp_path) if entry["kind"] == "ended"] == list(range(40))


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    first = written(tmp_path, 3)
    second = opened(tmp_path)
    assert second.head.sequence >= first.head.sequence
    second.append("ended", {"number": 3})
    assert problems(tmp_path) == []
    assert [entry["sequence"] for entry in entries(tmp_path)] == list(range(1, second.head.sequence + 1))


@given(st.data())
def test_a_change_of_any_byte_is_seen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("log")
    written(folder, 5).close()
    file = only_file(folder)
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    assert problems(folder)


@pytest.mark.parametrize("change", ["left out", "put in", "swapped", "first"])
def test_lines_are_not_left_out_put_in_or_swapped(tmp_path: Path, change: str) -> None:
    written(tmp_path, 6).close()
    file = only_file(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    if change == "left out":
        del lines[3]
    elif change == "put in":
        lines.insert(3, lines[3])
    elif change == "swapped":
        lines[3], lines[4] = lines[4], lines[3]
    else:
        del lines[0]
    file.write_bytes(b"".join(lines))
    assert problems(tmp_path)


def test_a_cut_end_is_seen_down_to_the_last_checkpoint(tmp_path: Path) -> None:
    log = written(tmp_path, CHECKPOINT_LINES + 5)
    told = log.head
    file = only_file(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    signed = verify_log(tmp_path, KEY.public).signed
    for kept in range(1, len(lines)):
        file.write_bytes(b"".join(lines[:kept]))
        hidden = kept >= signed - 1  # the lines after the checkpoint, and the checkpoint's own
        assert (problems(tmp_path) == []) == hidden, kept
        assert problems(tmp_path, anchor=told), "whoever kept a line sees every cut before it"


def test_a_cut_log_that_goes_on_still_says_so(tmp_path: Path) -> None:
    written(tmp_path, CHECKPOINT_LINES + 5).close()
    file = only_file(tmp_path)
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:4]))
    log = opened(tmp_path)
    log.append("ended", {"number": 1})
    log.close()
    assert any("its end was cut" in problem for problem in problems(tmp_path))


def test_another_key_signs_nothing(tmp_path: Path) -> None:
    written(tmp_path, 3).close()
    assert verify_log(tmp_path, SigningKey.generate().public).problems


def test_a_torn_last_line_is_healed_and_noted(tmp_path: Path) -> None:
    written(tmp_path, 3)
    file = only_file(tmp_path)
    whole = file.stat().st_size
    with file.open("ab") as torn:
        torn.write(b'{"kind":"accepted","sequ')
    log = opened(tmp_path)
    assert problems(tmp_path) == []
    assert file.read_bytes()[:whole].count(b"\n") == file.read_bytes()[:whole].count(b"\n")
    (healed,) = [entry for entry in entries(tmp_path) if entry["kind"] == "healed"]
    assert healed["bytes"] == 24
    log.append("ended", {})
    assert problems(tmp_path) == []


@given(cut=st.integers(0, 2500), zeros=st.integers(0, 50))
def test_a_power_cut_at_any_byte_after_the_last_checkpoint_leaves_a_log_that_holds(
    tmp_path_factory: pytest.TempPathFactory, cut: int, zeros: int
) -> None:
    folder = tmp_path_factory.mktemp("log")
    opened(folder)
    file = only_file(folder)
    synced = file.stat().st_size
    written(folder, 6)
    content = file.read_bytes()
    file.write_bytes(content[: max(synced, len(content) - cut)] + b"\0" * zeros)
    opened(folder).append("ended", {})
    assert problems(folder) == []


def test_an_empty_next_file_of_a_power_cut_is_no_problem(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    (tmp_path / f"audit-{log.head.sequence + 1:012d}.jsonl").write_bytes(b'{"torn')
    opened(tmp_path).append("ended", {})
    assert problems(tmp_path) == []
    assert len(log_files(tmp_path)) == 1


def test_damage_inside_is_never_mended_away(tmp_path: Path) -> None:
    written(tmp_path, 5).close()
    file = only_file(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    lines[2] = b"\0" * len(lines[2])
    file.write_bytes(b"".join(lines))
    opened(tmp_path).append("ended", {})
    assert any("damaged" in problem for problem in problems(tmp_path))
    assert len(log_files(tmp_path)) == 2


def test_files_are_bounded_and_the_rest_still_holds(tmp_path: Path) -> None:
    log = written(tmp_path, 120, file_bytes=2000, files=3)
    assert len(log_files(tmp_path)) == 3
    assert sum(file.stat().st_size for file in log_files(tmp_path)) < 3 * (2000 + 1500)
    log.close()
    report = verify_log(tmp_path, KEY.public, files=3)
    assert report.problems == []
    assert report.first > 1
    log_files(tmp_path)[0].unlink()
    assert any("older files were removed" in problem for problem in problems(tmp_path, files=3))


def test_a_log_that_is_gone_is_missed(tmp_path: Path) -> None:
    told = written(tmp_path, 3).head
    for file in log_files(tmp_path):
        file.unlink()
    assert problems(tmp_path)
    (tmp_path / audit_log.HEAD).unlink()
    assert problems(tmp_path, anchor=told)
    opened(tmp_path)
    assert problems(tmp_path, anchor=told)


def test_a_full_disk_takes_no_line_and_leaves_no_half_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = written(tmp_path, 3)
    before = only_file(tmp_path).read_bytes()
    real_write = os.write

    def full(descriptor: int, content: bytes) -> int:
        if len(content) > 20:
            return real_write(descriptor, content[:20])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(audit_log.os, "write", full)
    with pytest.raises(StorageError, match="No space left"):
        log.append("ended", {"number": 3})
    monkeypatch.undo()
    assert only_file(tmp_path).read_bytes() == before
    log.append("ended", {"number": 3})
    assert problems(tmp_path) == []


def test_the_command_line_verifies_and_shows(tmp_path: Path) -> None:
    log = written(tmp_path, 3)
    log.append("refused", {"reason": "\x1b[2J\u202e"})
    told = log.head
    log.close()
    runner = CliRunner()
    place = ["--folder", str(tmp_path)]
    found = runner.invoke(audit_cli.app, ["verify", *place, "--public", KEY.public])
    assert found.exit_code == 0, found.output
    shown = runner.invoke(audit_cli.app, ["show", *place, "-n", "2"])
    assert "refused" in shown.output
    assert "\x1b" not in shown.output
    assert "\u202e" not in shown.output
    first = json.loads(runner.invoke(audit_cli.app, ["show", *place, "--json", "-n", "99"]).output.splitlines()[0])
    assert first["sequence"] == 1
    file = only_file(tmp_path)
    file.write_bytes(file.read_bytes().replace(b'"number":1', b'"number":7'))
    found = runner.invoke(audit_cli.app, ["verify", *place, "--public", KEY.public])
    assert found.exit_code == 1
    assert "WRONG" in found.output
    anchor = f"{told.sequence}:{'0' * 64}"
    assert runner.invoke(audit_cli.app, ["verify", *place, "--public", KEY.public, "--anchor", anchor]).exit_code == 1
