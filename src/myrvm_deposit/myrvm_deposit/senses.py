"""What the sensors tell the machine: each edge once and in order, what was missed, weight, hand and power-fail line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from myrvm_core.deposit import (
    DepositMachine,
    Event,
    HandSeen,
    ItemDropped,
    ItemEntered,
    ItemLeft,
    PowerFailing,
    Watched,
    Weighed,
)
from myrvm_interfaces.msg import SensorEvent, SensorReading, SensorState
from myrvm_ros.managed_node import ManagedNode
from myrvm_ros.stamps import to_ns
from uuid_utils import uuid7

from myrvm_ros import qos

ACTIVE, INACTIVE = SensorReading.LEVEL_ACTIVE, SensorReading.LEVEL_INACTIVE


class Senses:
    """Hears `sensors/events` and `sensors/state` for a machine; `dropped(at_ns)` is told of each fall into the bin."""

    def __init__(
        self,
        node: ManagedNode[Any],
        machine: DepositMachine,
        handle: Callable[[Event], None],
        dropped: Callable[[int], None],
    ) -> None:
        self._machine, self._handle, self._dropped = machine, handle, dropped
        self._entry_stamp_ns = 0
        node.subscription(SensorEvent, "sensors/events", self._on_event, qos.EVENT)
        node.subscription(SensorState, "sensors/state", self._on_state, qos.STATE)

    def _on_event(self, message: SensorEvent) -> None:
        active = message.level == ACTIVE
        if message.role == SensorReading.ROLE_ENTRY:
            self._on_entry(active, to_ns(message.stamp))
        elif message.role == SensorReading.ROLE_DROP and active:
            self._dropped(to_ns(message.stamp))
            self._handle(ItemDropped(to_ns(message.stamp)))
        elif message.role == SensorReading.ROLE_HAND:
            self._on_hand(active)

    def _on_state(self, message: SensorState) -> None:
        levels = {reading.role: reading for reading in message.readings}
        power_fail = levels.get(SensorReading.ROLE_POWER_FAIL)
        if power_fail is not None and power_fail.level in (ACTIVE, INACTIVE):
            self._on_power(power_fail.level == ACTIVE)
        self._on_evidence(levels)
        entry = levels.get(SensorReading.ROLE_ENTRY)
        if entry is None or entry.level not in (ACTIVE, INACTIVE):
            return
        active = entry.level == ACTIVE
        since_ns = to_ns(message.watching_since)
        if since_ns > self._machine.watching_since_ns:
            self._handle(Watched(since_ns, active))
        # Catches up with an edge that was missed, such as one from before this node was started.
        if active != (self._machine.present is not None):
            self._on_entry(active, to_ns(entry.stamp))
        elif self._machine.unnamed_item:  # behind the last one, or left where it was when the supply failed
            self._handle(ItemEntered(to_ns(message.header.stamp), str(uuid7())))

    def _on_entry(self, active: bool, stamp_ns: int) -> None:
        if stamp_ns > self._entry_stamp_ns:
            self._entry_stamp_ns = stamp_ns
            self._handle(ItemEntered(stamp_ns, str(uuid7())) if active else ItemLeft())

    def _on_evidence(self, levels: Mapping[int, SensorReading]) -> None:
        hand, weight = levels.get(SensorReading.ROLE_HAND), levels.get(SensorReading.ROLE_WEIGHT)
        if hand is not None and hand.level in (ACTIVE, INACTIVE):
            self._on_hand(hand.level == ACTIVE)
        if weight is not None and weight.level == SensorReading.LEVEL_ANALOG and self._machine.present is not None:
            self._handle(Weighed(to_ns(weight.stamp), weight.value))

    def _on_hand(self, inside: bool) -> None:
        if inside != self._machine.hand:
            self._handle(HandSeen(inside))

    def _on_power(self, failing: bool) -> None:
        if failing != self._machine.power_failing:
            self._handle(PowerFailing(failing))
