"""The device in a virtual machine: boots what `build.sh` made, and says what the guest found.

Usage: `device_vm.py conformance | low-battery | cuts [COUNT] [forgets-to-sync] [continue] | record | try SCRIPT`.
Standard library only; nothing here runs in the guest. `record` puts the last results into docs/device-vm.md.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]
WORK = HOME / "var" / "device-vm"
PAGE = HOME / "docs" / "device-vm.md"
BOOT_LIMIT_S = 1800.0  # plain emulation on a busy machine
BARE = "systemd.unit=device-vm.service"  # nothing else is started: half the time of a boot
CUT_WITHIN_LINES = 400  # marks of the guest between its first customer and the cut, at most
CUT_WITHIN_START = 80  # marks of the guest between its start and the cut, where that falls before a customer
CUT_WHILE_STARTING = 0.2  # part of the cuts


class DeviceVmError(Exception):
    """One line: what is missing, or what the guest did not do."""


class Machine:
    """One boot of the guest. What it writes below its `/out` is in `out` at once and survives its end.

    Its root disk is thrown away at the end; `data` is kept. Source of the flags: QEMU's manual, "Invocation".
    """

    def __init__(self, task: str, out: Path, data: Path | None = None) -> None:
        drives = ["-drive", f"file={WORK}/root.img,if=virtio,format=raw,snapshot=on"]
        if data is not None:
            drives += ["-drive", f"file={data},if=virtio,format=qcow2,cache=writeback"]
        self.out, self.console = out, out / "console.log"
        self._log = self.console.open("ab")
        self.process = subprocess.Popen(
            ["nice", "-n", "10", "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "2048",
             "-smp", "2", "-nographic", "-no-reboot", "-nic", "none", "-kernel", f"{WORK}/vmlinuz",
             "-initrd", f"{WORK}/ramdisk.img", "-append", "root=/dev/vda console=ttyS0 quiet panic=-1 "
             f"myrvm.task={task} myrvm.home={HOME} {BARE if task.startswith('deposits') else ''}",
             "-virtfs", f"local,path={HOME},mount_tag=source,security_model=none,readonly=on",
             "-virtfs", f"local,path={out},mount_tag=out,security_model=none", *drives],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(WORK)},
        )  # fmt: skip

    def wait(self) -> None:
        """Until the guest has switched itself off. Raises DeviceVmError when it does not."""
        try:
            status = self.process.wait(BOOT_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise DeviceVmError(f"the guest has not ended in {BOOT_LIMIT_S:.0f} s; see {self.console}") from None
        finally:
            self.cut()
        if status != 0:
            raise DeviceVmError(f"QEMU has ended with status {status}; see {self.console}")

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Until the condition holds. Raises DeviceVmError where the guest ends before, or nothing happens for long."""
        end_s = time.monotonic() + BOOT_LIMIT_S
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end_s:
                raise DeviceVmError(f"the guest has not {what}; see {self.out}/guest.log and {self.console}")
            time.sleep(0.05)

    def cut(self) -> None:
        """Pull the plug: the process is killed; the guest's memory, its page cache with it, is gone."""
        self.process.kill()
        self.process.wait(30.0)
        self._log.close()


@dataclass
class Cut:
    """One power cut: after which mark it fell, what the boot had served, what the next boot found."""

    point: str
    shown: int
    witnessed_before: int
    witnessed_after: int = 0
    rows: str = ""
    problems: list[str] = field(default_factory=list)


def conformance() -> bool:
    """Run the driver conformance tests on this machine's simulated chip and in the guest; True if all agree."""
    out = fresh("out-conformance")
    ours, theirs, report = out / "preload.jsonl", out / "gpio-sim.jsonl", out / "junit.xml"
    on_our_chip = ". .venv/desk.sh && exec nice -n 10 python -m pytest -q -rfE tests/conformance/test_gpio_*.py"
    environment = {**os.environ, "MYRVM_CONFORMANCE_RESULTS": str(ours)}
    outside = subprocess.run(["bash", "-c", on_our_chip], cwd=HOME, check=False, env=environment)
    machine = Machine("conformance", out)
    machine.wait()
    if not report.is_file():
        raise DeviceVmError(f"the guest has run no test; see {out}/guest.log")
    files, failures = tests_of(report)
    switched_off, ending = low_battery(machine)
    compare = [sys.executable, str(HOME / "tests" / "conformance" / "compare.py"), str(ours), str(theirs)]
    compared = subprocess.run(compare, check=False, capture_output=True, text=True)
    lines = ["| tests in the guest | passed | skipped | failed | s |", "|---|---:|---:|---:|---:|", *files]
    lines += ["", ending]
    lines += ["", *agreement(compared.stdout)]
    keep("conformance", "\n".join(lines))
    for failure in failures:
        print(failure)
    return not failures and switched_off and outside.returncode == 0 and compared.returncode == 0


