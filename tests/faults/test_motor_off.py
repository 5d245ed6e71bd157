"""The motor is off, looked at on the lines of the chip, whatever happens to those who switched it on.

The flap is wedged and the movement's own time is long, so that nothing but what is tested switches off.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import Transition
from myrvm_hardware.settings import ActuatorSettings
from myrvm_interfaces.srv import CommandGate
from myrvm_sim.cabinet_client import CabinetClient, running
from myrvm_sim.physics import Jam

LIMIT_S = 20.0
TRAVEL_S = 30.0
SILENCE_S = 2.0  # a busy machine lets a process wait; long before TRAVEL_S all the same
DESK: dict[str, Any] = {
    "device": "myrvm-cabinet",
    "motor_lines": ["to_bin=MOTOR_BIN", "to_customer=MOTOR_CUSTOMER"],
    "switch_lines": ["closed=SWITCH_CLOSED", "bin=SWITCH_BIN", "customer=SWITCH_CUSTOMER"],
    "interlock_lines": ["door=DOOR", "hand=HAND", "emergency=EMERGENCY", "power_fail=POWER_FAIL"],
    "travel_limit_s": TRAVEL_S,
    "guard_silence_s": SILENCE_S,
    "duty_s": 3600.0,
    "duty_window_s": 3600.0,
    "reopen_first_s": 0.05,
    "reopen_longest_s": 0.05,
}
MOTOR: tuple[str, ...] = ("MOTOR_BIN", "MOTOR_CUSTOMER")


def lines(cabinet: CabinetClient) -> dict[str, bool]:
    """The motor's lines, as the chip has them."""
    level: dict[str, bool] = dict.fromkeys(MOTOR, False)
    for entry in cabinet.log():
        if entry["what"] == "line" and entry["detail"].split()[0] in MOTOR:
            name, _, state = entry["detail"].partition(" ")
            level[name] = state == "on"
    return level


