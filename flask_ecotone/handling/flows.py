"""Handlers without state: functions and methods of services."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

from ..definitions import HandlerMark
from ..definitions import Mark
from ..discovery import Marked
from ..message import Message
from ..reflection import Signature
from .arguments import arguments
from .arguments import payload_classes
from .arguments import plan
from .calls import late_bound
from .calls import positional
from .evaluation import Resolution
from .interceptors import Interception
from .interceptors import replaced
from .interceptors import with_changes

#: Handles a message and returns what the handler returned.
Direct = Callable[[Message], t.Any]
#: Handles a message and returns the reply; ``None`` if there is none.
Replying = Callable[[Message], "Message | None"]


def direct_flow(
    marked: Marked[Mark], signature: Signature, resolution: Resolution
) -> Direct:
    """Return a handler that nothing intercepts."""
    resolvers = plan(signature, resolution)
    function = positional(late_bound(marked, resolution.services), signature)
    make = arguments(signature, resolvers)
    if len(resolvers) != 1:
        return lambda message: function(*make(message))
    classes = payload_classes(signature)

    def handle(message: Message) -> t.Any:
        # The common case: one parameter, and the payload is what it takes.
        payload = message.payload
        if isinstance(payload, classes):
            return function(payload)
        return function(*make(message))

    return handle


def replying_flow(
    marked: Marked[HandlerMark],
    signature: Signature,
    resolution: Resolution,
    interception: Interception,
) -> Replying:
    """Return a handler with its interceptors, whose reply can be passed on."""
    make = arguments(signature, plan(signature, resolution))
    function = positional(late_bound(marked, resolution.services), signature)
    target = target_of(marked, resolution) if interception.around else lambda: None
    call = interception.surround(make, lambda _, made: function(*made))
    changes_headers = marked.said.changing_headers

    def handle(message: Message) -> Message | None:
        entered = interception.enter(message)
        if entered is None:
            return None
        result = call(entered, target())
        if result is None:
            return None
        if changes_headers:
            return interception.leave(with_changes(entered, result, marked.where))
        return interception.leave(replaced(entered, result))

    return handle


def target_of(marked: Marked[Mark], resolution: Resolution) -> Callable[[], t.Any]:
    """Return what an interceptor around the call sees as the object called on."""
    owner = marked.owner
    if owner is None:
        return lambda: None
    if marked.is_on_class:
        return lambda: owner
    return lambda: resolution.services.get(owner)
