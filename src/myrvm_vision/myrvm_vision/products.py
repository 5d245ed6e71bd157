"""The table of products: what a GTIN stands for. A SQLite file in the data folder, filled from CSV (`rvm products`).

Rows that come with the configuration (`detector.products`, so also from the server) count before those of the file.
"""

from __future__ import annotations

import csv
import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from myrvm_core.errors import SettingsError, StorageError
from myrvm_core.settings import Settings

from myrvm_core import paths
from myrvm_vision.gtin import normalised
from myrvm_vision.settings import DetectorSettings

BUSY_S = 2.0
LONGEST = 100  # characters of a name, class or material


@dataclass(frozen=True)
class Product:
    """One product. NaN, points -1 and an empty class: not known.

    Args:
        gtin: 14 digits.
        name: as people call it.
        class_name: one of the model's class names.
        material: such as PET.
        volume_l: of its contents.
        empty_mass_kg: of an empty one with label and cap.
        mass_spread_kg: largest deviation of an empty one.
        points: what one is worth.
    """

    gtin: str
    name: str
    class_name: str = ""
    material: str = ""
    volume_l: float = math.nan
    empty_mass_kg: float = math.nan
    mass_spread_kg: float = math.nan
    points: int = -1


COLUMNS = tuple(field.name for field in fields(Product))
NUMBERS = {"volume_l": (0.01, 50.0), "empty_mass_kg": (0.0005, 10.0), "mass_spread_kg": (0.0005, 10.0)}
MOST_POINTS = 1_000_000


class ProductTable:
    """Looks products up, and takes new ones in.

    Args:
        file: of SQLite; it need not be there.
        given: products that count before those of the file.
    """

    def __init__(self, file: Path | None = None, given: Iterable[Product] = ()) -> None:
        self.file = file or paths.data() / "products.db"
        self._given = {product.gtin: product for product in given}

    def find(self, gtin: str) -> Product | None:
        """The product of a GTIN of 14 digits, None for one that the table does not know.

        Raises:
            StorageError: the file cannot be read.
        """
        if (given := self._given.get(gtin)) is not None:
            return given
        return next(iter(self._rows("WHERE gtin = ?", (gtin,))), None)

    def all(self) -> list[Product]:
        """Every product, by name; errors as in `find`."""
        known = {product.gtin: product for product in self._rows("", ())} | self._given
        return sorted(known.values(), key=lambda product: (product.name, product.gtin))

    def take_in(self, products: Sequence[Product], replace_all: bool = False) -> None:
        """Write products into the file, over those with the same GTIN; all of them or none.

        Args:
            products: to write.
            replace_all: what is not among them goes.

        Raises:
            StorageError: the disk does not take it.
        """
        names = ", ".join(COLUMNS)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.file, timeout=BUSY_S)) as connection, connection:
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute(f"CREATE TABLE IF NOT EXISTS products ({names}, PRIMARY KEY (gtin)) WITHOUT ROWID")
                if replace_all:
                    connection.execute("DELETE FROM products")
                marks = ", ".join("?" * len(COLUMNS))
                connection.executemany(
                    f"INSERT OR REPLACE INTO products ({names}) VALUES ({marks})",
                    [astuple(product) for product in products],
                )
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"{self.file} does not take the products: {error}") from error

    def _rows(self, where: str, values: Sequence[str]) -> list[Product]:
        if not self.file.exists():
            return []
        try:
            with closing(sqlite3.connect(f"file:{self.file}?mode=ro", uri=True, timeout=BUSY_S)) as connection:
                found = connection.execute(f"SELECT {', '.join(COLUMNS)} FROM products {where}", values)
                rows: list[list[Any]] = [[math.nan if value is None else value for value in row] for row in found]
                return [Product(*row) for row in rows]
        except (sqlite3.Error, TypeError) as error:
            raise StorageError(f"{self.file} cannot be read: {error}") from error


def read_csv(file: Path) -> list[Product]:
    """Products of a CSV file: a head line with the names of `COLUMNS`, gtin and name at least, then a row each.

    Raises:
        SettingsError: it cannot be read, or a line for each row that is not allowed.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return parse(csv.DictReader(lines), str(file), first=2)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from error


def from_rows(rows: Sequence[str]) -> list[Product]:
    """Products of the configuration: each a line of CSV with all of `COLUMNS` in their order; empty ones are none.

    Raises:
        SettingsError: as in `read_csv`.
    """
    given = [row for row in rows if row.strip()]
    return parse(csv.DictReader(given, fieldnames=list(COLUMNS)), "products", first=1)


def check(nodes: Mapping[str, Settings]) -> None:
    """Whether the products of the configuration are allowed (`rvm check`); errors as in `read_csv`."""
    if isinstance(detector := nodes.get("detector"), DetectorSettings):
        from_rows(detector.products)


def parse(rows: Iterable[Mapping[str | None, str | list[str] | None]], source: str, first: int) -> list[Product]:
    """Products from rows by column; errors as in `read_csv`. `first` is the number of the first row."""
    products: dict[str, Product] = {}
    problems: list[str] = []
    for number, row in enumerate(rows, start=first):
        where = f"{source}: row {number}"
        try:
            product = _product(row)
            if product.gtin in products:
                raise ValueError(f"gtin = {product.gtin} is there twice")
            products[product.gtin] = product
        except ValueError as error:
            problems.append(f"{where}: {error}")
    if problems:
        raise SettingsError(*problems)
    return list(products.values())


def _product(row: Mapping[str | None, str | list[str] | None]) -> Product:
    unknown = [str(name) for name in row if name not in COLUMNS]
    if unknown:
        raise ValueError(f"column {unknown[0]!r} is not allowed: {', '.join(COLUMNS)}")
    texts = {str(name): value.strip() for name, value in row.items() if isinstance(value, str)}
    for name in ("name", "class_name", "material"):
        if len(texts.get(name, "")) > LONGEST or (name == "name" and not texts.get(name)):
            raise ValueError(f"{name} = {texts.get(name, '')!r} is not allowed: 1 .. {LONGEST} characters")
    return Product(
        normalised(texts.get("gtin", "")),
        texts["name"],
        texts.get("class_name", ""),
        texts.get("material", ""),
        *(_number(name, texts.get(name, "")) for name in NUMBERS),
        points=_points(texts.get("points", "")),
    )


def _number(name: str, text: str) -> float:
    least, most = NUMBERS[name]
    try:
        value = float(text) if text else math.nan
    except ValueError:
        value = math.inf
    if not (math.isnan(value) and not text) and not least <= value <= most:
        raise ValueError(f"{name} = {text!r} is not allowed: {least:g} .. {most:g}, or empty")
    return value


def _points(text: str) -> int:
    if not text:
        return -1
    if not text.isascii() or not text.isdigit() or int(text) > MOST_POINTS:
        raise ValueError(f"points = {text!r} is not allowed: 0 .. {MOST_POINTS}, or empty")
    return int(text)
