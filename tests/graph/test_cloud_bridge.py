"""The cloud bridge with the real buffer and a real server process, through what networks do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from deposit_messages import enqueue
from lifecycle_msgs.msg import Transition
from myrvm_core.overlay import Overlay, OverlayFile, State
from myrvm_core.signing import SigningKey
from myrvm_interfaces.msg import BufferStatus, CloudCommand, CloudStatus, Maintenance, NodeHealth, SystemStatus
from myrvm_interfaces.srv import Authorize, CustomerAuthorized, ManageSystem
from myrvm_ros.managed_node import HEARTBEAT_TOPIC
from myrvm_sim.operator import Operator, as_yaml
from server_process import API_KEY, ServerProcess

from myrvm_cloud import maintenance
from myrvm_ros import qos

QUICK = {
    "heartbeat_interval_s": 0.5,
    "backoff_base_s": 0.05,
    "backoff_cap_s": 0.5,
    "lease_s": 2.0,
    "connect_timeout_s": 1.0,
    "total_timeout_s": 2.0,
}


@pytest.fixture
def heard(graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[Any]]]:
    """What the nodes say; at the end no log holds the key or a customer's token."""
    monkeypatch.setenv("RVM_API_KEY", API_KEY)
    monkeypatch.setenv("HARDWARE_ID", "rvm-7")
    yield {
        "buffer": graph.listen(BufferStatus, "buffer/status", qos.STATE),
        "cloud": graph.listen(CloudStatus, "cloud/status", qos.STATE),
        "command": graph.listen(CloudCommand, "cloud/command", qos.EVENT),
    }
    logs = [*tmp_path.glob("*.log"), *(tmp_path / "var" / "logs").glob("*")]
    assert len(logs) >= 2
    for log in logs:
        text = log.read_text(errors="replace")
        assert API_KEY not in text, log
        assert "token-alice" not in text, log


def bring_up(graph: Any, url: str, **parameters: Any) -> None:
    if "offline_buffer" not in graph.processes:
        graph.bring_up("offline_buffer")
    graph.bring_up("cloud_bridge", server_url=url, **QUICK | parameters)


def last(heard: list[Any], name: str) -> Any:
    """A field of the newest message; None before the first."""
    return getattr(heard[-1], name) if heard else None


def authorize(graph: Any, token: str) -> Any:
    return graph.call(Authorize, "cloud/authorize", Authorize.Request(token=token))


def settled(heard: dict[str, list[Any]], acked: int, dead: int = 0) -> bool:
    buffer = heard["buffer"]
    return bool(buffer) and (buffer[-1].acked, buffer[-1].dead, buffer[-1].pending, buffer[-1].leased) == (
        acked,
        dead,
        0,
        0,
    )


def test_deposits_are_credited_once_and_in_order(
    graph: Any, server: ServerProcess, heard: dict[str, list[Any]]
) -> None:
    bring_up(graph, server.url, batch_size=3)
    ids = enqueue(graph, range(8))
    graph.wait(lambda: settled(heard, 8), "all deposits acked")
    assert server.credited() == ids
    assert server.ledger()["balances"] == {"alice": 40, "budi": 0, "donations": 0}
    graph.wait(lambda: last(heard["cloud"], "credited") == 8, "the line to say so")
    line = heard["cloud"][-1]
    assert (line.state, line.last_error, line.machine_name) == (CloudStatus.ONLINE, CloudStatus.ERROR_NONE, "RVM rvm-7")
    assert abs(line.clock_offset_s) < 30.0, "half the round trip of a busy machine, not the hours of a wrong clock"
    alice = authorize(graph, "token-alice")
    assert (alice.authorized, alice.reachable, alice.account_id) == (True, True, "alice")
    assert (alice.display_name, alice.balance_points) == ("Alice", 40)
    stranger = authorize(graph, "nobody")
    assert (stranger.authorized, stranger.reachable) == (False, True)
    assert not authorize(graph, "x" * 513).authorized


def test_whatever_becomes_of_the_answer_there_is_one_credit_for_each(
    graph: Any, server: ServerProcess, heard: dict[str, list[Any]]
) -> None:
    faults = (  # a cut is seen by the node once the retries of the call itself are used up
        ("cut_after_commit", 3, "server not reached"),
        ("cut_before_commit", 4, "server not reached"),
        ("status_500", 5, "answered 500"),
        ("html", 3, "not of the contract"),
        ("truncated_json", 2, "not of the contract"),
    )
    bring_up(graph, server.url)
    ids: list[str] = []
    for turn, (fault, count, line) in enumerate(faults):
        before = len((graph.folder / "cloud_bridge.log").read_text())
        server.faults(endpoint="deposits", **{fault: count})
        ids += enqueue(graph, range(3 * turn, 3 * turn + 3))
        graph.wait(lambda count=3 * turn + 3: settled(heard, count), f"all deposits acked after {fault}")
        assert line in (graph.folder / "cloud_bridge.log").read_text()[before:]
    assert sorted(server.credited()) == ids
    assert server.ledger()["balances"]["alice"] == 5 * len(ids)


