"""The table of products: GTINs, the CSV file, the SQLite file, and what comes with the configuration."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import SettingsError, StorageError
from myrvm_vision.gtin import check_digit, is_gtin, normalised
from myrvm_vision.products import COLUMNS, Product, ProductTable, from_rows, read_csv
from myrvm_vision.products_cli import app
from myrvm_vision.settings import DetectorSettings
from typer.testing import CliRunner

from myrvm_vision import products

HEAD = ",".join(COLUMNS)
SPRING = "2000000000015,Spring 600,mineral,PET,0.6,0.015,0.003,12"
BROOK = "20000011,Brook 330,mineral,PET,0.33,0.011,0.002,"
DIGITS = st.text("0123456789", min_size=7, max_size=13).filter(lambda text: len(text) in (7, 11, 12, 13))


def table(folder: Path, *rows: str) -> ProductTable:
    return ProductTable(folder / "data" / "products.db", from_rows(rows))


def write(folder: Path, *lines: str) -> Path:
    file = folder / "products.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("gtin", ["4006381333931", "036000291452", "73513537", "00012345678905"])
def test_numbers_that_are_known_to_be_right(gtin: str) -> None:
    assert is_gtin(gtin)
    assert normalised(gtin) == gtin.zfill(14)


@given(DIGITS, st.integers(0, 12), st.integers(1, 9))
def test_one_wrong_digit_is_always_found(digits: str, place: int, more: int) -> None:
    right = digits + check_digit(digits)
    place %= len(right)
    wrong = right[:place] + str((int(right[place]) + more) % 10) + right[place + 1 :]
    assert is_gtin(right)
    assert not is_gtin(wrong)


@pytest.mark.parametrize("text", ["", "4006381333932", "400638133393", "40063813339x1", "٤٠٠٦٣٨١٣٣٣٩٣١"])
def test_what_is_no_gtin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no GTIN"):
        normalised(text)


def test_products_of_a_file_are_found_by_their_number_however_short_it_is_written(tmp_path: Path) -> None:
    kept = table(tmp_path)
    assert kept.find("02000000000015") is None, "there is no file yet"
    kept.take_in(read_csv(write(tmp_path, HEAD, SPRING, BROOK)))
    assert kept.find("02000000000015") == Product(
        "02000000000015", "Spring 600", "mineral", "PET", 0.6, 0.015, 0.003, 12
    )
    brook = kept.find(normalised("20000011"))
    assert brook is not None
    assert brook.points == -1
    assert kept.find("02000000000022") is None


def test_a_second_import_replaces_what_has_the_same_number_and_all_where_that_is_wanted(tmp_path: Path) -> None:
    kept = table(tmp_path)
    kept.take_in(from_rows([SPRING, BROOK]))
    kept.take_in(from_rows([SPRING.replace("Spring 600", "Spring new")]))
    assert [product.name for product in kept.all()] == ["Brook 330", "Spring new"]
    kept.take_in(from_rows([SPRING]), replace_all=True)
    assert [product.name for product in kept.all()] == ["Spring 600"]


def test_what_the_configuration_gives_counts_first(tmp_path: Path) -> None:
    kept = table(tmp_path, SPRING.replace(",12", ",99"), "")
    kept.take_in(from_rows([SPRING]))
    found = kept.find("02000000000015")
    assert found is not None
    assert found.points == 99
    assert [product.points for product in kept.all()] == [99]


def test_what_is_not_given_is_not_known(tmp_path: Path) -> None:
    kept = table(tmp_path)
    kept.take_in(read_csv(write(tmp_path, "name,gtin", "Spring,2000000000015")))
    found = kept.find("02000000000015")
    assert found is not None
    assert math.isnan(found.volume_l)
    assert math.isnan(found.empty_mass_kg)
    assert (found.class_name, found.points) == ("", -1)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2000000000016,Spring", "row 2: '2000000000016' is no GTIN: 8, 12, 13, 14 digits"),
        (",Spring", "row 2: '' is no GTIN"),
        ("2000000000015,", "row 2: name = '' is not allowed: 1 .. 100 characters"),
        ("2000000000015,Spring,,,much", "row 2: volume_l = 'much' is not allowed: 0.01 .. 50, or empty"),
        ("2000000000015,Spring,,,nan", "row 2: volume_l = 'nan' is not allowed"),
        ("2000000000015,Spring,,,-1", "row 2: volume_l = '-1' is not allowed"),
        ("2000000000015,Spring,,,,15", "row 2: empty_mass_kg = '15' is not allowed: 0.0005 .. 10"),
        ("2000000000015,Spring,,,,,,-3", "row 2: points = '-3' is not allowed: 0 .. 1000000"),
        ("2000000000015,Spring,,,,,,1.5", "row 2: points = '1.5' is not allowed"),
        ("2000000000015,Spring,,,,,,1,more", "row 2: column 'None' is not allowed"),
        (f"{SPRING}\n{SPRING}", "row 3: gtin = 02000000000015 is there twice"),
    ],
)
def test_a_row_that_is_not_allowed_is_named(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_csv(write(tmp_path, HEAD, row))


def test_every_bad_row_is_named_and_none_is_taken_in(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        read_csv(write(tmp_path, HEAD, "1,x", SPRING, "2,y"))
    assert len(refused.value.problems) == 2
    with pytest.raises(SettingsError, match="column 'colour' is not allowed"):
        read_csv(write(tmp_path, "gtin,name,colour", "2000000000015,Spring,blue"))
    with pytest.raises(SettingsError, match="cannot be read"):
        read_csv(tmp_path / "none.csv")


def test_rvm_check_looks_at_the_products_of_the_configuration() -> None:
    products.check({"detector": DetectorSettings(products=[SPRING])})
    with pytest.raises(SettingsError, match="products: row 1: '7' is no GTIN"):
        products.check({"detector": DetectorSettings(products=["7,x"])})


def test_a_damaged_file_is_an_error_and_no_product(tmp_path: Path) -> None:
    kept = table(tmp_path)
    kept.take_in(from_rows([SPRING]))
    kept.file.write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match=r"products\.db cannot be read"):
        kept.find("02000000000015")
    with pytest.raises(StorageError, match="does not take the products"):
        kept.take_in(from_rows([SPRING]))


def test_rvm_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYRVM_DATA", str(tmp_path / "data"))
    rvm = CliRunner()
    taken = rvm.invoke(app, ["import", str(write(tmp_path, HEAD, SPRING))])
    assert (taken.exit_code, "1 products taken in" in taken.output) == (0, True)
    listed = rvm.invoke(app, ["list"]).output
    assert listed.splitlines() == [HEAD, f"0{SPRING}"]
    assert rvm.invoke(app, ["import", str(write(tmp_path, listed))]).exit_code == 0
    bad = rvm.invoke(app, ["import", str(write(tmp_path, HEAD, "7,x"))])
    assert bad.exit_code == 1
    assert "row 2: '7' is no GTIN" in bad.output
    assert "Traceback" not in bad.output
