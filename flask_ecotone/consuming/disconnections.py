"""Messages whose handlers lose their connections, again and again."""

from __future__ import annotations

from ..channels.protocols import Delivery
from ..storage.failures import is_disconnection

#: How often in a row the database may be gone just while a message is handled, and be
#: there again to claim it. After that the message is to blame: it makes the server hang
#: up, and others behind it would wait for ever.
_ENOUGH = 5
#: How many messages are remembered.
_MOST = 1000


class Disconnections:
    """Counts for each message how often its connection was lost in a row."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}

    def note(self, delivery: Delivery, error: BaseException) -> bool:
        """Note how the handling of a message failed; return whether that was to blame.

        :param error: Why it looks as if there were an outage.
        """
        if not is_disconnection(error):
            return False
        key = _key(delivery)
        # What has been known for longest goes first.
        count = self._counts.pop(key, 0) + 1
        if len(self._counts) >= _MOST:
            self._counts.pop(next(iter(self._counts)), None)
        self._counts[key] = count
        return count >= _ENOUGH

    def is_noted(self, delivery: Delivery) -> bool:
        """Whether the last connection that a message was handled on was lost."""
        return bool(self._counts) and _key(delivery) in self._counts

    def forget(self, delivery: Delivery) -> None:
        """Note that a message was handled."""
        if self._counts:
            self._counts.pop(_key(delivery), None)


def _key(delivery: Delivery) -> tuple[str, str]:
    return delivery.envelope.message_id, delivery.envelope.endpoint_id
