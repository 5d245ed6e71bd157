"""Which Fast DDS profile a node runs with: that of the machine, or that of the nodes which exchange pictures.

The environment names the machine's (`FASTRTPS_DEFAULT_PROFILES_FILE`, config/fastdds.xml); the other lies beside it. A
file of the operator's own that has none beside it holds for all nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
PICTURES = "_pictures"


def environment(pictures: bool, base: Mapping[str, str]) -> dict[str, str]:
    """What goes on top of the environment `base` for a node that does, or does not, exchange pictures."""
    given = base.get(VARIABLE, "")
    if not given:
        return {}
    file = Path(given)
    plain = file.with_stem(file.stem.removesuffix(PICTURES))
    chosen = plain.with_stem(plain.stem + PICTURES) if pictures else plain
    return {VARIABLE: str(chosen)} if chosen.is_file() else {}
