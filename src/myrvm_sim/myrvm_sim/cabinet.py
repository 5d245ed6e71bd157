"""The simulated cabinet, a process: `python -m myrvm_sim.cabinet --socket PATH [--gpio FOLDER] [--sysfs FOLDER]`.

A stand-in for hardware. The world of `physics` runs in real time on a thread of its own, which sleeps until something
happens. The machine meets it at a GPIO chip, FOLDER/gpiochip0, and in the files of a piece of `/sys`; people speak
`protocol` over the Unix socket. Prints one JSON line when it is ready; ends on SIGTERM, SIGINT.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from myrvm_core.errors import RvmError

from myrvm_sim import album, protocol, sysfs, wiring
from myrvm_sim.gpio_chip import Chip
from myrvm_sim.gpio_server import GpioServer, ask_for_real_time
from myrvm_sim.items import Item, Place
from myrvm_sim.physics import Entry, World

SAMPLE_S = 0.2  # between samples of the analogue sensors
CHIP = "gpiochip0"
SWITCH_INTERVAL_S = 0.0005  # a thread that computes lets the chip's thread in so soon


class Cabinet:
    """A world in real time, for any number of threads."""

    def __init__(
        self,
        seed: int = 0,
        folder: Path = album.PICTURES,
        gate_log: Path | None = None,
        gpio: Path | None = None,
        sysfs_root: Path | None = None,
    ) -> None:
        self._world = World(seed)
        self.album = album.Album(folder, seed)
        self._changed = threading.Condition()
        self._plugging = threading.Lock()
        self._begin_ns = time.monotonic_ns()
        self._camera = "live"
        self._gate_log = gate_log.open("a", encoding="utf-8", buffering=1) if gate_log else None
        self._logged = 0
        self._ending = self._news = False
        self._sleeps_until_s: float | None = None
        self.wiring = wiring.Wiring(self._world, self._new_chip(), self.at_ns)
        self._sysfs = sysfs.SysfsTree(sysfs_root) if sysfs_root else None
        self._gpio = gpio
        self._server: GpioServer | None = None
        self.plug_chip()
        self._thread = threading.Thread(target=self._run, name="physics")
        self._thread.start()

    def stop(self) -> None:
        """End the world's thread."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        self._thread.join()
        self.unplug_chip()
        if self._gate_log:
            self._gate_log.close()

    def plug_chip(self) -> None:
        """The GPIO chip appears."""
        with self._plugging:
            if self._gpio and self._server is None:
                self._server = GpioServer(self._gpio / CHIP, self.wiring.chip, self._for_chip)

    def unplug_chip(self) -> None:
        """The GPIO chip vanishes, and nothing is driven any more."""
        with self._plugging:
            server, self._server = self._server, None
            if server:
                server.stop()  # outside `now`: its thread may wait for that
                with self.now() as (_, now_s):
                    self.wiring.connect(self._new_chip(), now_s)

    def _new_chip(self) -> Chip:
        return Chip(CHIP, wiring.LABEL, wiring.LINES, lambda at_ns: time.time_ns() - time.monotonic_ns() + at_ns)

    @contextmanager
    def _for_chip(self) -> Iterator[int]:
        with self.now() as (_, now_s):
            yield self.at_ns(now_s)

    @contextmanager
    def now(self) -> Iterator[tuple[World, float]]:
        """The world, advanced to the present, and its time; what the caller changes is told to all."""
        with self._changed:
            now_s = self._now_s()
            self._world.advance(now_s)
            self._distribute(now_s)
            try:
                yield self._world, now_s
            finally:
                self._distribute(now_s)

    def _now_s(self) -> float:
        return (time.monotonic_ns() - self._begin_ns) / 1e9

    def at_ns(self, at_s: float) -> int:
        """A time of the world on the machine's clock, CLOCK_MONOTONIC."""
        return self._begin_ns + round(at_s * 1e9)

    def in_view(self) -> tuple[Item | None, str, bool, int]:
        """What the camera sees now, its state, whether there is light, and the time, CLOCK_MONOTONIC ns."""
        with self.now() as (world, now_s):
            item = world.present()
            in_chamber = item if item and item.place is Place.CHAMBER else None
            return in_chamber, self._camera, self.wiring.lit, self.at_ns(now_s)

    def set_camera(self, state: str) -> None:
        """Change what is the matter with the camera."""
        with self._changed:
            self._camera = state

    def write_sysfs(self, texts: Mapping[Path, str]) -> None:
        """Change files of the simulated sysfs. Raises RvmError where there is none."""
        if self._sysfs is None:
            raise RvmError("this cabinet has no sysfs: start it with --sysfs")
        self._sysfs.write(texts)

    def _distribute(self, now_s: float) -> None:
        self.wiring.settle(now_s)
        if server := self._server:  # another thread may unplug it
            server.wake_readers()
        log, fresh = self._world.log, self._world.recorded - self._logged
        self._logged += fresh
        if self._gate_log:
            for index in range(-min(fresh, len(log)), 0):
                print(json.dumps(self.entry(log[index])), file=self._gate_log)
        if fresh or self._next_s() != self._sleeps_until_s:
            self._news = True
            self._changed.notify_all()

    def _next_s(self) -> float | None:
        wires_ns = self.wiring.next_event_ns()
        both = self._world.next_event_s(), None if wires_ns is None else (wires_ns - self._begin_ns) / 1e9
        return min((at_s for at_s in both if at_s is not None), default=None)

    def entry(self, entry: Entry) -> protocol.Answer:
        """A line of the log as it is sent."""
        return {"at_ns": self.at_ns(entry.at_s), "what": entry.what, "item": entry.item, "detail": entry.detail}

    def item(self, item: Item) -> protocol.Answer:
        """An item as it is sent."""
        row = asdict(item) | {"kind": item.kind.value, "place": item.place.value}
        del row["inserted_s"]
        return row | {"inserted_ns": self.at_ns(item.inserted_s)}

    def _run(self) -> None:
        sample_s = 0.0 if self._sysfs else math.inf
        while not self._ending:
            with self.now() as (world, now_s):
                self._news = False
                texts = sysfs.motor_current(world.current(now_s))
                if now_s >= sample_s:
                    sample_s = now_s + SAMPLE_S
                    texts |= sysfs.weight(world.weigh(now_s)) | sysfs.bin_level(world.bin_level)
            if self._sysfs:
                self._sysfs.write(texts)
            with self._changed:
                self._sleeps_until_s = self._next_s()
                until_s = min(sample_s, math.inf if self._sleeps_until_s is None else self._sleeps_until_s)
                limit_s = None if until_s == math.inf else max(0.0, until_s - self._now_s())
                self._changed.wait_for(lambda: self._news or self._ending, limit_s)


