"""What handshake and heartbeat say of the machine, from the graph's own messages to the body that is sent."""

from __future__ import annotations

import json

import pytest
from myrvm_cloud.contract import Model
from myrvm_cloud.machine_facts import bin_percent, hardware_profile, model
from myrvm_cloud.rest_client import MachineState, MyrvmClient
from myrvm_interfaces.msg import SensorReading

ANALOG, ACTIVE, INACTIVE, UNKNOWN = (
    SensorReading.LEVEL_ANALOG,
    SensorReading.LEVEL_ACTIVE,
    SensorReading.LEVEL_INACTIVE,
    SensorReading.LEVEL_UNKNOWN,
)
LEVEL, FULL, WEIGHT = SensorReading.ROLE_BIN_LEVEL, SensorReading.ROLE_BIN_FULL, SensorReading.ROLE_WEIGHT


@pytest.mark.parametrize(
    ("readings", "percent"),
    [
        ([], None),
        ([(WEIGHT, ANALOG, 0.5)], None),
        ([(LEVEL, ANALOG, 0.25), (FULL, ACTIVE, 0.0)], 25.0),
        ([(LEVEL, ANALOG, 1.5)], 100.0),
        ([(LEVEL, ANALOG, -0.5)], 0.0),
        ([(LEVEL, UNKNOWN, 0.5), (FULL, ACTIVE, 0.0)], 100.0),
        ([(FULL, INACTIVE, 0.0)], None),
    ],
)
def test_how_full_the_bin_is(readings: list[tuple[int, int, float]], percent: float | None) -> None:
    messages = [SensorReading(role=role, level=level, value=value) for role, level, value in readings]
    assert bin_percent(messages) == percent


def test_the_network_is_what_the_detector_says() -> None:
    values = {"model": "rvm", "model_version": "2", "model_sha256": "f" * 64, "verdicts": "7"}
    assert model(values) == Model(name="rvm", version="2", sha256="f" * 64)
    assert model({"verdicts": "7"}) is None


def test_the_profile_is_the_one_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["node", "--ros-args", "--params-file", "config/rvm.yaml", "--params-file", "config/hardware/desk.yaml"]
    monkeypatch.setenv("MYRVM_HARDWARE", "conveyor")
    assert hardware_profile([*given, "--params-file", "var/local.yaml"]) == "desk"
    assert hardware_profile(["node"]) == "conveyor"


def test_handshake_and_heartbeat_say_it() -> None:
    client = MyrvmClient("https://host", "rvm-7", "0.1.0", "k" * 43)
    network = Model(name="rvm", version="2", sha256="f" * 64)
    state = MachineState(pending=3, hardware_profile="desk", bin_percent=25.0, model=network)
    facts = {"hardware_profile": "desk", "bin_percent": 25.0, "model": network.model_dump()}
    greeting = json.loads(client.handshake(state).body)
    assert greeting.items() >= facts.items()
    assert (greeting["hardware_id"], greeting["voucher_key"]) == ("rvm-7", "k" * 43)
    assert json.loads(client.heartbeat(state, []).body) == {"pending": 3, "dead": 0, "uncertain": 0, **facts}
    unknown = json.loads(client.heartbeat(MachineState(), []).body)
    assert (unknown["bin_percent"], unknown["model"]) == (None, None)
