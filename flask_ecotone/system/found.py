"""Handlers as they were found: their routes, their aggregates, their identity."""

from __future__ import annotations

import inspect
import typing as t
from collections.abc import Iterable

from ..definitions import HandlerMark
from ..definitions import Kind
from ..discovery import Marked
from ..errors import ConfigurationError
from ..errors import HandlerSignatureError
from ..handling.arguments import payload_parameter
from ..modelling.aggregate import Aggregate
from ..reflection import members
from ..reflection import MISSING
from ..reflection import Signature
from ..reflection import type_name
from .pairing import paired
from .system import MessagingSystem


class FoundHandler:
    """A handler with its signature and the classes it is routed by."""

    def __init__(self, marked: Marked[HandlerMark], signature: Signature) -> None:
        self.marked = marked
        self.signature = signature
        self.types = () if marked.said.name is not None else _routed_types(self)
        kind = marked.said.kind
        if inspect.isgeneratorfunction(marked.plain) and kind is not Kind.QUERY:
            raise HandlerSignatureError(
                f"{marked.where} yields, so that calling it runs none of it. Return a"
                " value, for example a list."
            )


def _routed_types(found: FoundHandler) -> tuple[type, ...]:
    marked = found.marked
    kind = marked.said.kind.value
    payload = payload_parameter(found.signature)
    if payload is None:
        raise HandlerSignatureError(
            f"{marked.where} takes no message, so nothing says which {kind} it handles."
            f" Annotate the first parameter with the class of the {kind}, or give it a"
            f' name: @{kind}_handler("order.place").'
        )
    types = members(payload.type)
    for cls in types:
        is_class = isinstance(cls, type) and not t.get_args(cls)
        if cls is MISSING or not is_class or _is_never_routed(cls):
            raise HandlerSignatureError(
                f"{marked.where} takes {payload.name!r} ({type_name(payload.type)}),"
                f" and no {kind} can be routed by that. Annotate it with"
                f" the class of the {kind}, a union of classes or 'object', or give it"
                f' a name: @{kind}_handler("order.place").'
            )
    return types


def _is_never_routed(cls: type) -> bool:
    if cls is t.Any or (cls.__module__ == "builtins" and cls is not object):
        return True
    try:
        issubclass(object, cls)
    except TypeError:
        return True  # typed dicts, and protocols that say nothing about classes
    return False


def aggregate_of(found: FoundHandler, system: MessagingSystem) -> Aggregate | None:
    owner, kind = found.marked.owner, found.marked.said.kind
    aggregate = None if owner is None else system.aggregate_of(owner)
    if aggregate is None:
        return None
    if kind is Kind.INTERNAL:
        raise ConfigurationError(
            f"{found.marked.where} is an internal handler on an aggregate. Make it a"
            " command handler with a routing key, which is a channel too."
        )
    if kind is Kind.QUERY and found.marked.is_on_class:
        return None  # it asks for no instance
    if kind is not Kind.EVENT and len(found.types) > 1:
        raise ConfigurationError(
            f"{found.marked.where} takes a union of {kind.value} classes. On an"
            " aggregate that is for events only: write one handler for each."
        )
    return aggregate


def grouped(
    found: list[FoundHandler], system: MessagingSystem
) -> Iterable[tuple[FoundHandler, ...]]:
    """Pair the factory and the action of an aggregate that take the same message."""
    by_owner: dict[t.Any, list[FoundHandler]] = {}
    alone: list[tuple[FoundHandler, ...]] = []
    for each in found:
        if each.marked.said.kind is Kind.QUERY or aggregate_of(each, system) is None:
            alone.append((each,))
        else:
            by_owner.setdefault(each.marked.owner, []).append(each)
    for handlers in by_owner.values():
        alone += paired(handlers)
    order = {id(each): number for number, each in enumerate(found)}
    return sorted(alone, key=lambda group: order[id(group[0])])


def endpoint_id(marked: Marked[HandlerMark]) -> str:
    said = marked.said
    if said.endpoint_id:
        return said.endpoint_id
    if said.kind is Kind.COMMAND and said.name:
        return said.name
    several = len(marked.marks(HandlerMark)) > 1
    name = marked.qualified_name
    return f"{name}[{said.kind.value}:{said.name or ''}]" if several else name
