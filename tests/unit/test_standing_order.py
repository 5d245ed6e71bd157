"""What outlives the lifecycle manager, and a file that is not as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import StorageError
from myrvm_system.manager import Verb
from myrvm_system.standing_order import Order, OrderFile

ORDERS = [Order(), Order(Verb.PAUSE), Order(Verb.MAINTENANCE, "a-boot"), Order(Verb.OUT_OF_SERVICE)]


def written(folder: Path, order: Order) -> bytes:
    OrderFile(folder / "order.json").write(order)
    return (folder / "order.json").read_bytes()


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_written_is_read(tmp_path: Path, order: Order) -> None:
    written(tmp_path / "system", order)
    file = OrderFile(tmp_path / "system" / "order.json")
    assert (file.read(), file.problem) == (order, "")


def test_no_file_is_no_order(tmp_path: Path) -> None:
    file = OrderFile(tmp_path / "order.json")
    assert (file.read(), file.problem) == (Order(), "")


@given(st.data())
def test_a_damaged_file_pauses_is_said_and_set_aside(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("order")
    whole = written(folder, Order(Verb.MAINTENANCE))
    content = data.draw(
        st.integers(0, len(whole) - 1).map(lambda size: whole[:size])
        | st.binary(max_size=40).map(lambda noise: b"\xff" + noise)
        | st.sampled_from([b'{"verb": 1}', b'{"verb": "PAUSE"}', b"[]", b"null"])
    )
    (folder / "order.json").write_bytes(content)
    file = OrderFile(folder / "order.json")
    assert file.read() == Order(Verb.PAUSE)
    assert "order.json cannot be read" in file.problem
    assert (folder / "order.damaged").read_bytes() == content
    assert OrderFile(folder / "order.json").read() == Order(Verb.PAUSE)  # also for the next manager


def test_a_file_that_was_being_written_is_cleared_away_and_the_old_order_stands(tmp_path: Path) -> None:
    whole = written(tmp_path, Order(Verb.MAINTENANCE))
    (tmp_path / "order.json.partial").write_bytes(whole[:5])
    file = OrderFile(tmp_path / "order.json")
    assert file.read() == Order(Verb.MAINTENANCE)
    assert "was being written" in file.problem
    assert not (tmp_path / "order.json.partial").exists()


def test_a_disk_that_does_not_take_it_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "system").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match=r"order\.json cannot be written"):
        OrderFile(tmp_path / "system" / "order.json").write(Order(Verb.PAUSE))