def test_one_bad_deposit_is_set_aside_and_the_others_are_credited(
    graph: Any, server: ServerProcess, heard: dict[str, list[Any]]
) -> None:
    server.faults(endpoint="deposits", status_413=1)
    graph.bring_up("offline_buffer")
    good = enqueue(graph, range(3))
    enqueue(graph, [3], account_id="nobody")
    good += enqueue(graph, range(4, 6))
    bring_up(graph, server.url)
    graph.wait(lambda: settled(heard, 5, dead=1), "five credited, one set aside")
    assert sorted(server.credited()) == good


def test_a_server_that_comes_late_goes_and_comes_again(
    graph: Any, server: ServerProcess, heard: dict[str, list[Any]]
) -> None:
    assert server.stop() == 0
    bring_up(graph, server.url)
    assert not authorize(graph, "token-alice").reachable
    enqueue(graph, range(2))
    graph.wait(lambda: (last(heard["cloud"], "consecutive_failures") or 0) >= 2, "failures")
    assert heard["cloud"][-1].last_error == CloudStatus.ERROR_NETWORK
    server.start()
    graph.wait(lambda: settled(heard, 2), "deposits acked")
    server.close()
    enqueue(graph, range(2, 4))
    graph.wait(lambda: last(heard["cloud"], "state") == CloudStatus.OFFLINE, "the loss to be seen")
    server.start()
    graph.wait(lambda: settled(heard, 4), "deposits acked")
    assert len(server.credited()) == 4


