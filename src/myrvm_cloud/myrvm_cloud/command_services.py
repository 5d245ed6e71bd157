"""The ROS side of `command_graph.Graph`, on the node that executes commands.

Hears system/status (SystemStatus), system/node_health (NodeHealth), deposit/state (DepositState); publishes
cloud/command (CloudCommand, texts for the screen) and system/maintenance (Maintenance, latched); calls system/manage
(ManageSystem), actuator/set_output (SetOutput), system/selftest (RunSelftest), camera/capture (Capture), and
`<node>/set_parameters`.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from lifecycle_msgs.msg import State
from myrvm_core.clock import MachineClock
from myrvm_core.configuration import default_files
from myrvm_core.environment import identity
from myrvm_core.errors import DeviceError, ImageError
from myrvm_core.machine_mode import Mode
from myrvm_core.overlay import OverlayFile
from myrvm_core.signing import SigningKey
from myrvm_interfaces.msg import CloudCommand, DepositState, Maintenance, NodeHealth, SystemStatus
from myrvm_interfaces.srv import Capture, ManageSystem, RunSelftest, SetOutput
from myrvm_ros.managed_node import HEARTBEAT_TOPIC, ManagedNode
from myrvm_ros.stamps import to_message
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.parameter import Parameter

from myrvm_cloud import command_journal, key_store, maintenance
from myrvm_cloud.api_key import ApiKey
from myrvm_cloud.audit_log import AuditLog
from myrvm_cloud.command_check import Moment
from myrvm_cloud.command_desk import CommandDesk
from myrvm_cloud.command_executor import Executor
from myrvm_cloud.command_graph import CommandError, MachineState, NodeView
from myrvm_cloud.command_journal import JournalFile
from myrvm_cloud.command_settings import CommandSettings
from myrvm_cloud.config_update import ConfigurationChange
from myrvm_cloud.key_store import KeyStore
from myrvm_cloud.maintenance import Window
from myrvm_cloud.service_call import Done, answer_of
from myrvm_core import paths, program
from myrvm_ros import image_codec, qos

SERVICES: dict[str, Any] = {
    "system/manage": ManageSystem,
    "actuator/set_output": SetOutput,
    "system/selftest": RunSelftest,
    "camera/capture": Capture,
}
WITHOUT_ITEM = (DepositState.IDLE, DepositState.SESSION, DepositState.OUT_OF_ORDER)
SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")  # of a variable that holds one itself, not its file
SLACK_S = 5.0  # the camera answers or gives up within the time-out; longer, and it is not there any more
SET_S = 6.0  # with the discovery of the node
JPEG_QUALITY = 85


class CommandServices:
    """A `Graph` for the bridge's thread. Made in the `configure` of its node, released with it."""

    def __init__(self, node: ManagedNode[Any]) -> None:
        self._node = node
        self.state = MachineState()
        self._clients = {name: node.client(kind, name) for name, kind in SERVICES.items()}
        self._texts = node.publisher(CloudCommand, "cloud/command", qos.EVENT)
        self._announced: tuple[Window | None] | None = None
        self._windows = node.publisher(Maintenance, "system/maintenance", qos.STATE)
        node.subscription(SystemStatus, "system/status", self._on_status, qos.STATE)
        node.subscription(NodeHealth, HEARTBEAT_TOPIC, self._on_beat, qos.HEARTBEAT)
        node.subscription(DepositState, "deposit/state", self._on_deposit, qos.STATE)

    # Messages in; a new state each time, so that the other thread reads a whole one

    def _on_status(self, message: SystemStatus) -> None:
        nodes = dict(self.state.nodes)
        for one in message.nodes:
            active = one.alive and one.lifecycle_state == State.PRIMARY_STATE_ACTIVE
            before = nodes.get(one.name, NodeView())
            nodes[one.name] = replace(before, active=active, error=one.last_error or before.error)
        self.state = replace(self.state, mode=Mode(message.mode), nodes=nodes)

    def _on_beat(self, message: NodeHealth) -> None:
        nodes, before = dict(self.state.nodes), self.state.nodes.get(message.node, NodeView())
        ok = message.level != NodeHealth.ERROR
        nodes[message.node] = replace(before, ok=ok, error=before.error if ok else message.message)
        self.state = replace(self.state, nodes=nodes)

    def _on_deposit(self, message: DepositState) -> None:
        self.state = replace(self.state, item_inside=message.state not in WITHOUT_ITEM)

    # command_graph.Graph: called from the bridge's thread

    async def ask(self, service: str, limit_s: float, **fields: Any) -> Any:
        """See `Graph`. A constant of the request is given by its name, such as verb="RESTART"."""
        kind = SERVICES[service].Request
        names = {"verb": lambda name: getattr(kind, name)}
        request = kind(**{name: names.get(name, _same)(value) for name, value in fields.items()})

        return await self._answer(partial(self._node.call, self._clients[service], request, limit_s), service, limit_s)

    async def set_parameter(self, node: str, name: str, value: str) -> None:
        """See `Graph`."""
        service = f"{node}/set_parameters"
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])

        def call(done: Done) -> None:
            client = self._node.create_client(SetParameters, service)

            def ended(response: Any) -> None:
                self._node.call_soon(partial(_destroy, self._node, client))
                done(response)

            self._node.call(client, request, SET_S, ended)

        answer = await self._answer(call, service, SET_S)
        if not answer.results[0].successful:
            raise CommandError(f"{node}.{name} = {value!r} is not allowed: {answer.results[0].reason}")

    async def picture(self, timeout_s: float) -> bytes:
        """See `Graph`."""
        answer = await self.ask("camera/capture", timeout_s + SLACK_S, timeout_s=timeout_s)
        if not answer.success:
            raise CommandError(f"no picture: {answer.message}")

        def encode() -> bytes:
            jpeg = image_codec.to_jpeg(image_codec.from_message(answer.image), JPEG_QUALITY, answer.image.header)
            return bytes(jpeg.data)

        try:
            return await asyncio.to_thread(encode)
        except ImageError as error:
            raise CommandError(f"no picture: {error}") from error

    async def run(self, words: Sequence[str], timeout_s: float) -> None:
        """See `Graph`."""
        try:
            await asyncio.to_thread(program.run, words, paths.data(), timeout_s)
        except DeviceError as error:
            raise CommandError(str(error)) from error

    def show(self, command_id: str, text: str, duration_s: float) -> None:
        """See `Graph`."""
        message = CloudCommand(
            stamp=to_message(self._node.now_ns()), command_id=command_id, kind=CloudCommand.SHOW_TEXT, text=text,
            duration_s=duration_s,
        )  # fmt: skip
        self._node.call_soon(lambda: self._texts.publish(message))

    def announce(self, window: Window | None) -> None:
        """See `Graph`; sent at each change."""
        if self._announced == (window,):
            return
        self._announced = (window,)
        message = Maintenance() if window is None else Maintenance(
            planned=True, active=window.begun, begins=to_message(round(window.begins * 1e9)),
            ends=to_message(round(window.ends * 1e9)), reason=window.reason, who=window.who,
        )  # fmt: skip
        message.header.stamp = to_message(self._node.now_ns())
        self._node.call_soon(lambda: self._windows.publish(message))

    async def _answer(self, call: Callable[[Done], object], service: str, timeout_s: float) -> Any:
        if (response := await answer_of(self._node, call, timeout_s)) is None:
            raise CommandError(f"{service} did not answer within {timeout_s:g} s")
        return response


