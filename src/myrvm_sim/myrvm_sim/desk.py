"""The whole machine on a desk: simulated cabinet, reference server and the real graph, in a ROS domain of its own."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from myrvm_core.domain_id import claim_domain
from myrvm_core.errors import RvmError
from myrvm_system.bring_up import BringUp

from myrvm_core import graph as graph_file
from myrvm_sim import cabinet_client, gpio_server, server_client
from myrvm_sim.cabinet_client import CabinetClient
from myrvm_sim.operator import Operator, as_yaml
from myrvm_sim.server_client import ServerClient
from myrvm_system import check

HARDWARE = "desk"  # profile


@dataclass(frozen=True)
class Options:
    """How a desk is started.

    Args:
        seed: of the cabinet.
        pictures: what its camera shows; None for its own.
        parameters: ROS parameter files loaded after the desk's.
    """

    seed: int = 0
    pictures: Path | None = None
    parameters: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Desk:
    """What runs."""

    machine: BringUp
    cabinet: CabinetClient
    server: ServerClient
    operator: Operator
    folder: Path
    variables: dict[str, str]

    def write_exports(self) -> Path:
        """Write `desk.sh`, which lets another terminal talk to this desk."""
        file = self.folder / "desk.sh"
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self.variables.items() if "KEY" not in name]
        file.write_text("".join(lines), encoding="utf-8")
        return file


@contextmanager
def desk(folder: Path, options: Options) -> Iterator[Desk]:
    """Start everything and wait for nothing; all processes end with the context.

    Args:
        folder: for data, logs and the cabinet's socket.
        options: of the desk.

    Raises:
        RvmError: something does not start.
    """
    socket = folder / "cabinet"
    longest = gpio_server.LONGEST_PATH - len("/gpio/gpiochip0")
    if len(os.fsencode(folder)) > longest:
        raise RvmError(f"{folder} is too long for sockets in it: {longest} bytes are allowed; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        domain = stack.enter_context(claim_domain())
        hardware = stack.enter_context(
            cabinet_client.running(
                socket, "--seed", str(options.seed), "--gate-log", str(folder / "cabinet.jsonl"),
                *(["--pictures", str(options.pictures)] if options.pictures else []),
            )
        )  # fmt: skip
        server = stack.enter_context(server_client.running(folder / "server.db"))
        variables = {
            "ROS_DOMAIN_ID": str(domain),
            "MYRVM_DATA": str(folder),
            "MYRVM_ENV_FILE": os.devnull,
            **hardware,
            "RVM_SERVER_URL": server.url,
            "RVM_API_KEY": server.api_key,
            "HARDWARE_ID": "desk",
        }
        operator = Operator.in_folder(folder / "operator")
        (folder / "keys.yaml").write_text(as_yaml(operator.ring), encoding="utf-8")
        bridge = {"cloud_bridge": {"ros__parameters": {"commands": {"keys_file": str(folder / "keys.yaml")}}}}
        trusting = folder / "operator.yaml"
        trusting.write_text(yaml.safe_dump(bridge), encoding="utf-8")
        os.environ.update(variables)  # this process looks into the same graph and the same data
        cabinet = stack.enter_context(CabinetClient(socket))
        machine = stack.enter_context(
            BringUp(
                graph_file.load(),
                [*check.default_files(HARDWARE), trusting, *options.parameters],
                variables,
                echo=False,
            )
        )
        machine.start()
        yield Desk(machine, cabinet, server, operator, folder, variables)
