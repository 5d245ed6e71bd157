"""Draw pictures and tables in the docs again from what the code says: `python -m myrvm_core.pictures`."""

from __future__ import annotations

import re
from pathlib import Path

from myrvm_core import crash_points, deposit, evidence_table, graph, paths


def drawn(text: str) -> str:
    """The page drawn anew: what follows a comment `<!-- picture: NAME -->` or `<!-- table: .. -->`."""
    pictures = {"graph": graph.mermaid(graph.load()), "deposit": deposit.mermaid()}
    for name, picture in pictures.items():
        block = re.compile(rf"(<!-- picture: {name} -->\n```mermaid\n).*?(```)", re.DOTALL)
        text = block.sub(lambda found, picture=picture: found[1] + picture + found[2], text)
    tables = {"crash points": crash_points.table(), "facts": evidence_table.facts_table()}
    for name, rows in tables.items():
        table = re.compile(rf"(<!-- table: {name} -->\n).*?(?=\n\n|\Z)", re.DOTALL)
        text = table.sub(lambda found, rows=rows: found[1] + rows.rstrip(), text)
    return text


def pages() -> tuple[Path, ...]:
    """The pages with pictures or tables."""
    return tuple(paths.home() / "docs" / name for name in ("architecture.md", "protocol.md", "recognition.md"))


if __name__ == "__main__":
    for page in pages():
        page.write_text(drawn(page.read_text(encoding="utf-8")), encoding="utf-8")
