"""The `rvm` command. Other packages add commands through the entry point group `myrvm.cli`.

An entry point names a function, or a `typer.Typer` of commands.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
from myrvm_core.errors import RvmError
from myrvm_core.examination import Examined
from rich.console import Console
from rich.text import Text

from myrvm_core import graph as graph_file
from myrvm_core import log, paths
from myrvm_system import check as configuration
from myrvm_system import doctor as examination
from myrvm_system import logs as log_files
from myrvm_system import technician
from myrvm_system.bring_up import BringUp

GROUP = "myrvm.cli"
LEVEL_COLOURS = {"debug": "dim", "info": "green", "warning": "yellow", "error": "bold red", "critical": "bold red"}

app = typer.Typer(
    name="rvm", help="The reverse vending machine from the terminal.", no_args_is_help=True, add_completion=False,
    pretty_exceptions_enable=False,
)  # fmt: skip
console = Console(highlight=False)

Parameters = Annotated[
    list[Path] | None,
    typer.Option("--parameters", "-p", help="ROS parameter files, later ones win [rvm.yaml, hardware profile]."),
]
Hardware = Annotated[
    str, typer.Option("--hardware", metavar="NAME", help="Profile, config/hardware/NAME.yaml [MYRVM_HARDWARE].")
]


technician.add_to(app)


@app.command()
def status(once: Annotated[bool, typer.Option("--once", help="Print one screen and end.")] = False) -> None:
    """Show the running machine: mode, nodes, server, deposits, resources."""
    from myrvm_system import status_view  # only this command needs ROS

    if not status_view.show(console, once, limit_s=5.0):
        raise typer.Exit(1)


@app.command()
def logs(
    node: Annotated[str, typer.Argument(help="One node; all by default.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    level: Annotated[str, typer.Option(help=f"Least level: {', '.join(log.LEVELS)}.")] = "DEBUG",
    count: Annotated[int, typer.Option("--lines", "-n", min=0, help="So many lines from before.")] = 100,
) -> None:
    """Show what the nodes logged, merged by time."""
    if level.upper() not in log.LEVELS:
        raise typer.BadParameter(f"{level!r}; allowed: {', '.join(log.LEVELS)}", param_hint="--level")
    folder = paths.data() / "logs"
    if node and not log_files.files(folder, node):
        known = sorted({path.name.partition(".")[0] for path in log_files.files(folder)})
        raise typer.BadParameter(f"{node!r} has no log in {folder}; there are: {', '.join(known) or 'none'}")
    for line in log_files.last(folder, node, level, count):
        _print_line(line)
    if follow:
        for line in log_files.follow(folder, node, level):
            _print_line(line)


@app.command()
def check(
    parameters: Parameters = None,
    hardware: Hardware = "",
    files_only: Annotated[bool, typer.Option("--files-only", help="With --hardware: look at no device.")] = False,
) -> None:
    """Check the whole configuration without starting anything; each problem is one line.

    With --hardware the machine itself is looked at too: chip, lines, sensors, camera. No output is driven.
    """
    files = parameters or configuration.default_files(hardware)
    problems = configuration.check(files)
    for problem in problems:
        console.print(problem, markup=False, soft_wrap=True)
    if problems:
        raise typer.Exit(1)
    names = ", ".join(file.name for file in files)
    tables = "policy.yaml, rules.yaml, evidence.yaml"
    console.print(f"valid: graph.yaml, {names}, environment, {tables}, models", soft_wrap=True)
    if hardware and not files_only and not _print_examined(configuration.probe(files)):
        raise typer.Exit(1)


@app.command()
def doctor(parameters: Parameters = None, hardware: Hardware = "") -> None:
    """Look at set-up, devices, permissions, model, clock, disk, server; each line is ok or says what to do."""
    if not _print_examined(examination.examine(parameters or configuration.default_files(hardware))):
        raise typer.Exit(1)


@app.command()
def up(parameters: Parameters = None, hardware: Hardware = "") -> None:
    """Start the graph here and keep it up until Ctrl-C."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    with BringUp(graph_file.load(), parameters or configuration.default_files(hardware)) as machine:
        machine.start()
        console.print(f"bring-up: {machine.found}; Ctrl-C ends")
        stop.wait()
        machine.stop()
    console.print(f"bring-up: all ended; {machine.cleaned}")


def _print_examined(lines: Iterable[Examined]) -> bool:
    """Each thing on a line, as it comes; whether all is well."""
    well = True
    for line in lines:
        well = well and line.ok
        mark = Text("ok   ", style="green") if line.ok else Text("TO DO", style="bold red")
        advice = "" if line.ok else f" -> {line.advice}"
        console.print(mark, f"{line.subject}: {line.found}{advice}", markup=False, soft_wrap=True)
    return well


def _print_line(line: log_files.Line) -> None:
    console.print(
        Text.assemble(
            (line.time[:23].replace("T", " "), "dim"), " ", (f"{line.level:8}", LEVEL_COLOURS.get(line.level, "")),
            f" {line.node:18} ", line.message, (f"  {line.rest}" if line.rest else "", "dim"),
        ),
        soft_wrap=True,
    )  # fmt: skip


def main() -> None:
    """Entry point of `rvm`."""
    for point in entry_points(group=GROUP):
        command = point.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=point.name)
        else:
            app.command(point.name)(command)
    try:
        app()
    except RvmError as error:
        raise SystemExit(f"rvm: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
