"""Tricks at the whole machine: what looks like an empty bottle and is none; an honest one is paid as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from myrvm_core.i18n import LANGUAGES, text_for
from myrvm_core.verdict import Reason
from myrvm_interfaces.msg import DepositResult
from myrvm_sim.album import PICTURES
from myrvm_sim.physics import Kind, Place

EMPTY = sorted(PICTURES.glob("mineral_*.jpg"))


def put_in(machine: Any, kind: Kind, picture: Path) -> DepositResult:
    """An item that looks as a picture, whatever it is; what the customer is told about it."""
    machine.wait_ready()
    known = set(machine.customer.results)
    machine.desk.cabinet.insert(kind, picture, disguised=True)
    machine.wait(lambda: set(machine.customer.results) - known, "a result")
    (deposit_id,) = set(machine.customer.results) - known
    return machine.customer.results[deposit_id]


@pytest.fixture(scope="module")
def accepted(machine: Any) -> Path:
    """A picture with which an honest bottle is accepted."""
    for picture in EMPTY:
        if put_in(machine, Kind.MINERAL, picture).outcome == DepositResult.ACCEPTED:
            return picture
    pytest.fail("the network accepts none of its own pictures")


@pytest.mark.parametrize("kind", [Kind.NOT_EMPTY, Kind.PHONE])
def test_what_looks_like_an_empty_bottle_and_weighs_more_comes_back(machine: Any, accepted: Path, kind: Kind) -> None:
    result = put_in(machine, kind, accepted)
    assert (result.outcome, result.verdict.reason) == (DepositResult.RETURNED, Reason.NOT_EMPTY)
    assert result.verdict.class_name == "mineral", "the look was fooled"
    assert all(text_for(Reason.NOT_EMPTY, language).advice for language in LANGUAGES)
    machine.wait_ready()
    assert machine.desk.cabinet.truth()["items"][-1]["place"] == Place.CUSTOMER.value


def test_a_hand_that_holds_on_gets_nothing_and_one_that_lets_go_does(machine: Any, accepted: Path) -> None:
    cabinet = machine.desk.cabinet
    machine.wait_ready()
    known = set(machine.customer.results)
    cabinet.insert(Kind.MINERAL, accepted)
    cabinet.set_hand(inside=True)
    machine.wait(lambda: set(machine.customer.results) - known, "a result")
    cabinet.set_hand(inside=False)
    (told,) = [result for deposit_id, result in machine.customer.results.items() if deposit_id not in known]
    assert (told.outcome, told.verdict.reason) == (DepositResult.RETURNED, Reason.LET_GO)
    assert put_in(machine, Kind.MINERAL, accepted).outcome == DepositResult.ACCEPTED
    machine.audit()
