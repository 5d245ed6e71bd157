"""A technician at the whole machine: refused in service, then maintenance, lines, an output, the full self-test."""

from __future__ import annotations

import json
from typing import Any

from myrvm_core.environment import identity
from myrvm_core.errors import RvmError
from myrvm_interfaces.msg import SystemStatus
from myrvm_sim.items import Kind
from myrvm_system.cli import app
from typer.testing import CliRunner

from myrvm_core import paths
from myrvm_sim import technician
from myrvm_system import selftest

NOT_IN_SERVICE = "a technician drives outputs only in maintenance (rvm maintenance on)"
LIGHT = "light light_ring"


def rvm(*words: str) -> str:
    """Run `rvm` in this process: what it prints, or the sentence that it ends with."""
    result = CliRunner().invoke(app, words)
    if isinstance(result.exception, RvmError):
        return str(result.exception)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def gpio() -> dict[str, dict[str, Any]]:
    lines = json.loads(rvm("gpio", "--json", "--hardware", "desk"))["lines"]
    return {line["name"]: line for line in lines}


def test_a_technician_at_work(machine: Any) -> None:
    machine.wait_serving()
    assert rvm("gpio", "set", "buzzer", "on") == NOT_IN_SERVICE
    assert rvm("selftest") == "the machine is SERVING: take it out of service first (rvm maintenance on), or --short"
    assert rvm("maintenance", "off") == "the machine is not in maintenance: SERVING"
    lines = gpio()
    lamp, door = lines["STATUS_LAMP"], lines["DOOR"]
    assert (lamp["active"], lamp["consumer"], lamp["purposes"]) == (True, "myrvm", ["actuator outputs status_lamp"])
    assert (door["active"], door["direction"], door["told"]) == (False, "input", "actuator")

    assert rvm("maintenance", "on") == "MAINTENANCE"
    assert rvm("gpio", "set", "buzzer", "on") == "a technician drives outputs only with the service door open"
    machine.desk.cabinet.set_door(True)
    machine.wait(lambda: gpio()["DOOR"]["active"], "an open door")
    assert rvm("gpio", "set", "buzzer", "on", "--seconds", "60") == "buzzer is on, read back; for 60 s"
    assert gpio()["BUZZER"]["active"]
    assert "there are: light_ring, door_lock, buzzer, status_lamp" in rvm("gpio", "set", "siren", "on")
    machine.desk.cabinet.set_door(False)
    machine.wait(lambda: not gpio()["BUZZER"]["active"], "a silent buzzer")

    assert technician.work(machine.desk.cabinet, ["--json"]) == 0
    report = json.loads(selftest.latest(paths.data() / "selftest", selftest.FULL).read_text())
    entries = {entry["name"]: entry for entry in report["entries"]}
    assert report["failed"] == []
    assert report["machine"] == identity().hardware_id
    assert {entry["name"] for entry in report["entries"] if entry["outcome"] == "skipped"} == {
        f"input {role}" for role in ("power_fail", "on_battery", "battery_low")
    }
    assert {"home_s", "open_s", "close_s", "accept_s", "return_s"} <= entries["gate cycle"]["figures"].keys()
    assert entries[LIGHT]["figures"]["brightness_on"] > entries[LIGHT]["figures"]["brightness_off"]

    assert rvm("maintenance", "off") in ("SERVING", "DEGRADED")
    machine.wait(lambda: machine.customer.status.mode == SystemStatus.SERVING, "SERVING")
    machine.insert(Kind.NOT_EMPTY)
    happened = [f"{entry['what']} {entry['detail']}" for entry in machine.desk.cabinet.log()]
    inserted = happened.index(f"inserted {Kind.NOT_EMPTY.value}")
    assert "line LIGHT_RING on" in happened[inserted:]
    machine.audit()
