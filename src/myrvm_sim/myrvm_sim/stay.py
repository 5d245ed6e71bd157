"""`make desk`: the whole machine stays up for exploring."""

from __future__ import annotations

import threading
from pathlib import Path

from myrvm_core.machine_mode import Mode
from rich.console import Console

from myrvm_sim.customer import Customer
from myrvm_sim.desk import Options, desk
from myrvm_sim.items import Kind

START_S = 60.0
UP = (Mode.SERVING, Mode.PAUSED, Mode.MAINTENANCE)  # an order of the last time stands
HINTS = """\
The machine is up: {mode}. In another terminal, in this folder:
  . .venv/desk.sh; . {exports}
  rvm status                      one screen, live
  rvm insert mineral              or: {kinds}
  rvm logs -f
Sessions are opened by deposit/start_session; without one an item is a donation.
Topics: camera/image_raw, sensors/events, actuator/state, detector/annotated, deposit/state, deposit/result,
/diagnostics
Data and logs: {folder}
Server: {server}
Ctrl-C ends."""


def stay(console: Console, folder: Path, options: Options) -> None:
    """Start, say what to try, wait for Ctrl-C (KeyboardInterrupt goes through)."""
    with desk(folder, options) as running:
        with Customer() as customer:
            customer.wait(lambda: customer.status.mode in UP, "a machine that is up", START_S)
            mode = Mode(customer.status.mode)
        kinds = ", ".join(kind.value for kind in Kind if kind is not Kind.MINERAL)
        console.print(
            HINTS.format(
                mode=mode.name, exports=running.write_exports(), kinds=kinds, folder=folder, server=running.server.url
            ),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        threading.Event().wait()
