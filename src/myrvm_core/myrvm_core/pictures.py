"""Draw the pictures in `docs/architecture.md` again from what the code says: `python -m myrvm_core.pictures`."""

from __future__ import annotations

import re
from pathlib import Path

from myrvm_core import deposit, graph, paths


def drawn(text: str) -> str:
    """The page with each picture drawn anew: the Mermaid block after a comment `<!-- picture: NAME -->`."""
    pictures = {"graph": graph.mermaid(graph.load()), "deposit": deposit.mermaid()}
    for name, picture in pictures.items():
        block = re.compile(rf"(<!-- picture: {name} -->\n```mermaid\n).*?(```)", re.DOTALL)
        text = block.sub(lambda found, picture=picture: found[1] + picture + found[2], text)
    return text


def page() -> Path:
    """The page with the pictures."""
    return paths.home() / "docs" / "architecture.md"


if __name__ == "__main__":
    page().write_text(drawn(page().read_text(encoding="utf-8")), encoding="utf-8")
