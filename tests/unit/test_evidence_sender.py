"""Evidence for the server: the oldest that it does not have, what is disputed only after a while, each once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from fake_graph import SilentLog
from myrvm_cloud.contract import PictureKind
from myrvm_cloud.evidence_sender import DISPUTED_AFTER_S, FILE, EvidenceSender
from myrvm_core.errors import StorageError
from myrvm_core.evidence import Evidence

KEY = bytes(range(32))


def keep(data: Path, folder: str, name: str, age_s: float, key: bytes | None = None) -> None:
    Evidence(data / folder, 10_000_000, key).keep(name, name.encode())
    for path in (data / folder).glob(f"{name}.*"):
        os.utime(path, (time.time() - age_s, time.time() - age_s))


def sent(sender: EvidenceSender) -> list[str]:
    """The names of all that it gives, each acknowledged."""
    names: list[str] = []
    while (picture := sender.next()) is not None:
        assert picture.jpeg == picture.name.encode()
        sender.sent(picture)
        names.append(picture.name)
    return names


def test_the_oldest_first_of_both_folders_each_once(tmp_path: Path) -> None:
    log = SilentLog()
    assert EvidenceSender(tmp_path, None, log).next() is None
    keep(tmp_path, "refused", "new", 1.0)
    keep(tmp_path, "refused", "old", 2000.0)
    keep(tmp_path, "unresolved", "middle", DISPUTED_AFTER_S + 60.0)
    keep(tmp_path, "unresolved", "being-settled", DISPUTED_AFTER_S - 60.0)
    sender = EvidenceSender(tmp_path, None, log)
    first = sender.next()
    assert first is not None
    assert (first.name, first.kind) == ("old", PictureKind.REFUSED)
    assert sender.next() == first, "until it was sent"
    assert sent(sender) == ["old", "middle", "new"]
    assert sent(EvidenceSender(tmp_path, None, log)) == []
    (tmp_path / "refused" / "old.jpg").unlink()
    keep(tmp_path, "refused", "newest", 0.0)
    assert sent(EvidenceSender(tmp_path, None, log)) == ["newest"]
    assert "old" not in (tmp_path / FILE).read_text(), "what is gone is forgotten"
    assert log.lines == []


def test_encrypted_ones_are_sent_as_pictures_and_what_cannot_be_read_stays(tmp_path: Path) -> None:
    log = SilentLog()
    keep(tmp_path, "refused", "sealed", 10.0, KEY)
    keep(tmp_path, "refused", "plain", 5.0)
    assert sent(EvidenceSender(tmp_path, KEY, log)) == ["sealed", "plain"]
    keep(tmp_path, "refused", "again", 3.0, KEY)
    without = EvidenceSender(tmp_path, None, log)
    assert sent(without) == sent(without) == []
    assert [line[1] for line in log.lines] == ["picture not sent"], "said once"


def test_a_damaged_memory_sends_again(tmp_path: Path) -> None:
    keep(tmp_path, "refused", "a", 1.0)
    for text in ("{", "7", "[[1]]"):
        (tmp_path / FILE).write_text(text)
        assert sent(EvidenceSender(tmp_path, None, SilentLog())) == ["a"]


def test_a_disk_that_takes_nothing_does_not_send_for_ever(tmp_path: Path) -> None:
    keep(tmp_path, "refused", "a", 1.0)
    sender = EvidenceSender(tmp_path, None, SilentLog())
    picture = sender.next()
    assert picture is not None
    (tmp_path / FILE).mkdir()
    with pytest.raises(StorageError):
        sender.sent(picture)
    assert sender.next() is None
