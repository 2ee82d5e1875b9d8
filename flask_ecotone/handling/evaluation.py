"""What expressions and arguments are made from."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from dataclasses import dataclass

from ..conversion import as_number
from ..conversion import compile_expression
from ..conversion import Conversion
from ..errors import MessagingError
from ..message import Message
from ..reflection import Parameter
from ..reflection import Signature
from ..services import Services
from ..storage.protocols import Connections


class Variables(t.Protocol):
    """Configuration variables."""

    def has(self, name: str) -> bool:
        """Whether the variable is set."""
        ...

    def get(self, name: str) -> t.Any:
        """Return the variable, ``None`` if it isn't set."""
        ...


@dataclass(frozen=True)
class Resolution:
    """What arguments are made from, besides the message."""

    conversion: Conversion
    services: Services
    variables: Variables
    #: The context message, whose lifetime message services share.
    current: Callable[[], Message | None]
    #: Returns the session and the connection of the active tenant, if there is a
    #: database.
    connections: Connections | None
    #: Loads an aggregate by class and identifier, for ``Fetch``.
    fetch: Callable[[t.Any, t.Any], t.Any]

    def service(self, message: Message, key: t.Any) -> t.Any:
        """Return a service that lives as long as the message being handled."""
        return self.services.for_message(self.current() or message, key)


def evaluated(
    marker: t.Any, parameter: Parameter, signature: Signature, resolution: Resolution
) -> Callable[..., t.Any]:
    where = f"{signature.where}, parameter {parameter.name!r}"
    expression = compile_expression(marker.expression, where)

    def evaluate(message: Message, **more: t.Any) -> t.Any:
        return expression(evaluation(message, resolution, **more))

    return evaluate


class _Names(dict[str, t.Any]):
    def __init__(self, message: Message, values: dict[str, t.Any]) -> None:
        super().__init__(values)
        self._message = message

    def __missing__(self, name: str) -> t.Any:
        # Headers are completed only for an expression that asks for them.
        if name == "headers":
            return self._message.headers
        raise KeyError(name)

    def __iter__(self) -> t.Any:
        # Without it, {**names} copies a dict's items and never asks for keys().
        return iter(self.keys())

    def keys(self) -> t.Any:
        self.setdefault("headers", self._message.headers)
        return super().keys()


def evaluation(message: Message, resolution: Resolution, **more: t.Any) -> t.Any:
    """Return what the names of an expression mean for a message."""
    return _Names(
        message,
        {
            "payload": message.payload,
            "value": message.payload,
            "service": None,
            "message": message,
            "reference": lambda key: resolution.service(message, key),
            "parameter": lambda name: as_number(variable(resolution.variables, name)),
            **more,
        },
    )


def functions(resolution: Resolution) -> dict[str, Callable[[t.Any], t.Any]]:
    """Return what an expression may call that belongs to no endpoint."""

    def reference(key: t.Any) -> t.Any:
        message = resolution.current()
        if message is None:
            return resolution.services.get(key)
        return resolution.service(message, key)

    return {
        "reference": reference,
        "parameter": lambda name: as_number(variable(resolution.variables, name)),
    }


def variable(variables: Variables, name: str) -> t.Any:
    """Return a configuration variable that must be set.

    :raises MessagingError: It isn't.
    """
    if not variables.has(name):
        raise MessagingError(
            f"The configuration variable {name!r} is missing: it is neither in"
            " app.config nor in the environment. Set one of them."
        )
    return variables.get(name)
