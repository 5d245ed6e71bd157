"""In which mode the machine is."""

from __future__ import annotations

from enum import IntEnum


class Mode(IntEnum):
    """Numbers equal the constants of `myrvm_interfaces/msg/SystemStatus`; UNKNOWN: not heard."""

    UNKNOWN = 0
    STOPPED = 1
    STARTING = 2
    SERVING = 3
    DEGRADED = 4
    OUT_OF_ORDER = 5
    PAUSED = 6
    STOPPING = 7
    MAINTENANCE = 8
