"""docs/asyncapi.yaml against AsyncAPI's own JSON Schema, against its examples, and against what the machine hears."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from myrvm_cloud.events import CommandRefused, Malformed
from myrvm_cloud.raw_events import RawEvents
from npm_packages import install

from myrvm_cloud import events

DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]
EXAMPLES = [(name, example["payload"]) for name, message in MESSAGES.items() for example in message["examples"]]
DOCUMENTS, HARMLESS = set(events._DOCUMENTS), set(events._HARMLESS)


def heard(payload: dict[str, Any]) -> list[events.Event]:
    protocol = RawEvents("wss://server/ws", "token")
    protocol.opened(0.0)
    protocol.take_events()
    protocol.receive(json.dumps(payload), 0.0)
    return protocol.take_events()


def validator(name: str) -> jsonschema.Draft7Validator:
    """AsyncAPI's Schema Object is a superset of JSON Schema draft 7."""
    payload = MESSAGES[name]["payload"]
    return jsonschema.Draft7Validator({**payload, "components": DOCUMENT["components"]})


def test_it_is_asyncapi_3() -> None:
    schema = json.loads((install() / "node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json").read_text())
    problems = [error.message[:300] for error in jsonschema.Draft7Validator(schema).iter_errors(DOCUMENT)]
    assert problems == []
    broken = {**DOCUMENT, "operations": {"hear": {"action": "listen"}}}
    assert list(jsonschema.Draft7Validator(schema).iter_errors(broken))


def test_it_names_what_the_machine_understands() -> None:
    assert set(MESSAGES) == DOCUMENTS | HARMLESS | {events.UNSIGNED_COMMAND}
    channels = DOCUMENT["channels"]
    assert set(channels["machine"]["messages"]) == DOCUMENTS | HARMLESS
    assert set(channels["publicMachine"]["messages"]) == HARMLESS | {events.UNSIGNED_COMMAND}


@pytest.mark.parametrize(("name", "payload"), EXAMPLES)
def test_examples_are_of_the_schema_and_heard(name: str, payload: dict[str, Any]) -> None:
    assert payload["event"] == name
    validator(name).validate(payload)
    [event] = heard(payload)
    assert not isinstance(event, Malformed)
    assert isinstance(event, CommandRefused) == (name == events.UNSIGNED_COMMAND)


@pytest.mark.parametrize("name", sorted(DOCUMENTS | HARMLESS))
def test_what_the_schema_refuses_is_malformed(name: str) -> None:
    for data in (
        None,
        7,
        "",
        [],
        {},
        {"document": 1},
        {"type": 1},
        {"user": {}},
        {"session_id": "", "user": {"id": 1}},
    ):
        payload = {"event": name, "data": data}
        refused = not validator(name).is_valid(payload)
        assert refused
        assert [type(event) for event in heard(payload)] == [Malformed]
