"""The supply fails: the deposit ends safely, the buffer is on disk, the machine switches itself off, and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from myrvm_interfaces.msg import DepositState, SystemStatus
from myrvm_sim.desk import Options
from myrvm_sim.physics import Kind
from quick_policy import write_quick_policy
from whole_machine import whole_machine


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A machine whose health policy forgets soon."""
    folder = tmp_path_factory.mktemp("power")
    parameters = folder / "parameters.yaml"
    policy = write_quick_policy(folder)
    parameters.write_text(f"health: {{ros__parameters: {{policy_file: {policy}, period_s: 0.2}}}}\n")
    with whole_machine(Options(parameters=(parameters,))) as built:
        yield built


def put_in_until(machine: Any, state: int, what_then: Any) -> None:
    """Put items in until one reaches the state, then do something at once."""
    done: list[int] = []

    def act(message: DepositState) -> None:
        if message.state == state and not done:
            done.append(state)
            what_then()

    machine.wait_ready()
    machine.customer.on_state = act
    for _ in range(6):  # a picture may be refused before the state is reached
        machine.wait_ready()
        known = set(machine.customer.results)
        machine.desk.cabinet.insert(Kind.MINERAL)
        machine.wait(lambda known=known: done or set(machine.customer.results) - known, "the state")
        if done:
            break
    machine.customer.on_state = lambda _: None
    assert done, "the state was never reached"


def wait_reason(machine: Any, reason: int) -> None:
    def told() -> bool:
        return machine.customer.status.mode == SystemStatus.OUT_OF_ORDER and reason in machine.customer.status.reasons

    machine.wait(told, "OUT_OF_ORDER because of the power")


def log_of_buffer(machine: Any) -> int:
    """Bytes of SQLite's log that are not in the buffer's file yet."""
    file = Path(machine.desk.folder) / "buffer" / "deposits.db-wal"
    return file.stat().st_size if file.exists() else 0


def motor(machine: Any) -> str:
    entries = [entry for entry in machine.desk.cabinet.log() if entry["what"] == "motor"]
    return entries[-1]["detail"] if entries else "off"


def test_the_line_fails_while_the_gate_moves_and_the_machine_serves_again(machine: Any) -> None:
    cabinet = machine.desk.cabinet
    put_in_until(machine, DepositState.ACCEPTING, lambda: cabinet.set_power_fail(True))
    try:
        wait_reason(machine, SystemStatus.REASON_POWER)
        machine.wait(lambda: motor(machine) == "off", "a motor that is off")
        machine.wait(lambda: log_of_buffer(machine) == 0, "a buffer that is on disk")
    finally:
        cabinet.set_power_fail(False)
    machine.wait_serving()
    machine.insert(Kind.MINERAL)
    machine.audit()


def test_on_a_low_battery_the_item_is_finished_then_the_machine_switches_itself_off_and_comes_back(
    machine: Any,
) -> None:
    cabinet, folder = machine.desk.cabinet, Path(machine.desk.folder)
    results = set(machine.customer.results)
    put_in_until(machine, DepositState.ACCEPTING, lambda: cabinet.set_power(False, 20.0))
    try:
        machine.wait((folder / "switched_off").exists, "the order to switch the computer off")
        assert set(machine.customer.results) - results, "the item in the machine was not finished first"
        assert motor(machine) == "off"
        assert log_of_buffer(machine) == 0
    finally:
        cabinet.set_power(True, 90.0)
    machine.wait_serving()
    machine.insert(Kind.MINERAL)
    machine.audit()
