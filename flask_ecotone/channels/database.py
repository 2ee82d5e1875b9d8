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
from .bound import BoundChannel
from .database_source import CAPABILITIES
from .inserting import insert
from .opening import ChannelSurroundings
from .protocols import Envelope
from .protocols import FinalFailure
from .protocols import Inserting
from .protocols import OnExhausted
from .table_channel import TableChannel

_DEFAULT: t.Final = "default"


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
    :param bind: A key of ``SQLALCHEMY_BINDS``: the messages are in that database, for
        all tenants, and are sent once the transaction of the session is committed.
        ``None`` and ``"default"`` stand for the database of the session.
    :param error_channel: Where failed messages go whose handler says nothing itself, as
        with :func:`error_channel`. Unless given, the application says it.
    """

    name: str
    lease: float = field(default=60.0, kw_only=True)
    batch: int = field(default=20, kw_only=True)
    max_deliveries: int = field(default=5, kw_only=True)
    transaction: t.Literal["message", "batch"] = field(default="message", kw_only=True)
    on_exhausted: OnExhausted | None = field(default=None, kw_only=True)
    bind: str | None = field(default=None, kw_only=True)
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
        if self.bind_key is not None and self.transaction == "batch":
            raise ConfigurationError(
                f"DatabaseChannel({self.name!r}) has bind={self.bind!r} and"
                " transaction='batch'. A message in another database can't be removed"
                " in the transaction of its handler: leave one of them out."
            )
        FinalFailure.named(self.on_exhausted, f"on_exhausted of {self.name!r}")

    @property
    def bind_key(self) -> str | None:
        """The bind of its database; ``None`` for that of the session."""
        return None if self.bind == _DEFAULT else self.bind

    def open(
        self, surroundings: ChannelSurroundings
    ) -> OpenDatabaseChannel | BoundChannel:
        """Return the channel of an application."""
        if surroundings.database is None:
            raise ConfigurationError(
                f"DatabaseChannel({self.name!r}) requires a 'db' connection to be"
                " configured. Call db.init_app(app) before ecotone.init_app(app)."
            )
        databases = surroundings.database
        options = {
            "batch": self.batch,
            "lease": self.lease,
            "max_deliveries": self.max_deliveries,
            "is_batched": self.transaction == "batch",
            "on_exhausted": FinalFailure.named(self.on_exhausted, self.name),
        }
        if self.bind_key is None:
            return OpenDatabaseChannel(self.name, databases, **options)
        try:
            bound = databases.bound(self.bind_key)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"DatabaseChannel({self.name!r}) can't be opened: {error}"
            ) from error
        return BoundChannel(self.name, bound, **options)


class OpenDatabaseChannel(TableChannel, Inserting):
    """A :class:`DatabaseChannel` of one application, where the session leads to."""

    capabilities: t.Final = CAPABILITIES

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Insert messages in the transaction of the session."""
        self.insert(self._databases.session().connection(), envelopes)

    def insert(self, connection: sa.Connection, envelopes: Sequence[Envelope]) -> None:
        """Insert messages in a transaction of the caller.

        :raises MessageDeliveryError: The database doesn't take one that is so large.
        """
        insert(connection, self.name, envelopes)
