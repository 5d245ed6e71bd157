"""The offline buffer in a real graph."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from deposit_messages import deposit, enqueue
from lifecycle_msgs.msg import Transition
from myrvm_cloud.audit_log import entries
from myrvm_cloud.buffer_access import InUseError, audit_folder, claimed
from myrvm_cloud.buffer_cli import app as buffer_commands
from myrvm_cloud.export import deposits as deposits_of
from myrvm_core.clock import LinuxKernel
from myrvm_interfaces.msg import BufferStatus, CloudStatus, DepositRecord, OperatingLimits, TelemetryRecord
from myrvm_interfaces.srv import (
    AckDeposits,
    AckTelemetry,
    DecideDeposits,
    EnqueueDeposit,
    EnqueueTelemetry,
    LeaseDeposits,
    LeaseTelemetry,
    ListOpenDeposits,
    NackDeposits,
    UpdateDeposit,
)
from typer.testing import CliRunner

from myrvm_core import paths
from myrvm_ros import qos


def test_a_deposit_goes_through_every_service(graph: Any) -> None:
    graph.bring_up("offline_buffer")
    heard: list[BufferStatus] = graph.listen(BufferStatus, "buffer/status", qos.STATE)
    answer = graph.call(EnqueueDeposit, "buffer/enqueue", EnqueueDeposit.Request(record=deposit(0)))
    assert answer.stored
    (record,) = graph.call(ListOpenDeposits, "buffer/list_open", ListOpenDeposits.Request()).records
    assert (record.deposit_id, record.points, record.weight_kg != record.weight_kg) == (deposit(0).deposit_id, 5, True)
    assert graph.call(LeaseDeposits, "buffer/lease", LeaseDeposits.Request(limit=9, duration_s=60.0)).lease_id == ""
    ids = enqueue(graph, range(3))
    leased = graph.call(LeaseDeposits, "buffer/lease", LeaseDeposits.Request(limit=2, duration_s=60.0))
    assert [row.deposit_id for row in leased.records] == ids[:2]
    request = AckDeposits.Request(lease_id=leased.lease_id, deposit_ids=ids[:1])
    assert graph.call(AckDeposits, "buffer/ack", request).acked == 1
    request = NackDeposits.Request(lease_id=leased.lease_id, deposit_ids=ids[1:2], permanent=True, reason="no")
    assert graph.call(NackDeposits, "buffer/nack", request).updated == 1
    records = [TelemetryRecord(source="health", name="cpu_percent", value=1.0)] * 100
    for _ in range(11):
        answer = graph.call(EnqueueTelemetry, "buffer/enqueue_telemetry", EnqueueTelemetry.Request(records=records))
    assert (answer.stored, answer.dropped) == (100, 100)
    batch = graph.call(LeaseTelemetry, "buffer/lease_telemetry", LeaseTelemetry.Request(limit=7))
    assert len(batch.records) == 7
    assert batch.records[0] == records[0]
    request = AckTelemetry.Request(batch_id=batch.batch_id)
    assert graph.call(AckTelemetry, "buffer/ack_telemetry", request).acked == 7
    graph.wait(lambda: heard and heard[-1].telemetry == 993, "last figures")
    figures = heard[-1]
    assert (figures.held, figures.pending, figures.leased, figures.acked, figures.dead) == (0, 1, 0, 1, 1)
    assert (figures.telemetry_dropped, figures.writable, figures.salvaged) == (100, True, 0)
    assert figures.file_bytes > 0


def test_requests_that_make_no_sense_get_a_line_and_the_node_lives(graph: Any) -> None:
    graph.bring_up("offline_buffer")
    record = deposit(0)
    record.stage = 77
    answer = graph.call(EnqueueDeposit, "buffer/enqueue", EnqueueDeposit.Request(record=record))
    assert not answer.stored
    assert "77" in answer.message
    answer = graph.call(UpdateDeposit, "buffer/update", UpdateDeposit.Request(deposit_id="x", stage=2))
    assert (answer.updated, answer.message) == (False, "deposit 'x' is not in the buffer")
    enqueue(graph, [0])


def test_a_killed_buffer_has_every_answered_deposit_and_a_stopped_one_starts_again(graph: Any) -> None:
    graph.bring_up("offline_buffer")
    ids = enqueue(graph, range(5))
    leased = graph.call(LeaseDeposits, "buffer/lease", LeaseDeposits.Request(limit=2, duration_s=1.0))
    assert len(leased.records) == 2
    graph.processes["offline_buffer"].kill()
    graph.processes["offline_buffer"].wait()
    graph.bring_up("offline_buffer")
    heard: list[BufferStatus] = graph.listen(BufferStatus, "buffer/status", qos.STATE)
    graph.wait(lambda: heard and heard[-1].pending == 5, "leases to run out")
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert graph.transition("offline_buffer", transition)
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert graph.transition("offline_buffer", transition)
    leased = graph.call(LeaseDeposits, "buffer/lease", LeaseDeposits.Request(limit=9, duration_s=60.0))
    assert [row.deposit_id for row in leased.records] == ids


def test_a_stamp_that_nobody_trusts_is_sent_once_the_server_has_told_the_time(graph: Any) -> None:
    graph.bring_up("offline_buffer")
    clock = LinuxKernel()
    record = deposit(0)
    record.boot_id, record.accepted_monotonic_ns, record.accepted_at.sec = clock.boot_id, clock.boottime_ns(), 1
    request = EnqueueDeposit.Request(record=record)
    assert graph.call(EnqueueDeposit, "buffer/enqueue", request).stored
    update = UpdateDeposit.Request(deposit_id=record.deposit_id, stage=DepositRecord.STAGE_TAKEN, shown=True)
    assert graph.call(UpdateDeposit, "buffer/update", update).updated
    told = graph.node.create_publisher(CloudStatus, "cloud/status", qos.STATE)
    leased: list[Any] = []

    def sent() -> bool:
        told.publish(CloudStatus(state=CloudStatus.ONLINE, round_trip_s=0.05))
        leased.extend(graph.call(LeaseDeposits, "buffer/lease", LeaseDeposits.Request(limit=9)).records)
        return bool(leased)

    graph.wait(sent, "corrected deposit")
    assert leased[0].clock_synchronised
    assert abs(leased[0].accepted_at.sec - time.time()) < 3600
    assert (paths.data() / "clock.json").is_file()


def test_at_a_limit_and_when_deactivated_the_log_is_written_back(graph: Any) -> None:
    limits = graph.node.create_publisher(OperatingLimits, "health/limits", qos.STATE)
    graph.bring_up("offline_buffer")
    log = graph.folder / "var" / "buffer" / "deposits.db-wal"
    enqueue(graph, [1])
    assert log.stat().st_size > 0
    limits.publish(OperatingLimits(level=OperatingLimits.PAUSED))
    graph.wait(lambda: log.stat().st_size == 0, "an empty log")
    enqueue(graph, [2])
    assert log.stat().st_size > 0
    assert graph.transition("offline_buffer", Transition.TRANSITION_DEACTIVATE)
    assert log.stat().st_size == 0


def test_what_was_sent_once_is_never_sent_again_by_itself_and_a_technician_decides(graph: Any) -> None:
    graph.bring_up("offline_buffer")
    heard: list[BufferStatus] = graph.listen(BufferStatus, "buffer/status", qos.STATE)
    ids = enqueue(graph, range(3))
    request = LeaseDeposits.Request(limit=2, duration_s=1.0, once=True)
    leased = graph.call(LeaseDeposits, "buffer/lease", request)
    assert [row.deposit_id for row in leased.records] == ids[:2]
    request = NackDeposits.Request(lease_id=leased.lease_id, deposit_ids=ids[:1], uncertain=True, reason="time-out")
    assert graph.call(NackDeposits, "buffer/nack", request).updated == 1
    graph.processes["offline_buffer"].kill()  # its sender, too, has an end
    graph.processes["offline_buffer"].wait()
    graph.bring_up("offline_buffer")
    graph.wait(lambda: heard and heard[-1].uncertain == 2, "the lease to run out")
    with pytest.raises(InUseError):
        claimed(paths.data() / "buffer" / "deposits.db", 0.0).__enter__()

    def decide(decision: int, deposit_ids: list[str], who: str = "budi") -> Any:
        request = DecideDeposits.Request(decision=decision, deposit_ids=deposit_ids, who=who, reason="asked")
        return graph.call(DecideDeposits, "buffer/decide", request)

    for refused in (decide(99, ids), decide(DecideDeposits.Request.CREDITED, []), decide(1, ids, "")):
        assert (refused.decided, bool(refused.message)) == ([], True)
    assert decide(DecideDeposits.Request.CREDITED, ids[:1]).decided == ids[:1]
    assert decide(DecideDeposits.Request.NOT_CREDITED, ids).decided == ids[1:2]
    leased = graph.call(LeaseDeposits, "buffer/lease", LeaseDeposits.Request(limit=9, duration_s=9.0))
    assert [row.deposit_id for row in leased.records] == ids[1:]
    lines = [entry for entry in entries(audit_folder()) if entry["kind"] == "deposits"]
    assert [(line["decision"], line["ids"], line["who"]) for line in lines] == [
        ("credited", ids[:1], "budi"), ("not_credited", ids[1:2], "budi")
    ]  # fmt: skip


def test_a_technician_s_command_beside_the_running_machine_goes_through_the_node(graph: Any, tmp_path: Path) -> None:
    graph.bring_up("offline_buffer")
    ids = enqueue(graph, range(3))

    def rvm(*arguments: str) -> str:
        result = CliRunner().invoke(buffer_commands, [*arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return result.output

    rvm("park", ids[2], "--who", "budi", "--reason", "asked")
    assert f"{ids[2]}" in rvm("list", "-s", "dead")
    rvm("export", "--signed", str(tmp_path / "stick"), "--who", "budi")
    leased = graph.call(LeaseDeposits, "buffer/lease", LeaseDeposits.Request(limit=9, duration_s=9.0))
    assert [row.deposit_id for row in leased.records] == ids[:2]
    lines = [entry for entry in entries(audit_folder()) if entry["kind"] == "deposits"]
    assert [(line["decision"], line["count"]) for line in lines] == [("park", 1), ("exported", 2)]
    with (tmp_path / "stick").open("rb") as file:
        assert [row["idempotency_key"] for row in deposits_of(file)] == ids[:2]
