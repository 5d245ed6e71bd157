"""Settings: each parameter is declared once, as a field with type, unit, range and a sentence.

A settings class is a frozen pydantic model. Nodes declare their ROS parameters from it (`myrvm_ros.parameters`),
`rvm check` validates `config/rvm.yaml` against it without starting anything, and the docs list it. A field may be a
settings class itself: a group. Its parameters have dotted names, such as `weight.scale`: so ROS reads a nested file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from myrvm_core.errors import SettingsError


class Settings(BaseModel):
    """Base of every settings class: frozen, no unknown names, defaults are checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def setting(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    env: str = "",
    pattern: str | None = None,
) -> Any:
    """Declare one setting.

    Args:
        default: value used when neither the environment nor `rvm.yaml` names one.
        doc: one sentence for `ros2 param describe`.
        unit: SI unit or empty; the field's name carries it too.
        minimum: smallest allowed value (of each element, where the field is a list).
        maximum: largest allowed value.
        env: environment variable (also in `.env`) that overrides `rvm.yaml`.
        pattern: regular expression for a string.
    """
    return Field(
        default=default,
        description=doc,
        ge=minimum,
        le=maximum,
        pattern=pattern,
        json_schema_extra={"unit": unit, "env": env},
    )


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Build `model` from `values`.

    Args:
        model: the class to build.
        values: by field name, a group's as a mapping in the mapping.
        where: prefix of the names in the message, such as a node's name or a file.

    Raises:
        SettingsError: names every bad value, what it is and what is allowed.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise SettingsError(*(_sentence(model, where, problem) for problem in error.errors())) from None


def read_yaml(file: Path, where: str = "") -> Any:
    """What a YAML file holds.

    Args:
        file: to read.
        where: what it is called in the message; empty: by its path.

    Raises:
        SettingsError: it cannot be read, or is not YAML.
    """
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{where or file} cannot be read: {' '.join(str(error).split())}") from error


def group(field: FieldInfo) -> type[Settings] | None:
    """The settings class of a field that is a group, None for any other."""
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Settings) else None


def walk(settings: Settings) -> Iterator[tuple[str, FieldInfo, Any]]:
    """Dotted name, field and value of every single setting, those in groups too."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from ((f"{name}.{inner}", deep, worth) for inner, deep, worth in walk(value))
        else:
            yield name, field, value


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted name as one mapping in the other; what is nested already is left so."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        *heads, last = str(name).split(".")  # a key of a YAML file may be a number
        branch = tree
        for head in heads:
            inner = branch.get(head)
            inner = cast("dict[str, Any]", inner) if isinstance(inner, dict) else {}
            branch[head] = inner
            branch = inner
        branch[last] = merged(branch.get(last), value)
    return tree


def merged(present: Any, value: Any) -> Any:
    """A later value over a present one; mappings are merged, anything else is replaced."""
    if not isinstance(value, Mapping):
        return value
    both = dict(cast("dict[str, Any]", present)) if isinstance(present, dict) else {}
    for name, deep in nested(cast("Mapping[str, Any]", value)).items():
        both[name] = merged(both.get(name), deep)
    return both


def from_text(field: FieldInfo, text: str) -> str | list[str]:
    """A value as the environment gives it: text, or for a list its parts between commas."""
    if getattr(field.annotation, "__origin__", None) in (list, tuple):
        return [part.strip() for part in text.split(",")]
    return text


def _sentence(model: type[BaseModel], where: str, problem: Any) -> str:
    path = [str(part) for part in problem["loc"]]
    name = ".".join((where, *path))
    field: FieldInfo | None = None
    for part in path:
        inner = group(field) if field else None
        model = inner or model
        field = model.model_fields.get(part) if inner or field is None else field
    if problem["type"] == "extra_forbidden":
        return f"{name} is not a known name; allowed: {', '.join(sorted(model.model_fields))}"
    allowed = describe_allowed(field) if field else problem["msg"]
    return f"{name} = {problem['input']!r} is not allowed: {allowed} ({problem['msg']})"


def describe_allowed(field: FieldInfo) -> str:
    """Say in a few words what a field takes, for example `float, 1 .. 120 Hz`."""
    annotation = field.annotation
    if inner := group(field):
        return f"a mapping of {', '.join(inner.model_fields)}"
    text = getattr(annotation, "__name__", None) if not getattr(annotation, "__args__", None) else str(annotation)
    text = (text or str(annotation)).replace("typing.", "")
    low, high, pattern = bounds(field)
    if low is not None or high is not None:
        text += f", {'' if low is None else f'{low:g}'} .. {'' if high is None else f'{high:g}'}"
    unit = extra(field, "unit")
    if unit:
        text += f" {unit}"
    if pattern:
        text += f", matching {pattern}"
    return text


def bounds(field: FieldInfo) -> tuple[float | None, float | None, str | None]:
    """Minimum, maximum and pattern of a field, None where there is none."""
    low = high = pattern = None
    for constraint in field.metadata:
        low = getattr(constraint, "ge", low)
        high = getattr(constraint, "le", high)
        pattern = getattr(constraint, "pattern", pattern)
    return low, high, pattern


def extra(field: FieldInfo, name: str) -> str:
    """`unit` or `env` of a field declared with `setting`."""
    extras = field.json_schema_extra
    return str(cast("dict[str, Any]", extras).get(name, "")) if isinstance(extras, dict) else ""
