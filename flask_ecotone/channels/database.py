"""A channel in the application's own database: the outbox.

Sending inserts a row on the connection of ``db.session``, so that it is committed, or
rolled back, with everything else. It is the Transactional Outbox of Chris Richardson's
*Microservices Patterns* and Ecotone's DBAL channel.
"""

from __future__ import annotations

import typing as t
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

import sqlalchemy as sa

from ..errors import ConfigurationError
from ..errors import MessageDeliveryError
from ..storage.tables import create
from ..storage.tables import messages
from ..storage.tables import missing
from ..storage.tables import now_ms
from ..storage.tables import READY
from ..storage.tables import WAITING
from .database_source import DatabaseSource
from .opening import ChannelSurroundings
from .opening import Databases
from .protocols import Capability
from .protocols import Envelope
from .protocols import FinalFailure
from .protocols import Inserting
from .protocols import OnExhausted

#: On PostgreSQL workers are woken by a notification with the name of the channel.
NOTIFICATION: t.Final = "ecotone_message"

CAPABILITIES: t.Final = (
    Capability.DELAY
    | Capability.PRIORITY
    | Capability.TIME_TO_LIVE
    | Capability.BATCH
    | Capability.ORDERED
    | Capability.TRANSACTIONAL
)


@dataclass(frozen=True, slots=True)
class DatabaseChannel:
    """A channel in the database of the application, or of the active tenant.

    :param name: The name of the channel.
    :param lease: Seconds that a worker may be silent before others take its messages.
        A worker that lives extends its leases.
    :param batch: How many messages a worker claims at once.
    :param max_deliveries: How many workers may disappear with a message before it is
        parked among the dead letters, 2 at least. The first time it may have been one
        of those that were claimed with it; after that it is handled alone.
    :param transaction: ``"message"`` gives each message a transaction of its own.
        ``"batch"`` handles those of a claim in one transaction, each in a savepoint:
        that is several times as fast, and what handlers lock stays locked until the
        last of them is done.
    :param on_exhausted: What becomes of a message whose retries are used up and that no
        error channel takes: ``"dead_letter"``, ``"resend"``, ``"release"``,
        ``"ignore"`` or ``"stop"``. Unless given, the application says it.
    :param error_channel: Where failed messages go whose handler says nothing itself, as
        with :func:`error_channel`. Unless given, the application says it.
    """

    name: str
    lease: float = field(default=60.0, kw_only=True)
    batch: int = field(default=20, kw_only=True)
    max_deliveries: int = field(default=5, kw_only=True)
    transaction: t.Literal["message", "batch"] = field(default="message", kw_only=True)
    on_exhausted: OnExhausted | None = field(default=None, kw_only=True)
    error_channel: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 0 < len(self.name) <= 255:
            raise ConfigurationError(
                f"A DatabaseChannel is named {self.name!r:.80}. Its name is text of up"
                " to 255 characters, for example 'orders'."
            )
        if self.lease < 1 or self.batch < 1 or self.max_deliveries < 1:
            raise ConfigurationError(
                f"DatabaseChannel({self.name!r}) has lease={self.lease},"
                f" batch={self.batch}, max_deliveries={self.max_deliveries}. Each of"
                " them is at least 1."
            )
        if self.transaction not in ("message", "batch"):
            raise ConfigurationError(
                f"DatabaseChannel({self.name!r}) has transaction={self.transaction!r}."
                " It is 'message' or 'batch'."
            )
        FinalFailure.named(self.on_exhausted, f"on_exhausted of {self.name!r}")

    def open(self, surroundings: ChannelSurroundings) -> OpenDatabaseChannel:
        """Return the channel of an application."""
        if surroundings.database is None:
            raise ConfigurationError(
                f"DatabaseChannel({self.name!r}) requires a 'db' connection to be"
                " configured. Call db.init_app(app) before ecotone.init_app(app)."
            )
        return OpenDatabaseChannel(self, surroundings.database)


class OpenDatabaseChannel(Inserting):
    """A :class:`DatabaseChannel` of one application."""

    capabilities: t.Final = CAPABILITIES

    def __init__(self, configuration: DatabaseChannel, databases: Databases) -> None:
        self.name = configuration.name
        self.configuration = configuration
        self._on_exhausted = FinalFailure.named(configuration.on_exhausted, self.name)
        self._databases = databases
        self._sources: dict[str | None, DatabaseSource] = {}

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Insert messages in the transaction of the session."""
        self.insert(self._databases.session().connection(), envelopes)

    def insert(self, connection: sa.Connection, envelopes: Sequence[Envelope]) -> None:
        """Insert messages in a transaction of the caller.

        :raises MessageDeliveryError: The database doesn't take one that is so large.
        """
        if connection.dialect.name in ("mysql", "mariadb"):
            _check_sizes(connection, self.name, envelopes)
        if len(envelopes) == 1:
            insert_one(connection, self.name, envelopes[0])
        elif envelopes:
            insert_many(connection, self.name, envelopes)

    def is_initialized(self) -> bool:
        """Whether our tables are in the database of each tenant."""
        return not any(missing(engine) for engine in self._engines())

    def initialize(self) -> None:
        """Make our tables where they are missing."""
        for engine in self._engines():
            create(engine)

    def delete(self) -> None:
        """Do nothing: the tables are those of other channels as well."""

    def _engines(self) -> list[sa.Engine]:
        return [self._databases.engine(each) for each in self._databases.tenants()]

    def sources(self) -> Sequence[DatabaseSource]:
        """Return a source for the database of each tenant."""
        found = {}
        for tenant in self._databases.tenants():
            found[tenant] = self._sources.get(tenant) or DatabaseSource(
                self.name,
                tenant,
                self._databases,
                batch=self.configuration.batch,
                lease=self.configuration.lease,
                max_deliveries=self.configuration.max_deliveries,
                is_batched=self.configuration.transaction == "batch",
                on_exhausted=self._on_exhausted,
                insert=insert_one,
            )
        self._sources = found
        return list(found.values())


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


def insert_one(connection: sa.Connection, channel: str, envelope: Envelope) -> None:
    """Insert a message; the database says what time it is."""
    if envelope.time_to_live is not None:
        # Its life begins now, or when it is due: that is to be known before.
        insert_many(connection, channel, [envelope])
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


def insert_many(
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