class Handler(socketserver.BaseRequestHandler):
    """One client."""

    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]
    request: socket.socket

    def setup(self) -> None:
        """The cabinet, and a camera of this client's own."""
        self._cabinet = self.server.cabinet
        self._sensor = album.Sensor(id(self) % 2**32)
        self._next_picture_s = 0.0

    def handle(self) -> None:
        """Answer until the client goes."""
        with contextlib.suppress(OSError, protocol.ProtocolError):
            while True:
                text, _ = protocol.receive(self.request)
                payload: memoryview | bytes = b""
                try:
                    answer, payload = self._answer(protocol.parse(text))
                except (ValueError, RvmError) as error:
                    answer = {"error": str(error)}
                protocol.send(self.request, json.dumps(answer).encode(), payload)

    def _answer(self, request: protocol.Request) -> tuple[protocol.Answer, bytes | memoryview]:
        if isinstance(request, protocol.Picture):
            return self._picture(request.rate_hz)
        if isinstance(request, protocol.ChipPlugged):
            (self._cabinet.plug_chip if request.plugged else self._cabinet.unplug_chip)()
            return {}, b""
        if isinstance(request, protocol.Power):
            self._cabinet.write_sysfs(sysfs.power(request.mains, request.battery_percent))
            return {}, b""
        if isinstance(request, protocol.Temperature):
            self._cabinet.write_sysfs(sysfs.temperature(request.zone, request.celsius))
            return {}, b""
        if isinstance(request, protocol.Camera):
            self._cabinet.set_camera(request.state)
            return {}, b""
        with self._cabinet.now() as (world, now_s):
            return self._of_world(request, world, now_s), b""

    def _of_world(self, request: protocol.Request, world: World, now_s: float) -> protocol.Answer:
        match request:
            case protocol.Insert(kind=kind, picture=""):
                return {"item": self._cabinet.item(world.insert(kind, now_s))}
            case protocol.Insert(kind=kind, picture=picture, disguised=disguised):
                album.load(Path(picture))
                kind = kind if disguised else self._cabinet.album.kind_of(Path(picture)) or kind
                return {"item": self._cabinet.item(world.insert(kind, now_s, str(Path(picture).resolve())))}
            case protocol.PullOut():
                return {"item": self._cabinet.item(world.pull_out(now_s))}
            case protocol.PullBack():
                return {"item": self._cabinet.item(world.pull_back(now_s))}
            case protocol.ThrowIn(kind=kind):
                return {"item": self._cabinet.item(world.throw_in(kind, now_s))}
            case protocol.Door(opened=opened):
                world.set_door(opened, now_s)
            case protocol.PowerFail(failing=failing):
                world.set_power_fail(failing, now_s)
            case protocol.Stuck(line=line, active=active):
                self._cabinet.wiring.stick(line, active, now_s)
            case protocol.Chatter(line=line, frequency_hz=frequency_hz, duration_s=duration_s):
                self._cabinet.wiring.chatter(line, frequency_hz, duration_s, now_s)
            case protocol.Glitch(line=line, width_s=width_s):
                self._cabinet.wiring.glitch(line, width_s, now_s)
            case protocol.ChipTrouble(debounce_errno=debounce_errno, longest_buffer=longest_buffer):
                self._cabinet.wiring.chip.debounce_error = debounce_errno
                self._cabinet.wiring.chip.longest_buffer = longest_buffer
            case protocol.Hand(inside=inside):
                world.set_hand(inside, now_s)
            case protocol.Emergency(pressed=pressed):
                world.set_emergency(pressed, now_s)
            case protocol.Stick(jam=jam):
                world.stick(jam, now_s)
            case protocol.Bin(full=full):
                (world.fill_bin if full else world.empty_bin)(now_s)
            case protocol.Room():
                return {"free": world.has_room(now_s)}
            case protocol.Truth():
                return {
                    "items": [self._cabinet.item(item) for item in world.items.values()],
                    "pieces_in_bin": world.pieces_in_bin,
                    "jam": world.jam.value if world.jam else None,
                    "moving": world.moving,
                    "position": world.position(now_s).name,
                }
            case protocol.Log():
                return {"entries": [self._cabinet.entry(entry) for entry in world.log]}
        return {}

    def _picture(self, rate_hz: float) -> tuple[protocol.Answer, bytes | memoryview]:
        now_s = time.monotonic()
        if self._next_picture_s > now_s:
            time.sleep(self._next_picture_s - now_s)  # the camera's next picture is not due yet
        self._next_picture_s = max(self._next_picture_s, now_s) + 1.0 / rate_hz
        item, state, lit, at_ns = self._cabinet.in_view()
        if state == "unplugged":
            raise RvmError("the camera is unplugged")
        frame = self._sensor.expose(album.load(self._cabinet.album.of(item)), state, lit)
        height, width = frame.shape[:2]
        return {"at_ns": at_ns, "height": height, "width": width}, frame.data.cast("B")


