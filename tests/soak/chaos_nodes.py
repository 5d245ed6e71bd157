"""The real nodes of the chaos campaign: `offline_buffer` and `cloud_bridge` in a ROS domain of their own."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from chaos import DOWN_S, Hosted
from chaos_host import KEY, LEASE_S
from myrvm_cloud.deposit_rows import picked, record_of
from myrvm_core.domain_id import claim_domain
from myrvm_core.errors import StorageError
from myrvm_interfaces.srv import DecideDeposits, EnqueueDeposit, UpdateDeposit
from myrvm_ros.graph_client import GraphClient, GraphError
from node_graph import Graph

from myrvm_ros import conversions

CALL_S = 3.0
QUICK = {
    "heartbeat_interval_s": 1.0, "backoff_base_s": 0.05, "backoff_cap_s": 0.3, "lease_s": LEASE_S, "batch_size": 20,
    "connect_timeout_s": 1.0, "read_timeout_s": 1.0, "total_timeout_s": 1.5,
}  # fmt: skip
NODES = {"buffer": "offline_buffer", "bridge": "cloud_bridge"}


class Nodes:
    """As `chaos.Hosted`, with nodes; the server is the same process."""

    def __init__(self, folder: Path, profile: str, chance: random.Random) -> None:
        self._hosted = Hosted(folder, profile, chance)
        self._profile, self._chance, self._folder = profile, chance, folder
        self._stack = ExitStack()
        self.database, self.port, self.proxy_url = self._hosted.database, self._hosted.port, ""
        self.data = self._hosted.data
        self.file = self.data / "buffer" / "deposits.db"
        domain = self._stack.enter_context(claim_domain())
        os.environ |= {
            "ROS_DOMAIN_ID": str(domain), "MYRVM_DATA": str(self.data), "MYRVM_ENV_FILE": os.devnull,
            "RVM_API_KEY": KEY, "HARDWARE_ID": "chaos",
        }  # fmt: skip
        self._lock = threading.Lock()

    def start(self, name: str) -> None:
        """Start what does not run."""
        if name == "server":
            self._hosted.start(name)
            os.environ.pop("LD_PRELOAD", None)  # the nodes are not recorded
            self._graph = Graph(self._folder)
            self._stack.callback(self._graph.stop)
            self._client = self._stack.enter_context(GraphClient("customers"))
        else:
            self._up(name)

    def _up(self, name: str) -> None:
        parameters = {"server_url": self.proxy_url, "profile": self._profile, **QUICK} if name == "bridge" else {}
        self._graph.bring_up(NODES[name], **parameters)

    def kill(self, name: str) -> None:
        """End it with -9, and start it again a moment later."""
        if name.startswith("server"):
            self._hosted.kill(name)
            return
        process = self._graph.processes[NODES[name]]
        process.kill()
        process.wait()
        time.sleep(self._chance.uniform(0.0, DOWN_S))
        self._up(name)

    def caller(self) -> Any:
        """Calls the buffer; StorageError where it is not there."""
        return self._call

    def _call(self, do: str, **arguments: Any) -> Any:
        if do == "status":
            connection = sqlite3.connect(self.file)
            states = Counter(row[0] for row in connection.execute("SELECT state FROM deposits"))
            connection.close()
            return {name: states[name] for name in ("held", "pending", "leased")}
        if do == "enqueue":
            record = record_of(picked(arguments["row"]))
            assert record is not None
            request: Any = EnqueueDeposit.Request(record=conversions.record_to_message(record))
            return self._ask(EnqueueDeposit, do, request, "stored")
        if do == "update":
            request = UpdateDeposit.Request(deposit_id=arguments["id"], stage=arguments["stage"], shown=True)
            return self._ask(UpdateDeposit, do, request, "updated")
        request = DecideDeposits.Request(
            decision=arguments["decision"], deposit_ids=arguments["ids"], who="the campaign", reason="history"
        )
        return self._ask(DecideDeposits, do, request, "decided")

    def _ask(self, kind: Any, name: str, request: Any, done: str) -> Any:
        with self._lock:
            try:
                answer = self._client.call(kind, f"buffer/{name}", request, CALL_S)
            except GraphError as error:
                raise StorageError(str(error)) from error
        if not getattr(answer, done):
            raise StorageError(answer.message)
        return getattr(answer, done)

    def close(self) -> None:
        """End all."""
        self._stack.close()
        self._hosted.close()
