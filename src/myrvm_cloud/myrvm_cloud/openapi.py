"""The contract of profile `myrvm` as OpenAPI 3.1, made of the models that the code itself uses.

`python -m myrvm_cloud.openapi > docs/openapi.yaml` writes it; a test fails where the file says something else.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic.json_schema import models_json_schema

from myrvm_cloud import contract

VERSION = "1"
SCHEMAS = "#/components/schemas/"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
DEPOSIT = {
    "idempotency_key": "0199d0c4-5d2e-7a31-9c55-0a4b7f1d2e3f",
    "session_id": "0199d0c4-1c00-7b6e-8e0a-5d1c2b3a4f50",
    "kind": "account",
    "account_id": "alice",
    "class_name": "mineral",
    "score": 0.93,
    "points": 5,
    "weight_kg": 0.021,
    "accepted_at": 1764035739.25,
    "accepted_at_trusted": True,
    "model": {"name": "rvm-n-320", "version": "1", "sha256": SHA256},
}
FACTS = {"hardware_profile": "orin-nano", "bin_percent": 42.0, "model": DEPOSIT["model"]}
MEASUREMENT = {"measured_at": 1764035739.25, "source": "health", "name": "temperature_c", "value": 45.5}
OUTCOME = {"digest": SHA256, "command_id": "17", "status": "done", "reason": "", "kind": "show_message"}

PICTURE_KINDS = [kind.value for kind in contract.PictureKind]
UPLOAD_ID = ("upload_id", {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,100}$"}, "17")


@dataclass(frozen=True)
class Endpoint:
    """One call; `refusals` beyond those that every call has.

    A body that is no JSON has a `content_type`, and its facts stand in the query (`query`: name, schema, example).
    """

    method: str
    path: str
    summary: str
    answer: type[contract.Body]
    answer_example: dict[str, Any]
    request: type[contract.Body] | None = None
    request_example: dict[str, Any] | None = None
    refusals: tuple[tuple[int, str], ...] = ()
    empty: str = ""
    content_type: str = "application/json"
    query: tuple[tuple[str, dict[str, Any], str], ...] = ()


ENDPOINTS = (
    Endpoint(
        "post",
        "/edge/handshake",
        "Say who this machine is, whenever the line is new.",
        contract.HandshakeAnswer,
        {"machine_name": "RVM 7", "server_time": 1764035739.25, "maintenance": False, "accepts_gzip": True},
        contract.Handshake,
        {"hardware_id": "rvm-7", "software_version": "0.1.0", "voucher_key": "", **FACTS},
    ),
    Endpoint(
        "post",
        "/edge/heartbeat",
        "Say that the machine lives, and hear what it is to do.",
        contract.HeartbeatAnswer,
        {"server_time": 1764035739.25, "maintenance": False, "commands": []},
        contract.Heartbeat,
        {"pending": 2, "dead": 0, "uncertain": 0, **FACTS},
    ),
    Endpoint(
        "post",
        "/edge/deposits",
        "Have deposits credited; each row is judged for itself, and one whose key is known is a duplicate.",
        contract.DepositsAnswer,
        {"results": [{"idempotency_key": DEPOSIT["idempotency_key"], "status": "credited", "reason": ""}]},
        contract.Deposits,
        {"deposits": [DEPOSIT]},
        ((409, "All of them are known already."),),
    ),
    Endpoint(
        "post",
        "/edge/authorize",
        "Whose token is this?",
        contract.AuthorizeAnswer,
        {"account_id": "alice", "display_name": "Alice", "balance_points": 40},
        contract.Authorize,
        {"token": "token-alice"},
        ((404, "The token is not known."),),
    ),
    Endpoint(
        "post",
        "/edge/telemetry",
        "Measurements; a batch that comes twice is stored once.",
        contract.TelemetryAnswer,
        {"status": "stored"},
        contract.Telemetry,
        {"batch_id": "0199d0c4-5d2e-7a31-9c55-0a4b7f1d2e40", "measurements": [MEASUREMENT]},
    ),
    Endpoint(
        "get",
        "/edge/models",
        "Which networks should this machine run?",
        contract.ModelsAnswer,
        {
            "models": [
                {"name": "rvm-n-320", "version": "2", "sha256": SHA256, "url": "/models/2", "size_bytes": 10485760}
            ]
        },
    ),
    Endpoint(
        "get",
        "/edge/configuration",
        "The configuration, a signed document that is passed on untouched.",
        contract.ConfigurationAnswer,
        {"document": "eyJhbGciOiJFZERTQSJ9.e30.c2lnbmF0dXJl"},
        empty="There is none.",
    ),
    Endpoint(
        "post",
        "/edge/command-outcomes",
        "What became of commands; one that comes twice is recorded once.",
        contract.CommandOutcomesAnswer,
        {"recorded": [SHA256]},
        contract.CommandOutcomes,
        {"outcomes": [OUTCOME]},
    ),
    Endpoint(
        "post",
        "/edge/logs",
        "Lines of logs: JSON lines, gzip. The same id with the same bytes is kept once.",
        contract.UploadAnswer,
        {"upload_id": "17", "sha256": SHA256},
        content_type=contract.GZIP,
        query=(UPLOAD_ID,),
    ),
    Endpoint(
        "post",
        "/edge/pictures",
        "A picture: one that a command asked for, or evidence; the id of a disputed one is the deposit's.",
        contract.UploadAnswer,
        {"upload_id": "17", "sha256": SHA256},
        content_type=contract.JPEG,
        query=(
            UPLOAD_ID,
            ("kind", {"type": "string", "enum": PICTURE_KINDS}, "refused"),
        ),
    ),
)
_BINARY = {"schema": {"type": "string", "format": "binary", "maxLength": contract.UPLOAD_BYTES}}
REFUSALS = (
    (400, "The body is no JSON, or the machine's name is none."),
    (401, "The key is not known: the machine serves on and tells its technician."),
    (403, "This machine is not served now: not a lost connection."),
    (413, "The body is too large: it is split."),
    (415, "Its encoding is not known."),
    (422, "The body is not of this contract: a deposit that is refused so alone is set aside for the technician."),
    (429, "Too many requests: they are sent again after Retry-After."),
)


def document() -> dict[str, Any]:
    """The whole document."""
    models = {contract.ErrorAnswer, *(endpoint.answer for endpoint in ENDPOINTS)}
    models |= {endpoint.request for endpoint in ENDPOINTS if endpoint.request}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema([(model, "validation") for model in ordered], ref_template=SCHEMAS + "{model}")
    schemas = {name: _told(schema) for name, schema in sorted(definitions["$defs"].items())}
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "MyRVM: what a machine says to its server",
            "version": VERSION,
            "description": "Made by `python -m myrvm_cloud.openapi`; what follows from answers: docs/protocol.md.",
            "license": {"name": "GNU Affero General Public License", "identifier": "AGPL-3.0-or-later"},
        },
        "servers": [{"url": contract.BASE_PATH, "description": "Below server_url; https, http for this machine only."}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": contract.API_KEY_HEADER}},
            "parameters": {
                "machine": {
                    "name": contract.MACHINE_HEADER,
                    "in": "header",
                    "description": "HARDWARE_ID of the machine.",
                    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,100}$"},
                    "example": "rvm-7",
                }
            },
            "schemas": schemas,
        },
    }


def text() -> str:
    """The document as YAML."""
    return yaml.safe_dump(document(), sort_keys=False, allow_unicode=True, width=120)


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    answers: dict[str, Any] = {
        "200": {"description": "Done.", "content": _content(endpoint.answer, endpoint.answer_example)}
    }
    if endpoint.empty:
        answers["204"] = {"description": endpoint.empty}
    for status, meaning in sorted((*REFUSALS, *endpoint.refusals)):
        answers[str(status)] = _refusal(meaning)
    answers["4XX"] = _refusal("The server says no.")
    answers["5XX"] = {"description": "The server is in trouble: the call is sent again later."}
    operation: dict[str, Any] = {
        "operationId": endpoint.path.rsplit("/", 1)[1].replace("-", "_"),
        "summary": endpoint.summary,
        "parameters": [{"$ref": "#/components/parameters/machine"}],
    }
    operation["parameters"] += [
        {"name": name, "in": "query", "required": True, "schema": schema, "example": example}
        for name, schema, example in endpoint.query
    ]
    if endpoint.content_type != "application/json":
        operation["requestBody"] = {"required": True, "content": {endpoint.content_type: _BINARY}}
    if endpoint.request is not None:
        body = {"required": True, "content": _content(endpoint.request, endpoint.request_example)}
        operation["requestBody"] = body | {"description": "May be packed (Content-Encoding: gzip) if accepts_gzip."}
    return operation | {"responses": answers}


def _content(model: type[contract.Body], example: Any) -> dict[str, Any]:
    schema = {"$ref": SCHEMAS + model.__name__}
    return {"application/json": {"schema": schema, "example": example}}


def _refusal(meaning: str) -> dict[str, Any]:
    example = {"status": "error", "message": "why, in one line"}
    return {"description": meaning, "content": _content(contract.ErrorAnswer, example)}


def _told(schema: Any) -> Any:
    """Without titles that repeat names; a secret in an answer is read, not only written."""
    if isinstance(schema, list):
        return [_told(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: part for name, part in schema.items() if name != "writeOnly" and not _is_title(name, part)}
    told = {name: _told(part) for name, part in kept.items()}
    if isinstance(told.get("description"), str):
        told["description"] = " ".join(told["description"].split())
    return told


def _is_title(name: str, part: Any) -> bool:
    return name == "title" and isinstance(part, str)


if __name__ == "__main__":
    sys.stdout.write(text())
