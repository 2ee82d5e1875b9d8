"""What is handled right now, and in which flow test."""

from __future__ import annotations

import typing as t

from ..context import current_flow
from ..context import MessageContext
from ..message import Message


class FlowContext(MessageContext):
    """Leads ``command_bus`` and the other proxies to a flow test while that handles a
    message.
    """

    __slots__ = ("flow",)

    def __init__(self) -> None:
        super().__init__()
        self.flow: t.Any = None
        set_message, reset_message = self.set, self.reset

        def begin(message: Message | None) -> t.Any:
            return set_message(message), current_flow.set(self.flow)

        def end(tokens: t.Any) -> None:
            of_message, of_flow = tokens
            current_flow.reset(of_flow)
            reset_message(of_message)

        self.set = begin
        self.reset = end
