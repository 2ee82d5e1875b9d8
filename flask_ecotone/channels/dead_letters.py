"""Messages that failed for good, in the database."""

from __future__ import annotations

import datetime
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import msgspec
import sqlalchemy as sa

from ..conversion import mismatch
from ..decorators.asynchronous import milliseconds
from ..errors import ConversionError
from ..errors import MessagingError
from ..storage.apart import added
from ..storage.apart import apart
from ..storage.tables import dead_letters
from ..storage.tables import ensure
from ..storage.tables import now_ms
from .database import OpenDatabaseChannel
from .database_source import DatabaseSource
from .filters import among_first
from .filters import conditions
from .opening import Databases
from .parking import Failure
from .parking import headers_of
from .parking import Letter
from .parking import store
from .protocols import Capability
from .protocols import Channel
from .protocols import Delivery
from .protocols import Envelope
from .protocols import Origin
from .replaying import Buses
from .replaying import failed_again
from .replaying import FailedAgainError
from .replaying import ids_of_buses
from .replaying import note_failure
from .replaying import replayed
from .replaying import Rows
from .routed import GatedSource

_R = t.TypeVar("_R")

_d = dead_letters.c
_PAGE = 200


@dataclass(frozen=True, slots=True)
class ParkedMessage:
    """A dead letter. Times are milliseconds since the epoch."""

    id: int
    message_id: str
    endpoint_id: str
    channel: str
    message_type: str
    error_class: str
    error_message: str
    traceback: str
    attempts: int
    replays: int
    first_failed_at: int
    last_failed_at: int
    headers: str
    body: bytes