class Host:
    """`gate_host.py` and the cabinet that it works on."""

    def __init__(self, cabinet: CabinetClient, settings: ActuatorSettings) -> None:
        self.cabinet, self.what = cabinet, ""
        command = [sys.executable, str(Path(__file__).with_name("gate_host.py")), settings.model_dump_json()]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def do(self, command: str) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        print(command, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        assert answer, f"the host has ended: {self.process.wait()}"
        return json.loads(answer)

    def until(self, condition: Callable[[], Any], what: str) -> None:
        end_s = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < end_s, f"{self.what}: no {what}; lines {lines(self.cabinet)}"
            time.sleep(0.02)

    def closed(self) -> bool:
        state = self.do("state")
        return (state["position"], state["motor"], state["fault"]) == ("CLOSED", "OFF", "")

    def run(self, what: str = "") -> int:
        """The motor runs against a wedged flap; the process of the guard."""
        self.what = what
        self.until(lambda: self.do("state")["obstacles"] == [] and self.closed(), "gate at rest")
        self.cabinet.stick(Jam.HARD)
        assert self.do("command ACCEPT") == "NONE"
        self.until(self.on, "motor")
        return self.do("state")["guard"]

    def home(self) -> None:
        """The flap is free; the gate closes."""
        self.cabinet.stick(None)
        self.until(lambda: self.do("command HOME") == "NONE", "gate that is not held")
        self.until(self.closed, "closed gate")

    def on(self) -> bool:
        return any(lines(self.cabinet).values())

    def off(self) -> None:
        self.until(lambda: not self.on(), "lines off")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def made(cabinet: CabinetClient, **changes: Any) -> Iterator[Host]:
    cabinet.stick(None)
    for undo in (cabinet.set_door, cabinet.set_hand, cabinet.set_emergency, cabinet.set_power_fail):
        undo(False)
    built = Host(cabinet, ActuatorSettings.model_validate(DESK | changes))
    try:
        yield built
    finally:
        built.end()


@pytest.fixture(scope="module")
def bench() -> Iterator[CabinetClient]:
    """One cabinet for all."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as environment:
        path = Path(folder) / "cabinet"
        with running(path, "--seed", "1") as variables, CabinetClient(path) as client:
            for name, value in variables.items():
                environment.setenv(name, value)
            yield client


@pytest.fixture
def host(bench: CabinetClient, request: pytest.FixtureRequest) -> Iterator[Host]:
    """One that is not needed afterwards."""
    yield from made(bench, **getattr(request, "param", {}))


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_interlocks_and_the_end_of_the_program(host: Host) -> None:
    for name, set_to in (
        ("door", host.cabinet.set_door),
        ("hand", host.cabinet.set_hand),
        ("emergency", host.cabinet.set_emergency),
        ("power fail", host.cabinet.set_power_fail),
    ):
        host.run(name)
        set_to(True)
        host.off()
        host.until(lambda: host.do("state")["outcome"] == "INTERLOCK", "end of the command")
        assert host.do("command HOME") == "INTERLOCK"
        set_to(False)
        host.home()
    host.run("a wire that chatters")
    host.cabinet.chatter("HAND", 10_000.0, 1.0)
    host.off()
    host.until(lambda: host.do("state")["outcome"] == "INTERLOCK", "end of the command")
    host.home()
    host.run("the end of the program")
    host.do("stop")
    assert not host.on()


def test_faults_that_it_recovers_from(host: Host) -> None:
    faults: dict[str, tuple[Callable[[int], Any], Callable[[], Any]]] = {
        "a frozen process": (
            lambda _: host.process.send_signal(signal.SIGSTOP),
            lambda: host.process.send_signal(signal.SIGCONT),
        ),
        "an exception in the control thread": (lambda _: host.do("explode"), lambda: None),
        "a killed guard": (lambda guard: os.kill(guard, signal.SIGKILL), lambda: None),
        "a frozen guard": (lambda guard: os.kill(guard, signal.SIGSTOP), lambda: None),
        "a chip that vanishes": (lambda _: host.cabinet.plug_chip(False), lambda: host.cabinet.plug_chip(True)),
    }
    for name, (happens, is_over) in faults.items():
        guard = host.run(name)
        happens(guard)
        host.off()
        is_over()
        host.until(lambda: host.do("state")["outcome"] == "FAILED", "end of the command")
        host.cabinet.stick(None)
        host.until(host.closed, "gate that has homed by itself")
        assert host.do("state")["guard"] != guard
        assert gone(guard)
    guard = host.do("state")["guard"]
    os.kill(guard, signal.SIGKILL)
    host.until(lambda: host.do("check") or host.do("state")["guard"] not in (0, guard), "another guard")
    host.until(host.closed, "gate at rest")
    assert "motor guard has ended: signal 9" in host.do("state")["faults"]


def test_kill_9_and_the_guard_goes_too(host: Host) -> None:
    guard = host.run()
    host.process.kill()
    host.off()
    host.until(lambda: gone(guard), "end of the guard")
    host.process.wait()
    for second in made(host.cabinet):
        second.until(second.closed, "gate that has homed: the lines were given back")


def test_a_stuck_control_thread(host: Host) -> None:
    host.run()
    host.do("stick")
    host.off()


LONG_SILENCE = pytest.mark.parametrize("host", [{"guard_silence_s": 5.0, "interlock_stale_s": 5.0}], indirect=True)


@LONG_SILENCE
def test_an_interlock_while_the_control_thread_is_stuck(host: Host) -> None:
    host.run()
    host.do("stick")
    host.cabinet.set_hand(True)
    host.off()


@LONG_SILENCE
def test_an_interlock_that_only_the_guard_sees(host: Host) -> None:
    host.run("the process is frozen")
    host.process.send_signal(signal.SIGSTOP)
    host.cabinet.set_emergency(True)
    host.off()
    host.process.send_signal(signal.SIGCONT)
    host.cabinet.set_emergency(False)
    host.until(lambda: host.do("state")["outcome"] == "INTERLOCK", "end of the command")
    host.home()
    host.run("the watch is blind")
    host.do("blind")
    host.cabinet.set_door(True)
    host.off()
    host.until(lambda: host.do("state")["outcome"] == "INTERLOCK", "end of the command")


@pytest.mark.parametrize("host", [{"travel_limit_s": 0.5}], indirect=True)
def test_a_run_that_nobody_bounds_and_one_past_everything(host: Host) -> None:
    why = "motor guard has switched the motor off: it ran "
    host.until(host.closed, "gate at rest")
    host.do("rogue")
    host.off()
    host.until(lambda: host.do("check") or f"{why}unannounced" in host.do("state")["faults"], "fault")
    host.until(host.closed, "gate at rest")
    host.do("forget")
    host.run()
    host.off()
    host.until(lambda: f"{why}for too long" in host.do("state")["faults"], "fault")


@pytest.mark.parametrize("host", [{"watchdog_line": "MOTOR_ENABLE_WATCHDOG"}], indirect=True)
def test_the_external_watchdog_when_the_guard_is_frozen_too(host: Host) -> None:
    def supply() -> str:
        return next(entry["detail"] for entry in reversed(host.cabinet.log()) if entry["what"] == "motor supply")

    guard = host.run()
    host.until(lambda: supply() == "on", "supply")
    os.kill(guard, signal.SIGSTOP)
    host.process.send_signal(signal.SIGSTOP)
    host.until(lambda: supply() == "off, by the watchdog", "watchdog")
    os.kill(guard, signal.SIGKILL)


def test_a_stuck_executor_and_a_node_that_ends(graph: Any, cabinet: CabinetClient, tmp_path: Path) -> None:
    """In the real node: a callback that does not return, then deactivation, then SIGTERM."""

    def run(command_id: str) -> None:
        graph.wait(lambda: command(graph, CommandGate.Request.HOME, command_id).taken, "gate that is not held")
        graph.wait(lambda: command(graph, CommandGate.Request.OPEN, command_id).taken, "gate at rest")
        graph.wait(lambda: any(lines(cabinet).values()), "motor")

    def off() -> None:
        graph.wait(lambda: not any(lines(cabinet).values()), "lines off", LIMIT_S)

    cabinet.stick(Jam.HARD)
    sticks = tmp_path / "sticks"
    parameters = {"travel_limit_s": TRAVEL_S, "duty_s": 3600.0, "duty_window_s": 3600.0, "current_limit_a": 0.0}
    graph.bring_up("actuator", "desk", STUCK.format(file=sticks), **parameters)
    run("a")
    sticks.touch()
    graph.wait(lambda: "stuck" in graph.log("actuator"), "executor that is stuck")
    cabinet.set_hand(True)
    off()
    cabinet.set_hand(False)
    sticks.unlink()
    run("b")
    assert graph.transition("actuator", Transition.TRANSITION_DEACTIVATE)
    assert not any(lines(cabinet).values())
    assert graph.transition("actuator", Transition.TRANSITION_ACTIVATE)
    run("c")
    graph.processes["actuator"].send_signal(signal.SIGTERM)
    off()
    assert graph.processes["actuator"].wait(LIMIT_S) == 0, graph.log("actuator")


def command(graph: Any, verb: int, command_id: str) -> Any:
    request = CommandGate.Request(command_id=f"{command_id} {verb}", holder="test", verb=verb)
    return graph.call(CommandGate, "actuator/command", request)


STUCK = """
import time
from pathlib import Path
from myrvm_hardware import actuator_node

def stuck(self):
    while Path("{file}").exists():
        print("stuck", flush=True)
        time.sleep(1.0)
    return health(self)

health, actuator_node.ActuatorNode.health = actuator_node.ActuatorNode.health, stuck
actuator_node.main()
"""
