"""Calls on aggregates: load, call, save, and hand back what was recorded."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from dataclasses import dataclass

from ..definitions import HandlerMark
from ..discovery import Marked
from ..errors import AggregateNotFoundError
from ..errors import ConcurrencyError
from ..errors import HandlerSignatureError
from ..errors import ModellingError
from ..handling.arguments import arguments
from ..handling.arguments import plan
from ..handling.calls import named_method
from ..handling.evaluation import Resolution
from ..handling.interceptors import Call
from ..handling.interceptors import Interception
from ..handling.interceptors import replaced
from ..message import Message
from ..reflection import accepts_none
from ..reflection import Signature
from ..reflection import type_name
from .aggregate import Aggregate
from .aggregate import Identifiers
from .aggregate import RecordedEvent
from .identifiers import Addressing


@dataclass(frozen=True, slots=True)
class Outcome:
    """What handling produced: a reply, and events to publish."""

    reply: Message | None
    events: list[RecordedEvent]


Handle = Callable[[Message], Outcome]
#: Raises :exc:`IdentifierMissingError` if a message doesn't say what it is for.
Address = Callable[[Message], object]
#: Returns the aggregate of a class, ``None`` if it isn't one.
Lookup = Callable[[type], "Aggregate | None"]


@dataclass(frozen=True, slots=True)
class AggregateHandler:
    """One handler of an aggregate, ready to be made a flow."""

    aggregate: Aggregate
    marked: Marked[HandlerMark]
    signature: Signature
    interception: Interception
    resolution: Resolution
    lookup: Lookup

    def factory(self) -> Handle:
        """Return a flow that makes a new aggregate and replies its identifier."""
        self._check_factory()
        create = self._creation()

        def handle(message: Message) -> Outcome:
            entered = self.interception.enter(message)
            return _STOPPED if entered is None else create(entered)

        return handle

    def action(self) -> Handle:
        """Return a flow that loads an aggregate, calls it and saves it."""
        self._check_action()
        change = self._change()
        addressing = self._addressing()

        def handle(message: Message) -> Outcome:
            entered = self.interception.enter(message)
            if entered is None:
                return _STOPPED
            identifiers = addressing.resolve(entered)
            loaded = self._load(identifiers)
            return _STOPPED if loaded is None else change(entered, loaded)

        return handle

    def address(self) -> Address:
        """Return what finds out before which aggregate a message is for.

        Where interceptors may still change the message, it finds out nothing.
        """
        return self._addressing().resolve if self.interception.is_watching else nobody

    def query(self) -> Handle:
        """Return a flow that loads an aggregate and asks it."""
        call = self._call()
        addressing = self._addressing()

        def handle(message: Message) -> Outcome:
            entered = self.interception.enter(message)
            if entered is None:
                return _STOPPED
            loaded = self._load(addressing.resolve(entered))
            result = call(entered, loaded)
            if result is None:
                return _STOPPED
            return Outcome(self.interception.leave(replaced(entered, result)), [])

        return handle

    def create_or(self, action: AggregateHandler) -> Handle:
        """Return a flow that calls the action if the aggregate is stored, and otherwise
        makes it.
        """
        self._check_factory()
        create, change = self._creation(), action._change()
        addressing = self._addressing()
        entered_by = {name for name, _ in self.interception.entering}

        def handle(message: Message) -> Outcome:
            entered = self.interception.enter(message)
            if entered is None:
                return _STOPPED
            loaded = self.aggregate.find(addressing.resolve(entered))
            if loaded is None:
                return create(entered)
            entered = action.interception.enter(entered, without=entered_by)
            return _STOPPED if entered is None else change(entered, loaded)

        return handle

    def _creation(self) -> Handle:
        call = self._call()
        owner = self.aggregate.cls

        def create(message: Message) -> Outcome:
            made = call(message, owner)
            if made is None and accepts_none(self.signature.returns):
                return _STOPPED
            aggregate = self.lookup(type(made))
            if aggregate is None:
                raise ModellingError(
                    f"The factory method {self.marked.where} returned"
                    f" {type(made).__qualname__}. Return a new {owner.__qualname__}."
                )
            reply = self._leave(message, made)
            identifiers, events = aggregate.save(made, _metadata_of(message), 0)
            if reply is not None and reply.payload is made:
                reply = reply.with_payload(aggregate.identifier(identifiers))
            return Outcome(reply, events)

        return create

    def _change(self) -> Callable[[Message, t.Any], Outcome]:
        call = self._call()
        addressing = self._addressing()
        aggregate = self.aggregate

        def change(message: Message, loaded: t.Any) -> Outcome:
            version = aggregate.version_of(loaded)
            expected = addressing.expected_version(message)
            if expected is not None and version is None:
                raise ModellingError(
                    f"{self.marked.where} is told to expect version {expected} of"
                    f" {aggregate.cls.__qualname__}, which has no version. Annotate an"
                    " attribute of it with Annotated[int, Version()]."
                )
            if expected is not None and expected != version:
                raise ConcurrencyError(
                    f"{self.marked.where} expected version {expected} of"
                    f" {aggregate.cls.__qualname__}, and it is at {version}. Load it"
                    " again and decide anew."
                )
            try:
                result = call(message, loaded)
                reply = self._leave(message, result)
                _, events = aggregate.save(loaded, _metadata_of(message), version)
            except BaseException:
                aggregate.forget_events(loaded)
                raise
            other = None if result is None else self.lookup(type(result))
            if other is not None and result is not loaded:
                before = other.version_of(result) if _is_stored(other, result) else 0
                events += other.save(result, _metadata_of(message), before)[1]
            return Outcome(reply, events)

        return change

    def _leave(self, message: Message, result: t.Any) -> Message | None:
        # The steps after a command on an aggregate run even if it returned nothing.
        if result is None and not self.interception.after:
            return None
        reply = self.interception.leave(replaced(message, result))
        return None if reply is None or reply.payload is None else reply

    def _load(self, identifiers: Identifiers) -> t.Any | None:
        loaded = self.aggregate.find(identifiers)
        if loaded is None and not self.marked.said.drop_message_on_not_found:
            raise AggregateNotFoundError(
                f"{self.marked.where} is called on {self.aggregate.cls.__qualname__},"
                f" and none was found with the identifiers {identifiers!r}."
            )
        return loaded

    def _call(self) -> Call:
        make = arguments(self.signature, plan(self.signature, self.resolution))
        call = named_method(self.marked.name, self.signature)
        return self.interception.surround(make, call)

    def _addressing(self) -> Addressing:
        return Addressing(self.aggregate, self.marked, self.signature, self.resolution)

    def _check_action(self) -> None:
        parameters = self.marked.plain.__code__.co_varnames
        if parameters[:1] == ("cls",):
            raise HandlerSignatureError(
                f"{self.marked.where} takes 'cls' and is no class method. Put"
                " @classmethod under the marker if it makes the aggregate, or name"
                " the parameter 'self'."
            )

    def _check_factory(self) -> None:
        if self.signature.returns in (None, type(None)):
            raise HandlerSignatureError(
                f"The factory method {self.marked.where} is annotated"
                f" '-> {type_name(self.signature.returns)}'. It makes the aggregate:"
                f" annotate '-> Self' and return it."
            )


def nobody(message: Message) -> None:
    """Find out nothing: the message is for no aggregate, or it isn't known yet."""


def _is_stored(aggregate: Aggregate, instance: t.Any) -> bool:
    identifiers = aggregate.identify(instance)
    return None not in identifiers.values() and aggregate.find(identifiers) is not None


def _metadata_of(message: Message) -> Callable[[], dict[str, t.Any]]:
    return lambda: message.headers.propagated()


_STOPPED = Outcome(None, [])
