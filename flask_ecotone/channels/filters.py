"""Which dead letters are meant."""

from __future__ import annotations

import datetime
import typing as t

import sqlalchemy as sa

from ..decorators.asynchronous import milliseconds
from ..errors import MessagingError
from ..storage.tables import dead_letters
from ..storage.tables import now_ms

_d = dead_letters.c
#: Column → what it is filtered by.
_FILTERS: t.Final[dict[str, t.Any]] = {
    "channel": _d.channel,
    "endpoint_id": _d.endpoint_id,
    "error_class": _d.error_class,
    "message_type": _d.message_type,
    "message_id": _d.message_id,
}


def conditions(filters: dict[str, t.Any]) -> list[t.Any]:
    """Return the conditions that filters stand for.

    :raises TypeError: There is no such filter.
    """
    found = []
    for name, value in filters.items():
        if value is None:
            continue
        if name == "since":
            found.append(_d.last_failed_at >= _moment(value))
        elif name == "up_to":
            found.append(_d.id <= value)
        elif name in _FILTERS:
            found.append(_FILTERS[name] == value)
        else:
            raise TypeError(
                f"Dead letters have no filter {name!r}. They have"
                f" {', '.join(_FILTERS)}, since and up_to."
            )
    return found


def _moment(since: t.Any) -> t.Any:
    if isinstance(since, datetime.timedelta):
        return now_ms() - milliseconds(since)
    if isinstance(since, datetime.datetime):
        if since.tzinfo is None:
            raise MessagingError(
                f"The moment {since} has no time zone. Give one, for example"
                " datetime(…, tzinfo=UTC)."
            )
        return int(since.timestamp() * 1000)
    return since


def among_first(connection: sa.Connection, condition: t.Any, count: int) -> t.Any:
    """Return a condition that those meet which failed first."""
    if count <= 0:
        return sa.false()
    query = sa.select(_d.last_failed_at, _d.id).where(condition)
    query = query.order_by(_d.last_failed_at, _d.id).offset(count - 1).limit(1)
    last = connection.execute(query).one_or_none()
    if last is None:
        return sa.true()
    is_equal = sa.and_(_d.last_failed_at == last.last_failed_at, _d.id <= last.id)
    return sa.or_(_d.last_failed_at < last.last_failed_at, is_equal)
