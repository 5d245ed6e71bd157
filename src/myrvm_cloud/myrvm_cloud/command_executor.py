"""What each command does, over `Graph`: a table from kind to an async function. No ROS here, and no way to the gate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from myrvm_core.errors import RvmError, StorageError
from myrvm_core.machine_mode import Mode

from myrvm_cloud import model_download
from myrvm_cloud.call import Call
from myrvm_cloud.command import (
    CapturePicture,
    Command,
    ConfigUpdate,
    Configuration,
    InService,
    Light,
    Lock,
    OutOfService,
    Parameters,
    Reboot,
    RestartNode,
    RotateKeys,
    RunSelftest,
    SetLogLevel,
    SetMaintenance,
    SetPriceTable,
    ShowMessage,
    UpdateModel,
    UploadLogs,
)
from myrvm_cloud.command_check import Moment
from myrvm_cloud.command_graph import CommandError, Graph, NotNowError, Server, item_gone, manage
from myrvm_cloud.command_settings import CommandSettings
from myrvm_cloud.config_update import ConfigurationChange
from myrvm_cloud.contract import PictureKind
from myrvm_cloud.key_store import KeyStore
from myrvm_cloud.log_collection import collect
from myrvm_cloud.maintenance import Maintenance, Step, Window
from myrvm_cloud.rest_client import RestClient
from myrvm_core import durable, installed_model

A = TypeVar("A")

CALL_S = 10.0
PICTURE_S = 5.0
PICTURES = 20
REBOOT_S = 30.0
UPLOAD_S = 120.0
DETAIL_CHARACTERS = 2000
SERVED = (Mode.SERVING, Mode.DEGRADED, Mode.OUT_OF_ORDER)


class Executor:
    """Carries commands out, one at a time.

    Args:
        graph: to act on.
        settings: how long things may take.
        folder: of the commands' own files.
        keys: for rotate_keys.
        maintenance: for set_maintenance.
        change: for config_update.
        moment: the time of day.
        logs: folder of the nodes' logs.
        secrets: what must not leave the machine with them.

    `server` is where logs and pictures go; the one who has the line sets it.
    """

    server: Server | None = None

    def __init__(
        self,
        graph: Graph,
        settings: CommandSettings,
        folder: Path,
        keys: KeyStore,
        maintenance: Maintenance,
        change: ConfigurationChange,
        moment: Callable[[], Moment],
        logs: Path,
        secrets: Callable[[], Sequence[str]],
    ) -> None:
        self._graph, self._settings, self._folder = graph, settings, folder
        self._keys, self._maintenance, self._change, self._moment = keys, maintenance, change, moment
        self._logs, self._secrets = logs, secrets
        self._table: dict[type[Parameters], Callable[[Command, Any], Awaitable[dict[str, str]]]] = {
            Reboot: self._reboot,
            RestartNode: self._restart_node,
            OutOfService: self._out_of_service,
            InService: self._in_service,
            Lock: self._lock,
            Light: self._light,
            CapturePicture: self._capture_picture,
            RunSelftest: self._run_selftest,
            UploadLogs: self._upload_logs,
            UpdateModel: self._update_model,
            SetLogLevel: self._set_log_level,
            SetPriceTable: self._set_price_table,
            ShowMessage: self._show_message,
            SetMaintenance: self._set_maintenance,
            ConfigUpdate: self._config_update,
            Configuration: self._config_update,
            RotateKeys: self._rotate_keys,
        }

    @property
    def kinds(self) -> Collection[type[Parameters]]:
        """What it can do."""
        return self._table.keys()

    async def execute(self, command: Command) -> dict[str, str]:
        """Carry it out; facts for the outcome.

        Raises:
            NotNowError: the machine does something else; nothing was done.
            RvmError: it could not be done, or not wholly.
        """
        return await self._table[type(command.parameters)](command, command.parameters)

    async def tick(self) -> None:
        """What is due by time: begin and end of the maintenance window.

        Raises:
            RvmError: it could not be done now; it stays due.
        """
        step = self._maintenance.decide(self._moment(), self._graph.state.mode)
        if step is Step.BEGIN:
            self._maintenance.beginning(self._graph.state.mode in SERVED)
            await self._close()
            self._maintenance.begun()
        elif step is Step.END:
            if self._maintenance.resumes(self._graph.state.mode):
                await manage(self._graph, "RESUME")
            self._maintenance.clear()
        self._graph.announce(self._maintenance.window)

    async def resume(self) -> None:
        """After a start: take back a configuration that was on trial when we ended.

        Raises:
            RvmError: it could not be done.
        """
        await self._change.resume()

    async def _reboot(self, command: Command, _: Reboot) -> dict[str, str]:
        await item_gone(self._graph, self._settings.item_limit_s)
        await self._graph.run(self._settings.reboot_command, REBOOT_S)
        return {}

    async def _restart_node(self, command: Command, parameters: RestartNode) -> dict[str, str]:
        await manage(self._graph, "RESTART", parameters.node)
        return {}

    async def _out_of_service(self, command: Command, _: OutOfService) -> dict[str, str]:
        if self._graph.state.mode is not Mode.PAUSED:
            await self._close()
        return {}

    async def _in_service(self, command: Command, _: InService) -> dict[str, str]:
        if self._graph.state.mode is Mode.MAINTENANCE:
            raise NotNowError("a technician works at the machine: rvm maintenance off, there")
        if (window := self._maintenance.window) is not None and window.begun:
            raise NotNowError("a maintenance window is open: end it (set_maintenance, cancel)")
        await manage(self._graph, "RESUME")
        return {}

    async def _lock(self, command: Command, parameters: Lock) -> dict[str, str]:
        return await self._drive(command, parameters.output, parameters.state == "open", parameters.duration_s)

    async def _light(self, command: Command, parameters: Light) -> dict[str, str]:
        return await self._drive(command, parameters.output, parameters.on, parameters.duration_s)

    async def _capture_picture(self, command: Command, _: CapturePicture) -> dict[str, str]:
        picture = await self._graph.picture(PICTURE_S)
        file = self._folder / "pictures" / f"{command.command_id}.jpg"

        def keep() -> None:
            try:
                durable.replace(file, picture)
                oldest = sorted(file.parent.glob("*.jpg"), key=lambda path: path.stat().st_mtime)[:-PICTURES]
                durable.remove(*oldest)
            except OSError as error:
                raise StorageError(f"{file} cannot be written: {error}") from error

        await asyncio.to_thread(keep)
        answer = await self._send(lambda client: client.picture(command.command_id, PictureKind.CAPTURED, picture))
        return {
            "upload_id": answer.upload_id, "sha256": answer.sha256, "file": str(file), "bytes": str(len(picture))
        }  # fmt: skip

    async def _run_selftest(self, command: Command, _: RunSelftest) -> dict[str, str]:
        answer = await self._graph.ask("system/selftest", CALL_S)
        if not answer.success:
            raise CommandError(f"self-test: {answer.message}")
        return {"report": str(answer.report)[:DETAIL_CHARACTERS]}

    async def _upload_logs(self, command: Command, parameters: UploadLogs) -> dict[str, str]:
        since_s = self._moment().epoch_s - 3600.0 * parameters.hours
        found = await asyncio.to_thread(collect, self._logs, since_s, parameters.node or "", self._secrets())
        if not found.lines:
            raise CommandError(f"no lines of {parameters.node or 'any node'} in the last {parameters.hours} h")
        answer = await self._send(lambda client: client.logs(command.command_id, found.packed))
        files = ", ".join(found.files)
        return {
            "upload_id": answer.upload_id, "sha256": answer.sha256, "bytes": str(len(found.packed)),
            "lines": str(found.lines), "files": files[:DETAIL_CHARACTERS],
            **({} if found.whole else {"left_out": "older lines, for their size"}),
        }  # fmt: skip

    async def _send(self, call: Callable[[RestClient], Call[A]]) -> A:
        """Have the server take something; CommandError where there is no server, CallError where it does not."""
        if self.server is None:
            raise CommandError("there is no server to send it to")
        return await self.server.ask(call(self.server.client), UPLOAD_S)

    async def _update_model(self, command: Command, parameters: UpdateModel) -> dict[str, str]:
        if path := await asyncio.to_thread(self._change.value, "detector", "model_path"):
            raise NotNowError(f"detector.model_path = {path} says which model this machine uses")
        if self.server is None:
            raise CommandError("there is no server to fetch it from")
        model, is_new = await model_download.bring(parameters, self.server)
        try:
            facts = await self._change.apply({"detector": {"model": model.reference}}, command)
        except RvmError:
            if is_new:
                await asyncio.to_thread(installed_model.remove, model.reference)
            raise
        await asyncio.to_thread(installed_model.prune, model_download.KEPT)
        return {**facts, "model": model.reference, "downloaded_bytes": str(parameters.size_bytes if is_new else 0)}

    async def _set_log_level(self, command: Command, parameters: SetLogLevel) -> dict[str, str]:
        await self._graph.set_parameter(parameters.node, "log_level", parameters.level)
        return {}

    async def _set_price_table(self, command: Command, parameters: SetPriceTable) -> dict[str, str]:
        rows = [f"{name}={points}" for name, points in sorted(parameters.classes.items())] or [""]
        prices = {"points_per_item": parameters.points_per_item, "points_by_class": rows}
        return await self._change.apply({"deposit": prices}, command)

    async def _show_message(self, command: Command, parameters: ShowMessage) -> dict[str, str]:
        self._graph.show(command.command_id, parameters.text, parameters.duration_s)
        return {}

    async def _set_maintenance(self, command: Command, parameters: SetMaintenance) -> dict[str, str]:
        if parameters.cancel:
            self._maintenance.cancel()
        else:
            begins, ends = cast("float", parameters.begins), cast("float", parameters.ends)
            moment = self._moment()
            if moment.epoch_s >= ends:
                raise NotNowError("the window has passed")
            self._maintenance.plan(Window(begins, ends, parameters.reason, parameters.who))
        self._graph.announce(self._maintenance.window)
        return {}

    async def _config_update(self, command: Command, parameters: ConfigUpdate) -> dict[str, str]:
        return await self._change.apply(parameters.patch, command)

    async def _rotate_keys(self, command: Command, parameters: RotateKeys) -> dict[str, str]:
        await asyncio.to_thread(self._keys.rotate, parameters.ring, self._moment().epoch_s)
        return {"keys": ", ".join(key.key_id for key in parameters.ring.keys)}

    async def _drive(self, command: Command, name: str, on: bool, duration_s: float) -> dict[str, str]:
        answer = await self._graph.ask(
            "actuator/set_output", CALL_S, name=name, on=on, duration_s=duration_s,
            holder=f"command {command.command_id}", from_afar=True,
        )  # fmt: skip
        if not answer.taken:
            raise CommandError(str(answer.message))
        return {"read_back": "on" if answer.read_back else "off"}

    async def _close(self) -> None:
        """Take no more items, when the one that is inside has come to its end."""
        await item_gone(self._graph, self._settings.item_limit_s)
        await manage(self._graph, "OUT_OF_SERVICE")
