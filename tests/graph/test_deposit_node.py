"""The deposit node with the real offline buffer; the test plays sensors, gate and detector."""

from __future__ import annotations

from typing import Any

import pytest
from myrvm_core.clock import LinuxKernel
from myrvm_core.deposit import Ending, State
from myrvm_core.deposit_record import SessionKind
from myrvm_core.verdict import Outcome, Reason
from myrvm_interfaces.msg import (
    GateState,
    NodeHealth,
    OperatingLimits,
    SensorReading,
    SystemStatus,
    Verdict,
)
from myrvm_interfaces.srv import CommandGate, EndSession, StartSession
from myrvm_ros.managed_node import HEARTBEAT_TOPIC
from played_cabinet import JPEG, SHORT, PlayedCabinet, lease

from myrvm_ros import qos


@pytest.fixture
def cabinet(graph: Any, request: pytest.FixtureRequest) -> PlayedCabinet:
    """A cabinet with a deposit node and a buffer that wait for a customer; a test may give the node parameters."""
    built = PlayedCabinet(graph)
    graph.bring_up("offline_buffer")
    graph.bring_up("deposit", **SHORT, **getattr(request, "param", {}))
    built.wait_for(State.IDLE)
    return built


def test_an_accepted_item_goes_to_disk_then_to_the_bin_then_to_the_customer(cabinet: PlayedCabinet) -> None:
    started = cabinet.graph.call(StartSession, "deposit/start_session", StartSession.Request(kind=SessionKind.DONATION))
    assert started.started
    cabinet.enter()
    assert cabinet.wait_for_command().verb == CommandGate.Request.ACCEPT
    cabinet.wait_for_rows(held=1, pending=0)
    assert not cabinet.results
    cabinet.fall()
    result = cabinet.wait_for_result()
    cabinet.finish()
    assert (result.outcome, result.points, result.recovered) == (Ending.ACCEPTED, 10, False)
    assert result.session.session_id == started.session.session_id
    (record,) = lease(cabinet)
    assert (record.deposit_id, record.points, record.class_name) == (result.deposit_id, 10, "mineral")
    assert 0 < record.accepted_monotonic_ns < LinuxKernel().boottime_ns()
    assert record.boot_id == LinuxKernel().boot_id
    cabinet.wait_for(State.SESSION)
    ended = cabinet.graph.call(
        EndSession, "deposit/end_session", EndSession.Request(session_id=started.session.session_id)
    )
    assert (ended.ended, ended.items, ended.points) == (True, 1, 10)


def test_two_items_in_one_beam_are_two_deposits(cabinet: PlayedCabinet) -> None:
    cabinet.graph.node.create_timer(0.1, cabinet.publish_state)  # as a sensor node does, twice a second or oftener
    cabinet.enter()
    for count in (1, 2):
        assert cabinet.wait_for_command(count).verb == CommandGate.Request.ACCEPT
        cabinet.sense(SensorReading.ROLE_DROP)  # the one behind has moved up: the beam was not free
        cabinet.sense(SensorReading.ROLE_DROP, active=False)
        cabinet.finish()
        cabinet.wait_for_result(count)
    assert {result.outcome for result in cabinet.results} == {Ending.ACCEPTED}
    assert {record.deposit_id for record in lease(cabinet)} == {result.deposit_id for result in cabinet.results}
    assert len(lease(cabinet)) == 0, "each was leased once"


def test_a_refused_item_comes_back_and_leaves_no_row(cabinet: PlayedCabinet) -> None:
    cabinet.verdict = Verdict(outcome=int(Outcome.REJECTED), reason=int(Reason.NOT_EMPTY), class_name="not_empty")
    cabinet.enter()
    assert cabinet.wait_for_command().verb == CommandGate.Request.RETURN
    result = cabinet.wait_for_result()
    assert (result.outcome, result.verdict.reason, result.points) == (Ending.RETURNED, Reason.NOT_EMPTY, 0)
    cabinet.leave()
    cabinet.finish()
    cabinet.wait_for(State.IDLE)
    assert lease(cabinet) == []


