"""1,000 bad commands over the live line: the real bridge and buffer, the reference server as a process, its Reverb."""

from __future__ import annotations

import json
import random
import urllib.request
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from myrvm_cloud.audit_log import entries, verify_log
from myrvm_core.signing import SigningKey
from myrvm_interfaces.msg import CloudCommand, CloudStatus, NodeHealth
from myrvm_ros.managed_node import HEARTBEAT_TOPIC
from myrvm_sim.operator import Operator, as_yaml
from server_process import API_KEY, LIMIT_S, ServerProcess

from myrvm_ros import qos

MACHINE, CHANNEL = "rvm-7", "private-rvm.rvm-7"
ATTACKS = 1000
PACE_S = 0.005
WHAT = ("forged", "replayed", "late", "wrong machine", "oversized", "malformed", "unsigned", "one key", "no document")
SHAPES: tuple[Any, ...] = (None, 7, "", [], {"document": 7}, {"document": ""}, [[[[]]]], {"a": "x" * 5000})
PARAMETERS = {"show_message": {"text": "attack"}, "restart_node": {"node": "health"}, "light": {"on": True}}


class Attacker:
    """Has the server's ear, some envelopes that were obeyed, and keys of his own; and the operator's worn-out ones."""

    def __init__(self, operator: Operator, obeyed: list[str], seed: int) -> None:
        self.operator, self.obeyed, self.chance = operator, obeyed, random.Random(seed)
        self.stranger = Operator([SigningKey.generate(key.key_id) for key in operator.keys])

    def frame(self, what: str) -> tuple[str, Any]:
        """An event and its data: a good command with one thing wrong."""
        kind = self.chance.choice(sorted(PARAMETERS))
        good = self.operator.claims(MACHINE, kind, PARAMETERS[kind])
        event = self.chance.choice(["command", "config_update", "maintenance"])
        if what == "no document":
            return event, self.chance.choice(SHAPES)
        if what == "unsigned" and self.chance.random() < 0.5:
            return "hardware.command", {"command": "GIT_PULL", "params": {}, "request_id": "1"}
        make: dict[str, Callable[[], str]] = {
            "forged": lambda: self.stranger.sign(good, 2),
            "replayed": lambda: self.chance.choice(self.obeyed),
            "late": lambda: self.operator.sign(good | {"issued_at": 1_700_000_000.0, "expires_at": 1_700_000_300.0}),
            "wrong machine": lambda: self.operator.sign(good | {"machine": f"rvm-{self.chance.randrange(8, 99)}"}),
            "oversized": lambda: self.operator.sign(good) + "A" * self.chance.choice([33_000, 60_000, 70_000, 200_000]),
            "malformed": lambda: self._damaged(self.operator.sign(good, 2)),
            "unsigned": lambda: self.operator.sign(good).rpartition(".")[0] + ".",
            "one key": lambda: self.operator.sign(good | {"kind": "reboot", "parameters": {}}),
        }
        return event, {"document": make[what]()}

    def _damaged(self, envelope: str) -> str:
        at = self.chance.randrange(len(envelope) - 3)
        junk = self.chance.choice(["\0", "\u00e9", "{", " ", "." * 50, "[" * 9000, '{"alg":"none"}'])
        return envelope[:at] + junk + envelope[at + 3 :]


def socket_ids(server: ServerProcess) -> list[str]:
    with urllib.request.urlopen(server.url + "/reverb/connections", timeout=LIMIT_S) as answer:
        return json.load(answer)["socket_ids"]


def turned_away(folder: Path) -> Counter[str]:
    """How many the audit log has counted, by reason."""
    counted: Counter[str] = Counter()
    for line in entries(folder):
        if line["kind"] == "turned_away":
            counted.update(line["counts"])
    return counted