def agreement(table: str) -> list[str]:
    """The table of `compare.py` by files; a test that differs keeps its own row."""
    tests: dict[str, list[int]] = defaultdict(list)
    different: list[str] = []
    for line in table.splitlines()[2:]:
        test, count, verdict = (cell.strip() for cell in line.strip("|").split("|", 2))
        tests[test.partition(".py::")[0]].append(int(count))
        different += [line] if verdict != "the same" else []
    rows = [f"| {file} | {len(counts)} tests, {sum(counts)} lines |" for file, counts in sorted(tests.items())]
    verdict = f"{len(different)} tests differ:" if different else "No line differs."
    return ["| seen on the simulated chip and on gpio-sim | compared |", "|---|---|", *rows, "", verdict, *different]


def low_battery(machine: Machine) -> tuple[bool, str]:
    """Whether the nodes in the guest have switched it off, and a line about it."""
    told, log = machine.out / "low_battery", machine.out / "lifecycle_manager.jsonl"
    asked = log.is_file() and '"words": ["systemctl", "poweroff"]' in log.read_text()
    down = "reboot: Power down" in machine.console.read_text(errors="replace")
    said = ", ".join(told.read_text().splitlines()) if told.is_file() else "did not come up"
    good = asked and down and "ended" in said
    return good, f"Low battery: {said}; {'switched off by its own command' if good else 'FAILED to switch itself off'}."


def switch_off() -> bool:
    """Only the last part of the conformance run: the machine whose battery runs low."""
    machine = Machine("low-battery", fresh("out-low-battery"))
    machine.wait()
    good, line = low_battery(machine)
    print(line)
    return good


def tests_of(report: Path) -> tuple[list[str], list[str]]:
    """Rows of a table, one a file of tests, and what failed, of a JUnit report."""
    counts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    failures: list[str] = []
    for case in ElementTree.parse(report).iter("testcase"):
        file = (case.get("classname") or case.get("name") or "").rpartition(".")[2]
        outcome = next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed")
        outcome = "failed" if outcome in ("failure", "error") else outcome
        counts[file][outcome] += 1
        counts[file]["s"] += float(case.get("time") or 0)
        if outcome == "failed":
            failures.append(f"FAILED in the guest: {file}::{case.get('name')}")
    rows = [
        f"| {file} | {count['passed']:.0f} | {count['skipped']:.0f} | {count['failed']:.0f} | {count['s']:.0f} |"
        for file, count in sorted(counts.items())
    ]
    return rows, failures


def keep(name: str, text: str) -> None:
    """Print a result, and keep it with its date and commit for `record`."""
    commit = git("rev-parse", "--short", "HEAD") + (" and changes to it" if git("status", "--porcelain") else "")
    kernel = (WORK / ".kernel").read_text().strip()
    heading = f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, commit {commit}, Debian's kernel {kernel}:"
    (WORK / f"result-{name}.md").write_text(f"{heading}\n\n{text.strip()}\n")
    print(text)


def git(*arguments: str) -> str:
    """What git says; empty where this is no checkout."""
    done = subprocess.run(["git", "-C", str(HOME), *arguments], check=False, capture_output=True, text=True, timeout=60)
    return done.stdout.strip()


def record() -> bool:
    """Put the kept results into the page, between its marks."""
    page = PAGE.read_text()
    for result in sorted(WORK.glob("result-*.md")):
        name = result.stem.removeprefix("result-")
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        text = result.read_text()
        page = marks.sub(lambda found, text=text: f"{found[1]}{text}{found[2]}", page)
    PAGE.write_text(page)
    return True


def cuts(count: str = "20", *options: str) -> bool:
    """Cut the power while the guest serves, again and again; True if all audits agree."""
    forgets = "forgets-to-sync" in options
    out = WORK / ("out-forgets" if forgets else "out-cuts")
    marks = out / "marks"
    if "continue" not in options or not marks.exists():
        new_disk(fresh(out.name))
        marks.touch()
    chance = random.Random()
    while (done := len(judge(marks.read_text()))) < int(count):
        machine = Machine("deposits-serve" + "+forgets-to-sync" * forgets, out, new_layer(out))
        while_starting = done > 0 and chance.random() < CUT_WHILE_STARTING
        awaited, within = ("start", CUT_WITHIN_START) if while_starting else ("serving", CUT_WITHIN_LINES)
        try:
            begun = marks.stat().st_size
            machine.wait_for(lambda since=begun, word=awaited: word in said_since(marks, since), awaited)
            lines = len(said_since(marks, begun)) + chance.randrange(within)
            machine.wait_for(lambda since=begun, until=lines: len(said_since(marks, since)) >= until, "gone on")
        finally:
            machine.cut()
        print(f"cut {done + 1}: {judge(marks.read_text())[-1].point}", flush=True)
    Machine("deposits-end", out, new_layer(out)).wait()
    found = judge(marks.read_text())
    file_system = (out / "file_system").read_text()
    replayed, clean = file_system.count("recovery complete"), file_system.rstrip().endswith("clean")
    said = f"The file system replayed its journal by itself {replayed} times; `e2fsck -fn` at the end: "
    keep("forgets-to-sync" if forgets else "cuts", f"{cut_table(found)}\n\n{said}{'clean' if clean else 'DAMAGE'}.")
    return clean and not any(cut.problems for cut in found)