def test_what_the_scale_and_the_gate_tell_speaks_against_an_item_that_looks_right(cabinet: PlayedCabinet) -> None:
    cabinet.graph.node.create_timer(0.1, cabinet.publish_state)
    cabinet.weigh(0.35)
    cabinet.enter()
    assert cabinet.wait_for_command().verb == CommandGate.Request.RETURN
    assert cabinet.wait_for_result().verdict.reason == Reason.NOT_EMPTY
    cabinet.leave()
    cabinet.finish()
    cabinet.weigh(0.02)
    cabinet.wait_for(State.IDLE)
    cabinet.enter()
    assert cabinet.wait_for_command(2).verb == CommandGate.Request.ACCEPT
    cabinet.leave()
    for _ in range(2):  # into the bin and out of it again
        cabinet.sense(SensorReading.ROLE_DROP)
        cabinet.sense(SensorReading.ROLE_DROP, active=False)
    cabinet.enter()
    cabinet.leave()
    cabinet.wait_for(State.CONFIRMING)
    cabinet.finish()
    result = cabinet.wait_for_result(2)
    assert (result.outcome, result.verdict.reason, result.points) == (Ending.UNRESOLVED, Reason.LET_GO, 0)
    cabinet.wait_for_rows(held=0, pending=0, dead=1)
    assert lease(cabinet) == []


def test_the_verdict_is_about_the_item_that_entered(cabinet: PlayedCabinet) -> None:
    before = cabinet.graph.node.get_clock().now().nanoseconds
    cabinet.enter()
    cabinet.wait_for_command()
    assert before <= cabinet.classified[0] <= cabinet.graph.node.get_clock().now().nanoseconds


def test_killed_while_the_gate_moves_the_item_that_fell_is_credited_once(cabinet: PlayedCabinet) -> None:
    cabinet.enter()
    cabinet.wait_for_command()
    cabinet.kill()
    cabinet.fall()
    cabinet.finish()
    cabinet.restart()
    result = cabinet.wait_for_result()
    assert (result.outcome, result.recovered, result.points) == (Ending.ACCEPTED, True, 10)
    cabinet.wait_for(State.IDLE)
    assert [record.deposit_id for record in lease(cabinet)] == [result.deposit_id]
    cabinet.kill()
    cabinet.restart()
    cabinet.wait_for(State.IDLE)
    assert len(cabinet.results) == 1, "told again although it was told"


def test_killed_before_the_gate_moved_the_item_comes_back_uncredited(cabinet: PlayedCabinet) -> None:
    cabinet.enter()
    cabinet.wait_for_command()
    cabinet.kill()
    cabinet.finish(GateState.OUTCOME_INTERLOCK)
    cabinet.restart()
    assert cabinet.wait_for_command(2).verb == CommandGate.Request.RETURN
    cabinet.leave()
    cabinet.finish()
    assert cabinet.wait_for_result().outcome == Ending.RETURNED
    cabinet.wait_for_rows(held=0, pending=0)
    assert lease(cabinet) == []


def test_an_item_that_nobody_can_account_for_is_kept_for_the_technician(cabinet: PlayedCabinet) -> None:
    cabinet.enter()
    cabinet.wait_for_command()
    cabinet.kill()
    cabinet.leave()
    cabinet.finish()
    cabinet.restart()
    result = cabinet.wait_for_result()
    assert (result.outcome, result.points) == (Ending.UNRESOLVED, 0)
    cabinet.wait_for_rows(held=0, pending=0, dead=1)
    assert lease(cabinet) == []


def test_an_item_that_vanished_while_the_sensors_were_blind_is_not_called_returned(cabinet: PlayedCabinet) -> None:
    cabinet.enter()
    cabinet.wait_for_command()
    cabinet.finish(GateState.OUTCOME_INTERLOCK)
    cabinet.wait_for_command(2)
    cabinet.go_blind(item_present=False)
    cabinet.finish()
    assert cabinet.wait_for_result().outcome == Ending.UNRESOLVED
    cabinet.wait_for_rows(held=0, pending=0, dead=1)


