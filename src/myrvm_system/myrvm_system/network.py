"""The network as the kernel sees it: which interfaces have a link, and whether there is a way out. No ROS here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from myrvm_core.kernel_files import hexadecimal, text

ROUTE_UP = 0x1  # include/uapi/linux/route.h, RTF_UP
LOOPBACK, NO_INTERFACE = "lo", "00000000"


@dataclass(frozen=True)
class NetworkFigures:
    """Interfaces with a link, without one, and those that a default route leads through."""

    linked: tuple[str, ...] = ()
    unlinked: tuple[str, ...] = ()
    routed: tuple[str, ...] = ()


def look(sysfs: Path = Path("/sys"), proc: Path = Path("/proc")) -> NetworkFigures:
    """The figures now; a tree of files may stand in for either root."""
    linked: list[str] = []
    unlinked: list[str] = []
    for folder in sorted(sysfs.glob("class/net/*")):
        if folder.name == LOOPBACK or not (folder / "operstate").exists():
            continue
        # `unknown`: the driver does not say (point to point, virtual); the carrier then tells.
        state = text(folder / "operstate")
        up = state == "up" or (state == "unknown" and text(folder / "carrier") == "1")
        (linked if up else unlinked).append(folder.name)
    routes = _default_routes_4(proc) | _default_routes_6(proc)
    return NetworkFigures(tuple(linked), tuple(unlinked), tuple(sorted(routes)))


def _default_routes_4(proc: Path) -> set[str]:
    rows = [line.split() for line in text(proc / "net/route").splitlines()[1:]]
    return {
        row[0] for row in rows if len(row) > 7 and row[1] == row[7] == NO_INTERFACE and hexadecimal(row[3]) & ROUTE_UP
    }


def _default_routes_6(proc: Path) -> set[str]:
    rows = [line.split() for line in text(proc / "net/ipv6_route").splitlines()]
    return {
        row[9]
        for row in rows
        if len(row) > 9 and set(row[0]) == {"0"} and row[1] == "00" and row[9] != LOOPBACK
        and hexadecimal(row[8]) & ROUTE_UP
    }  # fmt: skip
