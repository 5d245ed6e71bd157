"""ROS parameters from a settings class: declared with range and sentence, read back as the frozen settings.

What was changed from afar (`myrvm_core.overlay`) counts over a parameter file and under the environment; it is read
anew at each `read`, so that a node that is configured again has it, and loses it when it was taken back.
A bad value from `rvm.yaml` or the environment does not kill the node while it is being built: the default is declared
in its place, and `read` (called in `configure`) refuses with the name, the value and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any, TypeVar

from myrvm_core.errors import SettingsError
from myrvm_core.settings import Settings, bounds, describe_allowed, extra, from_text, nested, validate, walk
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from myrvm_core import overlay

SettingsType = TypeVar("SettingsType", bound=Settings)
LARGEST = 2**53  # the largest whole number that a double carries exactly; stands for "no bound"


class Parameters:
    """The parameters of one node, declared from one settings class."""

    def __init__(self, node: Node, settings_type: type[SettingsType], environment: Mapping[str, str]) -> None:
        self._node = node
        self._type: type[Settings] = settings_type
        self._refused: dict[str, str] = {}
        self._declared: dict[str, Any] = {}
        self._beneath: dict[str, Any] = {}  # values without what was changed from afar; fixed ones are not in it
        # rclpy offers no public way to see an override before declaring; the name is the same in Humble and Jazzy.
        overrides = node._parameter_overrides  # pyright: ignore[reportPrivateUsage]
        self._fields = {name: (field, value) for name, field, value in walk(settings_type())}
        for name, (field, default) in self._fields.items():
            variable = extra(field, "env")
            given: Any = overrides[name].value if name in overrides else None
            source = f"{node.get_name()}.{name}"
            if variable and environment.get(variable, "") != "":
                given, source = environment[variable], variable
            value = default if given is None else self._checked(name, given, source, self._refused)
            node.declare_parameter(name, value, _descriptor(field), ignore_override=True)
            self._declared[name] = value
            if not (variable and environment.get(variable, "") != ""):
                self._beneath[name] = value

    def _checked(self, name: str, given: Any, source: str, refused: dict[str, str]) -> Any:
        field, default = self._fields[name]
        if isinstance(given, str):
            given = from_text(field, given)
        try:
            checked: Any = validate(self._type, nested({name: given}), self._node.get_name())
        except SettingsError as error:
            refused[name] = f"{error} [from {source}]"
            return default
        return reduce(getattr, name.split("."), checked)

    def read(self) -> Settings:
        """The settings as they stand now.

        Raises:
            SettingsError: a value is not allowed.
        """
        refused = self._refused | self._follow_overlay()
        values = {name: self._node.get_parameter(name).value for name in self._fields}
        still_refused = [line for name, line in refused.items() if values[name] == self._declared[name]]
        if still_refused:
            raise SettingsError("; ".join(still_refused))
        return validate(self._type, nested(values), self._node.get_name())

    def _follow_overlay(self) -> dict[str, str]:
        """Take what was changed from afar; a value that somebody has set by hand since it was declared stays.

        Returns a line for each that is not allowed.
        """
        changed, refused, source = overlay.given(self._node.get_name()), dict[str, str](), "what was changed from afar"
        for name, beneath in self._beneath.items():
            value = self._checked(name, changed[name], source, refused) if name in changed else beneath
            if value != self._declared[name] and self._node.get_parameter(name).value == self._declared[name]:
                (result,) = self._node.set_parameters([Parameter(name, value=value)])
                if result.successful:
                    self._declared[name] = value
                else:
                    refused[name] = f"{self._node.get_name()}.{name} = {value!r}: {result.reason} [from {source}]"
        return refused


def _descriptor(field: Any) -> ParameterDescriptor:
    low, high, _ = bounds(field)
    descriptor = ParameterDescriptor(
        description=field.description or "", additional_constraints=describe_allowed(field)
    )
    if low is None and high is None:
        return descriptor
    if field.annotation is int:
        descriptor.integer_range = [
            IntegerRange(
                from_value=int(-LARGEST if low is None else low), to_value=int(LARGEST if high is None else high)
            )
        ]
    elif field.annotation is float:
        descriptor.floating_point_range = [
            FloatingPointRange(
                from_value=float(-LARGEST if low is None else low), to_value=float(LARGEST if high is None else high)
            )
        ]
    return descriptor
