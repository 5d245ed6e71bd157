"""Tricks at the whole machine: what looks like an empty bottle and is none; an honest one is paid as before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from myrvm_core.errors import RvmError
from myrvm_core.i18n import LANGUAGES, text_for
from myrvm_core.verdict import Reason
from myrvm_interfaces.msg import DepositResult, DepositState
from myrvm_sim.album import PICTURES
from myrvm_sim.physics import Kind, Place

QUICK_HANDS_S = 0.1  # to take one bottle out and put another in
EMPTY = sorted(PICTURES.glob("mineral_*.jpg"))


def put_in(machine: Any, kind: Kind, picture: Path) -> DepositResult:
    """An item that looks as a picture, whatever it is; what the customer is told about it."""
    machine.wait_ready()
    known = set(machine.customer.results)
    machine.desk.cabinet.insert(kind, picture, disguised=True)
    machine.wait(lambda: set(machine.customer.results) - known, "a result")
    (deposit_id,) = set(machine.customer.results) - known
    return machine.customer.results[deposit_id]


def play(
    machine: Any, kind: Kind, picture: Path, trick: Callable[[], object], states: tuple[int, ...]
) -> tuple[DepositResult, bool]:
    """Try a trick on what looks as a picture, as long as these states last; the result, and whether it was possible."""
    customer, played = machine.customer, False
    machine.wait_ready()
    known = set(customer.results)

    def told() -> set[str]:
        nonlocal played
        if not played and customer.state.state in states:
            with suppress(RvmError):  # too early or too late
                trick()
                played = True
        return set(customer.results) - known

    machine.desk.cabinet.insert(kind, picture, disguised=True)
    machine.wait(told, "a result")
    return customer.results[told().pop()], played


def flags(machine: Any) -> list[str]:
    """What the operator was told of items, in order."""
    lines = (machine.desk.folder / "logs" / "deposit.out").read_text().splitlines()
    return [line.partition("flag=")[2].split()[0] for line in lines if "evidence marks an item" in line]


@pytest.fixture(scope="module")
def accepted(machine: Any) -> Path:
    """A picture with which an honest bottle is accepted, that shows the whole of it."""
    for picture in EMPTY:
        result = put_in(machine, Kind.MINERAL, picture)
        if result.outcome == DepositResult.ACCEPTED and result.verdict.measures.fingerprint:
            return picture
    pytest.fail("the network accepts none of its own pictures")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Kind.NOT_EMPTY, Reason.NOT_EMPTY), (Kind.PHONE, Reason.NOT_EMPTY), (Kind.PAPER, Reason.NOT_A_BOTTLE)],
)
def test_what_looks_like_an_empty_bottle_and_weighs_otherwise_comes_back(
    machine: Any, accepted: Path, kind: Kind, reason: Reason
) -> None:
    result = put_in(machine, kind, accepted)
    assert (result.outcome, result.verdict.reason) == (DepositResult.RETURNED, reason)
    assert result.verdict.class_name == "mineral", "the look was fooled"
    assert all(text_for(reason, language).advice for language in LANGUAGES)
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


@pytest.mark.parametrize("taped", [None, ("DROP", False), ("ENTRY", True)])
def test_a_bottle_on_a_string_that_comes_back_is_not_paid(
    machine: Any, accepted: Path, taped: tuple[str, bool] | None
) -> None:
    cabinet = machine.desk.cabinet

    def pull() -> None:
        if taped and taped[0] == "ENTRY":  # else the machine would not have noticed the bottle
            cabinet.stick_line(*taped)
        cabinet.pull_back()

    for _ in range(5):  # where the gate was quicker, the bottle lies in the bin
        machine.wait_ready()
        if taped and taped[0] == "DROP":
            cabinet.stick_line(*taped)
        states = DepositState.ACCEPTING, DepositState.CONFIRMING
        result, pulled = play(machine, Kind.STRING, accepted, pull, states)
        back = cabinet.truth()["items"][-1]["place"] != Place.BIN.value
        if taped:
            cabinet.stick_line(taped[0], None)
        if pulled and back:
            assert result.outcome != DepositResult.ACCEPTED
            return
    pytest.fail("the gate was quicker each time: nothing was tried")


def test_what_is_exchanged_for_another_after_the_look_comes_back(machine: Any, accepted: Path) -> None:
    cabinet, pulled_s = machine.desk.cabinet, []
    before = len(cabinet.truth()["items"])

    def exchange() -> None:
        if not pulled_s:
            cabinet.pull_out()
            pulled_s.append(monotonic())
        if monotonic() < pulled_s[0] + QUICK_HANDS_S:
            raise RvmError("the other one is still in the hand")
        cabinet.insert(Kind.NOT_EMPTY, accepted, disguised=True)

    states = DepositState.CLASSIFYING, DepositState.WEIGHING, DepositState.RECORDING
    result, _ = play(machine, Kind.MINERAL, accepted, exchange, states)
    assert pulled_s
    assert result.outcome != DepositResult.ACCEPTED
    machine.wait_ready()
    assert {item["place"] for item in cabinet.truth()["items"][before:]} == {Place.CUSTOMER.value}


def test_a_camera_that_is_covered_takes_nothing_and_the_operator_is_told(machine: Any, accepted: Path) -> None:
    machine.desk.cabinet.set_camera("dark")
    reasons = [put_in(machine, Kind.NON_MINERAL, accepted).verdict.reason for _ in range(3)]
    machine.desk.cabinet.set_camera("live")
    assert set(reasons) == {Reason.PICTURE_DARK}
    machine.wait(lambda: "camera_blinded" in flags(machine), "the flag")


def test_the_same_bottle_again_and_again_is_paid_and_the_operator_is_told(machine: Any, accepted: Path) -> None:
    for _ in range(7):
        if "same_item" in flags(machine):
            break
        assert put_in(machine, Kind.MINERAL, accepted).outcome == DepositResult.ACCEPTED
    assert "same_item" in flags(machine)
    machine.audit()


def test_what_is_thrown_in_behind_a_bottle_is_not_paid(machine: Any, accepted: Path) -> None:
    credits = len(machine.desk.server.ledger())
    throw_in = machine.desk.cabinet.throw_in
    result, thrown = play(machine, Kind.MINERAL, accepted, throw_in, (DepositState.CONFIRMING,))
    assert thrown
    machine.wait_ready()
    machine.wait(lambda: len(machine.desk.server.ledger()) > credits, "the bottle's credit")
    assert len(machine.desk.server.ledger()) == credits + 1
    assert result.outcome == DepositResult.ACCEPTED
    assert "thrown_in" in flags(machine)
