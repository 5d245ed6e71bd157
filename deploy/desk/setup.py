"""Set the desk up: a virtual environment with ROS 2 from wheels, the interfaces built, the environment exported.

Usage: `python3 deploy/desk/setup.py [dev] [torch]`; `make` calls it. Standard library only. Each step leaves a stamp
of what it was made from, written last: a step that was interrupted has none and is done again by the next call.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
VENV = HOME / ".venv"
PYTHON = VENV / "bin" / "python"
EXPORTS = VENV / "desk.sh"
INSTALLING = VENV / ".installing"
GPIO_SOURCE = HOME / "src" / "myrvm_sim" / "preload" / "gpio.c"
GPIO_LIBRARY = VENV / "lib" / "libmyrvm_gpio.so"
EXTRAS = ("dev", "torch")
FREE_GB = {"desk": 3, "dev": 1, "torch": 8}
DEBIAN_PACKAGES = {"cmake": "cmake", "g++": "g++", "make": "make"}
TEST_PACKAGES = {"gpiodetect": "gpiod", "/usr/sbin/upsd": "nut-server", "/usr/bin/upsc": "nut-client"}
EXPORTED = (
    "VIRTUAL_ENV", "PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH",
    "_ROS_WHEELS_BOOTSTRAP_COMPLETE",
)  # fmt: skip


class SetupError(Exception):
    """One line: what is missing and how to get it."""


def main(extras: list[str]) -> None:
    """Run every step that is not up to date."""
    for extra in extras:
        if extra not in EXTRAS:
            raise SetupError(f"extra {extra!r} is not known; allowed: {', '.join(EXTRAS)}")
    check_machine()
    if "dev" in extras:
        offer_test_programs()
    VENV.parent.mkdir(exist_ok=True)
    with (HOME / ".setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if INSTALLING.exists():
            print("set-up: an installation was interrupted, beginning anew", flush=True)
            shutil.rmtree(VENV, ignore_errors=True)  # pip may take a half-installed package for a whole one
        step("virtual environment", "venv", [sys.version], make_venv)
        for name in ("desk", *extras):
            lock_file = HOME / "requirements" / f"{name}.txt"
            step(f"packages: {name}", name, [sys.version, lock_file], lambda name=name: install(name))
        step("simulated GPIO chip", "gpio", [GPIO_SOURCE], build_gpio)
        step("interfaces and nodes (colcon build)", "build", [HOME / "requirements" / "desk.txt", *sources()], build)


def check_machine() -> None:
    """Refuse a machine on which the set-up cannot succeed."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise SetupError(
            f"Python {platform.python_version()} has no ROS 2 wheels; install one of 3.10 .. 3.13 "
            "and call make PYTHON=python3.11"
        )
    if platform.machine() != "x86_64" or sys.platform != "linux":
        raise SetupError(
            f"{platform.machine()} {sys.platform}: the ROS 2 wheels are for x86-64 Linux; "
            "on a Jetson take ROS 2 from apt, see docs/jetson.md"
        )
    missing = [package for program, package in DEBIAN_PACKAGES.items() if not shutil.which(program)]
    try:
        import ensurepip  # noqa: F401  # Debian ships it apart from python3
    except ImportError:
        missing.append(f"python{sys.version_info.major}.{sys.version_info.minor}-venv")
    if not Path(sysconfig_include(), "Python.h").is_file():
        missing.append(f"python{sys.version_info.major}.{sys.version_info.minor}-dev")
    if missing:
        install_from_debian(missing)


def sysconfig_include() -> str:
    """The folder of this Python's headers."""
    import sysconfig

    return sysconfig.get_paths()["include"]


