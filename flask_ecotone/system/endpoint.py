"""A handler with its interceptors and its identity."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from dataclasses import dataclass

from ..definitions import HandlerMark
from ..definitions import InstantRetryMark
from ..definitions import Kind
from ..discovery import Marked
from ..message import Message
from ..reflection import location

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
    handle: Flow
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

    def describe(self) -> dict[str, t.Any]:
        """Return a summary of plain values."""
        said = self.marked.said
        return {
            "endpoint_id": self.id,
            "kind": self.kind.value,
            "message": self.name or " | ".join(c.__qualname__ for c in self.types),
            "handler": self.marked.qualified_name,
            "location": location(self.marked.function),
            "channel": "direct",
            "output_channel": said.output_channel,
            "interceptors": list(self.interceptors),
        }
