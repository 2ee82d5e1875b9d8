"""Messages become rows, in a transaction of the caller."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence

import sqlalchemy as sa

from ..errors import MessageDeliveryError
from ..storage.tables import messages
from ..storage.tables import now_ms
from ..storage.tables import READY
from ..storage.tables import WAITING
from .protocols import Envelope

#: On PostgreSQL workers are woken by a notification with the name of the channel.
NOTIFICATION: t.Final = "ecotone_message"

_given: dict[str, sa.BindParameter[t.Any]] = {
    name: sa.bindparam(name)
    for name in ("channel", "state", "rank", "endpoint_id", "message_id", "headers")
}
_INSERT_ONE = sa.insert(messages).values(
    **_given,
    body=sa.bindparam("body"),
    attempts=0,
    created_at=now_ms(),
    due_at=now_ms() * sa.bindparam("is_relative", type_=sa.BigInteger)
    + sa.bindparam("due", type_=sa.BigInteger),
    expires_at=sa.bindparam("expiry", type_=sa.BigInteger),
)
_INSERT_AND_NOTIFY = _INSERT_ONE.returning(
    sa.func.pg_notify(NOTIFICATION, messages.c.channel)
)
_NOTIFY = sa.select(sa.func.pg_notify(NOTIFICATION, sa.bindparam("channel")))
_INSERT_MANY = sa.insert(messages)
_NOW = sa.select(now_ms())
_PACKET = sa.text("SELECT @@max_allowed_packet")
#: Bytes that are left for the text of an error when a message is parked.
_SPARE: t.Final = 500_000
_ALWAYS_TAKEN: t.Final = 400_000


def insert(
    connection: sa.Connection, channel: str, envelopes: Sequence[Envelope]
) -> None:
    """Insert messages.

    :raises MessageDeliveryError: The database doesn't take one that is so large.
    """
    if connection.dialect.name in ("mysql", "mariadb"):
        _check_sizes(connection, channel, envelopes)
    insert_unchecked(connection, channel, envelopes)


def insert_unchecked(
    connection: sa.Connection, channel: str, envelopes: Sequence[Envelope]
) -> None:
    """Insert messages that are in the database already."""
    if len(envelopes) == 1:
        _insert_one(connection, channel, envelopes[0])
    elif envelopes:
        _insert_many(connection, channel, envelopes)


def _insert_one(connection: sa.Connection, channel: str, envelope: Envelope) -> None:
    """Insert a message; the database says what time it is."""
    if envelope.time_to_live is not None:
        # Its life begins now, or when it is due: that is to be known before.
        _insert_many(connection, channel, [envelope])
        return
    values = _columns(channel, envelope)
    is_absolute = envelope.due_at is not None
    values.update(
        is_relative=0 if is_absolute else 1,
        due=envelope.due_at if is_absolute else envelope.delay,
        expiry=envelope.expires_at,
    )
    if connection.dialect.name == "postgresql":
        connection.execute(_INSERT_AND_NOTIFY, values).close()
    else:
        connection.execute(_INSERT_ONE, values)


def _insert_many(
    connection: sa.Connection, channel: str, envelopes: Sequence[Envelope]
) -> None:
    """Insert messages with one statement."""
    now = t.cast(int, connection.scalar(_NOW))
    rows = []
    for envelope in envelopes:
        values = _columns(channel, envelope)
        due = now + envelope.delay if envelope.due_at is None else envelope.due_at
        expiry = envelope.expires_at
        if expiry is None and envelope.time_to_live is not None:
            expiry = max(now, due) + envelope.time_to_live
        values.update(attempts=0, created_at=now, due_at=due, expires_at=expiry)
        rows.append(values)
    connection.execute(_INSERT_MANY, rows)
    if connection.dialect.name == "postgresql":
        connection.execute(_NOTIFY, {"channel": channel}).close()


def _check_sizes(
    connection: sa.Connection, channel: str, envelopes: Sequence[Envelope]
) -> None:
    # The server would hang up, as if there were an outage.
    largest = max(map(_size, envelopes), default=0)
    if largest < _ALWAYS_TAKEN:
        return
    limit = t.cast(int, connection.scalar(_PACKET))
    if largest > limit - _SPARE:
        raise MessageDeliveryError(
            f"A message for the channel {channel!r} may take {largest:,} bytes of SQL,"
            f" and the database takes {limit:,} in one statement, from which {_SPARE:,}"
            " are kept for a report of its failure. Store large data elsewhere and send"
            " where it is, or raise 'max_allowed_packet' of the server."
        )


def _size(envelope: Envelope) -> int:
    # Drivers write bytes as hexadecimal digits, or escape them; text is escaped.
    return 2 * (len(envelope.body) + len(envelope.headers.encode()))


def _columns(channel: str, envelope: Envelope) -> dict[str, t.Any]:
    is_ready = envelope.delay <= 0 and envelope.due_at is None
    return {
        "channel": channel,
        "state": READY if is_ready else WAITING,
        "rank": -envelope.priority,
        "endpoint_id": envelope.endpoint_id,
        "message_id": envelope.message_id,
        "headers": envelope.headers,
        "body": envelope.body,
    }