def said_since(marks: Path, position: int) -> list[str]:
    """The lines after a position of the guest's marks."""
    with marks.open() as file:
        file.seek(position)
        return file.read().splitlines()


def new_disk(out: Path) -> None:
    """An empty file system, `data-0.qcow2`."""
    raw = out / "data.raw"
    subprocess.run(["mke2fs", "-q", "-q", "-t", "ext4", str(raw), "1G"], check=True, timeout=60)
    image("convert", "-O", "qcow2", str(raw), str(out / "data-0.qcow2"))
    raw.unlink()


def new_layer(out: Path) -> Path:
    """A new file on top of the last one of the disk.

    QEMU keeps its table of what was written there in its own memory until the guest flushes, so that the cut takes what
    a disk's own cache loses, too.
    """
    number = len(list(out.glob("data-*.qcow2")))
    layer = out / f"data-{number}.qcow2"
    image("create", "-f", "qcow2", "-b", f"data-{number - 1}.qcow2", "-F", "qcow2", str(layer))
    return layer


def image(*arguments: str) -> None:
    """Call qemu-img."""
    subprocess.run(["qemu-img", arguments[0], "-q", *arguments[1:]], check=True, timeout=60)


def judge(text: str) -> list[Cut]:
    """The cuts that the guest's marks tell of; the last boot ended by itself or is still to be looked at."""
    boots = text.split("start\n")[1:]
    found: list[Cut] = []
    unjudged = 0  # cuts since the last audit: a boot may be cut before it has looked
    for boot in boots:
        lines = boot.splitlines()
        problems = [line[8:] for line in lines if line.startswith("problem ")]
        audit = next((line[6:] for line in lines if line.startswith("audit ")), "")
        witnessed = int(word_after("witness", lines))
        if found:
            found[-1].witnessed_after = witnessed
            for cut in found[-unjudged:]:
                cut.rows = audit or "cut again before it"
            found[-1].problems += problems
        unjudged = 1 if audit else unjudged + 1
        shown = sum(line.startswith('{"event": "shown"') for line in lines)
        found.append(Cut(point_of(lines), shown, witnessed + shown))
    return found[:-1] if boots and boots[-1].rstrip().endswith("end") else found


def word_after(word: str, lines: list[str]) -> str:
    """What follows `word` in the first line that begins with it; 0 where there is none."""
    return next((line.split()[1] for line in lines if line.startswith(f"{word} ")), "0")


def point_of(lines: list[str]) -> str:
    """The last thing that happened, in words."""
    last = lines[-1] if lines else "start"
    if last.startswith("{"):
        event = json.loads(last)
        last = " ".join(filter(None, [event["event"], event.get("state") or event.get("place", "")]))
    return f"after {last}"


def cut_table(done: list[Cut]) -> str:
    """A table in Markdown."""
    lines = [
        "| cut | fell | results shown | un-synced lines lost | the next boot's audit | problems |",
        "|---|---|---|---|---|---|",
    ]
    for number, cut in enumerate(done, 1):
        lost = f"{cut.witnessed_before - cut.witnessed_after} of {cut.witnessed_before}"
        lines.append(
            f"| {number} | {cut.point} | {cut.shown} | {lost} | {cut.rows} | {'; '.join(cut.problems) or '0'} |"
        )
    return "\n".join(lines)


def try_script(script: str) -> bool:
    """Run a shell script in the guest, for trying things; prints what it printed."""
    out = fresh("out-try")
    shutil.copy(script, out / "try.sh")
    Machine("try", out).wait()
    print((out / "guest.log").read_text(errors="replace"))
    return True


def fresh(name: str) -> Path:
    """An empty folder for what the guest writes."""
    folder = WORK / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


COMMANDS: dict[str, Callable[..., bool]] = {
    "conformance": conformance, "low-battery": switch_off, "cuts": cuts, "record": record, "try": try_script
}  # fmt: skip


def main(arguments: list[str]) -> None:
    """Build what is not built, then run a command."""
    if not arguments or arguments[0] not in COMMANDS:
        raise DeviceVmError(f"command {' '.join(arguments[:1])!r} is not known; allowed: {', '.join(COMMANDS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the guest is ended too
    WORK.mkdir(parents=True, exist_ok=True)
    lock = (WORK / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise DeviceVmError(f"{WORK} is used by another run") from None
    if subprocess.run(["bash", str(Path(__file__).with_name("build.sh"))], check=False).returncode != 0:
        raise DeviceVmError("not built")
    begun = time.monotonic()
    good = COMMANDS[arguments[0]](*arguments[1:])
    print(f"device-vm: {arguments[0]} {'done' if good else 'FAILED'} in {time.monotonic() - begun:.0f} s")
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DeviceVmError as error:
        sys.exit(f"device-vm: {error}")
