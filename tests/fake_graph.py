"""A stand-in for the graph that commands from afar act on: it records what it was asked, and obeys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from myrvm_cloud.audit_log import AuditLog
from myrvm_cloud.call import Call, CallError, ErrorKind
from myrvm_cloud.command_check import Moment
from myrvm_cloud.command_desk import CommandDesk
from myrvm_cloud.command_executor import Executor
from myrvm_cloud.command_graph import CommandError, MachineState, NodeView
from myrvm_cloud.command_journal import JournalFile
from myrvm_cloud.command_settings import CommandSettings
from myrvm_cloud.config_update import ConfigurationChange
from myrvm_cloud.http_line import Sink
from myrvm_cloud.key_store import KeyStore
from myrvm_cloud.maintenance import Maintenance, Window
from myrvm_cloud.rest_client import MyrvmClient, RestClient
from myrvm_core.configuration import default_files
from myrvm_core.graph import load
from myrvm_core.machine_mode import Mode
from myrvm_core.overlay import OverlayFile
from myrvm_core.signing import SigningKey

from myrvm_cloud import command_journal

MACHINE = "rvm-7"
NOW_S = 1_800_000_000.0


class SilentLog:
    """Takes lines and keeps their texts."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda text, **fields: self.lines.append((level, text, fields))


class FakeGraph:
    """`asked` is each service with its fields, in order; `refuse` answers a service with a line."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.refuse: dict[str, str] = {}
        self.ran: list[list[str]] = []
        self.parameters: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.windows: list[Window | None] = []
        self.before_answer: Callable[[str, dict[str, Any]], None] = lambda service, fields: None
        nodes = {name: NodeView(active=True, ok=True) for name in load().names}
        self.state = MachineState(Mode.SERVING, item_inside=False, nodes=nodes)

    def set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)

    def set_node(self, name: str, view: NodeView) -> None:
        self.set(nodes={**self.state.nodes, name: view})

    @property
    def restarted(self) -> list[str]:
        return [fields["node"] for _, fields in self.asked if fields.get("verb") == "RESTART"]

    async def ask(self, service: str, limit_s: float, **fields: Any) -> Any:
        self.asked.append((service, fields))
        self.before_answer(service, fields)
        line = self.refuse.get(service, "")
        if service == "system/manage" and not line:
            modes = {"OUT_OF_SERVICE": Mode.PAUSED, "RESUME": Mode.SERVING}
            self.set(mode=modes.get(fields["verb"], self.state.mode))
        return SimpleNamespace(
            success=not line, taken=not line, message=line, read_back=bool(fields.get("on")), report="{}"
        )

    async def set_parameter(self, node: str, name: str, value: str) -> None:
        self.parameters.append((node, name, value))

    async def picture(self, timeout_s: float) -> bytes:
        if "camera/capture" in self.refuse:
            raise CommandError(self.refuse["camera/capture"])
        return b"\xff\xd8jpeg"

    async def run(self, words: Sequence[str], timeout_s: float) -> None:
        self.ran.append(list(words))

    def show(self, command_id: str, text: str, duration_s: float) -> None:
        self.texts.append(text)

    def announce(self, window: Window | None) -> None:
        if not self.windows or self.windows[-1] != window:
            self.windows.append(window)


class FakeServer:
    """A stand-in for the line to the server: keeps what is uploaded, or refuses it with a line."""

    def __init__(self) -> None:
        self.client: RestClient = MyrvmClient("https://host", MACHINE, "0.1.0")
        self.uploads: list[Call[Any]] = []
        self.refuse = ""
        self.files: dict[str, bytes] = {}

    async def download(self, url: str, sink: Sink, limit_bytes: int, total_s: float) -> int:
        if url not in self.files:
            raise CallError(ErrorKind.NETWORK, "download: server not reached: ClientPayloadError")
        content = self.files[url]
        for begin in range(0, min(len(content), limit_bytes), 4096):
            await sink(content[begin : min(begin + 4096, limit_bytes)])
        return len(content)

    async def ask(self, call: Call[Any], total_s: float | None = None) -> Any:
        if self.refuse:
            raise CallError(ErrorKind.REFUSED, self.refuse, 422)
        self.uploads.append(call)
        (upload_id,) = parse_qs(urlsplit(call.path).query)["upload_id"]
        return call.read({"upload_id": upload_id, "sha256": hashlib.sha256(call.body).hexdigest()})


class Machine:
    """A desk for commands on the files of a folder; made anew, it is the machine after a restart."""

    def __init__(
        self, folder: Path, installed: Path, graph: FakeGraph | None = None, boot_id: str = "boot-1", **settings: Any
    ) -> None:
        self.graph = graph or FakeGraph()
        self.log = SilentLog()
        self.moment = Moment(NOW_S, known=True)
        self.folder = folder
        quick = {"steady_s": 0.0, "item_limit_s": 1.0, "trial_s": 5.0, "burst": 1000}
        self.settings = CommandSettings(**{**quick, **settings})
        key = SigningKey.load_or_make(folder / "identity" / "machine.pem")
        self.public = key.public
        self.audit_folder = folder / "audit" / "commands"
        self.audit = AuditLog(self.audit_folder, key, lambda: (self.moment.epoch_s, True))
        self.keys = KeyStore(installed, folder / "commands" / "keys.jws", key)
        self.maintenance = Maintenance(folder / "commands" / "maintenance.json")
        self.overlay = OverlayFile(folder / "configuration" / "overlay.json")
        self.journal = JournalFile(folder / command_journal.FILE)
        moment = lambda: self.moment  # noqa: E731
        change = ConfigurationChange(self.graph, self.settings, default_files("desk"), moment, self.overlay)
        self.executor = Executor(
            self.graph, self.settings, folder / "commands", self.keys, self.maintenance, change, moment,
            folder / "logs", lambda: ["key-of-the-machine"],
        )  # fmt: skip
        self.desk = CommandDesk(
            MACHINE, self.audit_folder, self.audit, self.journal, self.keys, self.settings, self.executor, moment,
            boot_id, self.log,
        )  # fmt: skip
        self.server = FakeServer()
        self.desk.reach(self.server)
