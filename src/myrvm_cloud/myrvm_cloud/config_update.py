"""Changes of the configuration from afar: declared parameters only, as a whole, on trial, taken back if it goes wrong.

What may be changed is what is declared (graph.yaml `settings`) and not protected: nothing that names a file, device,
driver, line, command or address, nothing that keeps anybody from being hurt, nothing of the nodes by which the machine
is reached and governed. A change is judged with all else as `rvm check` does, written (`myrvm_core.overlay`) as on
trial, and the nodes that it concerns are restarted through the lifecycle manager while no item is in the machine. The
graph must then be healthy in time; otherwise, or when we end in between, what was before counts again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from myrvm_core.configuration import check_settings, settings, settings_class
from myrvm_core.errors import RvmError, SettingsError
from myrvm_core.overlay import Overlay, OverlayFile, State
from myrvm_core.settings import Settings, extra, walk

from myrvm_cloud.command import Command
from myrvm_cloud.command_check import Moment
from myrvm_cloud.command_graph import CommandError, Graph, MachineState, item_gone, manage, wait_for
from myrvm_cloud.command_settings import CommandSettings
from myrvm_core import environment
from myrvm_core import graph as graph_file

Parameters = Mapping[str, Mapping[str, Any]]  # by node, then by dotted name
PATCHED = 200  # parameters that may stand changed
PROTECTED_NODES = {
    "cloud_bridge": "it judges the trial, which a restart of it would end, and the machine is reached by it",
    "lifecycle_manager": "it restarts the others in a trial, and nobody restarts it",
}
PROTECTED_WORDS = re.compile(
    r"(^|_)(file|dir|path|root|url|device|driver|line|lines|channel|roles|command|key|token|secret|password|engine)(_|$)"
)
PROTECTED = {  # safety: interlocks, the motor and its bounds, what tells of a hand or an open door
    "actuator": ("*",),
    "sensor": ("active_low", "bias", "interlock_*", "motor_current.*", "debounce.door_s", "debounce.hand_s",
               "debounce.emergency_s", "debounce.power_fail_s", "kernel_debounce"),
}  # fmt: skip
UNPROTECTED = {"actuator": ("outputs.light_limit_s", "wear_period_s", "reopen_*")}


def patchable(node: str, name: str) -> bool:
    """Whether a parameter, by its dotted name, may be changed from afar."""
    return not protection(node, name)


def protection(node: str, name: str) -> str:
    """Why a parameter, by its dotted name, is not changed from afar; empty where it may be."""
    if any(PROTECTED_WORDS.search(part) for part in name.split(".")):
        return "it names a file, device, line, address, command or secret"
    if node in PROTECTED_NODES:
        return PROTECTED_NODES[node]
    if any(fnmatchcase(name, pattern) for pattern in UNPROTECTED.get(node, ())):
        return ""
    safety = any(fnmatchcase(name, pattern) for pattern in PROTECTED.get(node, ()))
    return "it keeps people from being hurt" if safety else ""


def patched(current: Parameters, patch: Parameters) -> dict[str, dict[str, Any]]:
    """What stands changed after a patch; whether the values are allowed is judged with all others (`settings`).

    Raises:
        SettingsError: a line for each name that is not declared, not to be changed from afar, or fixed here by the
            environment.
    """
    graph, variables = graph_file.load(), environment.environment()
    classes = {node.name: settings_class(node) for node in (*graph.nodes, graph.manager)}
    changed = {node: dict(values) for node, values in current.items()}
    problems: list[str] = []
    for node, values in patch.items():
        if node not in classes:
            problems.append(f"{node} is no node; allowed: {', '.join(classes)}")
            continue
        fields = {name: field for name, field, _ in walk(classes[node]())}
        for name, value in values.items():
            if problem := _refusal(node, name, classes[node], fields, variables):
                problems.append(problem)
            elif value is None:
                changed.get(node, {}).pop(name, None)
            else:
                changed.setdefault(node, {})[name] = value
    if sum(map(len, changed.values())) > PATCHED:
        problems.append(f"more than {PATCHED} parameters would stand changed")
    if problems:
        raise SettingsError(*problems)
    return {node: values for node, values in changed.items() if values}


def _refusal(
    node: str, name: str, settings_type: type[Settings], fields: Mapping[str, Any], variables: Mapping[str, str]
) -> str:
    if name not in fields:
        return f"{node}.{name} is no parameter; allowed: {', '.join(n for n in fields if patchable(node, n)) or 'none'}"
    if why := protection(node, name):
        return f"{node}.{name} is not changed from afar: {why}"
    variable = extra(fields[name], "env")
    if variable and variables.get(variable):
        return f"{node}.{name} is fixed on this machine by {variable}"
    return ""


class ConfigurationChange:
    """Applies changes, one at a time.

    Args:
        graph: to restart nodes in.
        config: how long things may take.
        files: the parameter files that the graph was started with.
        moment: the time of day.
        file: where the change is kept.
    """

    def __init__(
        self,
        graph: Graph,
        config: CommandSettings,
        files: Sequence[Path],
        moment: Callable[[], Moment],
        file: OverlayFile | None = None,
    ) -> None:
        self._graph, self._config, self._files, self._moment = graph, config, list(files), moment
        self.file = file or OverlayFile()

    async def apply(self, patch: Parameters, command: Command) -> dict[str, str]:
        """Change the configuration; facts for the outcome.

        Raises:
            SettingsError: the patch is not allowed; nothing was done.
            NotNowError: an item stays in the machine; nothing was done.
            CommandError: the graph was not healthy with it, or the disk did not keep it; it was taken back.
            StorageError: the disk does not take it.
        """
        state = await asyncio.to_thread(self.file.read)
        if state.on_trial:  # there is one trial at a time: nobody judges this one any more
            await self.resume()
            state = await asyncio.to_thread(self.file.read)
        parameters = patched(state.current.parameters, patch)
        check_settings(settings(self._files, parameters))
        concerned = _concerned(state.current.parameters, parameters)
        if not concerned:
            return {"version": str(state.current.version), "changed": "nothing"}
        await item_gone(self._graph, self._config.item_limit_s)
        version = state.newest + 1
        overlay = Overlay(version, parameters, command.command_id, ", ".join(command.signed_by), self._moment().epoch_s)
        before = self._graph.state
        trial = State(overlay, state.current, on_trial=True, newest=version, note=f"version {version} is on trial")
        kept = State(overlay, on_trial=False, newest=version, note=f"version {version} was found healthy")
        await asyncio.to_thread(self.file.begin_trial, trial)
        try:
            await self._restart(concerned)
            await self._judge(concerned, before)
            await asyncio.to_thread(self.file.write, kept)
        except RvmError as error:
            await self._take_back(trial, concerned, str(error))
            raise CommandError(f"version {version} was taken back: {error}") from error
        return {"version": str(version), "restarted": ", ".join(concerned)}

    def value(self, node: str, name: str) -> Any:
        """What counts for a parameter now; SettingsError where a file is not allowed."""
        return getattr(settings(self._files)[node], name)

    async def resume(self) -> None:
        """After a start: take back what was on trial when we ended.

        Raises:
            RvmError: it could not be taken back, or a node does not come up with what was before.
        """
        state = await asyncio.to_thread(self.file.read)
        if state.on_trial:
            concerned = _concerned(state.previous.parameters, state.current.parameters)
            await self._take_back(state, concerned, "the one who judged it ended")

    async def _take_back(self, trial: State, concerned: Sequence[str], why: str) -> None:
        await asyncio.to_thread(self.file.take_back, trial, why)
        await self._restart(concerned)

    async def _restart(self, nodes: Sequence[str]) -> None:
        """In bring-up order, each while no item is in the machine."""
        for node in nodes:
            await item_gone(self._graph, self._config.item_limit_s)
            await manage(self._graph, "RESTART", node)

    async def _judge(self, nodes: Sequence[str], before: MachineState) -> None:
        """Whether all of `nodes` are well in time, and stay so for a while, and the machine serves as before."""

        def healthy(state: MachineState) -> bool:
            return not self._worse(nodes, before, state)

        until_s = self._config.trial_s
        if not await wait_for(self._graph, healthy, until_s):
            raise CommandError(f"{self._worse(nodes, before, self._graph.state)} within {until_s:g} s")
        if await wait_for(self._graph, lambda state: not healthy(state), self._config.steady_s):
            raise CommandError(f"{self._worse(nodes, before, self._graph.state) or 'it was well only for a moment'}")

    def _worse(self, nodes: Sequence[str], before: MachineState, now: MachineState) -> str:
        for name in nodes:
            node = now.nodes.get(name)
            if node is None or not node.active:
                return f"{name} is not active: {node.error if node else 'not heard'}"
            if not node.ok and (name not in before.nodes or before.nodes[name].ok):
                return f"{name} is not well: {node.error}"
        if now.mode.name in ("OUT_OF_ORDER", "STARTING", "STOPPING", "UNKNOWN") and now.mode is not before.mode:
            return f"the machine is {now.mode.name}"
        return ""


def _concerned(old: Parameters, new: Parameters) -> list[str]:
    """Nodes of which something else stands changed, in bring-up order."""
    order = [name for layer in graph_file.load().layers() for name in layer]
    return [name for name in order if old.get(name, {}) != new.get(name, {})]
