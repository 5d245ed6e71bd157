"""The cabinet: what people say over its socket, the camera, and its sensors and motor at the GPIO chip."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from myrvm_core.errors import DeviceError, RvmError, SettingsError
from myrvm_hardware.drivers import Direction
from myrvm_hardware.gpio_lines import Input, LineEdge, Lines, Output
from myrvm_sim.cabinet import Cabinet, Server
from myrvm_sim.cabinet_client import CabinetClient, socket_path
from myrvm_sim.commands import insert
from myrvm_sim.physics import ImpossibleError, Kind
from typer.testing import CliRunner

from myrvm_sim import album, protocol, wiring


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of one grey for each kind: 9, 18, 27 ... in the order of `Kind`."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for index, kind in enumerate(Kind):
        cv2.imwrite(str(folder / f"{kind.value}_00.png"), np.full((48, 64, 3), grey(kind), np.uint8))
        rows.append({"file": f"{kind.value}_00.png", "kind": kind.value, "model_class": None, "boxes": []})
        assert grey(kind) == 9 * (index + 1)
    (folder / "index.json").write_text(json.dumps(rows))
    return folder


def grey(kind: Kind) -> int:
    return 9 * (list(Kind).index(kind) + 1)


@pytest.fixture
def path(tmp_path: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The socket of a cabinet in this process; its GPIO chip is there too."""
    monkeypatch.setenv("MYRVM_GPIO", str(tmp_path / "gpio"))
    cabinet = Cabinet(seed=1, folder=drawn, gpio=tmp_path / "gpio")
    server = Server(tmp_path / "cabinet", cabinet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield tmp_path / "cabinet"
    server.shutdown()
    thread.join()
    server.server_close()
    cabinet.stop()


@pytest.fixture
def client(path: Path) -> Iterator[CabinetClient]:
    with CabinetClient(path) as client:
        yield client


def wait(condition, limit_s: float = 30.0) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def mean(client: CabinetClient) -> float:
    answer, payload = client.ask(protocol.Picture())
    assert len(payload) == answer["height"] * answer["width"] * 3 == 640 * 480 * 3
    return float(np.frombuffer(payload, np.uint8).mean())


def test_the_camera_shows_the_item_while_it_is_in_the_chamber(client: CabinetClient) -> None:
    assert mean(client) == pytest.approx(grey(Kind.NOTHING), abs=2)
    client.insert(Kind.SODA)
    assert mean(client) == pytest.approx(grey(Kind.SODA), abs=2)
    client.pull_out()
    assert mean(client) == pytest.approx(grey(Kind.NOTHING), abs=2)


def test_a_picture_file_can_be_inserted(client: CabinetClient, drawn: Path) -> None:
    assert client.insert(picture=drawn / "milk_00.png")["kind"] == "milk", "the album knows what its pictures show"
    assert mean(client) == pytest.approx(grey(Kind.MILK), abs=2)
    client.pull_out()
    assert client.insert(Kind.PHONE, drawn / "milk_00.png", disguised=True)["kind"] == "phone"
    client.pull_out()
    with pytest.raises(ImpossibleError, match=r"nowhere\.png is not there"):
        client.insert(picture=drawn / "nowhere.png")


def test_each_frame_has_noise_of_its_own_unless_the_camera_hangs(client: CabinetClient) -> None:
    def frames() -> set[bytes]:
        return {bytes(client.ask(protocol.Picture())[1]) for _ in range(3)}

    assert len(frames()) == 3
    client.set_camera("frozen")
    assert len(frames()) == 1


@pytest.mark.parametrize(
    ("state", "low", "high"), [("dark", 0.5, 15.0), ("overexposed", 250.0, 255.0), ("black", 0, 0)]
)
def test_what_can_be_the_matter_with_the_camera(client: CabinetClient, state: str, low: float, high: float) -> None:
    client.set_camera(state)
    assert low <= mean(client) <= high


def test_an_unplugged_camera_gives_no_picture_and_comes_back(client: CabinetClient) -> None:
    client.set_camera("unplugged")
    with pytest.raises(DeviceError, match="unplugged"):
        mean(client)
    client.set_camera("live")
    mean(client)


def test_pictures_come_at_the_rate_that_is_asked_for(client: CabinetClient) -> None:
    stamps = [client.ask(protocol.Picture(rate_hz=100.0))[0]["at_ns"] for _ in range(10)]
    assert stamps[-1] - stamps[0] >= 9 * 10_000_000 * 0.9


def test_sensors_and_motor_are_at_the_chip(client: CabinetClient) -> None:
    number = client.insert(Kind.MINERAL)["number"]
    lines = Lines(wiring.LABEL, {"motor": wiring.MOTOR_BIN, "entry": "ENTRY", "drop": "DROP", "bin": "SWITCH_BIN"})
    switch = Input(active_low=True, bias="up")
    lines.open({"motor": Output(), "entry": switch, "drop": switch, "bin": switch})
    assert lines.levels() == {"motor": False, "entry": True, "drop": False, "bin": False}
    begun_ns = time.monotonic_ns()
    lines.set({"motor": True})
    edges: list[LineEdge] = []
    while len(edges) < 4:
        more, lost = lines.read_edges(30.0)
        assert more
        assert not lost
        edges += more
    seen = [(edge.purpose, edge.active) for edge in edges]
    assert seen == [("entry", False), ("bin", True), ("drop", True), ("drop", False)]
    stamps = [begun_ns, *(edge.monotonic_ns for edge in edges), time.monotonic_ns()]
    assert stamps == sorted(stamps)
    truth = client.truth()
    assert (truth["items"][number - 1]["place"], truth["pieces_in_bin"], truth["position"]) == ("bin", 1, "BIN")
    assert not client.chamber_is_free(), "the gate is still open"
    lines.close()
    wait(lambda: [entry["detail"] for entry in client.log() if entry["what"] == "motor"] == ["to_bin", "off"])


@given(st.binary(max_size=60) | st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=5)).map(
    lambda value: json.dumps(value).encode()))  # fmt: skip
