"""From a payload's class, or a name, to the endpoints that handle it."""

from __future__ import annotations

import fnmatch
import re
import typing as t
from abc import ABCMeta
from collections.abc import Callable
from collections.abc import Iterable

from ..definitions import Kind
from ..definitions import mark_of
from ..definitions import NamedEventMark
from ..errors import did_you_mean
from ..errors import DuplicateHandlerError
from ..errors import MessagingError
from ..errors import NoHandlerError
from ..message import Message
from .deferred import Deferred
from .endpoint import Endpoint


class UniqueRoutes:
    """Where commands, or queries, go: to exactly one endpoint."""

    def __init__(self, kind: Kind, deferred: Deferred) -> None:
        self._kind = kind
        self._what = kind.value
        self._deferred = deferred
        self._by_name: dict[str, Endpoint] = {}
        self._by_type: dict[type, Endpoint] = {}
        self._abstract: list[tuple[type, Endpoint]] = []
        #: The routes of the other buses, to say so when a message is sent to the wrong
        #: one.
        self.others: tuple[UniqueRoutes | EventRoutes, ...] = ()

    @property
    def kind(self) -> Kind:
        """The kind of message that is routed."""
        return self._kind

    def takes(self, message: type | str) -> bool:
        """Whether something handles a class or name; nothing is imported for it."""
        if isinstance(message, str):
            return message in self._names()
        return bool(
            _subscribed(message, self._by_type, self._abstract)
        ) or self._deferred.takes_class(message, self._kind)

    def extended(self, endpoints: list[Endpoint]) -> Callable[[], None]:
        """Prepare routes to more endpoints, and return what makes them valid.

        :raises DuplicateHandlerError: Two endpoints answer for one class or name.
        """
        by_name, by_type = dict(self._by_name), dict(self._by_type)
        for endpoint in endpoints:
            if endpoint.name is not None:
                self._add(by_name, endpoint.name, endpoint)
            for cls in endpoint.types:
                self._add(by_type, cls, endpoint)
        abstract = _abstract(by_type)
        for cls in (cls for endpoint in endpoints for cls in endpoint.types):
            if len(found := _unique(_subscribed(cls, by_type, abstract))) > 1:
                raise self._ambiguous(cls.__qualname__, found, DuplicateHandlerError)

        def commit() -> None:
            self._by_name, self._by_type, self._abstract = by_name, by_type, abstract

        return commit

    def by_class(self, cls: type) -> Endpoint:
        """Return the endpoint for instances of a class.

        :raises NoHandlerError: There is none.
        :raises MessagingError: There are several.
        """
        self._deferred.before_class(cls, self._kind)
        found = _unique(_subscribed(cls, self._by_type, self._abstract))
        if len(found) == 1:
            return found[0]
        if found:
            raise self._ambiguous(cls.__qualname__, found, MessagingError)
        if not _is_routed(cls):
            raise NoHandlerError(
                f"A {self._what} is routed by its class, and {cls.__qualname__} says"
                " nothing. Send an object of a class of your own, or use"
                " send_with_routing with one of:"
                f" {', '.join(sorted(self._names())[:5]) or '(no routing keys)'}."
            )
        self._refuse_wrong_bus(cls, f"the {self._what} {cls.__qualname__}")
        known = [c.__qualname__ for c in self._by_type]
        known += self._deferred.known_types(self._kind)
        raise NoHandlerError(
            f"Can't send the {self._what} {cls.__qualname__}: no handler takes it."
            f"{did_you_mean(cls.__qualname__, known)} Mark a function with"
            f" @{self._what}_handler whose first parameter is annotated"
            f" {cls.__qualname__}, and see that its module is scanned: 'flask ecotone"
            f" list' shows what was found.{self._deferred.hint}"
        )

    def named(self, name: t.Any) -> Endpoint:
        """Return the endpoint with a routing key.

        :raises NoHandlerError: There is none.
        """
        if not isinstance(name, str):
            raise NoHandlerError(
                f"A routing key is a string, and {name!r} is a"
                f" {type(name).__qualname__}."
            )
        found = self._by_name.get(name)
        if found is None:
            self._deferred.before_name(name, self._kind)
            found = self._by_name.get(name)
        if found is None:
            self._refuse_wrong_bus(name, f"a {self._what} to {name!r}")
            known = self._names()
            raise NoHandlerError(
                f"Can't send a {self._what} to {name!r}: no {self._what} handler has"
                f" that routing key.{did_you_mean(name, known)} 'flask ecotone list'"
                f" shows what there is.{self._deferred.hint}"
            )
        return found

    def _refuse_wrong_bus(self, message: type | str, attempt: str) -> None:
        for other in self.others:
            if other.takes(message):
                article = "an" if other.kind is Kind.EVENT else "a"
                raise NoHandlerError(
                    f"Can't send {attempt}: it is handled as {article}"
                    f" {other.kind.value}. Use the {other.kind.value} bus."
                )

    def _names(self) -> list[str]:
        waiting = self._deferred.known_names(self._kind)
        return list(dict.fromkeys([*self._by_name, *waiting]))

    def _add(self, into: dict[t.Any, Endpoint], key: t.Any, new: Endpoint) -> None:
        other = into.setdefault(key, new)
        if other is not new:
            shown = key if isinstance(key, str) else key.__qualname__
            raise self._ambiguous(shown, [other, new], DuplicateHandlerError)

    def _ambiguous(
        self, key: str, found: list[Endpoint], error: type[Exception]
    ) -> Exception:
        listed = " and ".join(endpoint.marked.where for endpoint in found)
        return error(
            f"The {self._what} {key!r} has {len(found)} handlers: {listed}. A"
            f" {self._what} has exactly one: remove one of them, or give one a routing"
            " key of its own."
        )


