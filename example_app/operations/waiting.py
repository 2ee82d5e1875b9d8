"""Messages that wait for their time, and a button that makes them due."""

import json
from dataclasses import dataclass
from typing import Protocol

from flask_ecotone import command_handler
from flask_ecotone import query_handler
from flask_ecotone import sql_query
from flask_ecotone import sql_write


@dataclass(frozen=True)
class ListWaiting:
    """Ask for the delayed messages of a channel, the next one first."""

    channel: str


@dataclass(frozen=True)
class WaitingMessage:
    """A delayed message. Its time is in milliseconds since the epoch."""

    endpoint_id: str
    due_at: int
    headers: str

    @property
    def retry(self) -> int:
        """How many times it has failed already."""
        return int(json.loads(self.headers).get("ecotone_retry_number", 0))


@dataclass(frozen=True)
class FastForward:
    """Let the time pass that the messages of a channel wait for."""

    channel: str


class Queue(Protocol):
    """The table of the outbox. State 0 without a token is: delayed, and not claimed."""

    @sql_query(
        """
        SELECT endpoint_id, due_at, headers FROM ecotone_message
        WHERE channel = :channel AND state = 0 AND token IS NULL
        ORDER BY due_at, id
        LIMIT 20
        """
    )
    def waiting(self, channel: str) -> list[WaitingMessage]:
        """Return the messages that are due next."""
        ...

    # Nothing is older than its row, so this needs no clock of any database.
    @sql_write(
        """
        UPDATE ecotone_message SET due_at = created_at
        WHERE channel = :channel AND state = 0 AND token IS NULL
        """
    )
    def hurry(self, channel: str) -> int:
        """Make the messages due and return how many they are."""
        ...


@query_handler
def list_waiting(query: ListWaiting, queue: Queue) -> list[WaitingMessage]:
    """Look into the queue."""
    return queue.waiting(query.channel)


@command_handler
def fast_forward(command: FastForward, queue: Queue) -> int:
    """Make delayed messages due now; the worker finds them at its next look."""
    return queue.hurry(command.channel)