def command_desk(
    node: ManagedNode[Any],
    settings: CommandSettings,
    clock: MachineClock,
    server_offset_ns: Callable[[], int | None],
) -> CommandDesk:
    """All that commands need, on a node that is being configured; the caller runs and cancels `CommandDesk.run`.

    Args:
        node: for services and topics.
        settings: of the commands.
        clock: the machine's, its floor read.
        server_offset_ns: of the server's clock to the kernel's; None while no server has told it.

    Raises:
        StorageError: the disk cannot be used.
        SettingsError: the machine's key cannot be read.
    """
    data = paths.data()
    key = SigningKey.load_or_make(data / "identity" / "machine.pem")
    folder = data / "audit" / "commands"

    def moment() -> Moment:
        now, epoch_ns = clock.now(), clock.epoch_ns(server_offset_ns())
        if epoch_ns is not None:
            return Moment((epoch_ns + now.boottime_ns) / 1e9, known=True)
        return Moment(now.time_ns / 1e9, known=False)

    def stamp() -> tuple[float, bool]:
        now = moment()
        return now.epoch_s, now.known

    audit = AuditLog(folder, key, stamp)
    keys = KeyStore(paths.resolve(settings.keys_file), data / key_store.FILE, key)
    journal = JournalFile(data / command_journal.FILE)
    graph = CommandServices(node)
    window = maintenance.Maintenance(data / maintenance.FILE)
    change = ConfigurationChange(graph, settings, given_files(sys.argv) or default_files(), moment, OverlayFile())
    api_key = ApiKey(node.environment, node.log)

    def secrets() -> list[str]:
        of_environment = [value for name, value in node.environment.items() if SECRET_NAME.search(name)]
        return [api_key.current().get_secret_value(), *of_environment]

    executor = Executor(
        graph, settings, data / "commands", keys, window, change, moment, data / "logs", secrets
    )  # fmt: skip
    return CommandDesk(
        identity(node.environment).hardware_id, folder, audit, journal, keys, settings, executor, moment,
        clock.now().boot_id, node.log,
    )  # fmt: skip


def given_files(arguments: Sequence[str]) -> list[Path]:
    """The parameter files that this process was started with."""
    return [Path(file) for flag, file in pairwise(arguments) if flag == "--params-file"]


def _destroy(node: ManagedNode[Any], client: Client) -> None:
    node.destroy_client(client)


def _same(value: Any) -> Any:
    return value
