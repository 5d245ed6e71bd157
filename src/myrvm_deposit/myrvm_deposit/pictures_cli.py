"""`rvm pictures`: items that were refused, disputed or not sure, listed and exported for labelling."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from myrvm_core.environment import environment
from myrvm_core.evidence import evidence_key
from myrvm_core.kept_pictures import KeptPictures, Kind, as_json
from rich.console import Console
from rich.table import Table

from myrvm_core import paths
from myrvm_deposit.picture_export import Format, export

CLASSES = ("mineral", "not_empty", "soda", "milk", "yogurt", "dishwasher", "non_mineral")

app = typer.Typer(help="Pictures for training: list, export.", no_args_is_help=True)
console = Console(highlight=False)

Kinds = Annotated[list[Kind] | None, typer.Option("--kind", "-k", help="Repeatable [all].")]


def _kept() -> KeptPictures:
    return KeptPictures(paths.data(), evidence_key(environment()))


@app.command("list")
def list_(
    kind: Kinds = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="So many, the newest.")] = 50,
    as_data: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show kept pictures, the newest first, and what the machine took the item for."""
    pictures = _kept().list(kind or tuple(Kind), limit)
    if as_data:
        typer.echo(as_json(pictures))
        return
    table = Table("picture", "kind", "kept", "reason", "class", "score", box=None)
    for one in pictures:
        kept_at = datetime.fromtimestamp(one.kept_at).astimezone().isoformat(" ", "seconds")
        table.add_row(one.name, one.kind.value, kept_at, one.note.reason, one.note.class_name, f"{one.note.score:.2f}")
    wide = Console(highlight=False, width=200) if not console.is_terminal else console
    wide.print(table)


@app.command("export")
def export_(
    folder: Annotated[Path, typer.Argument(help="A new one, or one that is empty.")],
    format_: Annotated[Format, typer.Option("--format", "-f", help="For Label Studio and CVAT.")] = Format.YOLO,
    kind: Kinds = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="So many, the newest [all].")] = None,
    class_name: Annotated[
        list[str] | None, typer.Option("--class", help=f"In the order of their numbers [{', '.join(CLASSES)}].")
    ] = None,
) -> None:
    """Write pictures, decrypted, with the machine's own labels, to be corrected by a person."""
    kept = _kept()
    count = export(kept.list(kind or tuple(Kind), limit), kept.jpeg, folder, format_, class_name or CLASSES)
    typer.echo(f"{count} pictures in {folder}", err=True)
