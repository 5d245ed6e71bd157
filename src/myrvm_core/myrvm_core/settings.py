"""Settings: each parameter is declared once, as a field with type, unit, range and a sentence.

A settings class is a frozen pydantic model. Nodes declare their ROS parameters from it (`myrvm_ros.parameters`),
`rvm check` validates `config/rvm.yaml` against it without starting anything, and the docs list it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, cast

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
        values: by field name.
        where: prefix of the names in the message, such as a node's name or a file.

    Raises:
        SettingsError: names every bad value, what it is and what is allowed.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise SettingsError(*(_sentence(model, where, problem) for problem in error.errors())) from None


def from_text(field: FieldInfo, text: str) -> str | list[str]:
    """A value as the environment gives it: text, or for a list its parts between commas."""
    if getattr(field.annotation, "__origin__", None) in (list, tuple):
        return [part.strip() for part in text.split(",")]
    return text


def _sentence(model: type[BaseModel], where: str, problem: Any) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    name = f"{where}.{path}" if path else where
    if problem["type"] == "extra_forbidden":
        return f"{name} is not a known name; allowed: {', '.join(sorted(model.model_fields))}"
    field = model.model_fields.get(str(problem["loc"][0])) if problem["loc"] else None
    allowed = describe_allowed(field) if field else problem["msg"]
    return f"{name} = {problem['input']!r} is not allowed: {allowed} ({problem['msg']})"


def describe_allowed(field: FieldInfo) -> str:
    """Say in a few words what a field takes, for example `float, 1 .. 120 Hz`."""
    annotation = field.annotation
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
