"""Calls of methods that execute SQL, as messages: for interceptors and tenants."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Mapping

from ..decorators.pointcuts import EndpointMark
from ..definitions import Mark
from ..definitions import SqlMark
from ..definitions import SqlWriteMark
from ..discovery import Marked
from ..errors import MessagingError
from ..handling.pointcuts import JoinPoint
from ..message import checked_metadata
from ..message import Message
from ..reflection import Signature
from ..system import MessagingSystem
from .drafting import header_parts
from .drafting import split

Call = Callable[[tuple[t.Any, ...]], t.Any]


def sent_as_message(
    marked: Marked[Mark], signature: Signature, system: MessagingSystem, call: Call
) -> Call:
    """Return a call that goes through interceptors and activates the tenant.

    The payload is a dict of the arguments, without those that are headers. A call that
    nothing needs a message for stays as it is.

    :param call: Executes the SQL with the arguments.
    """
    said = t.cast(SqlMark, marked.said)
    headers = header_parts(signature)
    markers = tuple(m.marker for m in marked.marks(EndpointMark))
    interception = system.interception(
        JoinPoint(marked.function, marked.owner, None, markers),
        said.required_interceptors,
    )
    if not headers and interception.is_empty and not system.has_tenants:
        return call
    names = tuple(p.name for p in signature.parameters)
    writes, where = isinstance(said, SqlWriteMark), marked.where

    def send(arguments: tuple[t.Any, ...]) -> t.Any:
        draft, payload = split(names, arguments, headers)

        def execute(message: Message) -> t.Any:
            given = dict(zip(names, arguments, strict=True))
            given.update(_checked(message.payload, payload, where))
            return call(tuple(given.values()))

        metadata = checked_metadata(draft.headers)
        return system.send_through(
            execute, payload, metadata, interception, is_unit=writes
        )

    return send


def _checked(
    given: t.Any, expected: Mapping[str, t.Any], where: str
) -> Mapping[str, t.Any]:
    if isinstance(given, Mapping) and given.keys() == expected.keys():
        return given
    shown = f"{list(given)}" if isinstance(given, Mapping) else type(given).__qualname__
    raise MessagingError(
        f"An interceptor of {where} made {shown} of its arguments. Return a dict of"
        f" {', '.join(expected) or 'nothing: it has none'}."
    )
