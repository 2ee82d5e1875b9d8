"""Markers of handlers."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from collections.abc import Mapping

from ..definitions import HandlerMark
from ..definitions import Kind
from ..errors import ConfigurationError
from ..errors import did_you_mean
from .marking import Decorator
from .marking import F
from .marking import is_markable
from .marking import marking
from .marking import several


class _Addressing(t.TypedDict, total=False):
    """Options that say which aggregate a message is for."""

    #: Identifier name → expression, either a callable such as
    #: ``lambda payload: payload.order_id`` or a string such as ``"payload.order_id"``.
    identifier_mapping: Mapping[str, t.Any]
    #: Identifier name → header name.
    identifier_metadata_mapping: Mapping[str, str]
    #: Ignore the message when no aggregate is stored under the identifiers.
    drop_message_on_not_found: bool


class _Options(t.TypedDict, total=False):
    """Options of every handler."""

    #: A stable name of the endpoint; derived from module and name when left out.
    endpoint_id: str
    #: Where the result is sent: a routing key or the input of an internal handler.
    output_channel: str
    #: Interceptors that apply whatever their pointcut says.
    required_interceptors: Iterable[t.Any]


class _CommandOptions(_Options, _Addressing, total=False):
    #: The returned dict is merged into the headers; the payload is passed on.
    changing_headers: bool


@t.overload
def command_handler(routing_key: F, /) -> F: ...
@t.overload
def command_handler(
    routing_key: str | None = None, **options: t.Unpack[_CommandOptions]
) -> Decorator: ...
def command_handler(routing_key: t.Any = None, **options: t.Any) -> t.Any:
    """Mark a function or method as the one handler of a command.

    :param routing_key: The name the command is sent to. Left out, the command is
        routed by the class that annotates the first parameter.
    """
    return _handler(Kind.COMMAND, routing_key, options)


@t.overload
def query_handler(routing_key: F, /) -> F: ...
@t.overload
def query_handler(
    routing_key: str | None = None, **options: t.Unpack[_Options]
) -> Decorator: ...
def query_handler(routing_key: t.Any = None, **options: t.Any) -> t.Any:
    """Mark a function or method as the one handler of a query.

    :param routing_key: The name the query is sent to. Left out, the query is routed by
        the class that annotates the first parameter.
    """
    return _handler(Kind.QUERY, routing_key, options)


@t.overload
def event_handler(listen_to: F, /) -> F: ...
@t.overload
def event_handler(
    listen_to: str | None = None, **options: t.Unpack[_CommandOptions]
) -> Decorator: ...
def event_handler(listen_to: t.Any = None, **options: t.Any) -> t.Any:
    """Mark a function or method as one of the handlers of an event.

    :param listen_to: The name of the event, or a glob such as ``"order.*"`` that is
        matched, whatever the case, against names. Left out, the handler gets the events
        that are instances of the class that annotates the first parameter.
    """
    return _handler(Kind.EVENT, listen_to, options)


def internal_handler(
    input_channel: str, **options: t.Unpack[_CommandOptions]
) -> Decorator:
    """Mark a function or method as a step that no bus reaches.

    :param input_channel: The name that other handlers give as ``output_channel``.
    """
    if not isinstance(input_channel, str) or not input_channel:
        raise ConfigurationError(
            "@internal_handler needs the name of its input channel, for example"
            ' @internal_handler("order.price").'
        )
    return t.cast(Decorator, _handler(Kind.INTERNAL, input_channel, dict(options)))


_OPTIONS = {
    Kind.COMMAND: frozenset(_CommandOptions.__annotations__),
    Kind.QUERY: frozenset(_Options.__annotations__),
    Kind.EVENT: frozenset(_CommandOptions.__annotations__),
    Kind.INTERNAL: frozenset(_CommandOptions.__annotations__),
}


def _handler(kind: Kind, name: t.Any, options: dict[str, t.Any]) -> t.Any:
    if name is not None and not isinstance(name, str) and is_markable(name):
        return marking(HandlerMark(kind=kind))(name)
    if name is not None and (not isinstance(name, str) or not name):
        raise ConfigurationError(
            f"@{kind.value}_handler takes a routing key, a non-empty string, and got"
            f" {name!r}. To route by class, annotate the first parameter instead."
        )
    for option in options:
        if option not in _OPTIONS[kind]:
            raise TypeError(
                f"@{kind.value}_handler has no option {option!r}."
                f"{did_you_mean(option, _OPTIONS[kind])} It has"
                f" {', '.join(sorted(_OPTIONS[kind]))}."
            )
    mapping = options.pop("identifier_mapping", None) or {}
    headers = options.pop("identifier_metadata_mapping", None) or {}
    required = options.pop("required_interceptors", ())
    return marking(
        HandlerMark(
            kind=kind,
            name=name,
            identifier_mapping=tuple(mapping.items()),
            identifier_metadata_mapping=tuple(headers.items()),
            required_interceptors=several(required),
            **options,
        )
    )
