"""What the nodes that exchange pictures get in their environment: a Fast DDS profile and a memory that fit pictures.

The environment names the machine's (`FASTRTPS_DEFAULT_PROFILES_FILE`, config/fastdds.xml); the other lies beside it. A
file of the operator's own that has none beside it holds for all nodes.

A picture is copied some five times between two nodes, each time into fresh memory. Left to itself the C library hands
that back to the kernel each time, and the kernel's page faults then take most of a picture's way (docs/figures.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
PICTURES = "_pictures"
# Bytes: the most that glibc allows for the first, the second is what a process keeps at most (mallopt(3)).
PICTURE_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}


def environment(pictures: bool, base: Mapping[str, str]) -> dict[str, str]:
    """What goes on top of the environment `base` for a node that does, or does not, exchange pictures."""
    memory = {name: value for name, value in PICTURE_MEMORY.items() if pictures and name not in base}
    given = base.get(VARIABLE, "")
    if not given:
        return memory
    file = Path(given)
    plain = file.with_stem(file.stem.removesuffix(PICTURES))
    chosen = plain.with_stem(plain.stem + PICTURES) if pictures else plain
    return memory | ({VARIABLE: str(chosen)} if chosen.is_file() else {})
