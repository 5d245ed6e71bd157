"""The time of day without a clock battery: jumps, 1970 at boot, NTP late, reboots, a damaged file."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.clock import (
    BOOT_ID,
    EARLIEST_NS,
    LONGEST_OFF_NS,
    TIMESYNCD_MARKER,
    TOLERANCE_NS,
    LinuxKernel,
    MachineClock,
    Trust,
    _Floor,
)
from myrvm_core.errors import StorageError

S = 1_000_000_000
NOON = EARLIEST_NS + 500 * 86_400 * S


class FakeKernel:
    """Stand-in for the kernel: a clock that is set by the test."""

    def __init__(self, time_ns: int = NOON, boottime_ns: int = 100 * S, boot_id: str = "first") -> None:
        self._time_ns, self._boottime_ns, self.boot_id = time_ns, boottime_ns, boot_id
        self.known = False

    def time_ns(self) -> int:
        return self._time_ns

    def boottime_ns(self) -> int:
        return self._boottime_ns

    def synchronised(self) -> bool:
        return self.known

    def passes(self, seconds: float) -> None:
        self._time_ns += round(seconds * S)
        self._boottime_ns += round(seconds * S)

    def is_set(self, time_ns: int, known: bool = False) -> None:
        self._time_ns, self.known = time_ns, known


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "clock.json"


def saved(file: Path, kernel: FakeKernel) -> MachineClock:
    clock = MachineClock(kernel, file)
    clock.save()
    return clock


def test_a_clock_that_is_well_is_told_as_it_is(file: Path):
    kernel = FakeKernel()
    stamp = MachineClock(kernel, file).now()
    assert (stamp.time_ns, stamp.boottime_ns, stamp.boot_id) == (NOON, 100 * S, "first")
    assert stamp.trust is Trust.UNSYNCHRONISED
    assert not stamp.synchronised
    kernel.known = True
    assert MachineClock(kernel, file).now().synchronised


def test_1970_at_boot_counts_on_from_the_floor(file: Path):
    saved(file, FakeKernel())
    stamp = MachineClock(FakeKernel(7 * S, 7 * S, "second"), file).now()
    assert stamp.time_ns == NOON + 7 * S
    assert stamp.trust is Trust.GUESSED


def test_1970_at_the_very_first_boot_is_the_earliest_time(file: Path):
    stamp = MachineClock(FakeKernel(7 * S, 7 * S), file).now()
    assert stamp.time_ns == EARLIEST_NS + 7 * S
    assert stamp.trust is Trust.GUESSED


def test_a_jump_backwards_is_not_followed(file: Path):
    kernel = FakeKernel()
    clock = MachineClock(kernel, file)
    clock.now()
    kernel.passes(5.0)
    kernel.is_set(NOON - 3600 * S)
    assert clock.now().time_ns == NOON + 5 * S
    assert clock.now().trust is Trust.GUESSED
    # nor is it by a process that starts later in this boot
    clock.save()
    kernel.passes(10.0)
    assert MachineClock(kernel, file).now().time_ns == NOON + 15 * S


def test_a_jump_forwards_is_followed_and_taken_back_only_by_a_clock_that_knows(file: Path):
    kernel = FakeKernel()
    clock = MachineClock(kernel, file)
    kernel.is_set(NOON + 86_400 * S)
    assert clock.now().time_ns == NOON + 86_400 * S
    kernel.is_set(NOON)
    assert clock.now().time_ns == NOON + 86_400 * S
    kernel.is_set(NOON, known=True)
    assert clock.now().time_ns == NOON
    clock.save()
    assert MachineClock(FakeKernel(0, 0, "second"), file).now().time_ns == NOON


def test_a_clock_that_claims_to_know_but_says_1970_is_not_believed(file: Path):
    kernel = FakeKernel(time_ns=S)
    kernel.known = True
    clock = MachineClock(kernel, file)
    assert clock.now().trust is Trust.GUESSED
    assert clock.epoch_ns() is None


def test_ntp_later_in_the_same_boot_corrects_what_was_stamped_before(file: Path):
    saved(file, FakeKernel())
    kernel = FakeKernel(3 * S, 3 * S, "second")
    clock = MachineClock(kernel, file)
    accepted = clock.now()
    assert clock.epoch_ns() is None
    kernel.passes(60.0)
    kernel.is_set(NOON + 86_400 * S, known=True)
    epoch_ns = clock.epoch_ns()
    assert epoch_ns is not None
    assert epoch_ns + accepted.boottime_ns == NOON + 86_400 * S - 60 * S
    assert clock.now().time_ns == NOON + 86_400 * S


def test_a_server_s_time_stands_in_while_there_is_no_ntp(file: Path):
    kernel = FakeKernel(3 * S, 3 * S)
    clock = MachineClock(kernel, file)
    assert clock.epoch_ns(NOON) == NOON
    assert clock.epoch_ns(-S) is None
    kernel.is_set(NOON, known=True)
    assert clock.epoch_ns(S) == NOON - 3 * S


def test_a_reboot_before_ntp_keeps_the_floor(file: Path):
    saved(file, FakeKernel())
    saved(file, FakeKernel(9 * S, 9 * S, "second"))
    third = MachineClock(FakeKernel(4 * S, 4 * S, "third"), file)
    assert third.now().time_ns == NOON + 13 * S
    assert third.kernel_time_of(9 * S, "second") == 0
    assert third.kernel_time_of(2 * S, "third") == 2 * S
    assert third.kernel_time_of(2 * S, "") is None


def test_it_is_later_than_what_is_on_disk(file: Path):
    kernel = FakeKernel(3 * S, 3 * S)
    clock = MachineClock(kernel, file)
    clock.raise_to(NOON)
    assert clock.now().time_ns == NOON
    clock.raise_to(NOON - 60 * S)
    assert clock.now().time_ns == NOON
    kernel.is_set(NOON - 60 * S, known=True)
    clock.raise_to(NOON)
    assert clock.now().time_ns == NOON - 60 * S


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"floor": 3, "crc": 4}', b"[]"])
def test_a_file_that_cannot_be_read_is_said_and_passed_over(file: Path, damage: bytes):
    file.write_bytes(damage)
    clock = MachineClock(FakeKernel(5 * S, 5 * S), file)
    assert str(file) in clock.problem
    assert "\n" not in clock.problem
    assert clock.now().time_ns == EARLIEST_NS + 5 * S
    clock.save()
    assert not MachineClock(FakeKernel(), file).problem


def test_a_changed_digit_is_seen(file: Path):
    saved(file, FakeKernel())
    file.write_bytes(file.read_bytes().replace(str(NOON).encode(), str(NOON * 9).encode()))
    clock = MachineClock(FakeKernel(), file)
    assert "checksum" in clock.problem
    assert clock.now().time_ns == NOON


def test_a_disk_that_takes_nothing_is_a_storage_error(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        MachineClock(FakeKernel(), tmp_path / "file" / "clock.json").save()


def test_the_kernel_s_sources_have_a_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("myrvm_core.clock.kernel_says_synchronised", lambda: False)
    assert LinuxKernel(tmp_path).boot_id == ""
    for name, text in ((BOOT_ID, "acc115f9\n"), (TIMESYNCD_MARKER, "")):
        assert not LinuxKernel(tmp_path).synchronised()
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    kernel = LinuxKernel(tmp_path)
    assert kernel.boot_id == "acc115f9"
    assert kernel.synchronised()


def test_this_kernel_answers():
    kernel = LinuxKernel()
    assert len(kernel.boot_id) == 36
    assert kernel.boottime_ns() > 0
    assert kernel.synchronised() in (True, False)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(0, 10_000)),
        st.tuples(st.just("set"), st.integers(0, 2 * NOON // S)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("reboot"), st.integers(0, 2 * NOON // S)),
    ),
    max_size=30,
)


@given(steps)
def test_unsynchronised_time_never_goes_back(tmp_path_factory: pytest.TempPathFactory, sequence: list[tuple[str, int]]):
    file = tmp_path_factory.mktemp("clock") / "clock.json"
    kernel, boots, before_ns = FakeKernel(), 0, 0
    clock = MachineClock(kernel, file)
    for action, value in sequence:
        if action == "pass":
            kernel.passes(value)
        elif action == "set":
            kernel.is_set(value * S)
        else:
            clock.save()
            if action == "reboot":
                boots += 1
                kernel = FakeKernel(value * S, 0, f"boot {boots}")
            clock = MachineClock(kernel, file)
        now_ns = clock.now().time_ns
        assert now_ns >= max(before_ns - TOLERANCE_NS, EARLIEST_NS)
        before_ns = now_ns


DAY = 86_400 * S


def test_nothing_is_dated_before_anybody_has_told_the_time(file: Path):
    for time_ns in (0, NOON, NOON + 30_000 * DAY):  # 1970, plausible, far in the future
        clock = saved(file, FakeKernel(time_ns))
        assert (clock.known_ns(), clock.dated_ns()) == (None, None)
        clock = MachineClock(FakeKernel(time_ns, boot_id="second"), file)
        assert clock.dated_ns() is None
        file.unlink()


def test_the_server_judges_so_its_time_counts_and_a_step_of_the_kernel_does_not(file: Path):
    kernel = FakeKernel(time_ns=5 * S)
    clock = MachineClock(kernel, file)
    assert not clock.hear_server(0), "1970 is no time of day"
    assert clock.known_ns() is None
    assert clock.hear_server(NOON)
    assert not clock.hear_server(NOON), "not the first time any more"
    assert clock.known_ns() == clock.dated_ns() == NOON + 5 * S
    kernel.passes(60.0)
    kernel.is_set(NOON + 400 * DAY, known=True)
    assert clock.known_ns() == clock.dated_ns() == NOON + 65 * S


def test_a_start_without_anybody_counts_on_from_what_was_known(file: Path):
    kernel = FakeKernel(time_ns=5 * S)
    clock = MachineClock(kernel, file)
    clock.hear_server(NOON)
    clock.save()
    again = MachineClock(FakeKernel(time_ns=7 * S, boottime_ns=40 * S, boot_id="second"), file)
    assert (again.known_ns(), again.dated_ns()) == (None, NOON + 5 * S + 40 * S)
    again.save()
    assert MachineClock(FakeKernel(7 * S, 2 * S, "third"), file).dated_ns() == NOON + 5 * S + 42 * S


@given(ahead_ns=st.integers(-100 * 366 * DAY, 100 * 366 * DAY))
def test_a_kernel_that_nobody_has_set_is_believed_for_a_year(tmp_path_factory: pytest.TempPathFactory, ahead_ns: int):
    file = tmp_path_factory.mktemp("clock") / "clock.json"
    kernel = FakeKernel()
    kernel.known = True
    saved(file, kernel)
    dated = MachineClock(FakeKernel(max(0, NOON + ahead_ns), 0, "second"), file).dated_ns()
    assert dated == NOON + (ahead_ns if 0 <= ahead_ns <= LONGEST_OFF_NS else 0)


def test_a_floor_of_an_earlier_version_is_read(file: Path):
    floor = _Floor(NOON, 5, "first")
    old = {"time_ns": NOON, "boottime_ns": 5, "boot_id": "first"}
    file.write_text(json.dumps({"floor": old, "crc": zlib.crc32(f"{NOON} 5 first".encode())}))
    clock = MachineClock(FakeKernel(0, boot_id="second"), file)
    assert (clock.problem, clock.dated_ns(), floor.crc()) == ("", None, zlib.crc32(f"{NOON} 5 first".encode()))
    assert clock.now().time_ns >= NOON
