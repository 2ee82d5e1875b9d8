"""Protocols whose methods send messages, or load and save aggregates."""

from __future__ import annotations

import inspect
import typing as t
from collections.abc import Callable
from collections.abc import Sequence

from ..decorators.parameters import Identifier
from ..decorators.pointcuts import EndpointMark
from ..definitions import EnvironmentMark
from ..definitions import GatewayMethodMark
from ..definitions import Mark
from ..definitions import marks_of
from ..definitions import RepositoryMethodMark
from ..definitions import SqlMark
from ..definitions import SqlParameterMark
from ..discovery import Gateway
from ..discovery import Marked
from ..errors import HandlerSignatureError
from ..errors import MessageDeliveryError
from ..handling.pointcuts import JoinPoint
from ..message import checked_metadata
from ..message import Message
from ..reflection import accepts_none
from ..reflection import members
from ..reflection import MISSING
from ..reflection import Parameter
from ..reflection import reflect
from ..reflection import Signature
from ..reflection import type_name
from ..storage.protocols import Statements
from ..system import MessagingSystem
from .drafting import Draft
from .drafting import header_parts
from .drafting import parts_of
from .drafting import split
from .sql_messages import sent_as_message
from .sql_methods import sql_method

Method = Callable[..., t.Any]
#: The marks that count on a method of an interface.
_COUNTING = (
    EndpointMark,
    EnvironmentMark,
    GatewayMethodMark,
    RepositoryMethodMark,
    SqlMark,
    SqlParameterMark,
)
#: Does what a method is for, with its arguments.
Send = Callable[[tuple[t.Any, ...]], t.Any]


def implement(
    gateway: Gateway, system: MessagingSystem, statements: Statements | None = None
) -> t.Any:
    """Return an object that implements a Protocol.

    :param statements: Prepares SQL, if the application has a database.
    :raises HandlerSignatureError: A method has a signature that can't become a message.
    :raises UnknownChannelError: Nothing listens on the channel of a method.
    """
    methods: dict[str, t.Any] = {}
    for marked in gateway.methods:
        if not inspect.isfunction(marked.function):
            raise HandlerSignatureError(
                f"{marked.where} is a {type(marked.function).__name__}. Mark a plain"
                " method, with 'self' as its first parameter."
            )
        _check_marks(marked)
        signature = reflect(marked.function, gateway.cls)
        if isinstance(marked.said, GatewayMethodMark):
            send = _business_method(marked, signature, system)
        elif isinstance(marked.said, SqlMark):
            call = sql_method(marked, signature, system, statements)
            send = sent_as_message(marked, signature, system, call)
        else:
            send = _repository_method(marked, signature, system)
        if marked.name in methods:
            raise HandlerSignatureError(
                f"{marked.where} is marked twice, and can do one thing only. Give each"
                " marker a method of its own."
            )
        methods[marked.name] = _callable(send, marked.plain)
    _check_complete(gateway, methods)
    name = gateway.cls.__name__
    bases = (gateway.cls,)
    made = type(name, bases, {**methods, "__module__": gateway.cls.__module__})
    return object.__new__(made)


def _check_marks(marked: Marked[Mark]) -> None:
    for said in marks_of(marked.function, Mark):
        if not isinstance(said, _COUNTING):
            name = type(said).__name__.removesuffix("Mark")
            raise HandlerSignatureError(
                f"{marked.where} has a marker for handlers ({name}), which does nothing"
                " on a method of an interface. Mark the handler that it sends to."
            )


def _check_complete(gateway: Gateway, methods: dict[str, t.Any]) -> None:
    abstract: set[str] = set(getattr(gateway.cls, "__abstractmethods__", ()))
    for base in gateway.cls.__mro__:
        if getattr(base, "_is_protocol", False):
            abstract |= {
                name
                for name, member in vars(base).items()
                if inspect.isfunction(member) and not name.startswith("_")
            }
    missing = sorted(abstract - set(methods))
    if missing:
        raise HandlerSignatureError(
            f"{gateway.cls.__module__}.{gateway.cls.__qualname__} has methods that"
            f" nothing implements: {', '.join(missing)}. Mark them with"
            " @business_method or @repository_method, or with @sql_query or"
            " @sql_write."
        )


def _callable(send: Send, plain: t.Any) -> Method:
    signature = inspect.signature(plain)
    count = len(signature.parameters) - 1

    def method(self: t.Any, *args: t.Any, **kwargs: t.Any) -> t.Any:
        if kwargs or len(args) != count:
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            args = tuple(bound.arguments.values())[1:]
        return send(args)

    method.__name__, method.__qualname__ = plain.__name__, plain.__qualname__
    method.__doc__ = plain.__doc__
    return method


