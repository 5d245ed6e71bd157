"""The offline buffer in a real graph."""

from __future__ import annotations

import time
from typing import Any

from deposit_messages import deposit, enqueue
from lifecycle_msgs.msg import Transition
from myrvm_core.clock import LinuxKernel
from myrvm_interfaces.msg import BufferStatus, CloudStatus, DepositRecord, OperatingLimits, TelemetryRecord
from myrvm_interfaces.srv import (
    AckDeposits,
    EnqueueDeposit,
    EnqueueTelemetry,
    LeaseDeposits,
    ListOpenDeposits,
    NackDeposits,
    UpdateDeposit,
)

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
    graph.wait(lambda: heard and heard[-1].telemetry_dropped == 100, "last figures")
    figures = heard[-1]
    assert (figures.held, figures.pending, figures.leased, figures.acked, figures.dead) == (0, 1, 0, 1, 1)
    assert (figures.telemetry, figures.writable, figures.salvaged) == (1000, True, 0)
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
        told.publish(CloudStatus(state=CloudStatus.ONLINE, clock_offset_s=0.0))
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