def test_a_refused_key_keeps_the_machine_serving(
    graph: Any, server: ServerProcess, heard: dict[str, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.faults(status_401=100_000)
    bring_up(graph, server.url)
    graph.wait(lambda: last(heard["cloud"], "state") == CloudStatus.UNAUTHORIZED, "refusal")
    assert heard["cloud"][-1].last_error == CloudStatus.ERROR_REFUSED
    enqueue(graph, range(1))
    server.faults()
    graph.wait(lambda: settled(heard, 1), "credit after the key is known again")


def test_signed_commands_are_obeyed_once_others_never_and_the_server_hears_how_they_ended(
    graph: Any, server: ServerProcess, heard: dict[str, list[Any]], tmp_path: Path
) -> None:
    operator, stranger = Operator([SigningKey.generate("operator-a")]), Operator([SigningKey.generate("operator-a")])
    keys = tmp_path / "keys.yaml"
    keys.write_text(as_yaml(operator.ring))
    early = operator.claims("rvm-7", "show_message", {"text": "before the machine was there"})
    server.command(operator.sign(early))
    bring_up(graph, server.url, heartbeat_interval_s=3600.0, **{"commands.keys_file": str(keys)})
    graph.wait(lambda: server.outcomes().get(early["command_id"]) == "done", "the command that waited")
    # From here on by the WebSocket: the next heartbeat is an hour away.
    orders = {text: operator.claims("rvm-7", "show_message", {"text": text}) for text in ("one", "two")}
    for claims in (*orders.values(), *orders.values()):
        server.command(operator.sign(claims))
    forged = stranger.claims("rvm-7", "show_message", {"text": "forged"})
    server.command(stranger.sign(forged))
    other = operator.claims("rvm-8", "show_message", {"text": "for another machine"})
    server.command(operator.sign(other))
    graph.wait(lambda: list(server.outcomes().values()).count("refused") == 2, "both refusals")
    told = server.outcomes()
    assert {told[claims["command_id"]] for claims in orders.values()} == {"done"}
    assert [command.text for command in heard["command"]] == ["before the machine was there", "one", "two"]


def test_a_customer_whom_the_server_sends_begins_a_session(
    graph: Any, server: ServerProcess, heard: dict[str, list[Any]]
) -> None:
    asked: list[CustomerAuthorized.Request] = []

    def authorized(
        request: CustomerAuthorized.Request, response: CustomerAuthorized.Response
    ) -> CustomerAuthorized.Response:
        asked.append(request)
        response.started = True
        return response

    graph.node.create_service(CustomerAuthorized, "deposit/authorized", authorized)
    bring_up(graph, server.url)
    health = graph.listen(NodeHealth, HEARTBEAT_TOPIC, qos.HEARTBEAT)
    graph.wait(lambda: any(_says(beat, "events", "subscribed") for beat in health), "events")
    server.publish("private-rvm.rvm-7", "session.authorized", {"offer_id": "x" * 22, "user": {"id": "alice"}})
    graph.wait(lambda: asked, "the customer")
    assert (asked[0].offer_id, asked[0].account_id) == ("x" * 22, "alice")


@pytest.mark.parametrize("victim", ["offline_buffer", "cloud_bridge"])
def test_killed_in_the_middle_of_a_post_each_deposit_is_credited_once(
    graph: Any, server: ServerProcess, heard: dict[str, list[Any]], victim: str
) -> None:
    server.faults(endpoint="deposits", latency_s=60.0)  # longer than the bridge waits: it is always in the middle
    bring_up(graph, server.url)
    ids = enqueue(graph, range(4))
    graph.wait(lambda: (last(heard["buffer"], "leased") or 0) > 0, "a lease")
    graph.processes[victim].kill()
    graph.processes[victim].wait()
    del heard["buffer"][:]
    server.faults()
    if victim == "cloud_bridge":
        bring_up(graph, server.url)
    else:
        graph.bring_up("offline_buffer")
    graph.wait(lambda: settled(heard, 4), "all deposits acked")
    assert sorted(server.credited()) == ids


def _says(beat: NodeHealth, key: str, value: str) -> bool:
    return beat.node == "cloud_bridge" and any((pair.key, pair.value) == (key, value) for pair in beat.values)


@contextmanager
def silent_server() -> Iterator[str]:
    """Takes connections and never answers: the worst network."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connections: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    connections.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    for connection in connections:
        connection.close()


def test_a_silent_server_holds_up_no_transition(graph: Any, heard: dict[str, list[Any]]) -> None:
    with silent_server() as url:
        bring_up(graph, url, authorize_timeout_s=0.5)
        assert not authorize(graph, "token-alice").reachable
        for _ in range(3):
            for transition in (
                Transition.TRANSITION_DEACTIVATE,
                Transition.TRANSITION_CLEANUP,
                Transition.TRANSITION_CONFIGURE,
                Transition.TRANSITION_ACTIVATE,
            ):
                assert graph.transition("cloud_bridge", transition)
        log = (graph.folder / "cloud_bridge.log").read_text()
        assert "does not end" not in log, "the thread was not ended but given up"


def test_a_setting_that_makes_no_sense_stops_configure(graph: Any, tmp_path: Path) -> None:
    graph.start("cloud_bridge", server_url="http://user:word@host", batch_size=0)
    assert not graph.transition("cloud_bridge", Transition.TRANSITION_CONFIGURE)
    assert "batch_size = 0 is not allowed: int, 1 .. 500" in (tmp_path / "cloud_bridge.log").read_text()


def test_a_maintenance_window_ends_by_the_clock_where_there_is_no_server(
    graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bridge restarted without a server while a window is open; the test plays the lifecycle manager."""
    monkeypatch.setenv("HARDWARE_ID", "rvm-7")
    file = tmp_path / "var" / maintenance.FILE
    maintenance.Maintenance(file).plan(
        maintenance.Window(begins=1.0, ends=2.0, reason="new bin", who="Anna", begun=True, resume=True)
    )
    OverlayFile().write(State(Overlay(7, {"deposit": {"show_s": 3.0}}), newest=7))
    beats = graph.listen(NodeHealth, HEARTBEAT_TOPIC, qos.HEARTBEAT)
    windows = graph.listen(Maintenance, "system/maintenance", qos.STATE)
    asked: list[int] = []

    def manage(request: ManageSystem.Request, response: ManageSystem.Response) -> ManageSystem.Response:
        asked.append(request.verb)
        response.success = True
        return response

    graph.node.create_service(ManageSystem, "system/manage", manage)
    graph.node.create_publisher(SystemStatus, "system/status", qos.STATE).publish(
        SystemStatus(mode=SystemStatus.PAUSED)
    )
    graph.bring_up("cloud_bridge")
    graph.wait(lambda: windows and not windows[-1].planned, "the end of the window")
    assert asked == [ManageSystem.Request.RESUME]
    assert not file.exists()
    told = [value for beat in beats for value in beat.values if value.key == "configuration"]
    assert told[-1].value == "version 7"
    assert graph.transition("cloud_bridge", Transition.TRANSITION_DEACTIVATE)
