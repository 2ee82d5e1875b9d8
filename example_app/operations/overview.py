"""What the operations page shows, collected from channels, dead letters and a file."""

import time
from dataclasses import dataclass
from pathlib import Path

from flask import current_app

from flask_ecotone import DeadLetter
from flask_ecotone import query_bus
from flask_ecotone.channels.dead_letters import ParkedMessage
from flask_ecotone.channels.protocols import ChannelStatus

from ..extensions import ecotone
from ..extensions import NOTIFICATIONS
from ..mailing.messages import IsMailboxBroken
from ..shops.shop import Shop
from ..shops.shop import SHOPS
from .waiting import ListWaiting
from .waiting import WaitingMessage

#: Seconds after which a worker that has shown no sign of life counts as gone. It shows
#: one each round, several times a second, but not while a handler takes its time.
PATIENCE = 5.0


@dataclass(frozen=True)
class Queue:
    """A channel in the database of a shop."""

    channel: str
    status: ChannelStatus


@dataclass(frozen=True)
class Backroom:
    """What is behind the counter of one shop."""

    shop: Shop
    queues: list[Queue]
    waiting: list[WaitingMessage]
    dead: list[ParkedMessage]
    dead_count: int
    is_broken: bool


@dataclass(frozen=True)
class Worker:
    """What is known of the worker: seconds since its last sign of life, if any."""

    age: float | None

    @property
    def is_alive(self) -> bool:
        """Whether the last sign is recent."""
        return self.age is not None and self.age < PATIENCE


def backrooms() -> list[Backroom]:
    """Look into both shops."""
    # The first service of a process opens the channels, so it comes first.
    dead_letters = ecotone.service(DeadLetter)
    queues = _queues()
    found = []
    for shop in SHOPS.values():
        tenant = {"tenant": shop.key}
        found.append(
            Backroom(
                shop=shop,
                queues=queues[shop.key],
                waiting=query_bus.send(ListWaiting(NOTIFICATIONS), tenant),
                dead=dead_letters.list(tenant=shop.key),
                dead_count=dead_letters.count(tenant=shop.key),
                is_broken=query_bus.send(IsMailboxBroken(), tenant),
            )
        )
    return found


def worker() -> Worker:
    """Look at the file that ``ecotone run --health-file`` touches."""
    try:
        touched = Path(current_app.config["WORKER_HEALTH_FILE"]).stat().st_mtime
    except FileNotFoundError:
        return Worker(None)
    return Worker(max(0.0, time.time() - touched))


def _queues() -> dict[str, list[Queue]]:
    """Return the queues of each shop: every channel has a source for each tenant."""
    messaging = current_app.extensions["ecotone"].messaging
    found: dict[str, list[Queue]] = {key: [] for key in SHOPS}
    for name in messaging.names:
        for source in messaging.channels.get(name).sources():
            found[source.tenant].append(Queue(name, source.status()))
    return found
