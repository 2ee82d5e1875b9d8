"""What the command line makes of the text that a user wrote."""

from __future__ import annotations

import enum
import json
import pathlib
import typing as t
import uuid
from collections.abc import Callable
from collections.abc import Mapping
from datetime import timedelta

import click

from ..errors import ConversionError
from ..errors import MessagingError
from ..handling.console import CommandParameter
from ..handling.console import decoder
from ..reflection import members
from ..reflection import MISSING
from ..reflection import runtime_class
from ..reflection import type_name
from ..system import MessagingSystem
from ..system.console import header_of

if t.TYPE_CHECKING:
    # Generic in newer versions of click only.
    AnyType = click.ParamType[t.Any]
else:
    AnyType = click.ParamType

_TRUE: t.Final = frozenset({"true", "1", "yes", "on"})
_FALSE: t.Final = frozenset({"false", "0", "no", "off", ""})


def switched(flag: str, value: str, ctx: click.Context) -> bool:
    """Return whether ``--flag=value`` switches the flag on.

    :raises click.BadParameter: The value is neither true nor false.
    """
    if value.lower() not in _TRUE | _FALSE:
        raise click.BadParameter(
            f"{value!r} is neither 'true' nor 'false'.", ctx, param_hint=flag
        )
    return value.lower() in _TRUE


_NATURAL: t.Final[dict[t.Any, AnyType]] = {
    MISSING: click.STRING,
    t.Any: click.STRING,
    str: click.STRING,
    int: click.INT,
    float: click.FLOAT,
    bool: click.BOOL,
    uuid.UUID: click.UUID,
}


def param_type(
    parameter: CommandParameter, system: Callable[[], MessagingSystem]
) -> AnyType:
    """Return what reads the values of a parameter.

    :param system: Returns the system whose converters are used; called only when there
        is a value to convert.
    """
    wanted = members(parameter.value_type)
    if len(wanted) == 1:
        value_type = wanted[0]
        if value_type in _NATURAL:
            return _NATURAL[value_type]
        if t.get_origin(value_type) is t.Literal:
            return _OneOf({str(value): value for value in t.get_args(value_type)})
        cls = runtime_class(value_type)
        if cls is not None and issubclass(cls, enum.Enum):
            return _OneOf({str(member.value): member for member in cls})
        if cls is not None and issubclass(cls, pathlib.PurePath):
            return click.Path(path_type=cls)
    return _Converted(parameter, system)


def shown_default(parameter: CommandParameter) -> t.Any:
    """Return the default of a parameter as a user would write it."""
    default = parameter.fallback
    if isinstance(default, (list, tuple, set, frozenset)):
        return [_shown(each) for each in default]
    return _shown(default)


def _shown(value: t.Any) -> t.Any:
    return str(value.value) if isinstance(value, enum.Enum) else value


class HeaderType(AnyType):
    """A header: ``NAME:VALUE``, of which the value may have colons."""

    name = "NAME:VALUE"

    def convert(
        self, value: t.Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Split the header."""
        if isinstance(value, tuple):
            return value
        try:
            return header_of(value)
        except MessagingError as error:
            self.fail(str(error), param, ctx)


class _OneOf(click.Choice):  # type: ignore[type-arg, unused-ignore]
    """One of some values, by how they are written."""

    def __init__(self, values: Mapping[str, t.Any]) -> None:
        super().__init__(list(values))
        self._values = values

    def convert(
        self, value: t.Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> t.Any:
        return self._values[super().convert(str(value), param, ctx)]


class _Converted(AnyType):
    """A value that the converters of the application make."""

    def __init__(
        self, parameter: CommandParameter, system: Callable[[], MessagingSystem]
    ) -> None:
        self._parameter = parameter
        self._system = system
        self.name = type_name(parameter.value_type).rpartition(".")[2].lower()

    def convert(
        self, value: t.Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> t.Any:
        if not isinstance(value, str):
            return value
        decode = decoder(self._parameter, self._system().conversion)
        try:
            return decode(value)
        except ConversionError as error:
            self.fail(str(error), param, ctx)


class AgeType(AnyType):
    """A number and a unit of time, for example ``7d``."""

    name = "age"
    _UNITS: t.Final = {
        "s": "seconds",
        "m": "minutes",
        "h": "hours",
        "d": "days",
        "w": "weeks",
    }

    def convert(
        self, value: t.Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        number, unit = value[:-1], value[-1:]
        if unit in self._UNITS and number.isascii() and number.isdigit():
            try:
                return timedelta(**{self._UNITS[unit]: int(number)})
            except OverflowError:
                pass
        self.fail(
            f"{value!r} is no age. It is a number and one of"
            f" {', '.join(self._UNITS)}, for example 30d.",
            param,
            ctx,
        )


AGE: t.Final = AgeType()


class JsonObjectType(AnyType):
    """A JSON object, as a dict."""

    name = "json"

    def convert(
        self, value: t.Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, t.Any]:
        """Read the object."""
        if isinstance(value, dict):
            return value
        try:
            found = json.loads(value)
        except ValueError as error:
            self.fail(f"{value!r} can't be read as JSON: {error}.", param, ctx)
        if not isinstance(found, dict):
            self.fail(
                f"{value!r} is no JSON object. Write for example '{{\"user_id\": 7}}'.",
                param,
                ctx,
            )
        return found


JSON_OBJECT: t.Final = JsonObjectType()