def _business_method(
    marked: Marked[Mark], signature: Signature, system: MessagingSystem
) -> Send:
    said = t.cast(GatewayMethodMark, marked.said)
    endpoint = system.listener(said.channel, marked.where)
    parts = parts_of(signature)
    markers = tuple(m.marker for m in marked.marks(EndpointMark))
    interception = system.interception(
        JoinPoint(marked.function, marked.owner, None, markers),
        said.required_interceptors,
    )
    through = None if interception.is_empty else interception
    returned = _returned(signature, said.reply_media_type, system)

    def send(arguments: tuple[t.Any, ...]) -> t.Any:
        draft = Draft()
        for part, argument in zip(parts, arguments, strict=True):
            part(draft, argument)
        if isinstance(draft.payload, Message):
            # It is sent as it is; what the call says besides wins.
            draft.headers = {**draft.payload.headers, **draft.headers}
            draft.payload = draft.payload.payload
        headers = checked_metadata(draft.headers)
        return returned(system.send_to(endpoint(), draft.payload, headers, through))

    return send


def _returned(
    signature: Signature, media_type: str | None, system: MessagingSystem
) -> Callable[[t.Any], t.Any]:
    wanted = signature.returns
    if wanted is MISSING:
        raise HandlerSignatureError(
            f"{signature.where} doesn't say what it returns. Annotate the type of the"
            " reply, or '-> None' for none."
        )
    if wanted in (None, type(None)):
        return lambda reply: None
    if wanted is Message:
        raise HandlerSignatureError(
            f"{signature.where} returns a Message. A gateway returns the payload of the"
            " reply: annotate its type."
        )
    if media_type is not None:
        return lambda reply: system.conversion.encode(reply, media_type)
    decode = system.conversion.decoder(wanted)

    def returned(reply: t.Any) -> t.Any:
        if reply is None:
            if accepts_none(wanted):
                return None
            raise MessageDeliveryError(
                f"{signature.where} promises {type_name(wanted)}, and the reply was"
                f" None. Annotate '-> {type_name(wanted)} | None' if it may be."
            )
        return decode(reply, None)

    return returned


def _repository_method(
    marked: Marked[Mark], signature: Signature, system: MessagingSystem
) -> Send:
    """Return a call that loads or saves, for a tenant if a header names one."""
    headers = header_parts(signature)
    parameters = [p for p in signature.parameters if p.name not in headers]
    call = _loading_or_saving(marked.where, signature.returns, parameters, system)
    if not headers and not system.has_tenants:
        return call
    names = [p.name for p in signature.parameters]
    saves = signature.returns in (None, type(None))

    def send(arguments: tuple[t.Any, ...]) -> t.Any:
        draft, payload = split(names, arguments, headers)
        given = tuple(payload.values())
        if not draft.headers and system.current_message is not None:
            # It is a step of what is being handled, and no message of its own.
            return call(given)
        metadata = checked_metadata(draft.headers)
        return system.send_through(
            lambda _: call(given), payload, metadata, None, is_unit=saves
        )

    return send


def _loading_or_saving(
    where: str,
    returns: t.Any,
    parameters: Sequence[Parameter],
    system: MessagingSystem,
) -> Send:
    if not parameters:
        raise HandlerSignatureError(
            f"{where} takes nothing to load or save. Give it the identifier to load by,"
            " or the aggregate to save."
        )
    if returns in (None, type(None)):
        saved = parameters[0].type
        if not isinstance(saved, type):
            raise HandlerSignatureError(
                f"{where} saves {type_name(saved)}. Annotate its first parameter with"
                " the class of the aggregate."
            )
        if len(parameters) > 1:
            raise HandlerSignatureError(
                f"{where} saves its first argument, and nothing says what"
                f" {parameters[1].name!r} is for. Remove it, or mark it as a header:"
                f' Annotated[…, Header("{parameters[1].name}")].'
            )
        system.aggregate(saved, where)
        return lambda arguments: system.save(arguments[0])
    wanted = members(returns)
    if len(wanted) != 1 or not isinstance(wanted[0], type):
        raise HandlerSignatureError(
            f"{where} returns {type_name(returns)}. Annotate the class of the aggregate"
            " it loads, with '| None' if it may be absent, or '-> None' to save."
        )
    aggregate = system.aggregate(wanted[0], where)
    names = aggregate.identifiers
    load = system.fetch if accepts_none(returns) else system.load
    if len(parameters) == 1:
        return lambda arguments: load(aggregate.cls, arguments[0])
    given = [(p.marker(Identifier) or Identifier()).name or p.name for p in parameters]
    if sorted(given) != sorted(names):
        raise HandlerSignatureError(
            f"{where} takes {', '.join(given)}, and {aggregate.cls.__qualname__} is"
            f" identified by {', '.join(names)}. Name the parameters like the"
            ' identifiers, or mark them Annotated[…, Identifier("name")].'
        )

    def find(arguments: tuple[t.Any, ...]) -> t.Any:
        return load(aggregate.cls, dict(zip(given, arguments, strict=True)))

    return find
