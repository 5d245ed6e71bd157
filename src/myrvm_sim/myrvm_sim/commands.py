"""`rvm insert`: put an item into the simulated cabinet of a running desk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from myrvm_core.errors import RvmError

from myrvm_sim.cabinet_client import SOCKET_VARIABLE, CabinetClient, socket_path
from myrvm_sim.items import Kind


def insert(
    what: Annotated[str, typer.Argument(help=f"A picture file, or one of: {', '.join(Kind)}.")],
    cabinet: Annotated[str, typer.Option(envvar=SOCKET_VARIABLE, help="Socket of the cabinet.")] = "",
) -> None:
    """Put an item into the simulated cabinet."""
    try:
        with CabinetClient(socket_path(cabinet)) as client:
            item = client.insert(Kind(what)) if what in list(Kind) else client.insert(picture=picture(what))
    except RvmError as error:
        typer.echo(f"rvm insert: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"item {item['number']}: {item['kind']}, {item['weight_kg'] * 1000:.0f} g")


def picture(name: str) -> Path:
    """The file called `name`. Raises RvmError when it is neither that nor a kind."""
    if not Path(name).is_file():
        raise RvmError(f"{name!r} is no picture file; allowed: a file, {', '.join(Kind)}")
    return Path(name)
