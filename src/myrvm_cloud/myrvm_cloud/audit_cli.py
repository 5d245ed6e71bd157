"""`rvm audit` and `rvm config`: what was ordered from afar, and what stands changed by it."""

from __future__ import annotations

import json
from collections import deque
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any

import typer
from myrvm_core.errors import RvmError
from myrvm_core.overlay import OverlayFile
from myrvm_core.signing import SigningKey

from myrvm_cloud.audit_log import Head, entries, verify_log
from myrvm_core import paths

app = typer.Typer(help="The audit log of commands from afar.", no_args_is_help=True)

Folder = Annotated[
    Path | None, typer.Option("--folder", help="Of one log [every folder below audit in the data folder].")
]


@app.command()
def verify(
    folder: Folder = None,
    public: Annotated[str, typer.Option("--public", help="The machine's public key [from its key file].")] = "",
    anchor: Annotated[
        str, typer.Option(metavar="LINE:HASH", help="A line that the server was told; with --folder.")
    ] = "",
) -> None:
    """Check the chain, the signatures and the end of each log."""
    if anchor and folder is None:
        raise typer.BadParameter("a line of which log? --folder", param_hint="--anchor")
    wrong = False
    for log in _folders(folder):
        report = verify_log(log, public or _public_key(), _anchor(anchor))
        for problem in report.problems:
            typer.echo(f"WRONG {log.name}: {problem}")
        for note in report.notes:
            typer.echo(f"note  {log.name}: {note}")
        lines = f"lines {report.first} to {report.head.sequence}, signed to line {report.signed}"
        typer.echo(f"{log.name}: {lines}, {report.head.hash}")
        wrong = wrong or bool(report.problems)
    if wrong:
        raise typer.Exit(1)


@app.command()
def show(
    folder: Folder = None,
    count: Annotated[int, typer.Option("--lines", "-n", min=1, help="So many of each log, the newest.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="As they are written.")] = False,
) -> None:
    """Print the newest lines; whether they can be trusted says `verify`."""
    for log in _folders(folder):
        for entry in deque(entries(log), maxlen=count):
            typer.echo(json.dumps(entry, ensure_ascii=True) if as_json else f"{log.name:9} {_sentence(entry)}")


def config(as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False) -> None:
    """Show what was changed of the configuration from afar: version, when, by whom, values."""
    file = OverlayFile()
    state = file.read()
    if file.problem:
        raise RvmError(file.problem)
    overlay = state.current
    if as_json:
        document = {"version": overlay.version, "on_trial": state.on_trial, "at": overlay.at_s, "by": overlay.by,
                    "command_id": overlay.command_id, "parameters": overlay.parameters, "note": state.note}  # fmt: skip
        typer.echo(json.dumps(document, indent=1))
        return
    if not overlay.version:
        typer.echo("nothing was changed from afar")
    else:
        trial = ", on trial" if state.on_trial else ""
        typer.echo(f"version {overlay.version}{trial}, {_time(overlay.at_s)}, by {overlay.by} ({overlay.command_id})")
    for node, values in sorted(overlay.parameters.items()):
        for name, value in sorted(values.items()):
            typer.echo(f"  {node}.{name} = {value!r}")
    if state.note:
        typer.echo(state.note)


def _folders(folder: Path | None) -> list[Path]:
    """The logs to look at: of a folder, also one whose files were all removed, or all below `audit`."""
    if folder is not None:
        return [folder]
    folders = [path for path in sorted((paths.data() / "audit").glob("*")) if path.is_dir()]
    if not folders:
        raise RvmError(f"{paths.data() / 'audit'} holds no audit log")
    return folders


def _public_key() -> str:
    file = paths.data() / "identity" / "machine.pem"
    if not file.exists():
        raise RvmError(f"{file} is not there: --public")
    return SigningKey.load_or_make(file).public


def _anchor(text: str) -> Head | None:
    if not text:
        return None
    sequence, _, digest = text.partition(":")
    if not sequence.isdecimal() or len(digest) != 64:
        raise typer.BadParameter(f"{text!r}; allowed: a line's number, a colon, its SHA-256", param_hint="--anchor")
    return Head(int(sequence), digest)


def _sentence(entry: dict[str, Any]) -> str:
    known = {"sequence", "previous", "time", "time_known", "kind", "document"}
    # The values may come from afar: no control character of theirs reaches the terminal.
    facts = " ".join(f"{name}={json.dumps(value)}" for name, value in entry.items() if name not in known)
    guess = "" if entry.get("time_known") else "?"
    return f"{entry['sequence']:8} {_time(entry.get('time'))}{guess:1} {entry['kind']:12} {facts}"


def _time(epoch_s: Any) -> str:
    try:
        return datetime.fromtimestamp(float(epoch_s), timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    except (TypeError, ValueError, OverflowError, OSError):
        return "unknown time"
