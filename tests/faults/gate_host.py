"""A process that moves a gate as the actuator node does, without ROS, and breaks on command: `python gate_host.py`.

A stand-in for the node in `test_motor_off`. Each line on stdin is a command, answered by a line of JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from typing import Any

import structlog
from myrvm_core.errors import DeviceError
from myrvm_hardware.drivers import Direction
from myrvm_hardware.gate import Gate, Snapshot, Verb
from myrvm_hardware.gate_control import GateControl
from myrvm_hardware.gpiod_gate import GpiodGate
from myrvm_hardware.settings import ActuatorSettings


class Host:
    """The control, and what can be the matter with it."""

    def __init__(self, settings: ActuatorSettings) -> None:
        self._states: dict[str, Snapshot] = {}
        self._faults: list[str] = []
        self._driver = GpiodGate(settings.device, settings)
        self._control: Any = GateControl(self._driver, settings, self._on_change, structlog.get_logger())
        self._number = 0
        self._control.start()

    def _on_change(self, snapshot: Snapshot) -> None:
        self._states[snapshot.gate] = snapshot
        self._faults += [snapshot.fault] if snapshot.fault else []

    def command(self, verb: str) -> str:
        """A verb of the gate; the refusal."""
        self._number += 1
        refusal, _ = self._control.command("", str(self._number), "test", Verb[verb])
        return refusal.name

    def state(self) -> dict[str, Any]:
        """What the node would publish."""
        snapshot = self._states["gate"]
        return {
            "motor": snapshot.motor.name,
            "outcome": snapshot.outcome.name,
            "fault": snapshot.fault,
            "faults": sorted(set(self._faults)),
            "position": snapshot.position.name if snapshot.position else "",
            "obstacles": snapshot.obstacles,
            "guard": self._driver.guard.pid if self._driver.guard else 0,
        }

    def explode(self) -> None:
        """The control thread meets a defect."""

        def tick(*_: Any, **__: Any) -> None:
            Gate.tick = sound
            raise ZeroDivisionError("a defect")

        sound = Gate.tick
        Gate.tick = tick

    def stick(self) -> None:
        """Somebody holds the lock and never gives it back: the control thread is stuck, and every command."""
        holding = threading.Event()

        def hold() -> None:
            with self._control._wake:
                holding.set()
                threading.Event().wait()

        threading.Thread(target=hold, daemon=True).start()
        holding.wait()

    def blind(self) -> None:
        """The thread that watches the interlocks sees no edge and no level from now on."""
        self._driver.levels = lambda: dict.fromkeys(self._driver.interlocks, False)
        self._driver.read_edges = lambda timeout_s: (time.sleep(timeout_s), ([], 0))[1]

    def forget(self) -> None:
        """The safety forgets that a run has an end."""
        self._control._safety.check = lambda now_s: None

    def rogue(self) -> None:
        """Something switches a motor on past everything."""
        self._driver._lines.set({f"gate {Direction.TO_BIN.name.lower()}": True})

    def check(self) -> None:
        """What the node does each quarter of a second."""
        with contextlib.suppress(DeviceError):
            self._control.check()

    def stop(self) -> None:
        """As the node is deactivated."""
        self._control.stop()


def main() -> None:
    """Run until stdin ends."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    host = Host(ActuatorSettings.model_validate_json(sys.argv[1]))
    for text in sys.stdin:
        name, *arguments = text.split()
        print(json.dumps(getattr(host, name)(*arguments)), flush=True)
    host.stop()


if __name__ == "__main__":
    main()
