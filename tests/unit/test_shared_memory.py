from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

from myrvm_system.shared_memory import clean

NAMES = ("fastrtps_port7411", "fastrtps_port7411_el", "sem.fastrtps_port7411_mutex", "fastrtps_0123456789abcdef")


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"\0" * 4096)


def test_what_nobody_uses_is_removed_and_nothing_else(tmp_path: Path) -> None:
    make(tmp_path, *NAMES, "lttng-ust-wait-6", "another_program")
    cleaned = clean(tmp_path)
    assert cleaned.removed == tuple(sorted(NAMES))
    assert cleaned.removed_bytes == 4 * 4096
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another_program", "lttng-ust-wait-6"]


def test_a_file_that_is_mapped_or_open_stays_with_its_relatives(tmp_path: Path) -> None:
    make(tmp_path, *NAMES, "fastrtps_dead", "fastrtps_dead_el")
    with (tmp_path / NAMES[0]).open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 4096)
    with (tmp_path / NAMES[3]).open("rb"):
        cleaned = clean(tmp_path)
    mapped.close()
    assert cleaned.removed == ("fastrtps_dead", "fastrtps_dead_el")
    assert cleaned.in_use == 4


def test_the_files_of_a_killed_process_go_those_of_a_living_one_stay(tmp_path: Path) -> None:
    program = (
        "import mmap,sys; f=open(sys.argv[1],'r+b'); m=mmap.mmap(f.fileno(),0); f.close(); print(1,flush=True); input()"
    )
    make(tmp_path, "fastrtps_living", "fastrtps_killed")
    holders = {
        name: subprocess.Popen(
            [sys.executable, "-S", "-c", program, str(tmp_path / name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for name in ("fastrtps_living", "fastrtps_killed")
    }
    for holder in holders.values():
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"1\n"
    holders["fastrtps_killed"].kill()
    holders["fastrtps_killed"].wait()
    assert clean(tmp_path).removed == ("fastrtps_killed",)
    holders["fastrtps_living"].communicate(b"\n")
    assert clean(tmp_path).removed == ("fastrtps_living",)


def test_a_folder_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    cleaned = clean(tmp_path / "none")
    assert (cleaned.removed, cleaned.in_use) == ((), 0)
    assert "0 left-over files" in str(cleaned)


def test_files_of_another_user_stay(tmp_path: Path) -> None:
    make(tmp_path, "fastrtps_theirs")
    if os.geteuid() == 0:
        os.chown(tmp_path / "fastrtps_theirs", 12345, 12345)
        assert clean(tmp_path).removed == ()
