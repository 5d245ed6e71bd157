"""Profile `myrvm-server` with the real nodes: nothing is credited twice, and what is uncertain is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from deposit_messages import enqueue
from lifecycle_msgs.msg import Transition
from myrvm_interfaces.msg import BufferStatus, CloudStatus
from myrvm_interfaces.srv import Authorize
from server_process import API_KEY, ServerProcess

from myrvm_ros import qos

QUICK = {
    "profile": "myrvm-server",
    "heartbeat_interval_s": 0.5,
    "backoff_base_s": 0.05,
    "backoff_cap_s": 0.5,
    "lease_s": 2.0,
    "connect_timeout_s": 1.0,
    "total_timeout_s": 2.0,
}


@pytest.fixture
def public(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path, "myrvm-server")
    try:
        process.start()
        yield process
    finally:
        process.close()


@pytest.fixture
def heard(graph: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    key = tmp_path / "key"
    key.write_text(API_KEY)
    monkeypatch.setenv("RVM_API_KEY_FILE", str(key))
    monkeypatch.setenv("HARDWARE_ID", "rvm-7")
    return {
        "buffer": graph.listen(BufferStatus, "buffer/status", qos.STATE),
        "cloud": graph.listen(CloudStatus, "cloud/status", qos.STATE),
    }


def settled(heard: dict[str, list[Any]], acked: int, uncertain: int) -> bool:
    if not heard["buffer"]:
        return False
    status = heard["buffer"][-1]
    return (status.acked, status.uncertain, status.pending, status.leased) == (acked, uncertain, 0, 0)


def test_deposits_are_credited_once_and_a_lost_answer_is_uncertain(
    graph: Any, public: ServerProcess, heard: dict[str, list[Any]]
) -> None:
    graph.bring_up("offline_buffer")
    graph.bring_up("cloud_bridge", server_url=public.url, **QUICK)
    ids = enqueue(graph, range(3))
    graph.wait(lambda: settled(heard, 3, 0), "three credited")
    assert public.credited() == ids
    assert heard["cloud"][-1].machine_name == "RVM rvm-7"
    asked = graph.call(Authorize, "cloud/authorize", Authorize.Request(token="token-alice"))
    assert (asked.authorized, asked.reachable) == (False, False), "nobody was asked"
    public.faults(endpoint="sync-offline", cut_after_commit=1)
    ids += enqueue(graph, range(3, 6))
    graph.wait(lambda: settled(heard, 5, 1), "the lost one set aside, the others credited")
    assert public.credited() == ids


@pytest.mark.parametrize("victim", ["offline_buffer", "cloud_bridge"])
def test_killed_in_the_middle_of_a_post_it_is_uncertain_and_never_sent_again(
    graph: Any, public: ServerProcess, heard: dict[str, list[Any]], victim: str
) -> None:
    public.faults(endpoint="sync-offline", answer_latency_s=3.0)  # credited, and nobody hears of it
    graph.bring_up("offline_buffer")
    graph.bring_up("cloud_bridge", server_url=public.url, **QUICK)
    ids = enqueue(graph, range(1))
    graph.wait(lambda: public.credited() == ids, "the credit")
    graph.processes[victim].kill()
    graph.processes[victim].wait()
    del heard["buffer"][:]
    public.faults()
    if victim == "cloud_bridge":
        graph.bring_up("cloud_bridge", server_url=public.url, **QUICK)
    else:
        graph.bring_up("offline_buffer")
    graph.wait(lambda: settled(heard, 0, 1), "it to be uncertain")
    ids += enqueue(graph, range(1, 3))
    graph.wait(lambda: settled(heard, 2, 1), "the others credited")
    assert public.credited() == ids


def test_a_key_that_is_replaced_needs_no_restart(
    graph: Any, public: ServerProcess, heard: dict[str, list[Any]], tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("an-old-key")
    graph.bring_up("offline_buffer")
    graph.bring_up("cloud_bridge", server_url=public.url, **QUICK)
    graph.wait(lambda: heard["cloud"] and heard["cloud"][-1].state == CloudStatus.UNAUTHORIZED, "the refusal")
    written = tmp_path / "key.part"
    written.write_text(API_KEY)
    written.replace(key)
    enqueue(graph, range(1))
    graph.wait(lambda: settled(heard, 1, 0), "the credit")
    for log in (tmp_path / "cloud_bridge.log", tmp_path / "var" / "logs" / "cloud_bridge.jsonl"):
        assert API_KEY not in log.read_text()
        assert "an-old-key" not in log.read_text()


@pytest.mark.parametrize(
    ("setting", "value", "line"),
    [
        ("server_url", "http://192.0.2.1", "for this machine only, use https://"),
        ("tls_ca_file", "/nowhere.pem", "tls_ca_file = '/nowhere.pem' cannot be used"),
        ("profile", "another", "profile = 'another' is not allowed"),
    ],
)
def test_a_line_that_is_not_safe_stops_configure(graph: Any, setting: str, value: str, line: str) -> None:
    graph.start("cloud_bridge", **{"server_url": "https://192.0.2.1", setting: value})
    assert not graph.transition("cloud_bridge", Transition.TRANSITION_CONFIGURE)
    assert line in (graph.folder / "cloud_bridge.log").read_text()
