"""`rvm products`: fill the table of products from a CSV file, and show it. A running machine uses it at once."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path
from typing import Annotated

import typer
from myrvm_core.errors import RvmError
from rich.console import Console

from myrvm_vision.products import COLUMNS, ProductTable, read_csv

app = typer.Typer(help="The products that barcodes stand for: import, list.", no_args_is_help=True)
console = Console(highlight=False)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help=f"CSV with a head line: {', '.join(COLUMNS)}.")],
    replace_all: Annotated[bool, typer.Option("--replace", help="Forget what is not in the file.")] = False,
) -> None:
    """Take the products of a CSV file in, over those with the same GTIN; all of them or none."""
    table = ProductTable()
    try:
        products = read_csv(file)
        table.take_in(products, replace_all)
    except RvmError as error:
        for problem in getattr(error, "problems", [str(error)]):
            console.print(problem, markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    console.print(f"{len(products)} products taken in; {table.file} has {len(table.all())}", soft_wrap=True)


@app.command("list")
def list_() -> None:
    """Print the products of the file as CSV that can be imported again."""
    try:
        products = ProductTable().all()
    except RvmError as error:
        console.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
    rows = csv.writer(sys.stdout, lineterminator="\n")
    rows.writerow(COLUMNS)
    for product in products:
        values = (getattr(product, name) for name in COLUMNS)
        rows.writerow("" if value == -1 or _unknown(value) else value for value in values)


def _unknown(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)
