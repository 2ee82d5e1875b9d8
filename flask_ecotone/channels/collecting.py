"""Messages that are sent when the command that sent them is done."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from contextvars import ContextVar

from ..message import Message
from .protocols import deliver
from .protocols import Post


class CollectingOutbox:
    """Collects while a command is handled; for systems without database.

    It implements :class:`~flask_ecotone.channels.protocols.Outbox`.
    """

    def __init__(self) -> None:
        self._posts: ContextVar[list[Post] | None] = ContextVar("posts", default=None)

    @property
    def is_open(self) -> bool:
        """Whether messages are collected."""
        return self._posts.get() is not None

    def put(self, posts: Sequence[Post]) -> None:
        """Collect messages, or send them if nothing collects."""
        collected = self._posts.get()
        if collected is None:
            deliver(posts)
        else:
            collected.extend(posts)

    def collecting(
        self, proceed: Callable[[Message], t.Any]
    ) -> Callable[[Message], t.Any]:
        """Return a call whose messages go out when it is done, and not if it fails."""

        def collect(message: Message) -> t.Any:
            if self.is_open:
                return proceed(message)
            posts: list[Post] = []
            token = self._posts.set(posts)
            try:
                result = proceed(message)
            finally:
                self._posts.reset(token)
            deliver(posts)
            return result

        return collect
