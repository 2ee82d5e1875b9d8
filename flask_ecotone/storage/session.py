"""The user's own ``db.session``, taught to take part in a unit of work.

Flask-SQLAlchemy makes one session per app context. The outermost command bus call owns
the transaction of its session; the session of a nested app context, or one made after
``db.session.remove()``, is a guest on the same connection. A guest works in a
savepoint, so that its failure leaves the transaction of its host intact.
"""

from __future__ import annotations

import re
import threading
import typing as t
import weakref
from collections.abc import Callable

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from ..errors import UnitOfWorkError
from .batches import batch_of
from .models import changed_meanwhile
from .protocols import Routing
from .staging import before_savepoint
from .staging import watch
from .units import active
from .units import unit_of_work_of
from .units import UnitOfWork

if t.TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy

_journaled: weakref.WeakSet[sa.Engine] = weakref.WeakSet()

#: Pools that give one connection to several sessions, as for a database in memory.
SHARING = (sa.pool.StaticPool, sa.pool.SingletonThreadPool)


#: How SQL begins that changes something.
_WRITES: t.Final = re.compile(
    r"\s*(WITH\b.*)?\b(INSERT|UPDATE|DELETE|REPLACE|MERGE|CALL)\b", re.I | re.S
)


class EcotoneSession(sa_orm.Session):
    """What is mixed into the session class of a Flask-SQLAlchemy extension."""

    _db: SQLAlchemy

    #: Returns the routing of the current application, if it has one.
    current_routing: t.ClassVar[Callable[[], Routing | None]]

    #: Returns ``None`` while no routing has a scope of its own.
    innermost: t.ClassVar[Callable[[], t.Any | None]]

    #: The routing of its application, once it was asked for.
    _routing: Routing | None | t.Literal[False] = False

    #: Whether something was written since it began.
    _has_written = False

    def __init__(self, *args: t.Any, **options: t.Any) -> None:
        super().__init__(*args, **options)
        #: It belongs to the tenant that it was made for.
        self._scope = _scope(type(self).current_routing, type(self).innermost)
        self._block: Callable[[], t.Any] = lambda: None

    def get_bind(
        self,
        mapper: t.Any = None,
        clause: t.Any = None,
        bind: t.Any = None,
        **kwargs: t.Any,
    ) -> t.Any:
        if bind is None:
            routing = self._routing
            if routing is False:
                routing = self._routing = type(self).current_routing()
            if routing is not None:
                key = routing.bind_key(mapper, clause)
                if key is None:
                    bind = routing.engine_for(self._scope)
                else:
                    bind = self._db.engines.get(key)
        if bind is None:
            bind = super().get_bind(mapper=mapper, clause=clause, **kwargs)
        unit, batch = self._unit(), batch_of(self._db)
        if not isinstance(bind, sa.Engine):
            return bind
        if unit is not None and unit.session is not self:
            # A guest joins the transaction of the owner.
            bind = unit.session.connection(bind_arguments={"bind": bind})
        elif batch is not None:
            bind = batch.bind(bind)
        else:
            return bind
        self.join_transaction_mode = "create_savepoint"
        return bind

    def begin(self, nested: bool = False) -> sa_orm.SessionTransaction:
        """Begin; inside a unit of work that is done already, but for savepoints."""
        if not nested and self._unit() is not None:
            raise UnitOfWorkError(
                "db.session.begin() was called inside a command. The command bus has"
                " begun and commits when the command is done: remove the call, or use"
                " 'with db.session.begin_nested()' for a part that can be given up."
            )
        if nested:
            before_savepoint(self)
        begun = super().begin(nested)
        if not nested:
            self._block = weakref.ref(begun)
        return begun

    @property
    def is_in_block(self) -> bool:
        """Whether its user has begun a transaction or a savepoint and is to end it.

        SQLAlchemy says the same of one that a savepoint began, which goes on after it.
        """
        begun = self.get_transaction()
        if begun is None:
            return False
        return self.in_nested_transaction() or begun is self._block()

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
        elif unit.session is self:
            self.flush()
        else:
            # Of a guest it is the savepoint that is released.
            super().commit()

    def rollback(self) -> None:
        """Roll back; inside a unit of work the whole of it then fails."""
        unit = self._unit()
        if unit is not None:
            unit.failed = True
        super().rollback()

    def close(self) -> None:
        """Close; inside a unit of work what was written stays part of it."""
        if not self._hands_over():
            super().close()

    def reset(self) -> None:
        """Reset; inside a unit of work what was written stays part of it."""
        if not self._hands_over():
            super().reset()

    # SQLAlchemy's event of statements would have it prepare each of them twice.

    def execute(self, statement: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
        _note_statement(self, statement)
        return super().execute(statement, *args, **options)

    def scalar(self, statement: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
        _note_statement(self, statement)
        return super().scalar(statement, *args, **options)

    def scalars(self, statement: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
        _note_statement(self, statement)
        return super().scalars(statement, *args, **options)

    def flush(self, objects: t.Any = None) -> None:
        """Flush; inside a unit of work a lost race is a :exc:`ConcurrencyError`."""
        if self._unit() is None:
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

    @staticmethod
    def drop(session: sa_orm.Session) -> None:
        """Close for real: what a guest wrote and didn't commit is given up."""
        super(EcotoneSession, t.cast(EcotoneSession, session)).close()

    def _hands_over(self) -> bool:
        """Whether nothing is left to close, as what was written went to the unit."""
        unit = self._unit()
        if unit is None or unit.failed:
            return False
        if unit.session is self:
            self.flush()
            self.expunge_all()
            return True
        EcotoneSession.commit_for_good(self)
        return False

    def _unit(self) -> UnitOfWork | None:
        unit = active.get()
        if unit is not None and unit.session is not self:
            unit = unit_of_work_of(self._db, self._db.engines)
        if unit is not None and unit.thread != threading.get_ident():
            unit.check_thread()
        return unit


def take_over(
    db: SQLAlchemy,
    current_routing: Callable[[], Routing | None],
    innermost: Callable[[], t.Any | None],
) -> None:
    """Mix :class:`EcotoneSession` into the session class of ``db``, in place.

    The factory is changed and ``db.session`` stays the same object, so that it may have
    been imported already. It is done once for an extension, whatever the number of its
    applications.

    :param current_routing: Returns the routing of the current application, if any.
    :param innermost: Returns ``None`` while no routing has a scope of its own.
    """
    factory = db.session.session_factory
    chosen = factory.class_
    if issubclass(chosen, EcotoneSession):
        return
    session_class = type(
        f"Ecotone{chosen.__name__}",
        (EcotoneSession, chosen),
        {
            "current_routing": staticmethod(current_routing),
            "innermost": staticmethod(innermost),
        },
    )
    sa.event.listen(session_class, "after_begin", _after_begin)
    sa.event.listen(session_class, "after_flush", _note_flush)
    sa.event.listen(session_class, "after_commit", _forget_writes)
    sa.event.listen(session_class, "after_rollback", _forget_writes)
    watch(session_class)
    factory.class_ = session_class
    registry = db.session.registry
    registry.scopefunc = _scope_by_routing(
        registry.scopefunc, current_routing, innermost
    )


def _scope_by_routing(
    scope: Callable[[], t.Any],
    current_routing: Callable[[], Routing | None],
    innermost: Callable[[], t.Any | None],
) -> Callable[[], t.Any]:
    # A session of one database must never be found from another one.
    def scoped() -> t.Any:
        if innermost() is None:
            return scope()
        routed = _scope(current_routing, innermost)
        return scope() if routed is None else (scope(), routed)

    return scoped


def _scope(
    current_routing: Callable[[], Routing | None], innermost: Callable[[], t.Any | None]
) -> t.Hashable:
    if innermost() is None:
        return None
    routing = current_routing()
    return None if routing is None else routing.scope()


def has_written(session: EcotoneSession) -> bool:
    """Whether a session holds changes that a rollback would lose.

    What was written past the session, on its connection, isn't seen.
    """
    pending = session.new or session.dirty or session.deleted
    return bool(pending) or session._has_written


def _note_flush(session: EcotoneSession, flush_context: t.Any) -> None:
    session._has_written = True


def _note_statement(session: EcotoneSession, statement: t.Any) -> None:
    if getattr(statement, "is_dml", False) or _is_text_that_writes(statement):
        session._has_written = True


def _is_text_that_writes(statement: t.Any) -> bool:
    return isinstance(statement, sa.TextClause) and bool(_WRITES.match(statement.text))


def _forget_writes(session: EcotoneSession) -> None:
    # A savepoint that ends leaves what was written around it, and perhaps in it.
    if not session.in_nested_transaction():
        session._has_written = False


def _after_begin(
    session: sa_orm.Session,
    transaction: sa_orm.SessionTransaction,
    connection: sa.Connection,
) -> None:
    unit = active.get()
    if unit is not None and unit.session is session:
        begin_immediate(connection, is_fresh=True)
    if connection.dialect.name != "sqlite":
        session.info.setdefault(_CONNECTIONS, weakref.WeakSet()).add(connection)
        if connection.engine not in _watched:
            _watched.add(connection.engine)
            sa.event.listen(connection.engine, "handle_error", _note_error)
    schemas = connection.get_execution_options().get("schema_translate_map")
    if schemas and schemas.get(None) and connection.dialect.name == "postgresql":
        # Plain SQL isn't translated. LOCAL ends with the transaction: the connection
        # goes back to the pool as it came.
        name = connection.dialect.identifier_preparer.quote(schemas[None])
        connection.exec_driver_sql(f"SET LOCAL search_path TO {name}")


_CONNECTIONS = "ecotone.connections"
_watched: weakref.WeakSet[sa.Engine] = weakref.WeakSet()


def connections_of(session: sa_orm.Session) -> t.Collection[sa.Connection]:
    """Return the connections that a session has begun on, SQLite's left out."""
    return t.cast("t.Collection[sa.Connection]", session.info.get(_CONNECTIONS, ()))


def _note_error(context: sa.engine.ExceptionContext) -> None:
    unit = active.get()
    error = context.sqlalchemy_exception or context.original_exception
    while unit is not None:
        connection = context.connection
        if connection in connections_of(unit.session):
            unit.errors.append((t.cast(sa.Connection, connection), error))
        unit = unit.outer


def begin_immediate(connection: sa.Connection, *, is_fresh: bool) -> None:
    """Take SQLite's write lock now: a read that turns into a write can't wait for it.

    :param is_fresh: Nothing was done in the transaction yet.
    """
    if connection.dialect.name != "sqlite":
        return
    driver = connection.connection.dbapi_connection
    if getattr(driver, "in_transaction", False):
        if not is_fresh or connection.in_nested_transaction():
            return
        if isinstance(connection.engine.pool, SHARING):
            return  # the transaction of another session, which nobody can wait for
        # The application begins transactions by an event of its own.
        connection.exec_driver_sql("ROLLBACK")
    _write_ahead(connection)
    # Past SQLAlchemy, as the driver's own BEGIN is: it is cheaper for every command.
    cursor = t.cast(t.Any, driver).cursor()
    try:
        cursor.execute("BEGIN IMMEDIATE")
    except connection.dialect.loaded_dbapi.Error as error:
        raise sa.exc.DBAPIError.instance(
            "BEGIN IMMEDIATE",
            None,
            error,
            connection.dialect.loaded_dbapi.Error,
            dialect=connection.dialect,
        ) from error
    finally:
        cursor.close()


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
