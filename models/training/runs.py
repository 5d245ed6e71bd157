"""Every training run in a line of `models/runs.csv`: how it was made, how long it took, its figures on validation."""

from __future__ import annotations

import csv
import subprocess
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from picture_sets import CLASSES

FILE = Path(__file__).resolve().parent.parent / "runs.csv"
MEASURES = ("precision", "recall", "map50", "map50_95")
COLUMNS = (
    "run", "finished_at", "commit", "command", "seed", "renders", "composites", "photographs", "added", "validation",
    "stages", "seconds", *(f"{name}_{measure}" for name in ("all", *CLASSES) for measure in MEASURES),
    "mask_iou",
)  # fmt: skip


def append(values: Mapping[str, object], file: Path = FILE) -> None:
    """Add a line; what is not given stays empty.

    Raises:
        ValueError: a name is no column, or the file has other columns.
    """
    if unknown := set(values) - set(COLUMNS):
        raise ValueError(f"{', '.join(sorted(unknown))}: no such column in {file}")
    new = not file.exists()
    if not new and tuple(next(csv.reader(file.read_text(encoding="utf-8").splitlines()))) != COLUMNS:
        raise ValueError(f"{file} has other columns than this version writes")
    with file.open("a", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow({"finished_at": datetime.now(timezone.utc).isoformat(timespec="seconds"), **values})


def commit() -> str:
    """The commit that is checked out, `+` after it where `models/training` differs from it; empty without git."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=FILE.parent, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "training") else "")
    except (OSError, subprocess.TimeoutExpired):
        return ""


def seconds_of(results: Path) -> float:
    """How long a stage took by ultralytics' results.csv, whose clock begins anew with each resumption."""
    rows = list(csv.DictReader(results.read_text().splitlines(), skipinitialspace=True))
    total = last = 0.0
    for row in rows:
        now = float(row["time"])
        if now < last:
            total += last
        last = now
    return total + last
