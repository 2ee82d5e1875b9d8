"""Short transactions of our own, apart from the session of the caller."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextlib import contextmanager
from contextlib import ExitStack
from contextvars import ContextVar

import sqlalchemy as sa
import sqlalchemy.exc as sa_exc

from .failures import is_transient

_R = t.TypeVar("_R")
_Item = t.TypeVar("_Item")

#: How often something is begun that loses its races, as MariaDB's index locks have it.
_ATTEMPTS = 5
_READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"


def apart(
    engine: sa.Engine,
    work: Callable[[sa.Connection], _R],
    *,
    is_one_statement: bool = False,
) -> _R:
    """Do something in a transaction of its own, again if it lost a race.

    :param work: Called with a connection; what it raises rolls back.
    :param is_one_statement: Whether each of its statements may be a transaction, and
        none reads before the first one that writes: on PostgreSQL that saves two of
        three round trips, and SQLite needs no lock for those that only read.
    """
    gathering = _gathering.get()
    if gathering is not None and gathering.engine is engine:
        return work(gathering.connection())
    begin: Callable[[sa.Engine], AbstractContextManager[sa.Connection]]
    begin = short_transaction
    if is_one_statement and engine.dialect.name == "postgresql":
        begin = _autocommit
    elif is_one_statement and engine.dialect.name == "sqlite":
        begin = sa.Engine.begin
    for _ in range(_ATTEMPTS - 1):
        try:
            with begin(engine) as connection:
                return work(connection)
        except sa_exc.DBAPIError as error:
            if not is_transient(error):
                raise
    with begin(engine) as connection:
        return work(connection)


#: Writes items of a kind, all at once.
_Write = Callable[[sa.Connection, list[_Item]], None]


class _Gathering:
    """The transaction that short ones of an engine become, once there is a first."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.ending = ExitStack()
        self._connection: sa.Connection | None = None
        self._waiting: dict[_Write[t.Any], list[t.Any]] = {}

    def add(self, write: _Write[_Item], item: _Item) -> None:
        self._waiting.setdefault(write, []).append(item)

    def write(self) -> None:
        for write, items in self._waiting.items():
            write(self.connection(), items)

    def connection(self) -> sa.Connection:
        if self._connection is None:
            begin = short_transaction(self.engine)
            self._connection = self.ending.enter_context(begin)
        return self._connection


_gathering: ContextVar[_Gathering | None] = ContextVar("gathering", default=None)


@contextmanager
def gathered(engine: sa.Engine) -> Iterator[None]:
    """Do together what is done apart in the context: it is committed at the end.

    What is :func:`added` is written then.
    What raises an exception that the context doesn't see must not have written before.
    Nor is anything repeated that lost a race: then all of it is rolled back.
    """
    gathering = _Gathering(engine)
    token = _gathering.set(gathering)
    try:
        with gathering.ending:
            yield
            gathering.write()
    finally:
        _gathering.reset(token)


def added(engine: sa.Engine, write: _Write[_Item], item: _Item) -> None:
    """Write something apart, or along with all else that is gathered.

    :param write: Writes any number of items, with as few statements as there can be.
    """
    gathering = _gathering.get()
    if gathering is not None and gathering.engine is engine:
        gathering.add(write, item)
    else:
        apart(engine, lambda connection: write(connection, [item]))


@contextmanager
def _autocommit(engine: sa.Engine) -> Iterator[sa.Connection]:
    with engine.connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def short_transaction(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Begin, and commit at the end of the context or roll back an exception."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            begin_write(connection)
        elif engine.dialect.name in ("mysql", "mariadb"):
            # Repeatable reads would lock the gaps between rows, too. As a statement of
            # ours it fails as one if the connection is lost, and ends by itself.
            connection.exec_driver_sql(_READ_COMMITTED)
        yield connection


def begin_write(connection: sa.Connection) -> None:
    """Take SQLite's write lock: a read that turns into a write can't wait for it."""
    driver = t.cast(t.Any, connection.connection.dbapi_connection)
    if not driver.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
