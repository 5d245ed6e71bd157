"""A stand-in for the technician: runs `rvm selftest` and does at the simulated cabinet what it asks for.

`python -m myrvm_sim.technician` on a desk that is up (`make desk`), in maintenance; options go to `rvm selftest`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from myrvm_system.selftest import BY_HAND

from myrvm_sim.cabinet_client import CabinetClient

RVM = [sys.executable, "-c", "from myrvm_system.cli import main; main()", "selftest"]


def hands(cabinet: CabinetClient) -> dict[str, Callable[[bool], None]]:
    """How each input is made active or inactive."""
    return {
        "entry": lambda active: cabinet.stick_line("ENTRY", active or None),
        "drop": lambda active: cabinet.stick_line("DROP", active or None),
        "hand": cabinet.set_hand,
        "emergency": cabinet.set_emergency,
        "bin_full": cabinet.set_bin,
        "door": cabinet.set_door,
    }


def work(cabinet: CabinetClient, arguments: list[str]) -> int:
    """Run the self-test to its end; its exit status. Raises DeviceError when the cabinet does not answer."""
    able = hands(cabinet)
    asked = {
        prompt: (able[role], active)
        for role, both in BY_HAND.items()
        for active, prompt in zip((True, False), both, strict=True)
    }
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    command = [*RVM, *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        for line in process.stderr:
            print(line, end="", file=sys.stderr, flush=True)
            action = asked.get(line.removeprefix("-> ").strip())
            if action is not None:
                act, active = action
                act(active)
        return process.wait()


def main() -> int:
    """Work on the cabinet of MYRVM_CABINET."""
    with CabinetClient(Path(os.environ["MYRVM_CABINET"])) as cabinet:
        return work(cabinet, sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
