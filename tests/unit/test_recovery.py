"""What becomes of deposits that a crash has interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.deposit_record import DepositRecord, Session, SessionKind, Stage
from myrvm_deposit.recovery import resolve
from myrvm_deposit.session_file import OpenSession, SessionFile

ALICE = Session(SessionKind.ACCOUNT, "session-1", "alice", 5)


def record(number: int, stage: Stage = Stage.ACCEPTED) -> DepositRecord:
    return DepositRecord(f"deposit-{number}", "mineral", 0.9, 10, accepted_at_ns=number, session=ALICE, stage=stage)


def test_a_drop_after_the_record_means_taken() -> None:
    assert resolve([record(5)], [6], item_present=False).ended == ((record(5), Stage.TAKEN),)


def test_a_drop_before_the_record_says_nothing_about_it() -> None:
    assert resolve([record(5)], [4], item_present=False).ended == ((record(5), Stage.UNRESOLVED),)


def test_one_drop_ends_one_deposit() -> None:
    ends = dict(resolve([record(1), record(2)], [3], item_present=False).ended)
    assert sorted(ends.values()) == [Stage.TAKEN, Stage.UNRESOLVED]


def test_only_the_newest_record_can_be_the_item_in_the_chamber() -> None:
    resolution = resolve([record(1), record(2)], [], item_present=True)
    assert resolution.present == record(2)
    assert resolution.ended == ((record(1), Stage.UNRESOLVED),)


def test_what_has_ended_keeps_its_end() -> None:
    ended = [record(1, Stage.TAKEN), record(2, Stage.RETURNED), record(3, Stage.UNRESOLVED)]
    assert [stage for _, stage in resolve(ended, [9, 9, 9], item_present=True).ended] == [r.stage for r in ended]


def test_an_item_that_the_sensors_did_not_watch_may_be_another_one() -> None:
    assert not resolve([record(5)], [], item_present=True, watching_since_ns=4).blind
    blind = resolve([record(5)], [], item_present=True, watching_since_ns=6)
    assert (blind.present, blind.blind) == (record(5), True)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.sampled_from(Stage)), unique_by=lambda pair: pair[0], max_size=8),
    st.lists(st.integers(0, 60), max_size=8),
    st.booleans(),
)
def test_every_record_gets_exactly_one_end(rows: list[tuple[int, Stage]], drops: list[int], present: bool) -> None:
    records = [record(number, stage) for number, stage in rows]
    resolution = resolve(records, drops, present)
    ends = [found.deposit_id for found, _ in resolution.ended]
    ends += [resolution.present.deposit_id] if resolution.present else []
    assert sorted(ends) == sorted(found.deposit_id for found in records)
    taken_now = [found for found, stage in resolution.ended if found.stage is Stage.ACCEPTED and stage is Stage.TAKEN]
    assert len(taken_now) <= len(drops)


def test_the_open_session_survives_a_restart_unless_it_is_too_old(tmp_path: Path) -> None:
    file = SessionFile(tmp_path / "var" / "session.json")
    opened = OpenSession(ALICE, 2, 20, seen_at_ns=1_000_000_000)
    file.write(opened)
    assert file.read(now_ns=2_000_000_000, longest_s=60) == opened
    assert file.read(now_ns=90_000_000_000, longest_s=60) is None
    assert file.read(now_ns=0, longest_s=60) is None, "a session from the future is none"
    file.write(replace(opened, items=3))
    assert file.read(2_000_000_000, 60) == replace(opened, items=3)
    file.write(None)
    assert file.read(2_000_000_000, 60) is None


def test_a_session_file_that_is_too_old_is_removed_by_the_next_change(tmp_path: Path) -> None:
    path = tmp_path / "session.json"
    SessionFile(path).write(OpenSession(ALICE, 2, 20, seen_at_ns=1))
    file = SessionFile(path)
    assert file.read(now_ns=90_000_000_000, longest_s=60) is None
    file.keep(None)
    assert not path.exists(), "a clock that is set back would open the session again"


def test_a_broken_session_file_is_no_session(tmp_path: Path) -> None:
    path = tmp_path / "session.json"
    path.write_bytes(b'{"session": ')
    assert SessionFile(path).read(0, 60) is None
