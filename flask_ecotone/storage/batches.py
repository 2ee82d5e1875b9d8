"""One transaction for several units of work, each of which is a savepoint of it."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from contextvars import ContextVar

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from ..channels.protocols import Post
from .departure import Departure
from .failures import is_of_database

if t.TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy


class Batch:
    """The transaction that units of work share while the batch is current.

    :param db: The Flask-SQLAlchemy extension.
    :param engines: The engines of the application the batch belongs to.
    :param begin: Begins the transaction of a new connection.
    """

    def __init__(
        self, db: SQLAlchemy, engines: t.Any, begin: Callable[[sa.Connection], None]
    ) -> None:
        self.db = db
        self.engines = engines
        self.outer = current.get()
        self._begin = begin
        # A plain one: it only keeps the connections, one for each engine.
        self._session = sa_orm.Session()
        self._connections: dict[sa.Engine, sa.Connection] = {}
        #: A savepoint around all that was done on a connection since the last check.
        self._seals: list[sa.NestedTransaction] = []
        self._posts: list[Post] = []
        self._leaving: Departure | None = None
        self._error: BaseException | None = None

    def bind(self, engine: sa.Engine) -> sa.Connection:
        """Return the connection to join."""
        found = self._connections.get(engine)
        if found is None:
            found = self._session.connection(bind_arguments={"bind": engine})
            self._begin(found)
            self._seals.append(found.begin_nested())
            self._connections[engine] = found
        return found

    def send_later(self, posts: list[Post]) -> None:
        """Send messages when the batch is committed."""
        self._posts.extend(posts)

    def give_up(self, error: BaseException) -> None:
        """Never commit: what one of them did could not be taken back."""
        self._error = error

    def check(self, error: BaseException | None = None) -> None:
        """See that the transaction still has what all of them did so far.

        A handler may have ended it, as a ``ROLLBACK`` in SQL does, and so may the
        database. The savepoint that was around them is gone then.

        :param error: What one of them failed with. If it is none of the database's,
            the next check is soon enough: that saves round trips.
        :raises Exception: It hasn't.
        """
        if error is not None and not is_of_database(error):
            # SQLite has no round trips, and would commit each further savepoint.
            names = {engine.dialect.name for engine in self._connections}
            if "sqlite" not in names:
                return
        for seal in self._seals:
            seal.commit()
        self._seals = [each.begin_nested() for each in self._connections.values()]

    def commit(self) -> None:
        """Commit what all of them did."""
        if self._error is not None:
            raise self._error
        leaving = Departure(self._posts)
        try:
            self._session.commit()
        except BaseException:
            leaving.give_up()
            raise
        self._leaving = leaving

    def send(self) -> None:
        """Send what was to be sent once it is committed."""
        if self._leaving is not None:
            self._leaving.send()

    def close(self) -> None:
        """Give back the connections; what isn't committed is lost."""
        self._session.close()


current: ContextVar[Batch | None] = ContextVar("batch", default=None)


def batch_of(db: SQLAlchemy) -> Batch | None:
    """Return the batch of the current application, if one is going on."""
    batch = current.get()
    while batch is not None:
        if batch.db is db and batch.engines is db.engines:
            return batch
        batch = batch.outer
    return None
