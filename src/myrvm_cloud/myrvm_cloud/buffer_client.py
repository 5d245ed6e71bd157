"""The buffer's services as the uplink asks them, from its own thread."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from myrvm_core.deposit_record import DepositRecord, TelemetryRecord
from myrvm_core.errors import StorageError
from myrvm_interfaces.srv import AckDeposits, AckTelemetry, LeaseDeposits, LeaseTelemetry, NackDeposits
from myrvm_ros.managed_node import ManagedNode
from rclpy.client import Client

from myrvm_cloud.bridge import Fate
from myrvm_cloud.service_call import Done, answer_of
from myrvm_ros import conversions

TIMEOUT_S = 10.0
MEASUREMENTS_AT_ONCE = 100
SERVICES = {
    LeaseDeposits: "buffer/lease",
    AckDeposits: "buffer/ack",
    NackDeposits: "buffer/nack",
    LeaseTelemetry: "buffer/lease_telemetry",
    AckTelemetry: "buffer/ack_telemetry",
}


class BufferClient:
    """Made in the `configure` of its node, which asks. Every wait ends after `TIMEOUT_S`, with StorageError."""

    def __init__(self, node: ManagedNode[Any]) -> None:
        self._node = node
        self._clients: dict[type, Client] = {kind: node.client(kind, name) for kind, name in SERVICES.items()}

    async def lease(self, limit: int, duration_s: float, once: bool) -> tuple[str, list[DepositRecord]]:
        """See `bridge.Deposits`."""
        response = await self._ask(LeaseDeposits, self._give_back, limit=limit, duration_s=duration_s, once=once)
        try:
            return response.lease_id, [conversions.record_from_message(record) for record in response.records]
        except ValueError as error:
            raise StorageError(f"buffer/lease answered nonsense: {error}") from error

    async def ack(self, lease_id: str, deposit_ids: Sequence[str]) -> int:
        """See `bridge.Deposits`."""
        return (await self._ask(AckDeposits, lease_id=lease_id, deposit_ids=list(deposit_ids))).acked

    async def nack(self, lease_id: str, deposit_ids: Sequence[str], fate: Fate, reason: str) -> int:
        """See `bridge.Deposits`."""
        response = await self._ask(
            NackDeposits,
            lease_id=lease_id,
            deposit_ids=list(deposit_ids),
            permanent=fate is Fate.DEAD,
            uncertain=fate is Fate.UNCERTAIN,
            reason=reason,
        )
        return response.updated

    async def lease_telemetry(self) -> tuple[str, list[TelemetryRecord]]:
        """See `uplink.Machine`."""
        response = await self._ask(LeaseTelemetry, limit=MEASUREMENTS_AT_ONCE)
        return response.batch_id, [conversions.telemetry_from_message(record) for record in response.records]

    async def ack_telemetry(self, batch_id: str) -> None:
        """See `uplink.Machine`."""
        await self._ask(AckTelemetry, batch_id=batch_id)

    def _give_back(self, lease: LeaseDeposits.Response) -> None:
        """A lease that came when nobody waited for it any more: nothing of it was sent."""
        if not lease.lease_id:
            return
        deposit_ids = [record.deposit_id for record in lease.records]
        request = NackDeposits.Request(lease_id=lease.lease_id, deposit_ids=deposit_ids, reason="not sent: came late")
        self._node.call(self._clients[NackDeposits], request, TIMEOUT_S, lambda _: None)

    async def _ask(self, kind: Any, late: Done = lambda response: None, **fields: Any) -> Any:
        client = self._clients[kind]
        call = partial(self._node.call, client, kind.Request(**fields), TIMEOUT_S)
        if (response := await answer_of(self._node, call, TIMEOUT_S, late)) is None:
            raise StorageError(f"{client.srv_name} did not answer within {TIMEOUT_S} s")
        return response
