"""Where a worker takes messages of a database channel from.

Each operation is a short transaction of its own, on a connection of its own, except for
:meth:`DatabaseSource.acknowledge` and :meth:`DatabaseSource.settle`: what a handler
does and the removal of its message are one transaction.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import AbstractContextManager

import sqlalchemy as sa
import sqlalchemy.exc as sa_exc

from ..errors import LeaseLostError
from ..message import new_id
from ..storage.apart import added
from ..storage.apart import apart
from ..storage.apart import gathered
from ..storage.deduplication import Handled
from ..storage.deduplication import NOTE_NEW
from ..storage.deduplication import NOTE_NEW_ARRAYS
from ..storage.failures import is_outage
from ..storage.failures import is_transient
from ..storage.plans import planned_anew
from ..storage.plans import renew_plans
from ..storage.tables import ensure
from ..storage.tables import forget
from ..storage.tables import is_waiting
from ..storage.tables import messages
from ..storage.tables import now_ms
from ..storage.tables import WAITING
from .changes import Change
from .changes import CLAIM
from .changes import CLAIM_SUSPECT
from .changes import EXTEND
from .changes import OF_CHANNEL
from .changes import RECOVER
from .changes import RELEASE
from .changes import RELEASE_CLAIMS
from .changes import remove_all
from .changes import REMOVE_ARRAY
from .opening import Databases
from .protocols import Capability
from .protocols import ChannelStatus
from .protocols import Delivery
from .protocols import Envelope
from .protocols import FinalFailure

_m = messages.c

_R = t.TypeVar("_R")

_HANDLED = Handled()
#: For a worker that can't work.
_ADVICE: t.Final = (
    "'flask ecotone database setup --status' says what our tables lack; with"
    " --all-tenants for those of tenants."
)

_REMOVE = sa.delete(messages).where(
    _m.id == sa.bindparam("position"), _m.token == sa.bindparam("held")
)
_gone = _REMOVE.returning(_m.id).cte("gone")
_new = NOTE_NEW.cte("noted")
_SETTLE = sa.select(
    sa.select(sa.func.count()).select_from(_gone).scalar_subquery(),
    sa.select(sa.func.count()).select_from(_new).scalar_subquery(),
)
_FINISH = NOTE_NEW_ARRAYS.add_cte(REMOVE_ARRAY.cte("gone"))
_NEXT_DUE = sa.select(sa.func.min(_m.due_at) - now_ms()).where(
    _m.channel == OF_CHANNEL, is_waiting
)
_STATUS = (
    sa.select(
        _m.state,
        _m.token.is_(None).label("is_free"),
        sa.func.count(),
        now_ms() - sa.func.min(_m.created_at),
    )
    .where(_m.channel == OF_CHANNEL)
    .group_by(_m.state, _m.token.is_(None))
)
_PURGE = sa.delete(messages).where(_m.channel == OF_CHANNEL)


CAPABILITIES: t.Final = (
    Capability.DELAY
    | Capability.PRIORITY
    | Capability.TIME_TO_LIVE
    | Capability.BATCH
    | Capability.ORDERED
    | Capability.TRANSACTIONAL
)


class DatabaseSource:
    """The messages of a channel in one database.

    :param channel: The name of the channel.
    :param tenant: Whose database it is.
    :param insert: Inserts messages into a channel.
    """

    capabilities: Capability = CAPABILITIES

    def __init__(
        self,
        channel: str,
        tenant: str | None,
        databases: Databases,
        *,
        batch: int,
        lease: float,
        max_deliveries: int,
        is_batched: bool,
        on_exhausted: FinalFailure | None,
        insert: Callable[[sa.Connection, str, Sequence[Envelope]], None],
    ) -> None:
        self.channel = channel
        self.tenant = tenant
        self.batch = batch
        self.lease = lease
        self.max_deliveries = max_deliveries
        self.is_batched = is_batched
        self.on_exhausted = on_exhausted
        self._databases = databases
        self._insert = insert
        self._may_have_suspects = True
        #: The tokens of claims that the database didn't confirm.
        self._unconfirmed: set[str] = set()

    @property
    def engine(self) -> sa.Engine:
        """The engine of the database."""
        return self._databases.engine(self.tenant)

    def claim(self, limit: int) -> list[Delivery]:
        """Claim ready messages and return them, the next one first."""
        token, lease = new_id(), int(self.lease * 1000)
        values = {
            "of_channel": self.channel,
            "new_token": token,
            "lease": lease,
        }

        def take(connection: sa.Connection) -> Sequence[t.Any]:
            rows: Sequence[t.Any] = ()
            if self._may_have_suspects:
                rows = CLAIM_SUSPECT.run(connection, {**values, "limit": 1})
                self._may_have_suspects = bool(rows)
            if not rows:
                rows = CLAIM.run(connection, {**values, "limit": limit})
            expired = [row.id for row in rows if row.is_expired]
            if expired:
                remove_all(connection, token, expired)
            return rows

        try:
            rows = self._apart(take, is_one_statement=True)
        except Exception as error:
            self._unconfirmed.add(token)
            if not (is_outage(error) or is_transient(error)):
                error.add_note(_ADVICE)
            raise
        return [
            Delivery(
                Envelope(
                    row.endpoint_id,
                    row.message_id,
                    bytes(row.body),
                    row.headers,
                    expires_at=row.expires_at,
                    priority=-row.rank,
                ),
                row.id,
                token,
                row.attempts,
                row.due_at - lease,
            )
            for row in sorted(rows, key=lambda row: (row.rank, row.id))
            if not row.is_expired
        ]

    def recover(self) -> None:
        """Make ready what is due: after a delay, or because its worker disappeared."""
        # The tenant may be new, or its database was gone until now.
        ensure(self.engine)
        values = {"of_channel": self.channel}
        tokens = list(self._unconfirmed)
        if tokens:
            # Only the confirmation of these claims may have been lost.
            self._apart(
                lambda one: RELEASE_CLAIMS.run(one, {**values, "tokens": tokens})
            )
            self._unconfirmed.difference_update(tokens)
        try:
            self._apart(
                lambda connection: RECOVER.run(connection, values),
                is_one_statement=True,
            )
        except sa_exc.DBAPIError as error:
            if not (is_outage(error) or is_transient(error)):
                # Perhaps it was replaced, and the pool has connections to the old one.
                forget(self.engine)
                self.engine.dispose()
                error.add_note(_ADVICE)
            raise
        self._may_have_suspects = True

    def next_due(self) -> float | None:
        """Return in how many seconds something becomes due; ``None`` if nothing."""
        values = {"of_channel": self.channel}
        found = self._apart(
            lambda connection: connection.scalar(_NEXT_DUE, values),
            is_one_statement=True,
        )
        return None if found is None else max(0.0, float(found) / 1000)

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Extend the lease of messages that are still worked on.

        What a handler's transaction has removed is locked, and safe as it is.
        """
        self._change(EXTEND, deliveries, lease=int(self.lease * 1000))

    def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give back messages that nothing was done with."""
        self._change(RELEASE, deliveries)
        self._may_have_suspects = True

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages, in the transaction of the session."""
        self._joined(lambda connection: self.remove(connection, deliveries))

    def settle(self, delivery: Delivery) -> bool:
        """Remove a message and note that it was handled, in the session."""
        return self._joined(lambda connection: self._settle(connection, delivery))

    def settle_all(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages and note that they were handled, in the session."""

        def settle(connection: sa.Connection) -> None:
            self.remove(connection, deliveries)
            _HANDLED.note_all(connection, map(_noted, deliveries), are_new=True)

        self._joined(settle)

    def note(self, delivery: Delivery) -> bool:
        """Note in the transaction of the session that a message is handled."""
        connection = self._databases.session().connection()
        return _HANDLED.note(connection, *_noted(delivery))

    def handled_before(self, deliveries: Sequence[Delivery]) -> set[t.Any]:
        """Return the positions of messages that were handled already."""
        notes = set(map(_noted, deliveries))
        seen = self._apart(
            lambda connection: _HANDLED.seen(connection, notes), is_one_statement=True
        )
        return {each.position for each in deliveries if _noted(each) in seen}

    def finish(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages that were handled outside of a transaction, and note them.

        Those whose lease was lost are left to who has it.
        """
        groups = _by_token(deliveries)

        def remove(connection: sa.Connection) -> None:
            for token, group in groups.items():
                ids = [delivery.position for delivery in group]
                notes = map(_noted, group)
                if connection.dialect.name == "postgresql":
                    values = {"ids": ids, "held": token, **_HANDLED.arrays(notes)}
                    connection.execute(_FINISH, values)
                else:
                    remove_all(connection, token, ids)
                    _HANDLED.note_all(connection, notes)

        self._apart(remove, is_one_statement=len(groups) == 1)

    def requeue(self, delivery: Delivery, envelope: Envelope) -> None:
        """Put a message back, changed, behind the others."""
        added(self.engine, self._replace, (delivery, envelope))

    def _replace(
        self, connection: sa.Connection, changes: Sequence[tuple[Delivery, Envelope]]
    ) -> None:
        self.remove(connection, [delivery for delivery, _ in changes])
        self._insert(connection, self.channel, [envelope for _, envelope in changes])

    def at_once(self) -> AbstractContextManager[None]:
        """Have messages put back, parked or given up in one transaction.

        :raises LeaseLostError: One of them isn't ours any more.
        """
        return gathered(self.engine)

    def discard(self, delivery: Delivery) -> None:
        """Remove a message that is given up."""
        added(self.engine, self.remove, delivery)

    def remove(self, connection: sa.Connection, deliveries: Sequence[Delivery]) -> None:
        """Remove messages in a transaction of the caller.

        :raises LeaseLostError: One of them isn't ours any more.
        """
        renew_plans(connection)
        for token, group in _by_token(deliveries).items():
            ids = [delivery.position for delivery in group]
            if remove_all(connection, token, ids) != len(ids):
                raise LeaseLostError(self.channel, group[0].envelope.message_id)

    def status(self) -> ChannelStatus:
        """Return what lies in the source."""
        ready = in_flight = delayed = 0
        oldest = None
        values = {"of_channel": self.channel}
        rows = self._apart(lambda connection: connection.execute(_STATUS, values).all())
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
        values = {"of_channel": self.channel}
        return self._apart(lambda one: one.execute(_PURGE, values).rowcount)

    def _settle(self, connection: sa.Connection, delivery: Delivery) -> bool:
        values = {
            "position": delivery.position,
            "held": delivery.token,
            **_HANDLED.values(*_noted(delivery)),
        }
        if connection.dialect.name == "postgresql":
            removed, is_new = connection.execute(_SETTLE, values).one()
        else:
            removed = connection.execute(_REMOVE, values).rowcount
            is_new = removed and _HANDLED.note(connection, *_noted(delivery))
        if not removed:
            raise LeaseLostError(self.channel, delivery.envelope.message_id)
        return bool(is_new)

    def _change(
        self, change: Change, deliveries: Sequence[Delivery], **values: t.Any
    ) -> None:
        def run(connection: sa.Connection) -> None:
            for token, group in _by_token(deliveries).items():
                ids = [delivery.position for delivery in group]
                change.run(connection, {**values, "ids": ids, "held": token})

        self._apart(run, is_one_statement=True)

    def _joined(self, work: Callable[[sa.Connection], _R]) -> _R:
        connection = self._databases.session().connection()
        renew_plans(connection)
        return work(connection)

    def _apart(
        self, work: Callable[[sa.Connection], _R], *, is_one_statement: bool = False
    ) -> _R:
        def planned(connection: sa.Connection) -> _R:
            with planned_anew(connection):
                return work(connection)

        return apart(self.engine, planned, is_one_statement=is_one_statement)


def _noted(delivery: Delivery) -> tuple[str, str]:
    return delivery.envelope.message_id, delivery.envelope.endpoint_id


def _by_token(deliveries: Sequence[Delivery]) -> dict[str, list[Delivery]]:
    groups: dict[str, list[Delivery]] = {}
    for delivery in deliveries:
        groups.setdefault(delivery.token, []).append(delivery)
    return groups