class Server(socketserver.ThreadingUnixStreamServer):
    """The Unix socket."""

    daemon_threads = True  # a thread waits for its client; the end of the process needs none of them
    block_on_close = False

    def __init__(self, path: Path, cabinet: Cabinet) -> None:
        self.cabinet = cabinet
        if path.is_socket():
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(ConnectionRefusedError):
                probe.connect(str(path))
                raise RvmError(f"{path} is the socket of a cabinet that runs")
            path.unlink()
        try:
            super().__init__(str(path), Handler)
        except OSError as error:
            raise RvmError(f"socket {path} cannot be made: {error}") from error


def main(arguments: list[str] | None = None) -> int:
    """Run until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m myrvm_sim.cabinet", description="The simulated cabinet.")
    parser.add_argument("--socket", type=Path, required=True, help="path of the Unix socket, at most 107 bytes")
    parser.add_argument("--seed", type=int, default=0, help="of weights, sizes, friction and the customer's reactions")
    parser.add_argument("--gate-log", type=Path, help="append what really happens to this file, one JSON line an event")
    parser.add_argument("--gpio", type=Path, help="folder for the GPIO chip's socket: MYRVM_GPIO of the machine")
    parser.add_argument("--sysfs", type=Path, help="folder for a simulated piece of /sys: MYRVM_SYSFS of the machine")
    parser.add_argument("--pictures", type=Path, default=album.PICTURES, help="folder with index.json")
    options = parser.parse_args(arguments)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    ask_for_real_time()
    try:
        cabinet = Cabinet(options.seed, options.pictures, options.gate_log, options.gpio, options.sysfs)
    except (RvmError, OSError) as error:
        print(f"cabinet: {error}", file=sys.stderr)
        return 1
    try:
        server = Server(options.socket, cabinet)
    except RvmError as error:
        print(f"cabinet: {error}", file=sys.stderr)
        cabinet.stop()
        return 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="server")
    serving.start()
    print(json.dumps({"ready": str(options.socket)}), flush=True)
    stop.wait()
    server.shutdown()
    serving.join()
    server.server_close()
    options.socket.unlink(missing_ok=True)
    cabinet.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
