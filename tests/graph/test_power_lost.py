"""Mains lost and back: a real `upsd`, the sensor node, and the health node that says what the machine may still do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from myrvm_interfaces.msg import OperatingLimits, SensorReading, SensorState
from nut_server import Supply
from quick_policy import Thermometer, write_quick_policy

from myrvm_ros import qos


def test_mains_lost_pauses_a_low_battery_shuts_down_and_mains_ends_both(
    graph: Any, nut_supply: Supply, tmp_path: Path
) -> None:
    states = graph.listen(SensorState, "sensors/state", qos.STATE)
    limits = graph.listen(OperatingLimits, "health/limits", qos.STATE)
    power = {
        "power.driver": "nut",
        "power.device": nut_supply.device,
        "power.period_s": 0.1,
        "power.stale_after_s": 3.0,
    }
    graph.bring_up("sensor", device="/dev/gpiochip99", **power)  # no GPIO chip: the supply is told all the same
    policy = str(write_quick_policy(tmp_path / "quick"))
    graph.bring_up("health", policy_file=policy, period_s=0.2, sysfs_root=str(Thermometer(tmp_path / "sys").sysfs))

    def level_of(role: int) -> int:
        readings = states[-1].readings if states else []
        return next((reading.level for reading in readings if reading.role == role), SensorReading.LEVEL_UNKNOWN)

    def wait(on_battery: int, *levels: int) -> None:
        graph.wait(lambda: level_of(SensorReading.ROLE_ON_BATTERY) == on_battery, f"on battery {on_battery}")
        graph.wait(lambda: limits and limits[-1].level in levels, f"limits {levels}")

    serves = OperatingLimits.NORMAL, OperatingLimits.WARN
    wait(SensorReading.LEVEL_INACTIVE, *serves)
    nut_supply.show("OB DISCHRG", 80)
    wait(SensorReading.LEVEL_ACTIVE, OperatingLimits.PAUSED)
    assert list(limits[-1].causes) == [OperatingLimits.CAUSE_POWER]
    nut_supply.show("OB DISCHRG LB", 20)
    wait(SensorReading.LEVEL_ACTIVE, OperatingLimits.SHUTDOWN)
    nut_supply.show("OL CHRG", 25)
    wait(SensorReading.LEVEL_INACTIVE, *serves)
