"""Power cuts by the thousand, in process: `python tests/powercut/campaign.py --cuts 1000` (`make powercut`).

Ends with a table and exit status 1 where one audit did not agree. `--leave-out NAME` proves that the audit sees it: one
sync is left out, and the campaign must fail.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from disk import library

VISITS = 6  # customers in one recorded run
CUTS_A_RUN = 100

LEFT_OUT: dict[str, Callable[[str], bool]] = {
    "log": lambda path: path.endswith("deposits.db-wal"),
    "session file": lambda path: path == "session.json.partial",
    "data folder": lambda path: path == "",
    "buffer folder": lambda path: path == "buffer",
    "new database": lambda path: path.startswith("buffer/deposits.db.new"),
    "voucher": lambda path: path.startswith("vouchers/"),
    "voucher folder": lambda path: path == "vouchers",
    "picture": lambda path: path.endswith(".jpg.partial"),
    "picture folder": lambda path: path == "unresolved",
}


def main() -> int:
    """Run under the recorder, which is loaded before the interpreter starts."""
    parser = argparse.ArgumentParser(description="Cut the power, start again, audit.")
    parser.add_argument("--cuts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--leave-out", choices=list(LEFT_OUT), help="a sync that never happens")
    group.add_argument("--synchronous", choices=["OFF", "NORMAL"], help="of SQLite, instead of FULL")
    arguments = parser.parse_args()
    if str(library()) not in os.environ.get("LD_PRELOAD", ""):
        loaded = " ".join(filter(None, [os.environ.get("LD_PRELOAD"), str(library())]))
        environment = {**os.environ, "LD_PRELOAD": loaded, "POWERCUT_SWALLOW": "1"}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    return campaign(arguments)


def campaign(arguments: argparse.Namespace) -> int:
    """All cuts and the table."""
    from rehearsal import Rehearsal  # rclpy is imported once, under the recorder

    if arguments.synchronous:
        relax(arguments.synchronous)
    chance = random.Random(arguments.seed)
    points: Counter[str] = Counter()
    starts, bad = 0, 0
    with tempfile.TemporaryDirectory(prefix="powercut-") as folder:
        rehearsal = Rehearsal(Path(folder), LEFT_OUT.get(arguments.leave_out, lambda path: False))
        while points.total() < arguments.cuts:
            recording = rehearsal.record(chance.randrange(1 << 30), VISITS)
            count = min(CUTS_A_RUN, arguments.cuts - points.total())
            positions = rehearsal.positions(recording, count, chance)
            for cut in rehearsal.cuts(recording, positions, chance):
                points[cut.point] += 1
                starts += cut.starts
                if cut.problems:
                    bad += 1
                    print(f"{cut}: {'; '.join(cut.problems)}")
    for point, count in sorted(points.items()):
        print(f"{count:6}  {point}")
    print(f"{points.total()} cuts at {len(points)} points, {starts} starts after them: {bad} audits do not agree")
    return 1 if bad else 0


def relax(synchronous: str) -> None:
    """Have SQLite answer before the disk has the data, as its pragma allows."""
    from myrvm_cloud import schema

    connect = schema.connect

    def relaxed(file: Path):  # sqlite3.Connection
        connection = connect(file)
        connection.execute(f"PRAGMA synchronous={synchronous}")
        return connection

    schema.connect = relaxed


if __name__ == "__main__":
    sys.exit(main())
