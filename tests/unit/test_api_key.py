"""Where the machine's key comes from, and how it is replaced while the machine runs; it is never shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import structlog
from myrvm_cloud.api_key import ApiKey
from myrvm_core.errors import SettingsError

LOG = structlog.get_logger()


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RVM_API_KEY", raising=False)


def written(file: Path, text: str | bytes) -> Path:
    """Replace a file, with another time of change whatever the clock does."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(file, ns=(before + 1_000_000_000, before + 1_000_000_000))
    return file


def make(variables: dict[str, str], tmp_path: Path) -> ApiKey:
    return ApiKey(variables, LOG, tmp_path / ".env")


def secret(key: ApiKey) -> str:
    return key.current().get_secret_value()


def test_file_before_credential_before_environment(tmp_path: Path) -> None:
    named = written(tmp_path / "named", "from-file\n")
    credential = written(tmp_path / "rvm_api_key", "from-credential")
    variables = {
        "RVM_API_KEY": "from-environment",
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "RVM_API_KEY_FILE": str(named),
    }
    assert secret(make(variables, tmp_path)) == "from-file"
    assert secret(make(variables | {"RVM_API_KEY_FILE": ""}, tmp_path)) == "from-credential"
    credential.unlink()
    assert secret(make(variables | {"RVM_API_KEY_FILE": ""}, tmp_path)) == "from-environment"
    assert secret(make({}, tmp_path)) == ""


@pytest.mark.parametrize("name", ["named", "rvm_api_key", ".env"])
def test_a_replaced_key_is_used_at_once(name: str, tmp_path: Path) -> None:
    def text(key: str) -> str:
        return f"RVM_API_KEY={key}\n" if name == ".env" else key

    file = written(tmp_path / name, text("first"))
    variables = {"named": {"RVM_API_KEY_FILE": str(file)}, "rvm_api_key": {"CREDENTIALS_DIRECTORY": str(tmp_path)}}
    key = make(variables.get(name, {}), tmp_path)
    assert secret(key) == "first"
    assert not key.read_again()
    written(file, text("second"))
    assert secret(key) == "second"
    os.utime(file, ns=(1, 1))
    file.write_text(text("third!"))
    stamp = key._stamp
    assert stamp is not None
    os.utime(file, ns=(stamp[0], stamp[0]))
    assert key.read_again(), "a change that the file's time does not tell is seen when the server has refused the key"
    assert secret(key) == "third!"


@pytest.mark.parametrize("damage", ["gone", "two words", b"\xff\xfe", "k" * 513])
def test_what_is_no_key_does_not_replace_the_one_before(damage: str | bytes, tmp_path: Path) -> None:
    file = written(tmp_path / "named", "first")
    key = make({"RVM_API_KEY_FILE": str(file)}, tmp_path)
    if damage == "gone":
        file.unlink()
    else:
        written(file, damage)
    assert secret(key) == "first"
    assert not key.read_again()
    written(file, "second")
    assert secret(key) == "second"


@pytest.mark.parametrize("bad", ["hush hush", "hush\nhush", "hüsh-hush", "hush" * 200])
def test_a_key_that_fits_no_header_is_refused_and_not_shown(bad: str, tmp_path: Path) -> None:
    file = written(tmp_path / "named", bad)
    for variables in ({"RVM_API_KEY_FILE": str(file)}, {"RVM_API_KEY": bad}):
        with pytest.raises(SettingsError) as caught:
            make(variables, tmp_path)
        assert "sh" not in str(caught.value).replace(str(file), "")
    with pytest.raises(SettingsError, match=r"RVM_API_KEY_FILE = .*nowhere.* cannot be read"):
        make({"RVM_API_KEY_FILE": str(tmp_path / "nowhere")}, tmp_path)


def test_it_shows_nowhere(tmp_path: Path) -> None:
    file = written(tmp_path / "named", "first-key")
    key = make({"RVM_API_KEY_FILE": str(file)}, tmp_path)
    with structlog.testing.capture_logs() as logs:
        key = ApiKey({"RVM_API_KEY_FILE": str(file)}, structlog.get_logger(), tmp_path / ".env")
        written(file, "second-key")
        key.current()
        written(file, "no key")
        key.current()
    shown: list[Any] = [key, vars(key), key.current(), logs]
    assert len(logs) == 2
    for text in (f"{shown}", f"{shown!r}"):
        assert "first-key" not in text
        assert "second-key" not in text