class DeadLetter:
    """Keeps, shows and replays the dead letters of an application.

    Each tenant has its own. Without ``tenant`` those of the active one are meant, or of
    the default connection. In a command, changes are part of its transaction;
    elsewhere each call commits by itself.

    :param channel: Returns a channel by its name.
    :param is_in_unit: Whether a unit of work is active.
    """

    def __init__(
        self,
        databases: Databases,
        channel: t.Callable[[str], Channel],
        is_in_unit: t.Callable[[], bool],
    ) -> None:
        self._databases = databases
        self._channel = channel
        self._is_in_unit = is_in_unit
        self.buses: Buses | None = None
        #: Raises :exc:`ConversionError` if a message in writing can't be read.
        self.check: t.Callable[[Envelope], None] = _unread

    def park(
        self, source: Origin, delivery: Delivery, failure: Failure, message_type: str
    ) -> None:
        """Keep a message and remove it from its channel, in one transaction.

        :raises LeaseLostError: It isn't ours any more.
        """
        while isinstance(source, GatedSource):
            source = source.source
        letter = Letter(source.channel, delivery.envelope, failure, message_type)
        if isinstance(source, DatabaseSource) and (
            Capability.TRANSACTIONAL in source.capabilities
        ):
            engine = self._engine(source.tenant)
            added(engine, self._move, (source, delivery, letter))
            return
        tenant = self._databases.tenant_named(headers_of(delivery.envelope))
        apart(self._engine(tenant), lambda connection: store(connection, [letter]))
        source.acknowledge([delivery])

    def _move(
        self,
        connection: sa.Connection,
        parked: Sequence[tuple[DatabaseSource, Delivery, Letter]],
    ) -> None:
        for source, group in groupby(parked, key=lambda each: each[0]):
            source.remove(connection, [delivery for _, delivery, _ in group])
        store(connection, [letter for _, _, letter in parked])

    def list(
        self,
        limit: int = 20,
        offset: int = 0,
        *,
        oldest_first: bool = False,
        tenant: str | None = None,
        **filters: t.Any,
    ) -> list[ParkedMessage]:
        """Return dead letters, the newest failure first.

        :param oldest_first: Begin with the oldest failure, as a replay does.
        :param filters: ``channel``, ``endpoint_id``, ``error_class``,
            ``message_type`` or ``message_id`` → value; ``since`` → only what failed
            then or later: a moment, or a :class:`~datetime.timedelta` before now;
            ``up_to`` → only what has this id or a lower one: see :meth:`last_id`.
        """
        query = sa.select(dead_letters).where(*conditions(filters))
        moment, id = _d.last_failed_at, _d.id
        order = (moment, id) if oldest_first else (moment.desc(), id.desc())
        query = query.order_by(*order)
        with self._engine(tenant).connect() as connection:
            rows = connection.execute(query.limit(limit).offset(offset)).all()
        return [_parked(row) for row in rows]

    def show(self, id: int, *, tenant: str | None = None) -> ParkedMessage:
        """Return one dead letter.

        :raises MessagingError: There is none with the id.
        """
        with self._engine(tenant).connect() as connection:
            row = connection.execute(
                sa.select(dead_letters).where(_d.id == id)
            ).one_or_none()
        if row is None:
            raise _missing(id)
        return _parked(row)

    def count(self, *, tenant: str | None = None, **filters: t.Any) -> int:
        """Return how many dead letters there are."""
        query = sa.select(sa.func.count()).select_from(dead_letters)
        with self._engine(tenant).connect() as connection:
            return connection.scalar(query.where(*conditions(filters))) or 0

    def last_id(self, *, tenant: str | None = None) -> int | None:
        """Return the highest id, ``None`` if there are none.

        As the filter ``up_to`` it leaves out what becomes a dead letter from now on.
        """
        with self._engine(tenant).connect() as connection:
            last: int | None = connection.scalar(sa.select(sa.func.max(_d.id)))
        return last

    def stats(
        self, *, tenant: str | None = None, **filters: t.Any
    ) -> Sequence[tuple[str, str, str, int]]:
        """Return channel, endpoint, class of the error and count, largest first."""
        count = sa.func.count().label("count")
        query = (
            sa.select(_d.channel, _d.endpoint_id, _d.error_class, count)
            .where(*conditions(filters))
            .group_by(_d.channel, _d.endpoint_id, _d.error_class)
            .order_by(count.desc())
        )
        with self._engine(tenant).connect() as connection:
            rows = connection.execute(query).all()
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    def replay(self, ids: int | Iterable[int], *, tenant: str | None = None) -> int:
        """Put dead letters back into their channels, all or none of them.

        What failed on a bus that waits for its handlers is handled here and now.

        :return: How many there were.
        :raises MessagingError: There is none with one of the ids.
        """
        listed = [ids] if isinstance(ids, int) else list(dict.fromkeys(ids))

        def move(connection: sa.Connection, begun: Rows) -> None:
            rows = self._lock(connection, _d.id.in_(listed), len(listed))
            missing = set(listed) - {row.id for row in rows}
            if missing:
                raise _missing(*sorted(missing))
            self._send_back(connection, rows, begun)

        with self._engine(tenant).connect() as connection:
            of_buses = ids_of_buses(connection, self.buses, _d.id.in_(listed))
        if of_buses.ids:
            try:
                self._handle(tenant, move)
            except FailedAgainError as failed:
                raise failed.error from None
        else:
            self._change(tenant, lambda one: move(one, []))
        return len(listed)

    def replay_all(
        self,
        *,
        limit: int | None = None,
        on_failure: t.Callable[[int, Exception], None] | None = None,
        tenant: str | None = None,
        **filters: t.Any,
    ) -> int:
        """Put back what is there now, the oldest failure first.

        What fails again meanwhile, and becomes a new dead letter, isn't taken. Of what
        is handled here and now, because it failed on a bus, a failure is logged, and
        the others go on.

        :param limit: How many, at most.
        :param on_failure: Called with the id and the error of each such failure.
        :return: How many there were that didn't fail.
        """
        last = self.last_id(tenant=tenant)
        if last is None:
            return 0
        chosen = sa.and_(_d.id <= last, *conditions(filters))
        with self._engine(tenant).connect() as connection:
            if limit is not None:
                chosen = sa.and_(chosen, among_first(connection, chosen, limit))
            of_buses = ids_of_buses(connection, self.buses, chosen)
            chosen = sa.and_(chosen, _d.channel.not_in(of_buses.names))

        def move(which: t.Any, one: sa.Connection, begun: Rows) -> int:
            rows = self._lock(one, which, _PAGE)
            self._send_back(one, rows, begun)
            return len(rows)

        count, moved = 0, _PAGE
        while moved == _PAGE:
            moved = self._change(tenant, lambda one: move(chosen, one, []))
            count += moved
        for id in of_buses.ids:
            try:
                count += self._handle(tenant, partial(move, _d.id == id))
            except FailedAgainError as failed:
                if on_failure is not None:
                    on_failure(failed.row.id, failed.error)
        return count

    def edit(
        self,
        id: int,
        *,
        body: bytes | None = None,
        headers: Mapping[str, t.Any] | None = None,
        force: bool = False,
        tenant: str | None = None,
    ) -> None:
        """Change the payload of a dead letter, or some of its headers.

        :param body: The payload as it is to lie in the channel, usually JSON.
        :param headers: Header → new value, or ``None`` to remove it. Others stay: they
            say what the message is, and who may act on it.
        :param force: Take a payload that can't be read as what the message is, because
            another release is to handle it.
        :raises ConversionError: The payload can't be read as what the message is.
        :raises MessagingError: There is none with the id, or the headers that it has
            can't be read.
        """

        def change(connection: sa.Connection) -> None:
            found = self._lock(connection, _d.id == id, 1)
            if not found:
                raise _missing(id)
            values: dict[str, t.Any] = {}
            if body is not None:
                values["body"] = body
            if headers:
                values["headers"] = _changed(found[0].headers, headers, id)
            if body is not None and not force:
                self._check_body(found[0], values)
            if values:
                update = sa.update(dead_letters).where(_d.id == id)
                connection.execute(update.values(values))

        self._change(tenant, change)

    def _check_body(self, row: t.Any, values: Mapping[str, t.Any]) -> None:
        headers = values.get("headers", row.headers)
        try:
            self.check(
                Envelope(row.endpoint_id, row.message_id, values["body"], headers)
            )
        except ConversionError as error:
            raise ConversionError(
                f"The body of the dead letter {row.id}, which is a {row.message_type},"
                f" isn't changed: {mismatch(error)} Give one that fits. If another"
                " release is to read it, use --force, or force=True."
            ) from error

    def delete(self, ids: int | Iterable[int], *, tenant: str | None = None) -> int:
        """Delete dead letters and return how many there were."""
        listed = [ids] if isinstance(ids, int) else list(ids)
        return self._delete(tenant, _d.id.in_(listed))

    def delete_all(self, *, tenant: str | None = None, **filters: t.Any) -> int:
        """Delete all dead letters, or those that a filter leaves."""
        return self._delete(tenant, *conditions(filters))

    def purge(
        self,
        older_than: int | datetime.timedelta,
        *,
        tenant: str | None = None,
        **filters: t.Any,
    ) -> int:
        """Delete what failed last a while ago, or earlier.

        :param older_than: How long ago; a number is milliseconds.
        """
        limit = _d.last_failed_at <= now_ms() - milliseconds(older_than)
        return self._delete(tenant, limit, *conditions(filters))

    def _lock(
        self, connection: sa.Connection, condition: t.Any, limit: int
    ) -> Sequence[t.Any]:
        query = sa.select(dead_letters).where(condition)
        query = query.order_by(_d.last_failed_at, _d.id).limit(limit)
        return connection.execute(query.with_for_update()).all()

    def _handle(
        self, tenant: str | None, work: t.Callable[[sa.Connection, Rows], _R]
    ) -> _R:
        """Replay on the session, where handlers can take part.

        :param work: It adds to the rows those that are handled.
        """
        buses, begun = self.buses, Rows()
        assert buses is not None
        try:
            session = self._databases.session
            return buses.in_unit(tenant, lambda: work(session().connection(), begun))
        except Exception as error:
            failed = failed_again(error, begun)
            row = failed.row
            failure = buses.failure(row.channel, replayed(row), failed.error)
            self._change(tenant, partial(note_failure, id=row.id, failure=failure))
            raise failed from failed.error

    def _send_back(
        self, connection: sa.Connection, rows: Sequence[t.Any], begun: Rows
    ) -> None:
        if rows:
            # First of all: when handlers are done, only the commit may be left.
            ids = [row.id for row in rows]
            connection.execute(sa.delete(dead_letters).where(_d.id.in_(ids)))
        for name, group in groupby(rows, key=lambda row: row.channel):
            if self.buses is not None and self.buses.has(name):
                for row in group:
                    begun.append(row)
                    try:
                        self.buses.handle(name, replayed(row))
                    except Exception as error:
                        raise FailedAgainError(row, error) from error
                continue
            channel = self._channel(name)
            envelopes = [replayed(row) for row in group]
            if isinstance(channel, OpenDatabaseChannel):
                channel.insert(connection, envelopes)
            else:
                # Before the commit: rather twice than not at all.
                channel.send(envelopes)

    def _delete(self, tenant: str | None, *which: t.Any) -> int:
        deletion = sa.delete(dead_letters).where(*which)
        return self._change(tenant, lambda one: one.execute(deletion).rowcount)

    def _engine(self, tenant: str | None) -> sa.Engine:
        engine = self._databases.engine(tenant)
        ensure(engine)
        return engine

    def _change(self, tenant: str | None, work: t.Callable[[sa.Connection], _R]) -> _R:
        engine = self._engine(tenant)
        if self._is_in_unit():
            session = self._databases.session()
            if session.get_bind() is engine:
                return work(session.connection())
        return apart(engine, work)


def _unread(envelope: Envelope) -> None:
    """Take a message as it is: what could read it isn't there yet."""


def _changed(headers: str, changes: Mapping[str, t.Any], id: int) -> str:
    try:
        values = msgspec.json.decode(headers, type=dict[str, t.Any])
    except msgspec.MsgspecError as error:
        raise MessagingError(
            f"Can't change the headers of the dead letter {id}: those that it has can't"
            f" be read: {error}."
        ) from error
    for name, value in changes.items():
        if value is None:
            values.pop(name, None)
        else:
            values[name] = value
    return msgspec.json.encode(values).decode()


def _parked(row: t.Any) -> ParkedMessage:
    values = {name: getattr(row, name) for name in ParkedMessage.__dataclass_fields__}
    values["body"] = bytes(values["body"])
    return ParkedMessage(**values)


def _missing(*ids: int) -> MessagingError:
    listed = ", ".join(map(str, ids))
    return MessagingError(
        f"There is no dead letter {listed}: it was replayed or deleted meanwhile, or"
        " belongs to another tenant. 'flask ecotone deadletter list' shows what there"
        " is."
    )
