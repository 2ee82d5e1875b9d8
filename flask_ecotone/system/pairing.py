"""The factory and the action of an aggregate that take the same message."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from functools import partial
from itertools import product

from ..definitions import HandlerMark
from ..definitions import Kind
from ..discovery import Marked
from ..errors import ConfigurationError
from ..message import Message
from ..modelling.handlers import Address
from ..modelling.handlers import AggregateHandler
from ..modelling.handlers import Handle
from ..modelling.handlers import nobody

R = t.TypeVar("R")


class Candidate(t.Protocol):
    """A handler of an aggregate."""

    @property
    def marked(self) -> Marked[HandlerMark]:
        """What is marked."""
        ...

    @property
    def types(self) -> tuple[type, ...]:
        """The classes it is routed by."""
        ...


C = t.TypeVar("C", bound=Candidate)


def paired(handlers: Iterable[C]) -> list[tuple[C, ...]]:
    """Return the handlers of aggregates alone, or as a factory with its action.

    :raises ConfigurationError: More than two of them take the same message.
    """
    listed = list(handlers)
    factories = [each for each in listed if each.marked.is_on_class]
    actions = [each for each in listed if not each.marked.is_on_class]
    partners: dict[int, list[C]] = {id(each): [] for each in listed}
    for factory, action in product(factories, actions):
        if _take_the_same(factory, action):
            partners[id(factory)].append(action)
            partners[id(action)].append(factory)
    pairs: list[tuple[C, ...]] = []
    for each in listed:
        others = partners[id(each)]
        if len(others) > 1:
            found = ", ".join(one.marked.where for one in (each, *others))
            raise ConfigurationError(
                "One message can have a single factory method and a single action on"
                f" an aggregate, or several actions, and this one has {found}. Merge"
                " them, or give them messages of their own."
            )
        if not others:
            pairs.append((each,))
        elif each.marked.is_on_class:
            pairs.append((each, others[0]))
    return pairs


def compiled(
    found: Candidate,
    handler: AggregateHandler,
    action: Candidate | None,
    changing: AggregateHandler | None,
) -> tuple[Handle, Address]:
    """Return what calls a handler of an aggregate, and what finds out for which one.

    :param action: The action that takes the same messages as the factory method found.
    :param changing: That action, ready to be made a flow.
    """
    if action is None or changing is None:
        if found.marked.said.kind is Kind.QUERY:
            return handler.query(), nobody
        if found.marked.is_on_class:
            return handler.factory(), nobody
        return handler.action(), handler.address()
    both, address = handler.create_or(changing), handler.address()
    if found.types == action.types:
        return both, address
    either = partial(_either, found.types, action.types)
    handle = either(handler.factory(), changing.action(), both)
    return handle, either(nobody, changing.address(), address)


def _either(
    made: tuple[type, ...],
    changed: tuple[type, ...],
    factory: Callable[[Message], R],
    action: Callable[[Message], R],
    both: Callable[[Message], R],
) -> Callable[[Message], R]:
    """Return a flow for a factory and an action whose messages overlap.

    :param made: The classes that the factory takes.
    :param changed: The classes that the action takes.
    :param both: Handles what both take.
    """

    def handle(message: Message) -> R:
        if not isinstance(message.payload, changed):
            return factory(message)
        return both(message) if isinstance(message.payload, made) else action(message)

    return handle


def _take_the_same(factory: Candidate, action: Candidate) -> bool:
    one, other = factory.marked, action.marked
    if (one.owner, one.said.kind, one.said.name) != (
        other.owner,
        other.said.kind,
        other.said.name,
    ):
        return False
    if one.said.name is not None:
        return True
    return any(
        issubclass(a, b) or issubclass(b, a)
        for a, b in product(factory.types, action.types)
    )
