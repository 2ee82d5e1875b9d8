"""A notebook with channels and a worker."""

from __future__ import annotations

import typing as t

from flask_ecotone import DatabaseChannel
from flask_ecotone import EventBus
from flask_ecotone.consuming import Limits
from flask_ecotone.consuming import Outcome

from ..unit_of_work.notebook import Notebook


class Book(Notebook):
    """A notebook with channels and a worker.

    :param configured: What the extension is given instead of three channels.
    """

    def __init__(self, url: str, *configured: t.Any, **config: t.Any) -> None:
        channels = configured or [
            DatabaseChannel(name) for name in ("outbox", "second", "later")
        ]
        super().__init__(url, channels=channels, **config)

    def send(self, bus: t.Any, message: t.Any, **headers: t.Any) -> t.Any:
        """Send a command, or publish an event, in a context of its own."""
        with self.app.app_context():
            found = self.ecotone.get(bus)
            send = found.publish if isinstance(found, EventBus) else found.send
            return send(message, headers)

    def work(self, *names: str, **limits: t.Any) -> Outcome:
        """Let a worker empty channels."""
        messaging = self.app.extensions["ecotone"].messaging
        limited = Limits(finishes_when_empty=True, **limits)
        return t.cast(
            Outcome, messaging.worker(names or ("outbox",), limits=limited).run()
        )

    def waiting(self, name: str = "outbox") -> tuple[int, int]:
        """Return how many messages are ready, and how many delayed."""
        messaging = self.app.extensions["ecotone"].messaging
        status = messaging.channels.get(name).sources()[0].status()
        return status.ready, status.delayed

    def dead_letters(self) -> list[t.Any]:
        """Return what failed for good."""
        return t.cast(
            "list[t.Any]", self.app.extensions["ecotone"].messaging.dead_letters.list()
        )
