"""What went through the buses, for assertions."""

from __future__ import annotations

import threading

from ..definitions import Kind
from ..message import Message


class MessageRecorder:
    """Keeps messages until they are read. Each is kept once."""

    def __init__(self) -> None:
        self._messages: dict[Kind, dict[str, Message]] = {kind: {} for kind in Kind}
        self._by_channel: dict[str, list[Message]] = {}
        self._lock = threading.Lock()

    def record(self, kind: Kind, message: Message) -> None:
        """Keep a message."""
        with self._lock:
            self._messages[kind].setdefault(message.headers.message_id, message)

    def spy(self, channel: str, message: Message) -> None:
        """Keep a message that was sent to an output channel."""
        with self._lock:
            self._by_channel.setdefault(channel, []).append(message)

    def take_from(self, channel: str) -> list[Message]:
        """Return the messages of a channel since the last time, and forget them."""
        with self._lock:
            return self._by_channel.pop(channel, [])

    def take(self, kind: Kind) -> list[Message]:
        """Return the messages of a kind since the last time, and forget them."""
        with self._lock:
            taken = list(self._messages[kind].values())
            self._messages[kind].clear()
        return taken

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            for messages in self._messages.values():
                messages.clear()
            self._by_channel.clear()
