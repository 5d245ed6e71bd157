"""Pictures kept as evidence: their quota, and what encryption keeps from whom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from myrvm_core.errors import SettingsError, StorageError
from myrvm_core.evidence import Evidence, evidence_key

KEY = bytes(range(32))
JPEG = b"\xff\xd8" + b"picture" * 100


def at(evidence: Evidence, name: str, second: int, jpeg: bytes = JPEG) -> None:
    evidence.keep(name, jpeg)
    for path in evidence.folder.glob(f"{name}.*"):
        os.utime(path, (second, second))


@pytest.mark.parametrize("key", [None, KEY])
def test_the_oldest_go_first_and_the_newest_stays_whatever_its_size(tmp_path: Path, key: bytes | None) -> None:
    evidence = Evidence(tmp_path / "pictures", 3 * (len(JPEG) + 28), key)
    for number, name in enumerate("cab"):
        at(evidence, name, number)
    evidence.keep("d", JPEG)
    assert evidence.names() == ["a", "b", "d"]
    evidence.keep("large", JPEG * 10)
    assert evidence.names() == ["large"]
    assert evidence.find("large") == JPEG * 10
    evidence.forget("large")
    evidence.forget("large")
    assert (evidence.names(), evidence.find("large")) == ([], None)


def test_an_encrypted_picture_says_nothing_and_is_nobody_elses(tmp_path: Path) -> None:
    sealed = Evidence(tmp_path, 10**6, KEY)
    sealed.keep("a", JPEG)
    (file,) = tmp_path.iterdir()
    assert (file.name, file.stat().st_mode & 0o777) == ("a.jpg.aes", 0o600)
    assert b"picture" not in file.read_bytes()
    sealed.keep("b", JPEG)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 2  # a nonce of its own each time
    with pytest.raises(StorageError, match="another key"):
        Evidence(tmp_path, 10**6, KEY[::-1]).find("a")
    with pytest.raises(StorageError, match="names no key"):
        Evidence(tmp_path, 10**6).find("a")
    file.rename(tmp_path / "c.jpg.aes")  # the evidence of another item
    with pytest.raises(StorageError, match="was changed"):
        sealed.find("c")
    content = bytearray((tmp_path / "b.jpg.aes").read_bytes())
    content[20] ^= 1
    (tmp_path / "b.jpg.aes").write_bytes(content)
    with pytest.raises(StorageError, match="was changed"):
        sealed.find("b")
    (tmp_path / "b.jpg.aes").write_bytes(b"short")
    with pytest.raises(StorageError, match="was changed"):
        sealed.find("b")


def test_what_was_kept_without_a_key_is_still_read(tmp_path: Path) -> None:
    Evidence(tmp_path, 10**6).keep("a", JPEG)
    assert Evidence(tmp_path, 10**6, KEY).find("a") == JPEG


def test_a_disk_that_takes_nothing_is_a_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be kept"):
        Evidence(tmp_path / "file" / "folder", 1).keep("a", JPEG)


def test_a_key_is_32_bytes_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "key"
    name = {"RVM_EVIDENCE_KEY_FILE": str(file)}
    assert evidence_key({}) is None
    with pytest.raises(SettingsError, match="cannot be read"):
        evidence_key(name)
    file.write_bytes(KEY)
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="mode 644"):
        evidence_key(name)
    file.chmod(0o600)
    assert evidence_key(name) == KEY
    file.write_bytes(b"short")
    with pytest.raises(SettingsError, match="holds 5 bytes"):
        evidence_key(name)
