"""Dead letters that lay in no channel: what handles them again."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

import sqlalchemy as sa

from ..storage.tables import dead_letters
from ..storage.tables import now_ms
from .parking import Failure
from .parking import said_of
from .protocols import Envelope

_R = t.TypeVar("_R")
_d = dead_letters.c


class Buses(t.Protocol):
    """Handles messages again that failed on a bus which waits for its handlers."""

    def has(self, name: str) -> bool:
        """Whether there is such a bus of a name."""
        ...

    def in_unit(self, tenant: str | None, call: Callable[[], _R]) -> _R:
        """Call something in a unit of work of its own, with a tenant active."""
        ...

    def handle(self, name: str, envelope: Envelope) -> None:
        """Handle a message in the unit of work that is active."""
        ...

    def failure(self, error: Exception) -> Failure:
        """Return an error in writing."""
        ...


class FailedAgainError(Exception):
    """A dead letter was handled again, and failed as well.

    :param error: What its handler raised.
    """

    def __init__(self, id: int, error: Exception) -> None:
        super().__init__(id)
        self.id = id
        self.error = error


class OfBuses(t.NamedTuple):
    """Dead letters that failed on buses.

    :param names: The names of the buses.
    :param ids: The oldest failure first.
    """

    names: list[str]
    ids: list[int]


def ids_of_buses(
    connection: sa.Connection, buses: Buses | None, condition: t.Any
) -> OfBuses:
    """Return which dead letters failed on a bus."""
    if buses is None:
        return OfBuses([], [])
    channels = connection.scalars(sa.select(_d.channel).where(condition).distinct())
    names = [name for name in channels if buses.has(name)]
    if not names:
        return OfBuses([], [])
    query = sa.select(_d.id).where(condition, _d.channel.in_(names))
    found = connection.scalars(query.order_by(_d.last_failed_at, _d.id))
    return OfBuses(names, list(found))


def note_failure(connection: sa.Connection, id: int, failure: Failure) -> None:
    """Note that a dead letter was handled again, and failed as well."""
    update = sa.update(dead_letters).where(_d.id == id)
    connection.execute(
        update.values(
            **said_of(failure),
            attempts=_d.attempts + failure.attempts,
            replays=_d.replays + 1,
            last_failed_at=now_ms(),
        )
    )
