"""The user's own ``db.session``, taught to take part in a unit of work.

Flask-SQLAlchemy makes one session per app context. The outermost command bus call owns
the transaction of its session; the session of a nested app context, or one made after
``db.session.remove()``, is a guest on the same connection.
"""

from __future__ import annotations

import threading
import typing as t
import weakref
from contextvars import ContextVar

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from ..errors import UnitOfWorkError
from .models import changed_meanwhile

if t.TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

_journaled: weakref.WeakSet[sa.Engine] = weakref.WeakSet()


class UnitOfWork:
    """The transaction of one outermost command.

    :param db: The Flask-SQLAlchemy extension.
    :param engines: The engines of the application the command belongs to.
    :param session: The session that owns the transaction.
    :param on_commit: What ``db.session.commit()`` does inside: ``"flush"`` or
        ``"raise"``.
    """

    __slots__ = ("db", "engines", "failed", "on_commit", "outer", "session", "thread")

    def __init__(
        self,
        db: SQLAlchemy,
        engines: t.Any,
        session: sa_orm.Session,
        on_commit: str,
        outer: UnitOfWork | None,
    ) -> None:
        self.db = db
        self.engines = engines
        self.session = session
        self.on_commit = on_commit
        self.outer = outer
        self.failed = False
        self.thread = threading.get_ident()

    def check_thread(self) -> None:
        """Refuse another thread: a connection belongs to one.

        :raises UnitOfWorkError: The context was copied to another thread.
        """
        if self.thread != threading.get_ident():
            raise UnitOfWorkError(
                "A thread used the unit of work of the command that started it. A"
                " database connection belongs to one thread: start the thread with"
                " an empty context, or send it a message after the command is done."
            )


active: ContextVar[UnitOfWork | None] = ContextVar("unit_of_work", default=None)


def unit_of_work_of(db: SQLAlchemy, engines: t.Any) -> UnitOfWork | None:
    """Return the innermost active unit of work of an application."""
    unit = active.get()
    while unit is not None:
        if unit.db is db and unit.engines is engines:
            return unit
        unit = unit.outer
    return None


class EcotoneSession(sa_orm.Session):
    """What is mixed into the session class of a Flask-SQLAlchemy extension."""

    _db: SQLAlchemy

    def get_bind(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        bind = super().get_bind(*args, **kwargs)
        unit = active.get()
        if unit is None or unit.session is self:
            return bind
        unit = self._unit()
        if unit is None or unit.session is self or not isinstance(bind, sa.Engine):
            return bind
        unit.check_thread()
        # A guest joins the transaction of the owner.
        return unit.session.connection(bind_arguments={"bind": bind})

    def commit(self) -> None:
        """Commit, or inside a unit of work flush and leave the commit to the bus."""
        unit = self._unit()
        if unit is None:
            super().commit()
        elif unit.on_commit == "raise":
            raise UnitOfWorkError(
                "db.session.commit() was called inside a command. The command bus"
                " commits when the command is done: remove the call, use"
                " db.session.flush() to write earlier, or set"
                " ECOTONE_HANDLER_COMMIT = 'flush'."
            )
        else:
            self.flush()

    def rollback(self) -> None:
        """Roll back; inside a unit of work the whole of it then fails."""
        unit = self._unit()
        if unit is not None:
            unit.failed = True
            if unit.session is not self:
                EcotoneSession.roll_back(unit.session)
        super().rollback()

    def close(self) -> None:
        """Close; inside a unit of work what was written stays part of it."""
        unit = self._unit()
        if unit is None or unit.failed:
            super().close()
            return
        self.flush()
        if unit.session is self:
            self.expunge_all()
        else:
            super().close()

    def flush(self, objects: t.Any = None) -> None:
        """Flush; inside a unit of work a lost race is a :exc:`ConcurrencyError`."""
        if active.get() is None:
            super().flush(objects)
            return
        try:
            super().flush(objects)
        except sa_orm.exc.StaleDataError as error:
            raise changed_meanwhile("An aggregate", str(error)) from error

    @staticmethod
    def roll_back(session: sa_orm.Session) -> None:
        """Roll back for real, past what :meth:`rollback` adds."""
        super(EcotoneSession, t.cast(EcotoneSession, session)).rollback()

    @staticmethod
    def commit_for_good(session: sa_orm.Session) -> None:
        """Commit for real, past what :meth:`commit` adds."""
        super(EcotoneSession, t.cast(EcotoneSession, session)).commit()

    def _unit(self) -> UnitOfWork | None:
        if active.get() is None:
            return None
        return unit_of_work_of(self._db, self._db.engines)


def take_over(db: SQLAlchemy) -> None:
    """Mix :class:`EcotoneSession` into the session class of ``db``, in place.

    The factory is changed and ``db.session`` stays the same object, so that it may have
    been imported already. It is done once for an extension, whatever the number of its
    applications.
    """
    factory = db.session.session_factory
    chosen = factory.class_
    if issubclass(chosen, EcotoneSession):
        return
    session_class = type(f"Ecotone{chosen.__name__}", (EcotoneSession, chosen), {})
    sa.event.listen(session_class, "after_begin", _after_begin)
    factory.class_ = session_class


def _after_begin(
    session: sa_orm.Session,
    transaction: sa_orm.SessionTransaction,
    connection: sa.Connection,
) -> None:
    unit = active.get()
    if unit is not None and unit.session is session:
        begin_immediate(connection, is_fresh=True)


def begin_immediate(connection: sa.Connection, *, is_fresh: bool) -> None:
    """Take SQLite's write lock now: a read that turns into a write can't wait for it.

    :param is_fresh: Nothing was done in the transaction yet.
    """
    if connection.dialect.name != "sqlite":
        return
    driver = connection.connection.driver_connection
    if getattr(driver, "in_transaction", False):
        if not is_fresh or connection.in_nested_transaction():
            return
        # The application begins transactions by an event of its own.
        connection.exec_driver_sql("ROLLBACK")
    _write_ahead(connection)
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _write_ahead(connection: sa.Connection) -> None:
    # With a write-ahead log readers and the writer don't wait for each other.
    engine = connection.engine
    if engine in _journaled:
        return
    _journaled.add(engine)
    if engine.url.database not in (None, "", ":memory:"):
        try:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL").close()
        except sa.exc.OperationalError:
            # Somebody holds the file just now, or it can't be written to: the
            # transaction that follows says so if it matters.
            pass
