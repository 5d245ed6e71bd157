"""A process of the desk that says one line when it is ready, and ends with the context."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from myrvm_core.errors import RvmError

START_S, STOP_S = 30.0, 5.0


@contextmanager
def child(module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run `python -m module arguments`; gives its first line of output.

    Raises:
        RvmError: it ends before it is ready (it has said why on stderr), or is not ready within 30 s.
    """
    # The kernel ends it with us (setpriv), Ctrl-C on the terminal does not reach it: we end it, in our order.
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True, env=environment)
    assert process.stdout is not None
    alarm = threading.Timer(START_S, process.kill)
    alarm.start()
    try:
        ready = process.stdout.readline().strip()
        alarm.cancel()
        if not ready:
            raise RvmError(f"{module} ended with {process.wait()} before it was ready")
        yield ready
    finally:
        alarm.cancel()
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
