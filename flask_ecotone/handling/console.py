"""The parameters of a console command that its user gives."""

from __future__ import annotations

import collections.abc
import datetime
import decimal
import enum
import pathlib
import re
import typing as t
import uuid
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass

from ..conversion import Conversion
from ..conversion import JSON
from ..decorators.parameters import Option
from ..errors import ConversionError
from ..errors import HandlerSignatureError
from ..errors import MessagingError
from ..reflection import members
from ..reflection import MISSING
from ..reflection import Parameter
from ..reflection import runtime_class
from ..reflection import Signature
from .arguments import has_marker
from .arguments import Resolver

#: The option of every command that sets headers.
HEADER = "header"

#: Classes of values; other classes are those of services.
_VALUES = (
    str,
    bytes,
    int,
    float,
    complex,
    decimal.Decimal,
    enum.Enum,
    uuid.UUID,
    pathlib.PurePath,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    dict,
    list,
    tuple,
    set,
    frozenset,
)
_MANY = (list, tuple, set, frozenset)
_ABSTRACT_MANY: t.Final = {
    collections.abc.Iterable: list,
    collections.abc.Collection: list,
    collections.abc.Sequence: list,
    collections.abc.Set: set,
}

Decode = Callable[[t.Any], t.Any]


@dataclass(frozen=True, slots=True)
class CommandParameter:
    """A parameter that the user of a command gives a value."""

    parameter: Parameter
    #: Whether it is a named option, and not given by its position.
    is_option: bool
    #: What several values are collected in; ``None`` for a single value.
    container: type | None
    #: The type of the value, of each one if there are several.
    value_type: t.Any

    @property
    def name(self) -> str:
        """The name of the parameter."""
        return self.parameter.name

    @property
    def spelling(self) -> str:
        """The name on the command line."""
        return spelling(self.name)

    @property
    def spellings(self) -> tuple[str, ...]:
        """The names of the options for it; a flag has one that switches it off."""
        name = self.spelling
        return (name, f"no-{name}") if self.is_flag else (name,)

    @property
    def is_flag(self) -> bool:
        """Whether it is switched on and off."""
        return self.value_type is bool and self.container is None

    @property
    def is_required(self) -> bool:
        """Whether the command can't run without a value."""
        can_be_left_out = self.is_flag or self.container is not None
        return not (can_be_left_out or self.parameter.is_optional)

    @property
    def fallback(self) -> t.Any:
        """The value when none is given."""
        if self.parameter.is_optional:
            return self.parameter.fallback
        return self.container() if self.container else False