def test_a_buffer_that_dies_in_the_middle_delays_the_customer_and_loses_nothing(cabinet: PlayedCabinet) -> None:
    cabinet.enter()
    cabinet.wait_for_command()
    buffer = cabinet.graph.processes["offline_buffer"]
    buffer.kill()
    buffer.wait()
    cabinet.fall()
    cabinet.finish()
    cabinet.wait_for(State.SETTLING)
    cabinet.graph.bring_up("offline_buffer")
    assert cabinet.wait_for_result().outcome == Ending.ACCEPTED
    assert len(lease(cabinet)) == 1


def test_a_session_survives_a_restart_of_the_node(cabinet: PlayedCabinet) -> None:
    started = cabinet.graph.call(StartSession, "deposit/start_session", StartSession.Request(kind=SessionKind.DONATION))
    cabinet.wait_for(State.SESSION)
    cabinet.kill()
    cabinet.restart()
    cabinet.wait_for(State.SESSION)
    assert cabinet.states[-1].session.session_id == started.session.session_id


def test_sessions_are_refused_with_the_reason(cabinet: PlayedCabinet) -> None:
    def refusal(**request: Any) -> int:
        return cabinet.graph.call(StartSession, "deposit/start_session", StartSession.Request(**request)).refusal

    assert refusal(kind=SessionKind.NONE) == StartSession.Request.REFUSED_INVALID
    assert refusal(kind=SessionKind.ACCOUNT) == StartSession.Request.REFUSED_INVALID
    assert refusal(kind=SessionKind.ACCOUNT, token="x" * 513) == StartSession.Request.REFUSED_INVALID
    assert refusal(kind=SessionKind.ACCOUNT, token="alice") == StartSession.Request.REFUSED_OFFLINE
    assert refusal(kind=SessionKind.DONATION) == StartSession.Request.REFUSED_NONE
    assert refusal(kind=SessionKind.DONATION) == StartSession.Request.REFUSED_BUSY


def test_out_of_order_no_item_is_taken_and_no_session_begins(cabinet: PlayedCabinet) -> None:
    cabinet.system.publish(SystemStatus(mode=SystemStatus.OUT_OF_ORDER))
    cabinet.wait_for(State.OUT_OF_ORDER)
    cabinet.enter()
    answer = cabinet.graph.call(StartSession, "deposit/start_session", StartSession.Request(kind=SessionKind.DONATION))
    assert answer.refusal == StartSession.Request.REFUSED_OUT_OF_ORDER
    assert not cabinet.classified
    cabinet.system.publish(SystemStatus(mode=SystemStatus.SERVING))
    cabinet.wait_for_command()


def pictures(cabinet: PlayedCabinet) -> dict[str, bytes]:
    """Pictures that are kept, by deposit."""
    return {path.stem: path.read_bytes() for path in (cabinet.graph.folder / "var" / "unresolved").glob("*.jpg")}


def test_the_judged_picture_is_kept_while_a_deposit_is_not_settled(cabinet: PlayedCabinet) -> None:
    cabinet.enter()
    cabinet.wait_for_command()
    deposit_id = cabinet.states[-1].deposit_id
    assert pictures(cabinet) == {deposit_id: JPEG}, "before the gate moves"
    cabinet.fall()
    cabinet.wait_for_result()
    cabinet.finish()
    cabinet.graph.wait(lambda: not pictures(cabinet), "settled, no picture")
    cabinet.wait_for(State.IDLE)
    cabinet.enter()
    cabinet.wait_for_command(2)
    cabinet.leave()
    cabinet.finish()
    result = cabinet.wait_for_result(2)
    assert result.outcome == Ending.UNRESOLVED
    cabinet.wait_for_rows(dead=1)
    assert pictures(cabinet) == {result.deposit_id: JPEG}


def test_the_picture_of_a_refused_item_is_kept_as_evidence(cabinet: PlayedCabinet) -> None:
    folder = cabinet.graph.folder / "var" / "refused"
    cabinet.verdict = Verdict(outcome=int(Outcome.REJECTED), reason=int(Reason.NOT_EMPTY), class_name="not_empty")
    cabinet.enter()
    cabinet.graph.wait(lambda: list(folder.glob("*.jpg")), "a picture")
    (picture,) = folder.glob("*.jpg")
    assert picture.stem.endswith("-not_empty")
    assert picture.read_bytes() == JPEG


