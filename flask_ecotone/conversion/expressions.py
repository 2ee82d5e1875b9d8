"""Expressions: a callable whose parameters bind by name, or a string.

A string is evaluated by Jinja's sandbox, so that it reads attributes, items and calls
functions, and no more.
"""

from __future__ import annotations

import inspect
import re
import typing as t
from collections.abc import Callable
from collections.abc import Mapping

from jinja2 import meta
from jinja2 import StrictUndefined
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ..errors import ConfigurationError
from ..errors import MessagingError

#: The names that an expression may use, whatever it belongs to.
EVALUATION_ARGUMENTS = (
    "payload",
    "headers",
    "value",
    "service",
    "message",
    "reference",
    "parameter",
)

#: Evaluates the expression; called with a mapping of the names to values.
Expression = Callable[[Mapping[str, t.Any]], t.Any]

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")
_sandbox = ImmutableSandboxedEnvironment(undefined=StrictUndefined)


def compile_expression(
    expression: t.Any, where: str, names: tuple[str, ...] = EVALUATION_ARGUMENTS
) -> Expression:
    """Return an expression as a function of a mapping with the names it may use.

    :param where: What the expression belongs to, for errors.
    :param names: The names it may use.
    :raises ConfigurationError: It is no expression, or asks for another name.
    """
    if isinstance(expression, str):
        return _compile_text(expression, where)
    if not callable(expression):
        raise ConfigurationError(
            f"{where}: {expression!r} is no expression. Give a function such as"
            " 'lambda payload: payload.amount', or a string such as 'payload.amount'."
        )
    wanted = []
    for parameter in inspect.signature(expression).parameters.values():
        if parameter.name in names:
            wanted.append(parameter.name)
        elif parameter.default is parameter.empty:
            raise ConfigurationError(
                f"{where}: the expression asks for {parameter.name!r}. It can have"
                f" {', '.join(names)}."
            )
    if len(wanted) == 1:
        only = wanted[0]
        return lambda values: expression(**{only: values[only]})
    return lambda values: expression(**{name: values[name] for name in wanted})


def names_in(expression: str) -> set[str]:
    """Return the names that a string expression reads, as far as it can be read."""
    try:
        parsed = _sandbox.parse(f"{{{{ {expression} }}}}")
    except TemplateError:
        return set()
    return meta.find_undeclared_variables(parsed) - _sandbox.globals.keys()


def as_number(value: t.Any) -> t.Any:
    """Return text that is written as a number as that number, anything else as it is.

    Environment variables are text; ``parameter('RATE') * 2`` must not repeat it.
    """
    if isinstance(value, str) and (found := _NUMBER.fullmatch(value)):
        return float(value) if found[2] else int(value)
    return value


def _hint(expression: str, values: Mapping[str, t.Any]) -> str:
    payload = values.get("payload")
    if "payload" in names_in(expression) and isinstance(payload, (str, bytes)):
        return (
            f" The payload is {type(payload).__name__}: an expression reads it as it"
            " was sent, before it is converted. Read a header, or send an object."
        )
    return ""


def _compile_text(expression: str, where: str) -> Expression:
    try:
        evaluate = _sandbox.compile_expression(expression, undefined_to_none=False)
    except TemplateError as error:
        raise ConfigurationError(
            f"{where}: the expression {expression!r} can't be read: {error}."
        ) from error

    def evaluated(values: Mapping[str, t.Any]) -> t.Any:
        try:
            result = evaluate({**values})
            if isinstance(result, StrictUndefined):
                str(result)  # raises, and says what is undefined
            return result
        except TemplateError as error:
            raise MessagingError(
                f"{where}: the expression {expression!r} failed:"
                f" {str(error).rstrip('.')}.{_hint(expression, values)}"
            ) from error

    return evaluated