def install_from_debian(packages: list[str]) -> None:
    """Install what is missing where we may, else say how."""
    command = f"apt-get install -y {' '.join(packages)}"
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise SetupError(f"missing: {', '.join(packages)}; get it with: sudo {command}")
    print(f"set-up: installing from Debian: {' '.join(packages)}", flush=True)
    quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    for call in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", *packages]):
        if subprocess.run(call, check=False, timeout=600, **quiet).returncode != 0:
            raise SetupError(f"missing: {', '.join(packages)}; this failed: {' '.join(call)}")


def offer_test_programs() -> None:
    """Programs that some tests run against the product; where they cannot be had, those tests are skipped."""
    missing = sorted({package for program, package in TEST_PACKAGES.items() if not shutil.which(program)})
    if missing:
        try:
            install_from_debian(missing)
        except (SetupError, subprocess.TimeoutExpired) as error:
            print(f"set-up: some tests will be skipped: {error}", flush=True)


def step(title: str, name: str, made_from: Iterable[str | Path], make: Callable[[], None]) -> None:
    """Call `make` unless the stamp of `name` says that it was made from the same; print how long it took."""
    digest = hashlib.sha256()
    for part in made_from:
        digest.update(
            part.read_bytes() + str(part.relative_to(HOME)).encode() if isinstance(part, Path) else part.encode()
        )
    stamp = VENV / f".made-{name}"
    if stamp.is_file() and stamp.read_text() == digest.hexdigest():
        return
    stamp.unlink(missing_ok=True)
    print(f"set-up: {title} ...", flush=True)
    begun = time.monotonic()
    make()
    partial = stamp.with_suffix(".partial")
    partial.write_text(digest.hexdigest())
    partial.replace(stamp)
    print(f"set-up: {title} done in {time.monotonic() - begun:.0f} s", flush=True)


def make_venv() -> None:
    """A fresh virtual environment in place of whatever is there."""
    shutil.rmtree(VENV, ignore_errors=True)
    run([sys.executable, "-m", "venv", str(VENV)], "the virtual environment could not be made")


def install(name: str) -> None:
    """Install one lock file; every package is named there with its hashes."""
    free_gb = shutil.disk_usage(HOME).free / 1e9
    if free_gb < FREE_GB[name]:
        raise SetupError(f"disk: {free_gb:.1f} GB free at {HOME}, the extra {name!r} needs {FREE_GB[name]} GB")
    INSTALLING.touch()
    run(
        [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
         "--require-hashes", "-r", str(HOME / "requirements" / f"{name}.txt")],
        "packages could not be installed: is the network up, and does it reach the Python package index?",
    )  # fmt: skip
    INSTALLING.unlink()
    point_cmake_at_this_python()


def point_cmake_at_this_python() -> None:
    """Replace include folders of the machine that built the ROS wheels in their CMake files by this one's."""
    numpy_include = output([str(PYTHON), "-c", "import numpy; print(numpy.get_include())"]).strip()
    python_include = sysconfig_include()
    for path in (VENV / "share").rglob("*.cmake"):
        text = path.read_text(errors="ignore")
        new = re.sub(r'/opt/python/[^;"\s>]*numpy[^;"\s>]*include', numpy_include, text)
        new = re.sub(r'/opt/python/[^;"\s>]*include/python3[^;"\s>/]*', python_include, new)
        if new != text:
            path.write_text(new)


def build_gpio() -> None:
    """The library through which programs see the simulated GPIO chip."""
    partial = GPIO_LIBRARY.with_suffix(".partial")
    run(
        ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(partial),
         str(GPIO_SOURCE), "-ldl", "-lpthread"],
        "the simulated GPIO chip could not be compiled: is linux-libc-dev installed?",
    )  # fmt: skip
    partial.replace(GPIO_LIBRARY)  # whoever has the old one loaded keeps it


def sources() -> list[Path]:
    """What `colcon build` depends on; Python modules are linked, not copied, and need no build."""
    found = [HOME / "colcon.meta", Path(__file__).resolve()]
    for pattern in ("msg/**/*", "src/*/package.xml", "src/*/setup.*"):
        found += [path for path in HOME.glob(pattern) if path.is_file()]
    return sorted(found)


