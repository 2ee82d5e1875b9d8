"""Markers of aggregates and events."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from ..definitions import AggregateEventsMark
from ..definitions import AggregateMark
from ..definitions import AggregateTypeMark
from ..definitions import IdentifierMethodMark
from ..definitions import NamedEventMark
from ..definitions import RevisionMark
from .marking import Decorator
from .marking import F
from .marking import marking


@t.overload
def aggregate(cls: F, /) -> F: ...
@t.overload
def aggregate(*, identifiers: Iterable[str] = ()) -> Decorator: ...
def aggregate(cls: t.Any = None, *, identifiers: Iterable[str] = ()) -> t.Any:
    """Mark a class as an aggregate: it is loaded, called and saved by its handlers.

    :param identifiers: Names of the attributes that identify an instance. Left out,
        they are those annotated with :class:`Identifier`, or for a model its primary
        key.
    """
    decorate = marking(AggregateMark(identifiers=tuple(identifiers)))
    return decorate if cls is None else decorate(cls)


def identifier_method(identifier: str) -> Decorator:
    """Mark a method without parameters, or a property, that returns an identifier.

    :param identifier: The name of the identifier.
    """
    return marking(IdentifierMethodMark(identifier=identifier))


@t.overload
def aggregate_events(method: F, /) -> F: ...
@t.overload
def aggregate_events() -> Decorator: ...
def aggregate_events(method: t.Any = None) -> t.Any:
    """Mark the method that returns, and forgets, the events an aggregate recorded."""
    decorate = marking(AggregateEventsMark())
    return decorate if method is None else decorate(method)


def aggregate_type(name: str) -> Decorator:
    """Give an aggregate a name for the headers of its events, instead of its class."""
    return marking(AggregateTypeMark(name=name))


def named_event(name: str) -> Decorator:
    """Give an event class a name, unique in the application.

    Handlers that listen to the name get the events of the class, and the other way
    round. Subclasses don't inherit the name.
    """
    return marking(NamedEventMark(name=name))


def revision(number: int) -> Decorator:
    """Say which revision of its shape an event class is; 1 unless given."""
    return marking(RevisionMark(revision=number))
