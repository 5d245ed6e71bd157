"""Coverage-guided fuzzing of the parsers that strangers reach: the Pusher and raw event lines, the voucher's decoder.

python tests/soak/fuzz.py [--minutes 10] [--target pusher,raw,voucher]. Needs atheris, which is no part of the locked
environment: its newest release has no wheel for Python 3.10, and none for arm64. The properties are in
`tests/fuzz_targets.py`; a corpus grows in var/fuzz, and an input that breaks one lies there as crash-*.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz_targets import SEEDS, TARGETS

TESTS = Path(__file__).resolve().parents[1]
LONGEST_INPUT = 70_000  # bytes; a message has 65,536 characters at most, a document 16,384
INPUT_LIMIT_S = 5
MEMORY_LIMIT_MB = 512
CRASHES = 10  # then the target is given up
GRACE_S = 60.0
WORDS = (
    '"event"', '"data"', '"channel"', '"document"', '"\\"', '":"', "null", "true", "1e308", "-0", "\\ud800", "NaN",
    '"socket_id"', '"activity_timeout"', '"code"', '"message"', "pusher:error", "pusher:ping", "pusher_internal:",
    "private-rvm.7", "rvm.a-b", "client-", "session.authorized", '"user"', '"alg"', '"kid"', '"typ"', '"b64":false',
    '"crit"', '"EdDSA"', "9007199254740993",
)  # fmt: skip
CHILD = """
import sys
import atheris
with atheris.instrument_imports(include=["fuzz_targets", "myrvm_cloud", "myrvm_core", "json", "jwt", "rfc8785"]):
    import fuzz_targets
atheris.Setup(sys.argv, fuzz_targets.TARGETS[sys.argv.pop(1)])
atheris.Fuzz()
"""


@dataclass
class Found:
    """Figures of one target."""

    executions: int = 0
    coverage: int = 0
    features: int = 0
    corpus: int = 0
    slowest_s: int = 0
    memory_mb: int = 0
    crashes: list[str] = field(default_factory=list)


def fuzz(target: str, seconds: float, folder: Path) -> Found:
    """Runs until the time is up; after an input that breaks the property it begins again from the corpus."""
    corpus = folder / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = folder / "words.txt"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in WORDS))
    found, end_s = Found(), time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 1.0 and len(found.crashes) < CRASHES:
        options = {
            "max_total_time": int(left_s), "max_len": LONGEST_INPUT, "timeout": INPUT_LIMIT_S,
            "rss_limit_mb": MEMORY_LIMIT_MB, "dict": words, "artifact_prefix": f"{corpus}-", "print_final_stats": 1,
        }  # fmt: skip
        command = [sys.executable, "-c", CHILD, target, *(f"-{name}={value}" for name, value in options.items())]
        done = subprocess.run(
            [*command, str(corpus)], env=os.environ | {"PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=left_s + GRACE_S,
            check=False,
        )  # fmt: skip
        _add(found, done.stdout)
        if done.returncode:
            found.crashes.append(done.stdout[-3000:])
    return found


def _add(found: Found, text: str) -> None:
    """What libFuzzer has printed."""

    def last(pattern: str) -> int:
        return max(map(int, re.findall(pattern, text)), default=0)

    found.executions += last(r"stat::number_of_executed_units: +(\d+)")
    found.coverage = max(found.coverage, last(r"cov: (\d+)"))
    found.features = max(found.features, last(r"ft: (\d+)"))
    found.corpus = max(found.corpus, last(r"corp: (\d+)"))
    found.slowest_s = max(found.slowest_s, last(r"stat::slowest_unit_time_sec: +(\d+)"))
    found.memory_mb = max(found.memory_mb, last(r"stat::peak_rss_mb: +(\d+)"))


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"')


def main(
    minutes: Annotated[float, typer.Option(min=0.05, help="How long for each target.")] = 10.0,
    target: Annotated[str, typer.Option(help="Names with commas.")] = ",".join(TARGETS),
) -> None:
    """Fuzz, and print the table."""
    if unknown := set(target.split(",")) - TARGETS.keys():
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}; allowed: {', '.join(TARGETS)}")
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: pip install atheris (x86-64 Linux)", file=sys.stderr)
        raise typer.Exit(2)
    found = {name: fuzz(name, minutes * 60.0, TESTS.parent / "var" / "fuzz") for name in target.split(",")}
    table = Table(title=f"atheris, {minutes:g} min a target, up to {LONGEST_INPUT} bytes an input")
    names = "target", "executions", "a second", "edges", "features", "corpus", "slowest s", "peak MB", "crashes"
    for name in names:
        table.add_column(name, justify="left" if name == "target" else "right")
    for name, one in found.items():
        figures = one.executions, round(one.executions / minutes / 60.0), one.coverage, one.features, one.corpus
        table.add_row(name, *map(str, (*figures, one.slowest_s, one.memory_mb, len(one.crashes))))
    Console(width=120).print(table)
    for name, one in found.items():
        for crash in one.crashes:
            print(f"{name}: {crash}")
    if any(one.crashes for one in found.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
