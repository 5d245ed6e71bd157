"""The vouchers on disk: each deposit once, one document a session, what a full or damaged disk does."""

from __future__ import annotations

from pathlib import Path

import pytest
from myrvm_core.deposit_record import Session, SessionKind
from myrvm_core.errors import StorageError
from myrvm_core.signing import KeyRing, PublicKey, SigningKey
from myrvm_core.voucher import Voucher, digest
from myrvm_deposit.voucher_book import KEPT_AFTER_EXPIRY_S, VoucherBook

from myrvm_deposit import voucher_book

KEY = SigningKey.generate()
RING = KeyRing(keys=(PublicKey(key_id=KEY.key_id, public=KEY.public, purposes=frozenset({"voucher"})),))
IDS = [f"0199d0c4-5d2e-7a31-9c55-0a4b7f1d2e{number:02}" for number in range(4)]
DAY_S = 86_400.0


def session(number: int = 0) -> Session:
    return Session(SessionKind.VOUCHER, f"0199d0c4-1c00-7b6e-8e0a-5d1c2b3a4f{number:02}", "", 5)


def book(folder: Path) -> VoucherBook:
    opened = VoucherBook(folder / "vouchers", "rvm-7", 90 * DAY_S)
    assert opened.load(1000.0) == []
    return opened


def test_told_again_after_a_crash_a_deposit_counts_once(tmp_path: Path) -> None:
    opened, after_the_crash = book(tmp_path), book(tmp_path)
    for deposit_id in IDS[:2]:
        assert opened.count(session(), deposit_id, 10)
    opened = after_the_crash
    assert opened.load(1000.0) == []
    for deposit_id in IDS[:2]:
        assert opened.count(session(), deposit_id, 10)
    assert opened.unsigned == [session().session_id]
    opened.sign(session().session_id, KEY, 1000.7)
    entry = book(tmp_path).newest()
    assert entry is not None
    voucher, _ = Voucher.read(entry.document, RING, 0.0)
    assert (voucher.items, voucher.points, voucher.deposits) == (2, 20, digest(IDS[:2]))
    assert (voucher.machine, voucher.issued_at, voucher.expires_at) == ("rvm-7", 1000, 1000 + 90 * 86_400)
    assert next((tmp_path / "vouchers").iterdir()).stat().st_mode & 0o777 == 0o600


def test_nothing_is_added_to_a_voucher_that_is_signed(tmp_path: Path) -> None:
    opened = book(tmp_path)
    opened.count(session(), IDS[0], 10)
    assert not opened.signed(session().session_id)
    opened.sign(session().session_id, KEY, 1000.0)
    for reopened in (opened, book(tmp_path)):
        assert reopened.signed(session().session_id)
        assert reopened.unsigned == []
        assert not reopened.count(session(), IDS[1], 10)
        assert reopened.count(session(), IDS[0], 10), "told again"


def test_the_newest_is_shown_until_it_is_dismissed(tmp_path: Path) -> None:
    opened = book(tmp_path)
    for number in range(2):
        opened.count(session(number), IDS[number], 10)
        opened.sign(session(number).session_id, KEY, 1000.0 + number)
    for number in (1, 0):
        newest = book(tmp_path).newest()
        assert newest is not None
        assert newest.session == session(number)
        opened.dismiss(session(number).session_id)
    assert book(tmp_path).newest() is None


def test_a_disk_that_takes_nothing_loses_nothing_while_the_process_lives(tmp_path: Path) -> None:
    opened = book(tmp_path)
    (tmp_path / "vouchers").write_text("in the way")
    for deposit_id in IDS[:2]:
        with pytest.raises(StorageError, match="cannot be written"):
            opened.count(session(), deposit_id, 10)
    with pytest.raises(StorageError):
        opened.sign(session().session_id, KEY, 1000.0)
    assert not opened.signed(session().session_id), "nobody sees what is not on disk"
    (tmp_path / "vouchers").unlink()
    opened.sign(session().session_id, KEY, 1000.0)
    entry = book(tmp_path).newest()
    assert entry is not None
    assert set(entry.points) == set(IDS[:2])


def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    opened = book(tmp_path)
    for number in range(2):
        opened.count(session(number), IDS[number], 10)
    (tmp_path / "vouchers" / f"{session(0).session_id}.json").write_bytes(b"{")
    again = VoucherBook(tmp_path / "vouchers", "rvm-7", 90 * DAY_S)
    (line,) = again.load(1000.0)
    assert session(0).session_id in line
    assert again.unsigned == [session(1).session_id]


def test_what_has_expired_long_ago_is_deleted(tmp_path: Path) -> None:
    opened = book(tmp_path)
    opened.count(session(), IDS[0], 10)
    opened.sign(session().session_id, KEY, 1000.0)
    end_s = 1000.0 + 90 * DAY_S + KEPT_AFTER_EXPIRY_S
    again = VoucherBook(tmp_path / "vouchers", "rvm-7", 90 * DAY_S)
    again.load(end_s)
    assert again.newest() is not None
    again.load(end_s + 1)
    assert again.newest() is None
    assert not list((tmp_path / "vouchers").iterdir())


def test_the_book_is_bounded_while_the_node_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voucher_book, "KEPT", 3)
    opened = book(tmp_path)
    for number in range(12):
        opened.count(session(number), f"{IDS[0]}{number}", 10)
        opened.sign(session(number).session_id, KEY, 1000.0 + number)
        if number not in (2, 11):
            opened.dismiss(session(number).session_id)
        opened.prune(1000.0 + number)
    opened.count(session(12), IDS[1], 10)
    opened.prune(1012.0)
    kept = {session(number).session_id for number in (2, 8, 9, 10, 11, 12)}
    assert {file.stem for file in (tmp_path / "vouchers").iterdir()} == kept
    assert set(opened._entries) == kept, "what waits to be signed or shown stays, and the newest that were shown"
    opened.prune(1012.0 + 90 * DAY_S + KEPT_AFTER_EXPIRY_S)
    assert opened.unsigned == [session(12).session_id]
    assert opened.newest() is None
    assert book(tmp_path).unsigned == [session(12).session_id]