def build() -> None:
    """`colcon build` into `install/`, then write the environment that every process of the graph gets."""
    environment = {
        **os.environ,
        "VIRTUAL_ENV": str(VENV),
        "PATH": f"{VENV}/bin:{os.environ['PATH']}",
        "AMENT_PREFIX_PATH": str(VENV),
        "CMAKE_PREFIX_PATH": str(VENV),
        "PYTHONWARNINGS": "ignore",
    }
    for name in ("PYTHONPATH", "LD_LIBRARY_PATH", "_ROS_WHEELS_BOOTSTRAP_COMPLETE", "COLCON_PREFIX_PATH"):
        environment.pop(name, None)
    run(
        [str(VENV / "bin" / "colcon"), "--log-level", "error", "build", "--symlink-install",
         "--base-paths", "msg", "src",
         "--event-handlers", "console_direct-", "status-", "--cmake-args", f"-DPython3_EXECUTABLE={PYTHON}"],
        "colcon build failed; see log/latest_build", env=environment,
    )  # fmt: skip
    # The wheels' bootstrapper computes LD_LIBRARY_PATH once here, so that no node starts its interpreter twice.
    dump = "import rclpy, os, sys; sys.stdout.write('\\0'.join(f'{k}={v}' for k, v in os.environ.items()))"
    script = f'. install/setup.bash >/dev/null 2>&1; exec {PYTHON} -c "{dump}"'
    variables = dict(pair.split("=", 1) for pair in output(["bash", "-c", script], env=environment).split("\0"))
    lines = [f'export {name}="{variables[name]}"' for name in EXPORTED if name in variables and name != "PATH"]
    lines += [
        f'export PATH="{VENV}/bin:$PATH"',
        f'export MYRVM_HOME="{HOME}"',
        f'export FASTRTPS_DEFAULT_PROFILES_FILE="{HOME}/config/fastdds.xml"',
        'export MYRVM_HARDWARE="${MYRVM_HARDWARE:-desk}"',
        # With LOCALHOST, rmw_fastrtps adds shared memory and UDP of its own to whatever the profile says.
        "export ROS_AUTOMATIC_DISCOVERY_RANGE=SYSTEM_DEFAULT RMW_IMPLEMENTATION=rmw_fastrtps_cpp",
    ]
    EXPORTS.write_text(
        "# made by deploy/desk/setup.py: the environment of every process of the graph\n" + "\n".join(lines) + "\n"
    )
    command = VENV / "bin" / "rvm"
    program = HOME / "install" / "myrvm_system" / "lib" / "myrvm_system" / "rvm"
    command.write_text(f'#!/bin/sh\n. "{EXPORTS}"\nexec "{program}" "$@"\n')
    command.chmod(0o755)


def run(command: list[str], failure: str, env: dict[str, str] | None = None) -> None:
    """Run a command in the installation's root; its output is shown only when it fails."""
    result = subprocess.run(
        command,
        cwd=HOME,
        env=env,
        check=False,
        timeout=1800,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode != 0:
        print(result.stdout[-4000:], file=sys.stderr)
        raise SetupError(failure)


def output(command: list[str], env: dict[str, str] | None = None) -> str:
    """Standard output of a command that must succeed."""
    result = subprocess.run(command, cwd=HOME, env=env, check=False, timeout=300, capture_output=True, text=True)
    if result.returncode != 0:
        raise SetupError(f"this failed: {' '.join(command)[:200]}: {result.stderr.strip()[-500:]}")
    return result.stdout


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except SetupError as error:
        sys.exit(f"set-up: {error}")
    except KeyboardInterrupt:
        sys.exit("set-up: interrupted; the next call goes on")
    except subprocess.TimeoutExpired as error:
        sys.exit(f"set-up: no end after {error.timeout:.0f} s: {' '.join(map(str, error.cmd))[:200]}")
