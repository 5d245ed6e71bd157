"""Commands from arrival to outcome: executed once, answered always, over restarts; and an attack of 1,000."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fake_graph import MACHINE, NOW_S, FakeGraph, Machine, NodeView
from myrvm_cloud.audit_log import entries, verify_log
from myrvm_cloud.command import ENVELOPE_CHARACTERS, KINDS, Outcome, Status
from myrvm_cloud.command_check import Moment, TokenBucket
from myrvm_cloud.maintenance import Window
from myrvm_cloud.myrvm_server_client import MyrvmServerClient
from myrvm_core.configuration import default_files, settings
from myrvm_core.errors import RvmError, SettingsError, StorageError
from myrvm_core.machine_mode import Mode
from myrvm_core.overlay import Overlay, State
from myrvm_core.settings import Settings
from myrvm_core.signing import SigningKey
from myrvm_deposit.settings import DepositSettings
from myrvm_sim.operator import Operator, as_yaml, ring

from myrvm_cloud import config_update
from myrvm_core import durable

OPERATOR = Operator([SigningKey.generate("a"), SigningKey.generate("b")])
MODEL_SHA256 = sha256(b"a model").hexdigest()
GOOD: dict[str, dict[str, Any]] = {
    "reboot": {},
    "restart_node": {"node": "camera"},
    "out_of_service": {},
    "in_service": {},
    "lock": {"state": "open"},
    "light": {"on": True},
    "capture_picture": {},
    "run_selftest": {},
    "upload_logs": {},
    "update_model": {"name": "rvm", "version": "2", "url": "/2", "sha256": MODEL_SHA256, "size_bytes": 7},
    "set_log_level": {"node": "camera", "level": "DEBUG"},
    "set_price_table": {"points_per_item": 12},
    "show_message": {"text": "Hello"},
    "set_maintenance": {"begins": NOW_S + 10.0, "ends": NOW_S + 20.0, "reason": "new bin", "who": "Anna"},
    "config_update": {"patch": {"deposit": {"show_s": 3.0}}},
    "configuration": {"patch": {"deposit": {"show_s": 4.0}}},
    "rotate_keys": {"keys": [key.model_dump(mode="json") for key in OPERATOR.ring.keys]},
}
LOG_LINE = '{"time": "2027-01-15T07:59:59.5Z", "node": "camera", "message": "key-of-the-machine", "level": "info"}\n'


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    file = tmp_path / "keys.yaml"
    file.write_text(as_yaml(OPERATOR.ring))
    return file


@pytest.fixture
def machine(tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("MYRVM_DATA", str(tmp_path / "var"))
    logs = tmp_path / "var" / "logs"
    logs.mkdir(parents=True)
    (logs / "camera.jsonl").write_text(LOG_LINE)
    os.utime(logs / "camera.jsonl", (NOW_S, NOW_S))
    made = Machine(tmp_path / "var", installed)
    made.server.files["/2"] = b"a model"
    return made


def signed(kind: str, parameters: dict[str, Any] | None = None, keys: int = 2, **changes: Any) -> str:
    given = GOOD.get(kind, {}) if parameters is None else parameters
    return OPERATOR.sign(OPERATOR.claims(MACHINE, kind, given, now_s=NOW_S, **changes), keys)


async def sent(machine: Machine, envelope: str) -> Outcome:
    """Its outcome, which is then confirmed."""
    await machine.desk.handle(envelope)
    outcome = machine.desk.outcomes()[-1]
    await machine.desk.confirmed([outcome.digest])
    return outcome


async def until(condition: Callable[[], bool], look_s: float = 0.01) -> None:
    end_s = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end_s
        await asyncio.sleep(look_s)


def lines(machine: Machine, kind: str) -> list[dict[str, Any]]:
    return [entry for entry in entries(machine.audit_folder) if entry["kind"] == kind]


async def test_every_kind_has_an_end(machine: Machine) -> None:
    assert set(GOOD) == set(KINDS)
    assert {type(KINDS[kind]) for kind in KINDS} == {type(kind) for kind in machine.executor.kinds}
    for kind in GOOD:
        outcome = await sent(machine, signed(kind))
        assert (outcome.kind, outcome.status, outcome.reason) == (kind, Status.DONE, "")
    assert len(lines(machine, "accepted")) == len(lines(machine, "ended")) == len(KINDS)
    assert verify_log(machine.audit_folder, machine.public).problems == []
    assert not [service for service, _ in machine.graph.asked if service == "actuator/command"]


async def test_what_they_do(machine: Machine, tmp_path: Path) -> None:
    graph = machine.graph
    await sent(machine, signed("lock"))
    assert (
        graph.asked[-1][1].items() >= {"name": "door_lock", "on": True, "duration_s": 30.0, "from_afar": True}.items()
    )
    await sent(machine, signed("lock", {"state": "locked", "output": "hatch_lock"}))
    assert graph.asked[-1][1].items() >= {"name": "hatch_lock", "on": False}.items()
    await sent(machine, signed("restart_node"))
    assert graph.asked[-1] == ("system/manage", {"verb": "RESTART", "node": "camera"})
    await sent(machine, signed("out_of_service"))
    assert graph.asked[-1][1]["verb"] == "OUT_OF_SERVICE"
    await sent(machine, signed("in_service"))
    assert graph.asked[-1][1]["verb"] == "RESUME"
    await sent(machine, signed("set_log_level"))
    assert graph.parameters == [("camera", "log_level", "DEBUG")]
    await sent(machine, signed("show_message"))
    assert graph.texts == ["Hello"]
    outcome = await sent(machine, signed("capture_picture"))
    assert Path(outcome.detail["file"]).read_bytes() == b"\xff\xd8jpeg"
    picture = machine.server.uploads[-1]
    assert (picture.name, picture.body) == ("/edge/pictures", b"\xff\xd8jpeg")
    assert picture.path.endswith(f"upload_id={outcome.detail['upload_id']}&kind=captured")
    assert outcome.detail["upload_id"] == outcome.command_id
    await sent(machine, signed("reboot"))
    assert graph.ran == [["true"]]
    graph.refuse["actuator/set_output"] = "no output 'light_ring'; there are: none"
    outcome = await sent(machine, signed("light"))
    assert (outcome.status, outcome.reason) == (Status.FAILED, graph.refuse["actuator/set_output"])


async def test_logs_are_uploaded_and_whatever_goes_wrong_is_said(machine: Machine) -> None:
    outcome = await sent(machine, signed("upload_logs", {"hours": 2, "node": "camera"}, command_id="logs-1"))
    (upload,) = machine.server.uploads
    assert (upload.name, outcome.detail["upload_id"], outcome.detail["files"]) == (
        "/edge/logs",
        "logs-1",
        "camera.jsonl",
    )
    assert (outcome.detail["lines"], outcome.detail["bytes"]) == ("1", str(len(upload.body)))
    line = json.loads(gzip.decompress(upload.body))
    assert line["message"] == "**********", "the key is masked where nobody has masked it"
    outcome = await sent(machine, signed("upload_logs", {"node": "gate"}))
    assert (outcome.status, outcome.reason) == (Status.FAILED, "no lines of gate in the last 24 h")
    machine.server.refuse = "/edge/logs was refused with 422: no"
    outcome = await sent(machine, signed("upload_logs"))
    assert (outcome.status, outcome.reason) == (Status.FAILED, machine.server.refuse)
    machine.executor.server = None
    outcome = await sent(machine, signed("upload_logs"))
    assert (outcome.status, outcome.reason) == (Status.FAILED, "there is no server to send it to")
    machine.server.client = MyrvmServerClient("https://host", MACHINE, "0.1.0")
    machine.desk.reach(machine.server)
    outcome = await sent(machine, signed("upload_logs"))
    assert (outcome.status, outcome.reason) == (Status.FAILED, "profile myrvm-server offers no call for logs")


async def test_the_configuration_that_the_server_keeps_counts_where_it_is_newer(machine: Machine) -> None:
    def kept(version: int, show_s: float, keys: int = 2, operator: Operator = OPERATOR, **changes: Any) -> str:
        patch = {"patch": {"deposit": {"show_s": show_s}}}
        year = {"expires_at": NOW_S + 365 * 86_400.0, "counter": version, **changes}
        return operator.sign({**operator.claims(MACHINE, "configuration", patch, NOW_S), **year}, keys)

    def shown() -> Any:
        return machine.overlay.read().current.parameters["deposit"]["show_s"]

    async def offered(document: str) -> list[Outcome]:
        """What is told of it: nothing where it was passed over."""
        before = machine.desk.outcomes()
        machine.desk.offer(document)
        while machine.desk._waiting:
            await machine.desk.handle(machine.desk._waiting.popleft())
        return [outcome for outcome in machine.desk.outcomes() if outcome not in before]

    await sent(machine, signed("light"))  # a command of the same keys, whose counter is far higher
    (outcome,) = await offered(kept(2, 4.0))
    assert (outcome.kind, outcome.status, outcome.detail["version"]) == ("configuration", Status.DONE, "1")
    assert shown() == 4.0
    turned_away = machine.desk.refused
    for old in (kept(2, 4.0), kept(2, 5.0), kept(1, 5.0), kept(2, 5.0, operator=Operator(OPERATOR.keys[::-1]))):
        assert await offered(old) == []
    assert (shown(), machine.desk.refused) == (4.0, turned_away), "no newer version: silently"
    for document, reason in (
        (kept(3, 5.0, keys=1), "keys: "),
        (json.dumps({"deposit": {"show_s": 5.0}}), "signature: "),
        (kept(3, 5.0, operator=Operator([SigningKey.generate("a"), SigningKey.generate("b")])), "signature: "),
        (kept(3, 5.0, machine="other"), "machine: "),
        (kept(3, 5.0, expires_at=NOW_S - 1.0, issued_at=NOW_S - 9.0), "expired: "),
        (kept(3, 5.0, expires_at=NOW_S + 500 * 86_400.0), "shape: "),
    ):
        (outcome,) = await offered(document)
        assert outcome.status in (Status.REFUSED, Status.EXPIRED)
        assert outcome.reason.startswith(reason)
    assert shown() == 4.0
    (outcome,) = await offered(kept(3, 6.0))
    assert (outcome.status, shown()) == (Status.DONE, 6.0)
    await machine.desk.handle(signed("light"))
    assert machine.desk.executed == 4, "its version is no command's counter"


async def test_pictures_are_bounded(machine: Machine) -> None:
    for _ in range(25):
        await sent(machine, signed("capture_picture"))
    assert len(list((machine.folder / "commands" / "pictures").iterdir())) == 20


async def test_an_item_in_the_machine_is_finished_first(machine: Machine) -> None:
    machine.graph.set(item_inside=True)
    outcome = await sent(machine, signed("out_of_service"))
    assert outcome.status is Status.FAILED
    assert "item is in the machine" in outcome.reason
    assert machine.graph.asked == []
    closing = asyncio.create_task(machine.desk.handle(signed("out_of_service")))
    await asyncio.sleep(0)
    machine.graph.set(item_inside=False)
    await closing
    assert [fields["verb"] for _, fields in machine.graph.asked] == ["OUT_OF_SERVICE"]


async def test_a_technician_is_not_served_over(machine: Machine) -> None:
    machine.graph.set(mode=Mode.MAINTENANCE)
    outcome = await sent(machine, signed("in_service"))
    assert outcome.status is Status.REFUSED
    assert "technician" in outcome.reason
    assert machine.graph.asked == []


async def test_a_machine_without_keys_obeys_nobody(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "var", tmp_path / "none.yaml")
    outcome = await sent(machine, signed("light"))
    assert outcome.status is Status.REFUSED
    assert "knows no key" in outcome.reason
    assert machine.graph.asked == []


async def test_a_replay_is_not_executed_also_after_restarts(machine: Machine, tmp_path: Path, installed: Path) -> None:
    envelope = signed("light")
    done = await sent(machine, envelope)
    for attempt in range(3):
        await machine.desk.handle(envelope)
        assert len(machine.graph.asked) == 1, attempt
        assert machine.desk.outcomes() == (), "one that was executed and confirmed keeps its outcome"
        machine = Machine(tmp_path / "var", installed, machine.graph)
    assert done.status is Status.DONE
    older = signed("light", counter=1)
    outcome = await sent(machine, older)
    assert outcome.status is Status.REFUSED
    assert outcome.reason.startswith("replayed: ")


async def test_a_command_of_one_key_forgets_no_counter_of_another(machine: Machine) -> None:
    first = signed("light", keys=1)
    await sent(machine, first)
    other = Operator([OPERATOR.keys[1]])
    await sent(machine, other.sign(other.claims(MACHINE, "light", {"on": True}, NOW_S)))
    await machine.desk.handle(first)
    assert len(machine.graph.asked) == 2


async def test_outcomes_wait_for_the_server_over_a_restart(machine: Machine, tmp_path: Path, installed: Path) -> None:
    await machine.desk.handle(signed("light"))
    await machine.desk.handle(signed("light", {"on": 7}))
    waiting = machine.desk.outcomes()
    assert [outcome.status for outcome in waiting] == [Status.DONE, Status.REFUSED]
    again = Machine(tmp_path / "var", installed)
    assert again.desk.outcomes() == waiting
    await again.desk.confirmed([waiting[0].digest, "unknown"])
    assert again.desk.outcomes() == waiting[1:]
    head = waiting[0].audit
    assert head is not None
    (line,) = [entry for entry in entries(machine.audit_folder) if entry["sequence"] == head.sequence + 1]
    assert line["previous"] == head.hash, "the server is told a line of the log"


async def test_outcomes_are_bounded(machine: Machine) -> None:
    for _ in range(210):
        await machine.desk.handle(signed("light", keys=1))
    assert len(machine.desk.outcomes()) == 200
    assert machine.desk.figures["command_outcomes_dropped"] == 10


@pytest.mark.parametrize("point", ["before the journal", "after the journal", "while executed", "before its end"])
async def test_a_kill_at_any_point_executes_at_most_once_and_is_answered(
    machine: Machine, tmp_path: Path, installed: Path, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> Any:
        raise KilledError

    if point == "before the journal":
        monkeypatch.setattr(machine.journal, "spend", killed)
    elif point == "after the journal":
        monkeypatch.setattr(machine.audit, "append", killed)
    elif point == "while executed":
        machine.graph.before_answer = killed
    else:
        monkeypatch.setattr(machine.journal, "end", killed)
    envelope = signed("light")
    with pytest.raises(KilledError):
        await machine.desk.handle(envelope)
    executed = len(machine.graph.asked)
    again = Machine(tmp_path / "var", installed)
    task = asyncio.create_task(again.desk.run())
    again.desk.receive(envelope)
    await until(lambda: bool(again.desk.outcomes()) and not again.journal.journal.running)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    (outcome,) = again.desk.outcomes()
    if point == "before the journal":
        assert (outcome.status, len(again.graph.asked)) == (Status.DONE, 1)
    else:
        assert (outcome.status, len(again.graph.asked)) == (Status.INTERRUPTED, 0)
    assert executed + len(again.graph.asked) <= 1
    assert verify_log(machine.audit_folder, machine.public).problems == []


@pytest.mark.parametrize(("boot_id", "status"), [("boot-2", Status.DONE), ("boot-1", Status.INTERRUPTED)])
async def test_a_reboot_is_done_when_the_kernel_is_another(
    machine: Machine, tmp_path: Path, installed: Path, boot_id: str, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forever(*_: Any) -> None:
        await asyncio.sleep(3600)

    monkeypatch.setattr(machine.graph, "run", forever)
    task = asyncio.create_task(machine.desk.handle(signed("reboot")))
    await until(lambda: machine.journal.journal.running is not None and machine.desk.executed == 1)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    again = Machine(tmp_path / "var", installed, boot_id=boot_id)
    await again.desk._settle()
    assert [outcome.status for outcome in again.desk.outcomes()] == [status]


async def test_a_lost_or_damaged_journal_lets_no_old_command_in(
    machine: Machine, tmp_path: Path, installed: Path
) -> None:
    envelope = signed("light")
    await sent(machine, envelope)
    for damage in (b"", b"{}", machine.journal.path.read_bytes().replace(b'"crc":', b'"crc":1'), None):
        if damage is None:
            machine.journal.path.unlink()
        else:
            machine.journal.path.write_bytes(damage)
        again = Machine(tmp_path / "var", installed)
        assert bool(again.desk.problem) == (damage is not None)
        outcome = await sent(again, envelope)
        assert outcome.reason.startswith("replayed")
        assert again.graph.asked == []


async def test_a_full_disk_executes_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        await machine.desk.handle(signed("light"))
    assert machine.graph.asked == []
    monkeypatch.undo()
    monkeypatch.setattr(machine.audit, "append", _raise_full)
    await machine.desk.handle(signed("light"))
    (outcome,) = machine.desk.outcomes()
    assert (outcome.status, machine.graph.asked) == (Status.FAILED, [])
    assert outcome.reason.startswith("not executed: ")


async def test_an_end_that_the_disk_did_not_take_is_told_when_it_does(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.journal, "end", _raise_full)
    task = asyncio.create_task(machine.desk.run())
    machine.desk.receive(signed("light"))
    machine.desk.receive(signed("light"))
    await until(lambda: bool(machine.desk.problem))
    assert (machine.desk.outcomes(), len(machine.graph.asked)) == ((), 1), "the next one waits"
    monkeypatch.undo()
    await until(lambda: len(machine.desk.outcomes()) == 2)
    assert [outcome.status for outcome in machine.desk.outcomes()] == [Status.DONE, Status.DONE]
    await until(lambda: not machine.desk.problem)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _raise_full(*_: Any) -> None:
    raise StorageError("audit log cannot be written: No space left on device")


async def test_too_many_wait_cost_nothing_and_open_no_way_for_a_replay(tmp_path: Path, installed: Path) -> None:
    machine = Machine(tmp_path / "var", installed, burst=3, refill_s=3600.0)
    envelopes = [signed("light") for _ in range(6)]
    for envelope in envelopes[:3]:
        await machine.desk.handle(envelope)
    written = machine.journal.path.read_bytes()
    for envelope in envelopes:
        await machine.desk.handle(envelope)
    assert [outcome.status for outcome in machine.desk.outcomes()] == [Status.DONE] * 3, "too much is not answered"
    assert machine.journal.path.read_bytes() == written
    machine.desk._bucket = TokenBucket(3, 3600.0)  # time has passed, and the server repeats what was not answered
    for envelope in [*envelopes[3:], *envelopes]:
        await machine.desk.handle(envelope)
    assert [outcome.status for outcome in machine.desk.outcomes()] == [Status.DONE] * 6
    assert len(machine.graph.asked) == 6, "each once"


async def test_a_lower_counter_never_lowers_what_is_used_up(machine: Machine) -> None:
    machine.journal.spend({"key": 7}, None)
    machine.journal.spend({"key": 3}, None)
    assert machine.journal.journal.counters["key"] == 7


async def test_a_full_queue_takes_no_more(machine: Machine) -> None:
    assert [machine.desk.receive("x") for _ in range(40)] == [True] * 32 + [False] * 8
    assert machine.desk.receive("x" * (ENVELOPE_CHARACTERS + 1)), "one that is too large does not wait"
    assert [outcome.reason[:6] for outcome in machine.desk.outcomes()] == ["size: "]


def test_it_is_run_again_on_another_loop(machine: Machine) -> None:
    async def activity(ended: int) -> None:
        task = asyncio.create_task(machine.desk.run())
        await asyncio.sleep(0.01)
        machine.desk.receive(signed("light"))
        await until(lambda: len(machine.desk.outcomes()) == ended)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    for ended in (1, 2, 3):
        asyncio.run(activity(ended))
    machine.desk.receive(signed("light"))  # while it does not run
    asyncio.run(activity(5))
    assert len(machine.graph.asked) == 5


async def test_a_defect_of_ours_is_answered(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.graph.before_answer = lambda service, fields: print(1 / 0)
    outcome = await sent(machine, signed("light"))
    assert (outcome.status, outcome.reason) == (Status.FAILED, "defect: ZeroDivisionError")


# Keys


async def test_keys_are_rotated_with_overlap_and_revoked(machine: Machine, tmp_path: Path, installed: Path) -> None:
    a, b, c = OPERATOR.keys[0], OPERATOR.keys[1], SigningKey.generate("c")
    both = {"keys": [key.model_dump(mode="json") for key in ring(a, b, c).keys]}
    assert (await sent(machine, signed("rotate_keys", both, keys=1))).status is Status.REFUSED
    assert (await sent(machine, signed("rotate_keys", both))).status is Status.DONE
    newcomer = Operator([c, b])
    newcomer._counter = 1
    assert (
        await sent(machine, newcomer.sign(newcomer.claims(MACHINE, "light", {"on": True}, NOW_S)))
    ).status is Status.DONE
    assert (await sent(machine, signed("light", keys=1))).status is Status.DONE, "the old key still counts"
    without = {"keys": [key.model_dump(mode="json") for key in ring(b, c).keys]}
    rotation = newcomer.sign(newcomer.claims(MACHINE, "rotate_keys", without, NOW_S + 100.0), 2)
    machine.moment = Moment(NOW_S + 100.0, known=True)
    assert (await sent(machine, rotation)).status is Status.DONE
    again = Machine(tmp_path / "var", installed)
    again.moment = machine.moment
    again.graph.asked.clear()
    outcome = await sent(again, signed("light", keys=1))
    assert outcome.status is Status.REFUSED
    assert "not known" in outcome.reason
    damaged = tmp_path / "var" / "commands" / "keys.jws"
    damaged.write_text(damaged.read_text()[:-3] + "AAA")
    reverted = Machine(tmp_path / "var", installed)
    assert "damaged" in reverted.desk.problem
    assert reverted.keys.ring == OPERATOR.ring


async def test_a_ring_that_nobody_could_follow_is_not_taken(machine: Machine) -> None:
    expiring = [{**key.model_dump(mode="json"), "not_after": "2020-01-01T00:00:00Z"} for key in OPERATOR.ring.keys]
    outcome = await sent(machine, signed("rotate_keys", {"keys": expiring}))
    assert outcome.status is Status.FAILED
    assert "0 of the keys" in outcome.reason
    assert machine.keys.ring == OPERATOR.ring


# Maintenance


async def test_a_window_closes_and_opens_by_itself(machine: Machine, tmp_path: Path, installed: Path) -> None:
    assert (await sent(machine, signed("set_maintenance"))).status is Status.DONE
    await machine.executor.tick()
    assert machine.graph.asked == []
    assert machine.graph.windows[-1] == Window(NOW_S + 10.0, NOW_S + 20.0, "new bin", "Anna")
    machine.moment = Moment(NOW_S + 11.0, known=True)
    machine.graph.set(item_inside=True)
    with pytest.raises(RvmError, match="item is in the machine"):
        await machine.executor.tick()
    machine.graph.set(item_inside=False)
    await machine.executor.tick()
    assert machine.graph.state.mode is Mode.PAUSED
    again = Machine(tmp_path / "var", installed, machine.graph)
    again.moment = Moment(NOW_S + 12.0, known=True)
    await again.executor.tick()
    assert again.graph.windows[-1] is not None
    assert again.graph.windows[-1].begun
    assert (await sent(again, signed("in_service"))).status is Status.REFUSED
    again.moment = Moment(NOW_S + 20.0, known=True)
    again.graph.refuse["system/manage"] = "not now"
    with pytest.raises(RvmError, match="not now"):
        await again.executor.tick()
    del again.graph.refuse["system/manage"]
    await again.executor.tick()
    assert again.graph.state.mode is Mode.SERVING
    assert again.graph.windows[-1] is None
    assert Machine(tmp_path / "var", installed).maintenance.window is None


async def test_a_crash_while_a_window_begins_closes_nothing_for_good(
    machine: Machine, tmp_path: Path, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sent(machine, signed("set_maintenance"))
    machine.moment = Moment(NOW_S + 11.0, known=True)
    monkeypatch.setattr(machine.maintenance, "begun", _raise_full)
    with pytest.raises(StorageError):
        await machine.executor.tick()
    assert machine.graph.state.mode is Mode.PAUSED
    again = Machine(tmp_path / "var", installed, machine.graph)
    for at_s in (12.0, 21.0):
        again.moment = Moment(NOW_S + at_s, known=True)
        await again.executor.tick()
    assert again.graph.state.mode is Mode.SERVING


@pytest.mark.parametrize("mode", [Mode.PAUSED, Mode.MAINTENANCE])
async def test_a_machine_that_did_not_serve_does_not_serve_afterwards(machine: Machine, mode: Mode) -> None:
    await sent(machine, signed("set_maintenance"))
    machine.graph.set(mode=mode)
    for at_s in (11.0, 21.0):
        machine.moment = Moment(NOW_S + at_s, known=True)
        await machine.executor.tick()
    assert "RESUME" not in [fields["verb"] for _, fields in machine.graph.asked]


async def test_a_technician_who_came_in_the_window_is_left_alone(machine: Machine) -> None:
    await sent(machine, signed("set_maintenance"))
    machine.moment = Moment(NOW_S + 11.0, known=True)
    await machine.executor.tick()
    machine.graph.set(mode=Mode.MAINTENANCE)
    machine.moment = Moment(NOW_S + 21.0, known=True)
    await machine.executor.tick()
    assert machine.graph.state.mode is Mode.MAINTENANCE
    assert machine.maintenance.window is None


async def test_cancelling_ends_it_at_once(machine: Machine) -> None:
    await sent(machine, signed("set_maintenance"))
    machine.moment = Moment(NOW_S + 11.0, known=True)
    await machine.executor.tick()
    await sent(machine, signed("set_maintenance", {"cancel": True}))
    await machine.executor.tick()
    assert machine.graph.state.mode is Mode.SERVING


async def test_nothing_begins_while_the_time_is_not_known(machine: Machine) -> None:
    await sent(machine, signed("set_maintenance"))
    machine.moment = Moment(NOW_S + 11.0, known=False)
    await machine.executor.tick()
    assert machine.graph.asked == []


# Attack


def attack(generator: random.Random, executed: list[str], number: int) -> tuple[str, str]:
    """A bad envelope and what it is: a mutation of a good one."""
    kind = generator.choice(sorted(GOOD))
    good = OPERATOR.claims(MACHINE, kind, GOOD[kind], now_s=NOW_S)
    what = generator.choice(["forged", "replayed", "late", "machine", "oversized", "malformed", "unsigned", "one key"])
    if what == "forged":
        return what, Operator([SigningKey.generate("a"), SigningKey.generate("b")]).sign(good, 2)
    if what == "replayed":
        return what, generator.choice(executed)
    if what == "late":
        return what, OPERATOR.sign({**good, "issued_at": NOW_S - 900.0, "expires_at": NOW_S - 600.0}, 2)
    if what == "machine":
        return what, OPERATOR.sign({**good, "machine": f"rvm-{generator.randrange(8, 99)}"}, 2)
    if what == "oversized":
        return what, OPERATOR.sign(good, 2) + "A" * generator.choice([1, ENVELOPE_CHARACTERS, 10_000_000])
    if what == "unsigned":
        head, payload, _ = OPERATOR.sign(good).split(".")
        return what, f"{head}.{payload}."
    if what == "one key":
        return what, OPERATOR.sign({**good, "kind": "reboot", "parameters": {}}, 1)
    envelope = OPERATOR.sign(good, 2)
    at = generator.randrange(len(envelope) - 3)
    junk = generator.choice(["\0", "é", "{", "\ud800", " ", "." * 50, "[" * 9000, '{"alg":"none"}'])
    return what, envelope[:at] + junk + envelope[at + 3 :]


async def test_a_thousand_bad_ones_and_not_one_is_executed(machine: Machine, tmp_path: Path, installed: Path) -> None:
    generator = random.Random(20261128)
    executed = [signed(kind) for kind in ("light", "show_message", "restart_node")]
    for envelope in executed:
        assert (await sent(machine, envelope)).status is Status.DONE
    graph, before, size = machine.graph, list(machine.graph.asked), _bytes(tmp_path / "var")
    tried: Counter[str] = Counter()
    task = asyncio.create_task(machine.desk.run())
    for number in range(1000):
        what, envelope = attack(generator, executed, number)
        tried[what] += 1
        await until(lambda envelope=envelope: machine.desk.receive(envelope), 0.001)
    await until(lambda: machine.desk.refused == 1000)
    assert not task.done(), "it lives on"
    assert len(tried) == 8
    assert (graph.asked, graph.ran, graph.parameters) == (before, [], [])
    assert machine.desk.executed == len(executed)
    assert len(machine.desk.outcomes()) <= 50
    good = signed("light")
    machine.desk.receive(good)
    await until(lambda: machine.desk.executed == len(executed) + 1)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    counted: Counter[str] = Counter()
    for entry in lines(machine, "turned_away"):
        counted.update({name: count for name, count in entry["counts"].items() if name != "queue"})
    assert sum(counted.values()) == 1000, "each is counted in the log"
    assert counted["replayed"] == tried["replayed"]
    assert counted["expired"] == tried["late"]
    assert counted["machine"] == tried["machine"]
    assert counted["keys"] == tried["one key"]
    assert counted["signature"] + counted["size"] == sum(
        tried[what] for what in ("forged", "oversized", "malformed", "unsigned")
    )
    assert _bytes(tmp_path / "var") - size < 20_000, "what anybody can send does not fill the disk"
    assert verify_log(machine.audit_folder, machine.public).problems == []
    assert json.dumps(lines(machine, "turned_away")).isascii()


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


# The configuration


async def test_a_change_is_applied_and_kept(machine: Machine, tmp_path: Path, installed: Path) -> None:
    patch = {"patch": {"deposit": {"show_s": 3.0}, "detector": {"threshold": 0.8}}}
    outcome = await sent(machine, signed("config_update", patch))
    assert outcome.status is Status.DONE
    assert outcome.detail == {"version": "1", "restarted": "detector, deposit"}
    assert machine.graph.restarted == ["detector", "deposit"], "in bring-up order"
    state = Machine(tmp_path / "var", installed).overlay.read()
    assert state.current.parameters == patch["patch"]
    assert (state.current.by, state.on_trial) == ("a, b", False)
    outcome = await sent(machine, signed("config_update", patch))
    assert outcome.detail == {"version": "1", "changed": "nothing"}
    outcome = await sent(machine, signed("config_update", {"patch": {"detector": {"threshold": None}}}))
    assert outcome.detail == {"version": "2", "restarted": "detector"}
    assert machine.overlay.read().current.parameters == {"deposit": {"show_s": 3.0}}


@pytest.mark.parametrize(
    ("patch", "line"),
    [
        ({"detector": {"threshold": 7.0}}, "threshold = 7 is not allowed"),
        ({"detector": {"thresold": 0.7}}, "no parameter"),
        ({"detectr": {"threshold": 0.7}}, "no node"),
        ({"detector": {"threshold": {"a": 1}}}, "not allowed"),
        ({"detector": {"model_path": "/tmp/evil.pt"}}, "not changed from afar"),
        ({"cloud_bridge": {"server_url": "https://evil.example"}}, "not changed from afar"),
        ({"cloud_bridge": {"commands.keys_file": "/tmp/keys.yaml"}}, "not changed from afar"),
        ({"cloud_bridge": {"commands.two_keys": []}}, "not changed from afar"),
        ({"cloud_bridge": {"server_url": ""}}, "it names a file, device, line, address, command or secret"),
        ({"cloud_bridge": {"heartbeat_interval_s": 60.0}}, "it judges the trial"),
        ({"lifecycle_manager": {"heartbeat_timeout_s": 9.0}}, "nobody restarts it"),
        ({"actuator": {"travel_limit_s": 30.0}}, "it keeps people from being hurt"),
        ({"actuator": {"travel_limit_s": 30.0}}, "not changed from afar"),
        ({"actuator": {"interlock_lines": []}}, "not changed from afar"),
        ({"sensor": {"debounce.hand_s": 1.0}}, "not changed from afar"),
        ({"lifecycle_manager": {"power_off_command": ["rm"]}}, "not changed from afar"),
        ({"sensor": {"bin_level.empty_m": 0.05}}, "must be above full_m"),
        ({"sensor": {"bin_level.empty_m": 0.3, "bin_level.full_m": 0.5}}, "must be above full_m"),
        ({"detector": {"threshold": [1, 2]}}, "not allowed"),
        ({"detector": {"votes": "many"}}, "not allowed"),
    ],
)
async def test_a_bad_patch_changes_nothing(machine: Machine, patch: dict[str, Any], line: str) -> None:
    both = {"patch": {"deposit": {"show_s": 3.0}, **patch}}
    outcome = await sent(machine, signed("config_update", both))
    assert outcome.status is Status.REFUSED
    assert line in outcome.reason
    assert (machine.graph.asked, machine.overlay.read().newest) == ([], 0)


async def test_what_the_environment_fixes_is_not_changed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTION_THRESHOLD", "0.6")
    outcome = await sent(machine, signed("config_update", {"patch": {"detector": {"threshold": 0.8}}}))
    assert "fixed on this machine by DETECTION_THRESHOLD" in outcome.reason


async def test_what_does_not_go_together_over_nodes_changes_nothing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(nodes: Mapping[str, Settings]) -> None:
        if nodes["deposit"].model_dump()["show_s"] == 3.0:
            raise SettingsError("detector and deposit contradict each other")

    monkeypatch.setattr(config_update, "check_settings", judged)
    outcome = await sent(machine, signed("config_update"))
    assert (outcome.status, outcome.reason) == (Status.REFUSED, "detector and deposit contradict each other")
    assert (machine.graph.asked, machine.overlay.read().newest) == ([], 0)


async def test_values_are_judged_together(machine: Machine) -> None:
    both = {"sensor": {"bin_level.empty_m": 0.05, "bin_level.full_m": 0.01}}
    outcome = await sent(machine, signed("config_update", {"patch": both}))
    assert (outcome.status, outcome.reason) == (Status.DONE, "")


@pytest.mark.parametrize("view", [NodeView(active=False, error="no such model"), NodeView(active=True, error="blind")])
async def test_a_graph_that_is_not_healthy_goes_back(tmp_path: Path, installed: Path, view: NodeView) -> None:
    machine = Machine(tmp_path / "var", installed, trial_s=1.0)
    await sent(machine, signed("config_update", {"patch": {"deposit": {"show_s": 3.0}}}))
    well = machine.graph.state.nodes["detector"]

    def break_it(service: str, fields: dict[str, Any]) -> None:
        on_trial = machine.overlay.read().on_trial
        machine.graph.set_node("detector", view if on_trial else well)

    machine.graph.before_answer = break_it
    outcome = await sent(machine, signed("config_update", {"patch": {"detector": {"votes": 5}}}))
    assert outcome.status is Status.FAILED
    assert outcome.reason.startswith("version 2 was taken back: detector is not ")
    state = machine.overlay.read()
    assert state.current.parameters == {"deposit": {"show_s": 3.0}}
    assert (state.on_trial, state.newest) == (False, 2)
    assert machine.graph.restarted == ["deposit", "detector", "detector"]
    machine.graph.before_answer = lambda service, fields: None
    outcome = await sent(machine, signed("config_update", {"patch": {"detector": {"votes": 5}}}))
    assert outcome.detail["version"] == "3", "a version is never used twice"


async def test_a_kill_in_the_trial_goes_back_at_the_next_start(
    machine: Machine, tmp_path: Path, installed: Path
) -> None:
    class KilledError(BaseException):
        pass

    def killed(service: str, fields: dict[str, Any]) -> None:
        raise KilledError

    machine.graph.before_answer = killed
    with pytest.raises(KilledError):
        await machine.desk.handle(signed("config_update", {"patch": {"deposit": {"show_s": 3.0}}}))
    assert machine.overlay.read().on_trial
    again = Machine(tmp_path / "var", installed, FakeGraph())
    await again.desk._settle()
    assert again.overlay.read().current.parameters == {}
    assert again.graph.restarted == ["deposit"]
    assert [outcome.status for outcome in again.desk.outcomes()] == [Status.INTERRUPTED]


@pytest.mark.parametrize("writes", [2, 3])
async def test_a_disk_that_fills_in_the_trial_ends_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """The trial's two files fit, or one more; then there is room for nothing but a change of names."""
    await sent(machine, signed("config_update", {"patch": {"detector": {"votes": 5}}}))
    before = len(machine.graph.restarted)
    free = iter(range(writes))
    replace = durable.replace

    def filling(path: Path, content: bytes, mode: int = 0o644) -> None:
        if path.parent.name == "configuration" and next(free, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(path, content, mode)

    monkeypatch.setattr(durable, "replace", filling)
    outcome = await sent(machine, signed("config_update", {"patch": {"deposit": {"show_s": 3.0}}}))
    state = machine.overlay.read()
    if writes == 3:
        assert (outcome.status, state.on_trial, state.newest) == (Status.DONE, False, 2)
        return
    assert outcome.status is Status.FAILED
    assert outcome.reason.startswith("version 2 was taken back: ")
    assert "No space left" in outcome.reason
    assert machine.graph.restarted[before:] == ["deposit", "deposit"]
    assert state.current.parameters == {"detector": {"votes": 5}}
    assert (state.on_trial, state.newest) == (False, 2)
    monkeypatch.setattr(durable, "replace", replace)
    outcome = await sent(machine, signed("config_update", {"patch": {"deposit": {"show_s": 3.0}}}))
    assert outcome.detail["version"] == "3"


async def test_a_trial_that_nobody_judges_gives_way_to_the_next(machine: Machine) -> None:
    left = State(Overlay(1, {"deposit": {"show_s": 3.0}}), on_trial=True, newest=1)
    machine.overlay.write(left)
    outcome = await sent(machine, signed("config_update", {"patch": {"detector": {"votes": 5}}}))
    assert (outcome.status, outcome.detail["version"]) == (Status.DONE, "2")
    assert machine.graph.restarted == ["deposit", "detector"]
    assert machine.overlay.read().current.parameters == {"detector": {"votes": 5}}


async def test_the_price_is_a_change_of_the_configuration(machine: Machine) -> None:
    await sent(machine, signed("set_price_table"))
    table = {"points_per_item": 12, "points_by_class": [""]}
    assert machine.overlay.read().current.parameters == {"deposit": table}
    prices = {"points_per_item": 5, "classes": {"mineral": 7, "can": 0}}
    assert (await sent(machine, signed("set_price_table", prices))).status is Status.DONE
    found = settings(default_files("desk"), machine.overlay.read().current.parameters)["deposit"]
    assert isinstance(found, DepositSettings)
    assert (found.points_per_item, found.prices) == (5, {"mineral": 7, "can": 0})
