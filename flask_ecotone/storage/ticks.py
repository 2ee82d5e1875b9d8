"""Which ticks of schedules were taken: a row for each, in the database."""

from __future__ import annotations

import threading
import time
import typing as t
import weakref
from collections.abc import Callable
from collections.abc import Iterable

import sqlalchemy as sa
import sqlalchemy.exc as sa_exc
import sqlalchemy.orm as sa_orm
from sqlalchemy.dialects import postgresql

from ..errors import TickBusyError
from .apart import apart
from .tables import ensure
from .tables import now_ms
from .tables import ticks

#: Milliseconds for which ticks are remembered; the last of a schedule always is.
RETENTION: t.Final = 7 * 86_400_000
#: Seconds until the database is asked for the time again.
_SYNCHRONISED: t.Final = 60.0
#: Each schedule has a row for this tick that never was. Whoever fires holds its lock.
_LOCK: t.Final = 0

_of_schedule = ticks.c.schedule == sa.bindparam("of_schedule", type_=sa.String)
_HOLD = (
    sa.select(ticks.c.due_at)
    .where(_of_schedule, ticks.c.due_at == _LOCK)
    .with_for_update(skip_locked=True)
)
_LAST = sa.select(sa.func.max(ticks.c.due_at)).where(
    _of_schedule, ticks.c.due_at > _LOCK
)
_PURGE = sa.delete(ticks).where(
    _of_schedule,
    ticks.c.due_at > _LOCK,
    ticks.c.due_at < sa.bindparam("before", type_=sa.BigInteger),
)
_NOW = sa.select(now_ms())
_row = {
    "schedule": sa.bindparam("of_schedule", type_=sa.String),
    "due_at": sa.bindparam("at", type_=sa.BigInteger),
    "taken_at": now_ms(),
}
_INSERT = (
    sa.insert(ticks)
    .values(**_row)
    .prefix_with("OR IGNORE", dialect="sqlite")
    .prefix_with("IGNORE", dialect="mysql")
    .prefix_with("IGNORE", dialect="mariadb")
)
_INSERT_POSTGRESQL = (
    postgresql.insert(ticks)
    .values(**_row)
    .on_conflict_do_nothing()
    .returning(ticks.c.due_at)
)


class DatabaseTicks:
    """Takes ticks in the database of an application, which all workers share.

    It implements :class:`~flask_ecotone.storage.protocols.Ticks`.

    :param session: Returns the session of the current app context.
    :param engine: Returns the engine where that session leads.
    :param timekeepers: Returns the engines whose clock counts, whoever asks: that of
        the first that answers.
    """

    def __init__(
        self,
        session: Callable[[], sa_orm.Session],
        engine: Callable[[], sa.Engine],
        timekeepers: Callable[[], Iterable[sa.Engine]],
    ) -> None:
        self._session = session
        self._engine = engine
        self._timekeepers = timekeepers
        #: Engine → the schedules that there is a row for.
        self._prepared: weakref.WeakKeyDictionary[sa.Engine, set[str]]
        self._prepared = weakref.WeakKeyDictionary()

    def prepare(self, schedule: str) -> None:
        """Make our tables, and the row whose lock a firing holds."""
        engine = self._engine()
        prepared = self._prepared.setdefault(engine, set())
        if schedule not in prepared:
            ensure(engine)
            apart(engine, lambda connection: _insert(connection, schedule, _LOCK))
            prepared.add(schedule)

    def time(self) -> float:
        """Return the seconds since the epoch by the clock of the database."""
        failure = None
        for engine in self._timekeepers():
            try:
                with engine.connect() as connection:
                    return int(connection.scalar(_NOW) or 0) / 1000
            except sa_exc.DBAPIError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return time.time()  # nobody knows of a database

    def last_taken(self, schedule: str) -> int | None:
        """Return the latest tick that was taken, if any."""
        with self._engine().connect() as connection:
            return _last(connection, schedule)

    def take(self, schedule: str, due_at: int) -> bool:
        """Take a tick in the transaction of the session: its rollback gives it back.

        :raises TickBusyError: Somebody else is firing, and may still give it back.
        """
        connection = self._session().connection()
        if connection.scalar(_HOLD, {"of_schedule": schedule}) is None:
            raise TickBusyError(schedule)
        return _take(connection, schedule, due_at)

    def take_at_once(self, schedule: str, due_at: int) -> bool:
        """Take a tick for good, in a transaction of its own."""
        return apart(
            self._engine(), lambda connection: _take(connection, schedule, due_at)
        )


def _take(connection: sa.Connection, schedule: str, due_at: int) -> bool:
    last = _last(connection, schedule)
    if last is not None and last >= due_at:
        return False
    if not _insert(connection, schedule, due_at):
        return False
    connection.execute(_PURGE, {"of_schedule": schedule, "before": due_at - RETENTION})
    return True


def _last(connection: sa.Connection, schedule: str) -> int | None:
    found = connection.scalar(_LAST, {"of_schedule": schedule})
    return None if found is None else int(found)


def _insert(connection: sa.Connection, schedule: str, due_at: int) -> bool:
    values = {"of_schedule": schedule, "at": due_at}
    if connection.dialect.name == "postgresql":
        # How many rows were inserted is not kept for this dialect.
        return connection.scalar(_INSERT_POSTGRESQL, values) is not None
    return connection.execute(_INSERT, values).rowcount == 1


class MemoryTicks:
    """Takes ticks in this process alone: for applications without a database.

    It implements :class:`~flask_ecotone.storage.protocols.Ticks`.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.time = now
        self._last: dict[str, int] = {}
        self._lock = threading.Lock()

    def prepare(self, schedule: str) -> None:
        """Do nothing."""

    def last_taken(self, schedule: str) -> int | None:
        """Return the latest tick that was taken, if any."""
        return self._last.get(schedule)

    def take(self, schedule: str, due_at: int) -> bool:
        """Take a tick; there is no transaction that could give it back."""
        return self.take_at_once(schedule, due_at)

    def take_at_once(self, schedule: str, due_at: int) -> bool:
        """Take a tick for good."""
        with self._lock:
            if self._last.get(schedule, -1) >= due_at:
                return False
            self._last[schedule] = due_at
            return True


class SteadyClock:
    """The time of a database, without asking it each time.

    :param ask: Returns the time in seconds since the epoch.
    """

    def __init__(self, ask: Callable[[], float]) -> None:
        self._ask = ask
        self._known: tuple[float, float] | None = None

    def __call__(self) -> float:
        measured, known = time.monotonic(), self._known
        if known is None or measured - known[1] >= _SYNCHRONISED:
            known = self._known = self._ask(), time.monotonic()
            return known[0]
        return known[0] + measured - known[1]
