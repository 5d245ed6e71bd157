"""A model from afar in the whole machine: a good one judges the next item, one that is no model is gone again."""

from __future__ import annotations

import hashlib
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

from myrvm_core.installed_model import SUFFIX, folder
from myrvm_sim.physics import Kind
from myrvm_vision.model_store import find_model

MODELS = Path(os.environ["MYRVM_HOME"]) / "models"


def shelved(machine: Any, version: str, content: bytes) -> dict[str, Any]:
    """Put a model on the server's shelf; the parameters of the command that names it."""
    url = f"{machine.desk.server.url}/models/rvm/{version}"
    with urllib.request.urlopen(urllib.request.Request(url, content, method="PUT"), timeout=10.0) as answer:
        model = json.load(answer)
    return {key: model[key] for key in ("name", "version", "url", "sha256", "size_bytes")}


def outcome(machine: Any, parameters: dict[str, Any]) -> tuple[str, str]:
    """Have `update_model` sent to the machine, signed by two operators; status and reason of its end."""
    operator, server = machine.desk.operator, machine.desk.server
    envelope = operator.command(machine.desk.variables["HARDWARE_ID"], "update_model", parameters, keys=2)
    digest = hashlib.sha256(envelope.encode()).hexdigest()
    server.command(envelope)
    machine.wait(lambda: digest in server.outcomes(), "an outcome")
    return server.outcomes()[digest]


def model_in_use(machine: Any) -> tuple[str, str] | None:
    """As the machine's last heartbeat has it; None in a handshake that was sooner than the detector."""
    with urllib.request.urlopen(f"{machine.desk.server.url}/reported", timeout=10.0) as answer:
        model = json.load(answer)["machines"][machine.desk.variables["HARDWARE_ID"]]["model"]
    return model and (model["name"], model["version"])


def test_a_model_from_afar_is_used_and_one_that_is_none_is_taken_back(machine: Any) -> None:
    machine.wait_serving()
    good = find_model(MODELS)[0].read_bytes()

    assert outcome(machine, shelved(machine, "2", good))[0] == "done"
    machine.wait(lambda: model_in_use(machine) == ("rvm", "2"), "the new model")
    machine.wait_serving()
    machine.insert(Kind.MINERAL)

    status, reason = outcome(machine, shelved(machine, "3", os.urandom(50_000)))
    assert status == "failed", reason
    machine.wait_serving()
    machine.wait(lambda: model_in_use(machine) == ("rvm", "2"), "the model from before")
    assert [file.name for file in sorted(folder().glob(f"*{SUFFIX}"))] == [f"rvm@2{SUFFIX}"]
    machine.insert(Kind.MINERAL)
    machine.audit()
