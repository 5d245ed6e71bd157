"""What the virtual machine's script makes of the guest's words; the machine itself: make device-vm."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

FIRST = """start
witness 0
audit 0 rows, 0 credits, 0 shown
serving
{"event": "shown", "deposit_id": "a", "outcome": 1}
topic deposit/state
"""
CUT_WHILE_STARTING = """start
witness 0
{"event": "state", "state": "RECOVERING", "now_ns": 1}
"""
THIRD = """start
witness 0
problem a: accepted on the screen, credited 0 times (buffer: -)
audit 1 rows, 0 credits, 1 shown
serving
"""
LAST = """start
witness 0
audit 2 rows, 1 credits, 2 shown
end
"""


@pytest.fixture
def device_vm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "deploy" / "device-vm")
    return importlib.import_module("device_vm")


def test_a_cut_is_judged_by_the_next_boot_that_looked(device_vm: Any) -> None:
    one, two, three = device_vm.judge(FIRST + CUT_WHILE_STARTING + THIRD + LAST)
    assert (one.point, two.point, three.point) == (
        "after topic deposit/state", "after state RECOVERING", "after serving"
    )  # fmt: skip
    assert (one.shown, one.witnessed_before, one.witnessed_after) == (1, 1, 0)
    assert (one.rows, two.rows, three.rows) == (
        "1 rows, 0 credits, 1 shown", "1 rows, 0 credits, 1 shown", "2 rows, 1 credits, 2 shown"
    )  # fmt: skip
    assert (one.problems, three.problems) == ([], [])
    assert two.problems == ["a: accepted on the screen, credited 0 times (buffer: -)"]
    assert "| 2 | after state RECOVERING | 0 | 0 of 0 |" in device_vm.cut_table([one, two, three])


def test_a_cut_that_nobody_has_looked_at_yet_is_said_to_be_one(device_vm: Any) -> None:
    assert [cut.rows for cut in device_vm.judge(FIRST)] == [""]


def test_a_report_of_the_guests_tests(device_vm: Any, tmp_path: Path) -> None:
    report = tmp_path / "junit.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="tests.conformance.test_a" name="one" time="1.5"/>'
        '<testcase classname="tests.conformance.test_a" name="two" time="1.0"><failure>no</failure></testcase>'
        '<testcase classname="tests.conformance.test_b" name="one"><skipped/></testcase></testsuite></testsuites>'
    )
    rows, failures = device_vm.tests_of(report)
    assert rows == ["| test_a | 1 | 0 | 1 | 2 |", "| test_b | 0 | 1 | 0 | 0 |"]
    assert failures == ["FAILED in the guest: test_a::two"]


def test_two_records_by_files_and_what_differs(device_vm: Any) -> None:
    head, same = "| test | lines | a and b |\n|---|---:|---|\n", "| x.py::one[a] | 2 | the same |\n"
    assert device_vm.agreement(head + same)[2:] == ["| x | 1 tests, 2 lines |", "", "No line differs."]
    odd = "| x.py::two | 1 | `{}` / `{1 | 2}` |"
    assert device_vm.agreement(head + same + odd)[2:] == ["| x | 2 tests, 3 lines |", "", "1 tests differ:", odd]


def test_results_are_put_between_their_marks(device_vm: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("above\n<!-- cuts -->\nold\n<!-- end of cuts -->\nbelow\n")
    (tmp_path / "result-cuts.md").write_text("new \\1\n")
    monkeypatch.setattr(device_vm, "WORK", tmp_path)
    monkeypatch.setattr(device_vm, "PAGE", page)
    assert device_vm.record()
    assert page.read_text() == "above\n<!-- cuts -->\nnew \\1\n<!-- end of cuts -->\nbelow\n"


def test_an_unknown_command_is_named(device_vm: Any) -> None:
    with pytest.raises(device_vm.DeviceVmError, match="command 'fly' is not known; allowed: conformance"):
        device_vm.main(["fly"])
