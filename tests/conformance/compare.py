"""Compare two records of the conformance tests: `python tests/conformance/compare.py ONE OTHER`."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path


def seen(file: Path) -> dict[str, list[str]]:
    """What each test has recorded, in order."""
    tests: dict[str, list[str]] = defaultdict(list)
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        tests[row.pop("test")].append(json.dumps(row, sort_keys=True))
    return tests


def table(one: Path, other: Path) -> tuple[str, int]:
    """A table in Markdown, and how many tests differ."""
    first, second = seen(one), seen(other)
    rows = [f"| test | lines | {one.stem} and {other.stem} |", "|---|---:|---|"]
    different = 0
    for test in sorted(first | second):
        ours, theirs = first.get(test, []), second.get(test, [])
        odd = [f"`{left}` / `{right}`" for left, right in zip(ours, theirs, strict=False) if left != right]
        if len(ours) != len(theirs):
            odd.append(f"{len(ours)} and {len(theirs)} lines")
        different += bool(odd)
        rows.append(f"| {test} | {len(ours)} | {'; '.join(odd) or 'the same'} |")
    return "\n".join(rows), different


def main(arguments: list[str]) -> int:
    """Print the table; 1 where the records differ or are empty."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    text, different = table(Path(arguments[0]), Path(arguments[1]))
    print(text)
    return int(bool(different) or text.count("\n") < 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