def test_nonsense_gives_one_clear_line(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"^request ") as caught:
        protocol.parse(text)
    assert "\n" not in str(caught.value)


def test_nonsense_does_not_end_the_connection(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(30.0)
        raw.connect(str(path))
        for text in (b"{", b'{"do": "dance"}', b'{"do": "door", "opened": "UP"}'):
            protocol.send(raw, text)
            assert "request" in json.loads(protocol.receive(raw)[0])["error"]
        protocol.send(raw, b'{"do": "room"}')
        assert "free" in json.loads(protocol.receive(raw)[0])


def test_a_lost_cabinet_is_a_device_error_and_reopening_works(tmp_path: Path, drawn: Path) -> None:
    client = CabinetClient(tmp_path / "cabinet")
    with pytest.raises(DeviceError, match="not reached"):
        client.open()
    for _ in range(2):
        cabinet = Cabinet(folder=drawn)
        server = Server(tmp_path / "cabinet", cabinet)
        server.socket.settimeout(30.0)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        client.open()
        thread.join()
        assert client.chamber_is_free()
        with pytest.raises(RvmError, match="cabinet that runs"):
            Server(tmp_path / "cabinet", cabinet)
        server.server_close()
        client._connection.shutdown(socket.SHUT_RDWR)  # pyright: ignore
        with pytest.raises(DeviceError, match="is lost"):
            client.truth()
        cabinet.stop()


def test_the_socket_is_named_by_device_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYRVM_CABINET", "/run/one")
    assert socket_path() == Path("/run/one")
    assert socket_path("/run/two") == Path("/run/two")
    monkeypatch.delenv("MYRVM_CABINET")
    with pytest.raises(SettingsError, match="MYRVM_CABINET"):
        socket_path()


def test_an_album_without_a_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('[{"file": "a.jpg", "kind": "mineral"}]')
    with pytest.raises(SettingsError, match="has no picture of not_empty"):
        album.Album(tmp_path, 0)


def test_the_log_file_holds_what_happened(tmp_path: Path, drawn: Path) -> None:
    cabinet = Cabinet(folder=drawn, gate_log=tmp_path / "gate.jsonl")
    with cabinet.now() as (world, now_s):
        world.drive(Direction.TO_BIN, now_s)
    with cabinet.now() as (world, now_s):
        world.drive(Direction.OFF, now_s)
    cabinet.stop()
    rows = [json.loads(line) for line in (tmp_path / "gate.jsonl").read_text().splitlines()]
    assert [(row["what"], row["detail"]) for row in rows] == [("motor", "to_bin"), ("motor", "off")]


def test_rvm_insert(path: Path, drawn: Path) -> None:
    app = typer.Typer()
    app.command()(insert)

    def call(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*arguments, "--cabinet", str(path)])
        return result.exit_code, result.output

    assert call("can")[1].startswith("item 1: can, 1")
    code, output = call("milk")
    assert (code, output) == (1, "rvm insert: item 1 (can) is still in the chamber\n")
    code, output = call("banana")
    assert code == 1
    assert "'banana' is no picture file; allowed: a file, mineral, not_empty" in output
    with CabinetClient(path) as client:
        client.pull_out()
    assert call(str(drawn / "soda_00.png"))[1].startswith("item 2: soda")
