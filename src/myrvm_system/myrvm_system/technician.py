"""The technician's commands: `rvm maintenance`, `rvm gpio`, `rvm selftest`.

Every output is driven through `actuator/set_output`, every movement through `actuator/command`: no command here takes
a line of the machine for itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Annotated, Any

import typer
from myrvm_core.clock import machine_clock
from myrvm_core.errors import RvmError
from myrvm_core.machine_mode import Mode
from rich.console import Console
from rich.live import Live

from myrvm_core import environment, paths
from myrvm_system import check, selftest

CALL_S = 10.0
MANAGE_S = 60.0  # the manager answers when the verb has ended
HEAR_S = 10.0
REFRESH_S = 0.5

console = Console(highlight=False)
prompts = Console(stderr=True, highlight=False)  # the report alone is on stdout
gpio = typer.Typer(help="Lines of the GPIO chips, live; drive one output.", invoke_without_command=True)


class Switch(str, Enum):
    """A position."""

    ON = "on"
    OFF = "off"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(maintenance)
    app.add_typer(gpio, name="gpio")
    app.command("selftest")(selftest_command)


@contextmanager
def _graph() -> Iterator[Any]:
    from myrvm_ros.graph_client import GraphClient  # ROS: only where a command needs it

    with GraphClient("rvm_technician") as client:
        yield client


def _mode(client: Any) -> str:
    from myrvm_interfaces.msg import SystemStatus

    from myrvm_ros import qos

    if "system/status" not in client.latest:
        client.listen(SystemStatus, "system/status", qos.STATE)
    if not client.wait(lambda: "system/status" in client.latest, HEAR_S):
        raise RvmError("no lifecycle manager heard: is the graph up? (rvm up)")
    return Mode(client.latest["system/status"].mode).name


def maintenance(
    switch: Annotated[Switch, typer.Argument(help="on: out of service, the door's lock opens; off: serve again.")],
    now: Annotated[bool, typer.Option("--now", help="Also with an item in the machine: it is given back.")] = False,
) -> None:
    """Take the machine out of service for a technician, or back into it; survives a restart."""
    from myrvm_interfaces.msg import DepositState
    from myrvm_interfaces.srv import ManageSystem

    from myrvm_ros import qos

    with _graph() as client:
        client.listen(DepositState, "deposit/state", qos.STATE)
        mode = _mode(client)
        if switch is Switch.OFF and mode != "MAINTENANCE":
            raise RvmError(f"the machine is not in maintenance: {mode}")
        if switch is Switch.ON and not now and mode in ("SERVING", "DEGRADED"):
            begun = (None, DepositState.RECOVERING)  # just started: it looks for what was left behind

            def deposit_state() -> int | None:
                said = client.latest.get("deposit/state")
                return None if said is None else said.state

            client.wait(lambda: deposit_state() not in begun, HEAR_S)
            if deposit_state() not in (None, DepositState.IDLE, DepositState.SESSION, DepositState.OUT_OF_ORDER):
                raise RvmError("an item is in the machine: wait, or --now")
        verb = ManageSystem.Request.MAINTENANCE if switch is Switch.ON else ManageSystem.Request.RESUME
        answer = client.call(ManageSystem, "system/manage", ManageSystem.Request(verb=verb), MANAGE_S)
        if not answer.success:
            raise RvmError(answer.message)
        left = "SERVING", "DEGRADED", "OUT_OF_ORDER"
        wanted = ("MAINTENANCE",) if switch is Switch.ON else left
        client.wait(lambda: _mode(client) in wanted, HEAR_S)
        console.print(_mode(client))


@gpio.callback()
def show_gpio(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Print one screen and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    hardware: Annotated[str, typer.Option("--hardware", metavar="NAME", help="Profile [MYRVM_HARDWARE].")] = "",
) -> None:
    """Show every line: its level, who uses it, what it is for; live until Ctrl-C."""
    if context.invoked_subcommand is not None:
        return
    from myrvm_system import gpio_levels, gpio_view

    known = gpio_view.purposes(check.default_files(hardware))
    with _graph() as client:
        levels = gpio_levels.Levels(client)
        lines, problems = gpio_view.look(known, levels.of)
        levels.hear(in_use=any(line.consumer and line.purposes for line in lines))
        lines, problems = gpio_view.look(known, levels.of)
        if as_json:
            console.print_json(json.dumps(gpio_view.as_json(lines, problems)))
        elif once or not console.is_terminal:
            console.print(gpio_view.table(lines), *problems, sep="\n")
        else:
            with Live(gpio_view.table(lines), console=console, auto_refresh=False, screen=True) as live:
                while True:
                    client.wait(lambda: False, REFRESH_S)
                    lines, problems = gpio_view.look(known, levels.of)
                    live.update(gpio_view.table(lines), refresh=True)
    if problems or not lines:
        raise RvmError("; ".join(problems) or "this machine has no GPIO chip")


@gpio.command("set")
def set_gpio(
    name: Annotated[str, typer.Argument(help="Output's name in the hardware profile.")],
    switch: Annotated[Switch, typer.Argument(help="on or off.")],
    seconds: Annotated[float, typer.Option(min=0.0, help="Back by itself after so long; 0: with the door.")] = 10.0,
) -> None:
    """Drive one output, with the service door open and the machine in maintenance."""
    from myrvm_interfaces.srv import SetOutput

    with _graph() as client:
        request = SetOutput.Request(
            name=name, on=switch is Switch.ON, duration_s=seconds, holder="rvm gpio", technician=True
        )
        answer = client.call(SetOutput, "actuator/set_output", request, CALL_S)
    if not answer.taken:
        raise RvmError(answer.message)
    read = "on" if answer.read_back else "off"
    if read != switch.value:
        raise RvmError(f"{name} was switched {switch.value}, its line reads {read}: look at the wiring")
    console.print(f"{name} is {read}, read back" + (f"; for {seconds:g} s" if seconds else ""))


def selftest_command(
    short: Annotated[bool, typer.Option("--short", help="Only look: nothing moves, nobody is needed.")] = False,
    alone: Annotated[bool, typer.Option("--alone", help="Skip what needs a person.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
) -> None:
    """Test inputs, outputs, light, camera and gate; asks for each thing to be done; the report is kept."""
    from myrvm_system.selftest_machine import SelftestMachine

    with _graph() as client:
        mode = _mode(client)
        if not short and mode != "MAINTENANCE":
            raise RvmError(f"the machine is {mode}: take it out of service first (rvm maintenance on), or --short")
        clock, identity = machine_clock(), environment.identity(environment.environment())
        kind = selftest.SHORT if short else selftest.FULL
        report = selftest.Report(identity.hardware_id, kind, selftest.utc(clock.now().time_ns))
        machine = SelftestMachine(client, None if alone or short else _ask)
        checks = selftest.short_checks() if short else selftest.full_checks(machine.perform(selftest.Look()))
        selftest.run(report, checks, machine.perform, time.monotonic, _teller(as_json))
        report.finished_at = selftest.utc(clock.now().time_ns)
    kept = selftest.keep(report, paths.data() / "selftest")
    if as_json:
        print(report.as_json())
    else:
        console.print(report.as_text().splitlines()[-1], f"report: {kept}", sep="\n", soft_wrap=True)
    if report.failed:
        raise typer.Exit(1)


def _ask(what: str) -> None:
    prompts.print(f"-> {what}", style="bold")


def _teller(as_json: bool) -> Callable[[selftest.Entry], None]:
    def tell(entry: selftest.Entry) -> None:
        colour = {"passed": "green", "failed": "bold red", "skipped": "yellow"}[entry.outcome.value]
        out = prompts if as_json else console
        out.print(f"[{colour}]{entry.outcome.value:8}[/] {entry.name:20} {entry.message}", soft_wrap=True)

    return tell
