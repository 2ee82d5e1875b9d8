"""Where a worker takes messages of a database channel from.

Each operation is a short transaction of its own, on a connection of its own, except for
:meth:`DatabaseSource.acknowledge` and :meth:`DatabaseSource.settle`: what a handler
does and the removal of its message are one transaction.
"""

from __future__ import annotations

import hashlib
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager

import sqlalchemy as sa
import sqlalchemy.dialects.postgresql as postgresql

from ..errors import LeaseLostError
from ..message import new_id
from ..storage.tables import handled
from ..storage.tables import messages
from ..storage.tables import now_ms
from ..storage.tables import READY
from ..storage.tables import SUSPECT
from ..storage.tables import WAITING
from .opening import Databases
from .protocols import Capability
from .protocols import ChannelStatus
from .protocols import Delivery
from .protocols import Envelope

_m = messages.c
_RECOVERED = 1000

_channel = sa.bindparam("of_channel", type_=sa.String)
_ids: sa.BindParameter[t.Any] = sa.bindparam("ids", expanding=True)


def _chosen(state: int) -> sa.Select[t.Any]:
    return (
        sa.select(_m.id)
        .where(_m.channel == _channel, _m.state == state)
        .order_by(_m.rank, _m.id)
        .limit(sa.bindparam("limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)
    )


def _due() -> sa.Select[t.Any]:
    return (
        sa.select(_m.id)
        .where(_m.channel == _channel, _m.state == WAITING, _m.due_at <= now_ms())
        .order_by(_m.due_at)
        .limit(_RECOVERED)
        .with_for_update(skip_locked=True)
    )


def _held() -> sa.Select[t.Any]:
    return (
        sa.select(_m.id)
        .where(_m.id.in_(_ids), _m.token == sa.bindparam("held"))
        .with_for_update(skip_locked=True)
    )


_CLAIMED = {
    _m.state: WAITING,
    _m.token: sa.bindparam("new_token"),
    _m.attempts: _m.attempts + 1,
    _m.due_at: now_ms() + sa.bindparam("lease", type_=sa.BigInteger),
}
_TAKEN = (
    _m.id,
    _m.rank,
    _m.attempts,
    _m.endpoint_id,
    _m.message_id,
    _m.headers,
    _m.body,
    (_m.expires_at < now_ms()).label("is_expired"),
)
_RECOVERING: dict[t.Any, t.Any] = {
    _m.state: sa.case((_m.token.is_(None), READY), else_=SUSPECT),
    _m.token: None,
}
_EXTENDED = {_m.due_at: now_ms() + sa.bindparam("lease", type_=sa.BigInteger)}


class _Change:
    """An update of some rows, which each database wants to have written otherwise."""

    def __init__(
        self,
        choose: sa.Select[t.Any],
        values: dict[t.Any, t.Any],
        returning: Sequence[t.Any] = (),
    ) -> None:
        # The rows to lock are chosen once: a subquery may be evaluated again.
        chosen = choose.cte("chosen")
        self._joined: t.Any = (
            sa.update(messages).where(_m.id == chosen.c.id).values(values)
        )
        self._inner: t.Any = sa.update(messages).where(_m.id.in_(choose)).values(values)
        if returning:
            self._joined = self._joined.returning(*returning)
            self._inner = self._inner.returning(*returning)
        self._choose = choose
        self._listed = sa.update(messages).where(_m.id.in_(_ids)).values(values)
        self._read = sa.select(*returning).where(_m.id.in_(_ids)) if returning else None

    def run(
        self, connection: sa.Connection, values: dict[str, t.Any]
    ) -> Sequence[t.Any]:
        """Execute it and return what was changed, if it returns that."""
        if connection.dialect.name == "postgresql":
            result = connection.execute(self._joined, values)
        elif connection.dialect.name == "sqlite":
            result = connection.execute(self._inner, values)
        else:
            return self._run_listed(connection, values)
        return result.all() if result.returns_rows else ()

    def _run_listed(
        self, connection: sa.Connection, values: dict[str, t.Any]
    ) -> Sequence[t.Any]:
        ids = connection.scalars(self._choose, values).all()
        if not ids:
            return ()
        connection.execute(self._listed, {**values, "ids": ids})
        if self._read is None:
            return ()
        return connection.execute(self._read, {"ids": ids}).all()


_CLAIM = _Change(_chosen(READY), _CLAIMED, _TAKEN)
_CLAIM_SUSPECT = _Change(_chosen(SUSPECT), _CLAIMED, _TAKEN)
_RECOVER = _Change(_due(), _RECOVERING)
_EXTEND = _Change(_held(), _EXTENDED)
_RELEASE = _Change(
    _held(), {_m.state: READY, _m.token: None, _m.attempts: _m.attempts - 1}
)
_REMOVE = sa.delete(messages).where(
    _m.id == sa.bindparam("position"), _m.token == sa.bindparam("held")
)
_REMOVE_ALL = sa.delete(messages).where(
    _m.id.in_(_ids), _m.token == sa.bindparam("held")
)
_noted = {
    "digest": sa.bindparam("new_digest", type_=sa.LargeBinary),
    "key": sa.bindparam("new_key", type_=sa.String),
    "endpoint_id": sa.bindparam("new_endpoint", type_=sa.String),
    "handled_at": now_ms(),
}
_NOTE = (
    sa.insert(handled)
    .values(**_noted)
    .prefix_with("OR IGNORE", dialect="sqlite")
    .prefix_with("IGNORE", dialect="mysql")
    .prefix_with("IGNORE", dialect="mariadb")
)
_gone = _REMOVE.returning(_m.id).cte("gone")
_NOTE_NEW = postgresql.insert(handled).values(**_noted).on_conflict_do_nothing()
_new = _NOTE_NEW.returning(handled.c.handled_at).cte("noted")
_SETTLE = sa.select(
    sa.select(sa.func.count()).select_from(_gone).scalar_subquery(),
    sa.select(sa.func.count()).select_from(_new).scalar_subquery(),
)
_NEXT_DUE = sa.select(sa.func.min(_m.due_at) - now_ms()).where(
    _m.channel == _channel, _m.state == WAITING
)
_STATUS = (
    sa.select(
        _m.state,
        _m.token.is_(None).label("is_free"),
        sa.func.count(),
        now_ms() - sa.func.min(_m.created_at),
    )
    .where(_m.channel == _channel)
    .group_by(_m.state, _m.token.is_(None))
)
_PURGE = sa.delete(messages).where(_m.channel == _channel)


class DatabaseSource:
    """The messages of a channel in one database.

    :param channel: The name of the channel.
    :param tenant: Whose database it is.
    :param insert: Inserts a message into a channel.
    """

    def __init__(
        self,
        channel: str,
        tenant: str | None,
        databases: Databases,
        *,
        batch: int,
        lease: float,
        max_deliveries: int,
        insert: Callable[[sa.Connection, str, Envelope], None],
    ) -> None:
        self.channel = channel
        self.tenant = tenant
        self.batch = batch
        self.lease = lease
        self.max_deliveries = max_deliveries
        self._databases = databases
        self._insert = insert
        self._may_have_suspects = True

    capabilities: t.Final = (
        Capability.DELAY
        | Capability.PRIORITY
        | Capability.TIME_TO_LIVE
        | Capability.BATCH
        | Capability.ORDERED
        | Capability.TRANSACTIONAL
    )

    @property
    def engine(self) -> sa.Engine:
        """The engine of the database."""
        return self._databases.engine(self.tenant)

    def claim(self, limit: int) -> list[Delivery]:
        """Claim ready messages and return them, the next one first."""
        token = new_id()
        values = {
            "of_channel": self.channel,
            "new_token": token,
            "lease": int(self.lease * 1000),
        }
        rows: Sequence[t.Any] = ()
        with self._begin() as connection:
            if self._may_have_suspects:
                rows = _CLAIM_SUSPECT.run(connection, {**values, "limit": 1})
                self._may_have_suspects = bool(rows)
            if not rows:
                rows = _CLAIM.run(connection, {**values, "limit": limit})
            expired = [row.id for row in rows if row.is_expired]
            if expired:
                connection.execute(_REMOVE_ALL, {"ids": expired, "held": token})
        return [
            Delivery(
                Envelope(
                    row.endpoint_id,
                    row.message_id,
                    bytes(row.body),
                    row.headers,
                    priority=-row.rank,
                ),
                row.id,
                token,
                row.attempts,
            )
            for row in sorted(rows, key=lambda row: (row.rank, row.id))
            if not row.is_expired
        ]

    def recover(self) -> None:
        """Make ready what is due: after a delay, or because its worker disappeared."""
        with self._begin() as connection:
            _RECOVER.run(connection, {"of_channel": self.channel})
        self._may_have_suspects = True

    def next_due(self) -> float | None:
        """Return in how many seconds something becomes due; ``None`` if nothing."""
        with self._begin() as connection:
            found = connection.scalar(_NEXT_DUE, {"of_channel": self.channel})
        return None if found is None else max(0.0, float(found) / 1000)

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Extend the lease of messages that are still worked on.

        What a handler's transaction has removed is locked, and safe as it is.
        """
        self._change(_EXTEND, deliveries, lease=int(self.lease * 1000))

    def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give back messages that nothing was done with."""
        self._change(_RELEASE, deliveries)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages, in the transaction of the session."""
        connection = self._databases.session().connection()
        for token, group in _by_token(deliveries).items():
            ids = [delivery.position for delivery in group]
            removed = connection.execute(_REMOVE_ALL, {"ids": ids, "held": token})
            if removed.rowcount != len(ids):
                raise LeaseLostError(self.channel, group[0].envelope.message_id)

    def settle(self, delivery: Delivery) -> bool:
        """Remove a message and note that it was handled, in the session."""
        connection = self._databases.session().connection()
        envelope = delivery.envelope
        values = {
            "position": delivery.position,
            "held": delivery.token,
            **noted(envelope.message_id, envelope.endpoint_id),
        }
        if connection.dialect.name == "postgresql":
            removed, is_new = connection.execute(_SETTLE, values).one()
        else:
            removed = connection.execute(_REMOVE, values).rowcount
            is_new = removed and connection.execute(_NOTE, values).rowcount
        if not removed:
            raise LeaseLostError(self.channel, envelope.message_id)
        return bool(is_new)

    def handled_before(self, deliveries: Sequence[Delivery]) -> set[t.Any]:
        """Return the positions of messages that were handled already."""
        digests = {
            noted(e.message_id, e.endpoint_id)["new_digest"]: delivery.position
            for delivery in deliveries
            for e in [delivery.envelope]
        }
        query = sa.select(handled.c.digest).where(handled.c.digest.in_(list(digests)))
        with self._begin() as connection:
            found = connection.scalars(query).all()
        return {digests[bytes(digest)] for digest in found}

    def finish(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages that were handled outside of a transaction, and note them.

        Those whose lease was lost are left to who has it.
        """
        with self._begin() as connection:
            for token, group in _by_token(deliveries).items():
                ids = [delivery.position for delivery in group]
                connection.execute(_REMOVE_ALL, {"ids": ids, "held": token})
            envelopes = [delivery.envelope for delivery in deliveries]
            rows = [noted(e.message_id, e.endpoint_id) for e in envelopes]
            if connection.dialect.name == "postgresql":
                connection.execute(_NOTE_NEW, rows)
            else:
                connection.execute(_NOTE, rows)

    def requeue(self, delivery: Delivery, envelope: Envelope) -> None:
        """Put a message back, changed, behind the others."""
        with self._begin() as connection:
            self.remove(connection, delivery)
            self._insert(connection, self.channel, envelope)

    def discard(self, delivery: Delivery) -> None:
        """Remove a message that is given up."""
        with self._begin() as connection:
            self.remove(connection, delivery)

    def remove(self, connection: sa.Connection, delivery: Delivery) -> None:
        """Remove a message in a transaction of the caller.

        :raises LeaseLostError: It isn't ours any more.
        """
        values = {"position": delivery.position, "held": delivery.token}
        if connection.execute(_REMOVE, values).rowcount != 1:
            raise LeaseLostError(self.channel, delivery.envelope.message_id)

    def status(self) -> ChannelStatus:
        """Return what lies in the source."""
        ready = in_flight = delayed = 0
        oldest = None
        with self._begin() as connection:
            rows = connection.execute(_STATUS, {"of_channel": self.channel}).all()
        for state, is_free, count, age in rows:
            if state != WAITING:
                ready += count
                oldest = max(oldest or 0.0, max(0.0, float(age) / 1000))
            elif is_free:
                delayed += count
            else:
                in_flight += count
        return ChannelStatus(ready, in_flight, delayed, oldest)

    def purge(self) -> int:
        """Remove everything and return how much it was."""
        with self._begin() as connection:
            return connection.execute(_PURGE, {"of_channel": self.channel}).rowcount

    def _change(
        self, change: _Change, deliveries: Sequence[Delivery], **values: t.Any
    ) -> None:
        with self._begin() as connection:
            for token, group in _by_token(deliveries).items():
                ids = [delivery.position for delivery in group]
                change.run(connection, {**values, "ids": ids, "held": token})

    @contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        engine = self.engine
        if engine.dialect.name in ("mysql", "mariadb"):
            # Repeatable reads would lock the gaps between rows, too.
            options = engine.execution_options(isolation_level="READ COMMITTED")
            with options.begin() as connection:
                yield connection
        else:
            with engine.begin() as connection:
                if engine.dialect.name == "sqlite":
                    begin_write(connection)
                yield connection


def begin_write(connection: sa.Connection) -> None:
    """Take SQLite's write lock before anything is read."""
    driver = t.cast(t.Any, connection.connection.dbapi_connection)
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def noted(key: str, endpoint_id: str) -> dict[str, t.Any]:
    """Return what is noted of a message that was handled by an endpoint."""
    return {
        "new_digest": hashlib.sha256(f"{key}\0{endpoint_id}".encode()).digest(),
        "new_key": key[:255],
        "new_endpoint": endpoint_id[:512],
    }


def _by_token(deliveries: Sequence[Delivery]) -> dict[str, list[Delivery]]:
    groups: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        groups.setdefault(delivery.token, []).append(delivery)
    return groups