def figure(beats: list[NodeHealth], name: str) -> str:
    """What the bridge says of itself in its newest heartbeat."""
    own = [beat for beat in beats[-20:] if beat.node == "cloud_bridge"]
    return {pair.key: pair.value for pair in own[-1].values}.get(name, "") if own else ""


def test_a_thousand_over_the_line_and_not_one_is_executed(
    graph: Any, server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RVM_API_KEY", API_KEY)
    monkeypatch.setenv("HARDWARE_ID", MACHINE)
    operator = Operator([SigningKey.generate("operator-a"), SigningKey.generate("operator-b")])
    (tmp_path / "keys.yaml").write_text(as_yaml(operator.ring))
    shown = graph.listen(CloudCommand, "cloud/command", qos.EVENT)
    online = graph.listen(CloudStatus, "cloud/status", qos.STATE)
    beats = graph.listen(NodeHealth, HEARTBEAT_TOPIC, qos.HEARTBEAT)
    graph.bring_up("offline_buffer")
    graph.bring_up(
        "cloud_bridge", server_url=server.url, heartbeat_interval_s=3600.0,
        **{"commands.keys_file": str(tmp_path / "keys.yaml"), "commands.refusals_s": 1.0},
    )  # fmt: skip
    graph.wait(lambda: online and online[-1].state == CloudStatus.ONLINE, "the server")

    def obey(text: str) -> str:
        envelope = operator.command(MACHINE, "show_message", {"text": text})
        before = len(shown)
        server.publish(CHANNEL, "command", {"document": envelope})
        graph.wait(lambda: len(shown) > before, f"message {text!r}")
        return envelope

    graph.wait(lambda: figure(beats, "events") == "subscribed", "events")
    attacker = Attacker(operator, [obey(text) for text in ("one", "two", "three")], seed=20261128)
    connection = socket_ids(server)
    assert len(connection) == 1
    tried: Counter[str] = Counter()
    to_server = HTTPConnection("127.0.0.1", int(server.url.rsplit(":", 1)[1]), timeout=LIMIT_S)
    for number in range(ATTACKS):
        what = WHAT[number % len(WHAT)]
        tried[what] += 1
        event, data = attacker.frame(what)
        to_server.request("POST", "/reverb/events", json.dumps({"channel": CHANNEL, "event": event, "data": data}))
        assert json.load(to_server.getresponse()) == {"sent": 1}
        graph.spin_once(PACE_S)
    to_server.close()
    folder = tmp_path / "var" / "audit" / "commands"
    graph.wait(lambda: sum(turned_away(folder).values()) == ATTACKS, "each of them in the log")
    assert socket_ids(server) == connection, "the same connection"
    obey("four")
    assert [command.text for command in shown] == ["one", "two", "three", "four"]
    graph.wait(lambda: figure(beats, "commands_executed") == "4", "the good ones, and no other")
    graph.processes["cloud_bridge"].terminate()
    assert graph.processes["cloud_bridge"].wait(LIMIT_S) == 0

    accepted = [line["command"] for line in entries(folder) if line["kind"] == "accepted"]
    assert accepted == ["show_message"] * 4, "nothing is executed without a line"
    counted = turned_away(folder)
    assert sum(counted.values()) == ATTACKS
    most = {
        "signature": tried["forged"] + tried["malformed"] + tried["unsigned"],
        "replayed": tried["replayed"],
        "expired": tried["late"],
        "machine": tried["wrong machine"],
        "keys": tried["one key"],
        "size": tried["oversized"],
        "shape": tried["oversized"] + tried["no document"],
        "queue": ATTACKS,  # what came quicker than it was looked at
    }
    assert most.keys() - {"queue"} <= counted.keys() <= most.keys()
    assert all(counted[reason] <= limit for reason, limit in most.items()), counted
    public = SigningKey.load_or_make(tmp_path / "var" / "identity" / "machine.pem").public
    assert verify_log(folder, public).problems == []
    assert sum(file.stat().st_size for file in folder.iterdir()) < 100_000, "what anybody can send fills no disk"