@pytest.mark.parametrize("cabinet", [{"keep_refused_pictures": False}], indirect=True)
def test_where_the_operator_says_so_no_picture_of_a_refused_item_is_kept(cabinet: PlayedCabinet) -> None:
    cabinet.verdict = Verdict(outcome=int(Outcome.REJECTED), reason=int(Reason.NOT_EMPTY), class_name="not_empty")
    cabinet.enter()
    cabinet.wait_for_result()
    cabinet.leave()
    cabinet.wait_for(State.IDLE)
    cabinet.verdict = Verdict(outcome=int(Outcome.ACCEPTED), reason=int(Reason.NONE), class_name="mineral", score=0.9)
    cabinet.enter()
    cabinet.graph.wait(lambda: pictures(cabinet), "the picture of the accepted one, later than the other would be")
    assert not (cabinet.graph.folder / "var" / "refused").exists()


def test_limits_let_the_item_in_the_machine_finish_and_no_new_one_begin(cabinet: PlayedCabinet) -> None:
    cabinet.enter()
    cabinet.wait_for_command()
    cabinet.limits.publish(OperatingLimits(level=OperatingLimits.PAUSED))
    cabinet.fall()
    cabinet.finish()
    assert cabinet.wait_for_result().outcome == Ending.ACCEPTED
    cabinet.wait_for(State.OUT_OF_ORDER)
    cabinet.enter()
    answer = cabinet.graph.call(StartSession, "deposit/start_session", StartSession.Request(kind=SessionKind.DONATION))
    assert answer.refusal == StartSession.Request.REFUSED_OUT_OF_ORDER
    assert len(cabinet.classified) == 1
    cabinet.limits.publish(OperatingLimits(level=OperatingLimits.NORMAL))
    cabinet.wait_for_command(2)


def test_when_the_supply_fails_the_item_stays_and_is_looked_at_again_when_it_is_back(cabinet: PlayedCabinet) -> None:
    cabinet.sense(SensorReading.ROLE_POWER_FAIL)
    cabinet.wait_for(State.OUT_OF_ORDER)
    cabinet.enter()
    cabinet.graph.wait(lambda: cabinet.levels[SensorReading.ROLE_ENTRY].level == SensorReading.LEVEL_ACTIVE, "an item")
    assert not cabinet.commands
    cabinet.sense(SensorReading.ROLE_POWER_FAIL, active=False)
    assert cabinet.wait_for_command().verb == CommandGate.Request.ACCEPT
    cabinet.fall()
    cabinet.finish()
    assert cabinet.wait_for_result().outcome == Ending.ACCEPTED


def test_a_fall_without_the_gate_is_written_down_and_credits_nobody(cabinet: PlayedCabinet) -> None:
    health: list[NodeHealth] = cabinet.graph.listen(NodeHealth, HEARTBEAT_TOPIC, qos.HEARTBEAT)
    cabinet.sense(SensorReading.ROLE_DROP)
    cabinet.sense(SensorReading.ROLE_DROP, active=False)
    cabinet.graph.wait(lambda: cabinet.buffer and cabinet.buffer[-1].telemetry == 1, "the fall in the buffer")
    cabinet.graph.wait(
        lambda: any(beat.node == "deposit" and beat.level == NodeHealth.WARN for beat in health), "a warning"
    )
    assert lease(cabinet) == []


def test_after_a_blind_start_the_item_is_offered_back_and_the_record_unresolved(cabinet: PlayedCabinet) -> None:
    cabinet.enter()
    cabinet.wait_for_command()
    cabinet.kill()
    cabinet.finish(GateState.OUTCOME_INTERLOCK)
    cabinet.go_blind(item_present=True)
    cabinet.restart()
    assert cabinet.wait_for_command(2).verb == CommandGate.Request.RETURN
    cabinet.leave()
    cabinet.finish()
    assert cabinet.wait_for_result().outcome == Ending.UNRESOLVED
    cabinet.wait_for_rows(held=0, pending=0, dead=1)
    assert lease(cabinet) == []
