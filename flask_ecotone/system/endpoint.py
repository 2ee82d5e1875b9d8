"""A handler with its interceptors and its identity."""

from __future__ import annotations

import datetime
import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass

from ..channels.protocols import Outbox
from ..definitions import DelayedRetryMark
from ..definitions import ErrorChannelMark
from ..definitions import HandlerMark
from ..definitions import InstantRetryMark
from ..definitions import Kind
from ..definitions import Misfire
from ..definitions import ScheduledMark
from ..definitions import Timing
from ..discovery import Marked
from ..message import Message
from ..reflection import location
from .asynchronous import Entrance

#: Handles a message and returns what the sender gets.
Flow = Callable[[Message], t.Any]


@dataclass(slots=True, eq=False)
class Endpoint:
    """A handler with its interceptors and its identity."""

    id: str
    marked: Marked[HandlerMark]
    #: The classes whose instances it handles; empty if it is routed by name.
    types: tuple[type, ...]
    #: The interceptors that apply, as ``module:qualname``, in the order they run.
    interceptors: tuple[str, ...]
    priority: int
    #: Whether it is a handler of an aggregate; those come first among equals.
    is_aggregate: bool
    is_transactional: bool
    retry: InstantRetryMark | None
    #: What a bus calls: the handler, or for an asynchronous one what sends the message.
    handle: Flow
    #: What a worker calls.
    execute: Flow | None = None
    #: How messages come into the channels of an asynchronous endpoint.
    entrance: Entrance | None = None
    #: Its channels, in the order that messages pass them.
    channels: tuple[str, ...] = ()
    #: What is done with messages that failed.
    recovery: DelayedRetryMark | ErrorChannelMark | None = None
    #: Raises, where a message is sent, what the handler would raise for one that says
    #: too little.
    check: Callable[[Message], object] | None = None
    #: Its place among all handlers, in the order they were found.
    number: int = 0

    @property
    def kind(self) -> Kind:
        """What it handles."""
        return self.marked.said.kind

    @property
    def name(self) -> str | None:
        """The routing key, event name, glob or input channel."""
        return self.marked.said.name

    @property
    def title(self) -> str:
        """What the handler is called in logs."""
        return self.marked.qualified_name

    @property
    def has_derived_id(self) -> bool:
        """Whether its id follows from its name."""
        said = self.marked.said
        return self.id not in (said.endpoint_id, said.name)

    def describe(self) -> dict[str, t.Any]:
        """Return a summary of plain values."""
        said = self.marked.said
        return {
            "endpoint_id": self.id,
            "kind": self.kind.value,
            "message": self.name or " | ".join(c.__qualname__ for c in self.types),
            "handler": self.marked.qualified_name,
            "location": location(self.marked.function),
            "channel": ", ".join(self.channels) or "direct",
            "output_channel": said.output_channel,
            "interceptors": list(self.interceptors),
        }


def fan_out(calls: Sequence[tuple[Endpoint, Message]], outbox: Outbox | None) -> None:
    """Send an event to asynchronous endpoints and call the others.

    The copies come first, in the order of what happened. Where no transaction would
    take them back, they wait until the other handlers have not failed.
    """
    entered = [(e.entrance, m) for e, m in calls if e.entrance is not None]
    posts = [post for entrance, m in entered if (post := entrance.post(m)) is not None]
    is_open = outbox is not None and outbox.is_open
    if outbox is not None and is_open:
        outbox.put(posts)
    for endpoint, message in calls:
        if endpoint.entrance is None:
            endpoint.handle(message)
    if outbox is not None and not is_open:
        outbox.put(posts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledEndpoint:
    """A function that runs at certain times, with its interceptors and its identity."""

    id: str
    marked: Marked[ScheduledMark]
    timing: Timing
    misfire: Misfire
    #: The interceptors that apply, as ``module:qualname``, in the order they run.
    interceptors: tuple[str, ...]
    #: Milliseconds from the start of a worker to the first firing.
    initial_delay: int
    #: Where failures are told; ``None`` if they are logged.
    error_channel: str | None
    #: Whether it runs in a unit of work.
    is_transactional: bool
    #: Runs it for a tick. What is given is called first, as part of the unit of work,
    #: and says whether the tick is still to be fired. Returns the same. What it raises
    #: is a FailedFiringError if the tick is done with nevertheless.
    fire: Callable[[datetime.datetime, Callable[[], bool]], bool]
    #: Calls something with the tenant active for which it is fired.
    for_tenant: Callable[[Callable[[], t.Any]], t.Any]

    def describe(self) -> dict[str, t.Any]:
        """Return a summary of plain values, with the keys of other endpoints."""
        return {
            "endpoint_id": self.id,
            "kind": Kind.SCHEDULED.value,
            "message": str(self.timing),
            "handler": self.marked.qualified_name,
            "location": location(self.marked.function),
            "channel": "direct",
            "output_channel": self.marked.said.output_channel,
            "interceptors": list(self.interceptors),
        }