#: An endpoint, and the class its payload becomes before it is handled, if any.
Subscription = tuple[Endpoint, "type | None"]


class EventRoutes:
    """Where events go: to any number of endpoints, in the order of their priority.

    :param names: Event name → class.
    """

    def __init__(self, names: dict[str, type], deferred: Deferred) -> None:
        self._deferred = deferred
        self._by_type: dict[type, list[Endpoint]] = {}
        self._by_name: dict[str, list[Endpoint]] = {}
        self._by_glob: list[tuple[re.Pattern[str], Endpoint]] = []
        self._classes = names
        self._names = {cls: name for name, cls in names.items()}
        self._abstract: list[tuple[type, list[Endpoint]]] = []

    @property
    def kind(self) -> Kind:
        """The kind of message that is routed."""
        return Kind.EVENT

    def takes(self, message: type | str) -> bool:
        """Whether something handles a class or name; nothing is imported for it."""
        if isinstance(message, str):
            return (
                message in self._by_name
                or message in self._deferred.known_names(Kind.EVENT)
                or any(glob.match(message) for glob, _ in self._by_glob)
            )
        return bool(self._subscribed(message)) or self._deferred.takes_class(
            message, Kind.EVENT
        )

    def connect(self, endpoints: Iterable[Endpoint]) -> None:
        """Add routes to endpoints."""
        for endpoint in endpoints:
            name = endpoint.name
            if name is not None and "*" in name:
                self._by_glob.append((_glob(name), endpoint))
            elif name is not None:
                self._by_name.setdefault(name, []).append(endpoint)
            for cls in endpoint.types:
                self._by_type.setdefault(cls, []).append(endpoint)
                own_name = self._own_name(cls)
                if own_name is not None:
                    self._classes[own_name], self._names[cls] = cls, own_name
        self._abstract = _abstract(self._by_type)

    def by_class(self, cls: type) -> tuple[Endpoint, ...]:
        """Return the endpoints for instances of a class.

        :raises MessagingError: Its instances say nothing about what happened.
        """
        if not _is_routed(cls):
            raise MessagingError(
                f"An event is routed by its class, and {cls.__qualname__} says nothing."
                " Publish an object of a class of your own, or use"
                " publish_with_routing with the name of the event."
            )
        name = self._names.get(cls) or self._own_name(cls)
        self._deferred.before_class(cls, Kind.EVENT)
        found = [e for listed in self._subscribed(cls) for e in listed]
        if name is not None:
            found += self._listening(name)
        return tuple(_once(sorted(found, key=_order)))

    def named(self, name: t.Any) -> tuple[Subscription, ...]:
        """Return the endpoints for events published by a name.

        :raises MessagingError: The name isn't a string.
        """
        if not isinstance(name, str):
            raise MessagingError(
                f"An event is published by name, and {name!r} is a"
                f" {type(name).__qualname__}. Use event_bus.publish for an object."
            )
        found: dict[Endpoint, type | None] = dict.fromkeys(self._listening(name))
        cls = self._classes.get(name)
        if cls is not None:
            self._deferred.before_class(cls, Kind.EVENT)
            for listed in self._subscribed(cls):
                for endpoint in listed:
                    found.setdefault(endpoint, cls)
        return tuple((e, found[e]) for e in _once(sorted(found, key=_order)))

    def _subscribed(self, cls: type) -> list[list[Endpoint]]:
        return _subscribed(cls, self._by_type, self._abstract)

    def _own_name(self, cls: type) -> str | None:
        # The class of an event needn't be registered for its name to be heard.
        said = mark_of(cls, NamedEventMark)
        if said is None or said.name in self._classes:
            return None
        return said.name

    def _listening(self, name: str) -> list[Endpoint]:
        self._deferred.before_name(name, Kind.EVENT)
        return [
            *self._by_name.get(name, ()),
            *(e for glob, e in self._by_glob if glob.match(name)),
        ]


_NOT_ROUTED = frozenset({dict, list, tuple, str, bytes, int, float, bool, type(None)})
V = t.TypeVar("V")


def _is_routed(cls: type) -> bool:
    # A class that was sent instead of an instance has a metaclass as its class.
    return not (cls in _NOT_ROUTED or issubclass(cls, (type, Message)))


def _subscribed(
    cls: type, by_type: dict[type, V], abstract: list[tuple[type, V]]
) -> list[V]:
    # Bases come from the MRO; virtual subclasses only issubclass knows.
    if not _is_routed(cls):
        return []
    bases = cls.__mro__
    nominal = [by_type[base] for base in bases if base in by_type]
    virtual = [
        found for base, found in abstract if base not in bases and issubclass(cls, base)
    ]
    return nominal + virtual


def _abstract(by_type: dict[type, V]) -> list[tuple[type, V]]:
    return [(cls, found) for cls, found in by_type.items() if isinstance(cls, ABCMeta)]


def _order(endpoint: Endpoint) -> tuple[int, bool, int]:
    return -endpoint.priority, not endpoint.is_aggregate, endpoint.number


def _once(endpoints: Iterable[Endpoint]) -> Iterable[Endpoint]:
    # A handler with several marks is several endpoints, and hears of an event once.
    handlers: dict[t.Any, Endpoint] = {}
    for endpoint in endpoints:
        marked = endpoint.marked
        handlers.setdefault((marked.owner, marked.plain), endpoint)
    return handlers.values()


def _unique(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    return list(dict.fromkeys(endpoints))


def _glob(pattern: str) -> re.Pattern[str]:
    # Only the star is special, and it crosses dots.
    escaped = "*".join(part.replace("[", "[[]") for part in pattern.split("*"))
    return re.compile(fnmatch.translate(escaped.replace("?", "[?]")), re.IGNORECASE)
