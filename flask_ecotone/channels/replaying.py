"""Dead letters that lay in no channel: what handles them again."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from ..message import FIRST_FAILED
from ..message import REPLAYS
from ..storage.failures import is_outage
from ..storage.tables import dead_letters
from ..storage.tables import now_ms
from .parking import Failure
from .parking import said_of
from .protocols import Envelope

_R = t.TypeVar("_R")
#: Dead letters as they lie in the table.
Rows = list[t.Any]
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

    def failure(self, name: str, envelope: Envelope, error: Exception) -> Failure:
        """Log that a message failed again, and return its error in writing."""
        ...


class FailedAgainError(Exception):
    """A dead letter was handled again, and failed as well.

    :param row: The dead letter.
    :param error: What its handler raised, or the end of the unit of work.
    """

    def __init__(self, row: t.Any, error: Exception) -> None:
        super().__init__(row.id)
        self.row = row
        self.error = error


def failed_again(error: Exception, begun: Rows) -> FailedAgainError:
    """Return which dead letter failed with an error.

    :param begun: What was handled in the unit of work that it ended.
    :raises Exception: The error, if nobody can tell or the database is the reason.
    """
    failed = error
    if not isinstance(failed, FailedAgainError):
        # It is the end of the unit of work, if it came to that.
        if len(begun) != 1:
            raise error
        failed = FailedAgainError(begun[0], error)
    if is_outage(failed.error):
        raise failed.error from None
    return failed


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


def replayed(row: t.Any) -> Envelope:
    """Return a dead letter as a message that was replayed once more."""
    headers = row.headers
    try:
        values = msgspec.json.decode(headers, type=dict[str, t.Any])
        values.update({REPLAYS: row.replays + 1, FIRST_FAILED: row.first_failed_at})
        headers = msgspec.json.encode(values).decode()
    except msgspec.MsgspecError:
        pass  # it goes back as it came
    return Envelope(row.endpoint_id, row.message_id, bytes(row.body), headers)


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