def spelling(name: str) -> str:
    """Return a name in kebab-case, whether it is in that, snake_case or camelCase."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name.strip("_"))
    return words.replace("_", "-").lower()


def command_parameters(signature: Signature) -> tuple[CommandParameter, ...]:
    """Return the parameters of a command that its user gives.

    :raises HandlerSignatureError: A name is reserved or can't be told from another.
    """
    found = tuple(
        _command_parameter(parameter, signature.where)
        for parameter in signature.parameters
        if _is_given(parameter)
    )
    spelled: dict[str, str] = {}
    for each in found:
        if each.spelling == HEADER:
            raise HandlerSignatureError(
                f"{signature.where}: Parameter name 'header' is reserved for headers"
                " and cannot be used as a parameter name. Rename it, or mark it with"
                ' Header("…") to get the value of a header.'
            )
        if each.spelling == "help":
            raise HandlerSignatureError(
                f"{signature.where}: the parameter name 'help' is reserved for --help."
                " Rename it."
            )
        for spelled_name in each.spellings:
            other = spelled.setdefault(spelled_name, each.name)
            if other != each.name:
                raise HandlerSignatureError(
                    f"{signature.where}: the parameters {other!r} and {each.name!r} are"
                    f" both --{spelled_name} on the command line. Rename one of them."
                )
    return found


def given_values(
    command: str, parameters: Iterable[CommandParameter], given: Mapping[str, t.Any]
) -> dict[str, t.Any]:
    """Return the values by the name of the parameter; what is unknown is left out.

    :raises MessagingError: A required one is missing.
    """
    spelled = {
        spelling(name): value for name, value in given.items() if value is not None
    }
    values = {}
    for parameter in parameters:
        if parameter.spelling in spelled:
            values[parameter.name] = spelled[parameter.spelling]
        elif parameter.is_required:
            raise MessagingError(
                f"Missing argument with name {parameter.name} for console command"
                f" {command}. Give it a value, or the parameter a default."
            )
    return values


def given_value(parameter: CommandParameter, conversion: Conversion) -> Resolver:
    """Return how a parameter is filled from the values that are the payload."""
    decode = decoder(parameter, conversion)
    name, container = parameter.name, parameter.container

    def resolve(message: t.Any) -> t.Any:
        value = message.payload.get(name)
        if value is None:
            return parameter.fallback
        if container is None:
            return decode(value)
        values = [value] if isinstance(value, str) else value
        return container(decode(each) for each in values)

    return resolve


def decoder(parameter: CommandParameter, conversion: Conversion) -> Decode:
    """Return a function that makes one value of what the user wrote.

    It raises :exc:`ConversionError` when it can't.
    """
    wanted = members(parameter.value_type)
    cls = runtime_class(wanted[0]) if len(wanted) == 1 else None
    # What JSON has no type for is read as Python reads it.
    if cls is not None and issubclass(cls, pathlib.PurePath):
        return cls
    convert = conversion.decoder(parameter.value_type)
    if cls in (datetime.datetime, datetime.date):
        return _date_decoder(cls)

    def decode(value: t.Any) -> t.Any:
        try:
            return convert(value, None)
        except ConversionError as error:
            if not isinstance(value, str):
                raise
            try:
                return convert(value, JSON)
            except ConversionError:
                raise error from error.__cause__

    return decode


def _date_decoder(cls: t.Any) -> Decode:
    def decode(value: t.Any) -> t.Any:
        if not isinstance(value, str):
            return value
        try:
            return cls.fromisoformat(value)
        except ValueError as error:
            raise ConversionError(
                f"Can't convert {value!r} to {cls.__name__}: {error}. Write it as in"
                " ISO 8601, for example 2030-12-31."
            ) from error

    return decode


def _is_given(parameter: Parameter) -> bool:
    if parameter.marker(Option) is not None:
        return True
    if has_marker(parameter):
        return False
    return all(_is_value(member) for member in members(parameter.type))


def _is_value(annotation: t.Any) -> bool:
    if annotation in (MISSING, t.Any) or t.get_origin(annotation) is t.Literal:
        return True
    cls = runtime_class(annotation)
    return cls is not None and (cls in _ABSTRACT_MANY or issubclass(cls, _VALUES))


def _command_parameter(parameter: Parameter, where: str) -> CommandParameter:
    wanted = members(parameter.type)
    value_type = wanted[0] if len(wanted) == 1 else parameter.type
    container, value_types = _split(value_type)
    if len(value_types) > 1:
        raise HandlerSignatureError(
            f"{where}: a list of a console command has values of one type, and"
            f" {parameter.name!r} ({value_type}) has several. Take several parameters"
            " instead."
        )
    value_type = value_types.pop()
    is_option = (
        container is not None
        or value_type is bool
        or parameter.keyword_only
        or parameter.marker(Option) is not None
    )
    return CommandParameter(parameter, is_option, container, value_type)


def _split(annotation: t.Any) -> tuple[type | None, set[t.Any]]:
    cls = runtime_class(annotation)
    if cls in _ABSTRACT_MANY:
        container: type = _ABSTRACT_MANY[cls]
    elif cls is not None and issubclass(cls, _MANY):
        container = cls
    else:
        return None, {annotation}
    return container, {a for a in t.get_args(annotation) if a is not ...} or {str}
