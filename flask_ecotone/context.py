"""What belongs to a running message: kept in context variables, never on objects that
threads share.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from contextvars import ContextVar

from .message import Message

#: What has the buses for the handlers of a flow test, while one handles a message.
current_flow: ContextVar[t.Any] = ContextVar("flow", default=None)


class MessageContext:
    """The message being handled, for one messaging system.

    Each system has its own variable, so that an application that calls another one
    in the same thread doesn't hand its headers to it. Whoever sets the variable resets
    it by token in a ``finally`` block.
    """

    __slots__ = ("get", "reset", "set")

    def __init__(self) -> None:
        variable: ContextVar[Message | None] = ContextVar("message", default=None)
        # The bound methods are kept, as they are called for every message.
        self.get: Callable[[], Message | None] = variable.get
        self.set: Callable[[Message | None], t.Any] = variable.set
        self.reset: Callable[[t.Any], None] = variable.reset
