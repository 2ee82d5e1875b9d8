"""The unit of work of commands on ``db.session``."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from ..errors import MessagingError
from ..errors import TenancyError
from ..errors import UnitOfWorkError
from .batches import Batch
from .batches import batch_of
from .batches import current
from .endings import end_by_itself
from .failures import is_outage
from .failures import is_transient
from .forks import leave_connections
from .protocols import Check
from .session import begin_immediate
from .session import connections_of
from .session import EcotoneSession
from .session import has_written
from .units import active
from .units import unit_of_work_of
from .units import UnitOfWork

if t.TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy


class SessionTransaction:
    """Begins, commits and rolls back on the session of the current app context.

    It implements :class:`~flask_ecotone.storage.protocols.Transaction`.

    :param db: The Flask-SQLAlchemy extension.
    :param engines: The engines of the application, as ``db.engines`` in its context.
    :param on_commit: What ``db.session.commit()`` does inside: ``"flush"`` or
        ``"raise"``.
    """

    def __init__(self, db: SQLAlchemy, engines: t.Any, on_commit: str) -> None:
        self._db = db
        self._engines = engines
        self._on_commit = on_commit
        #: Called before a transaction is begun: makes our tables.
        self.prepare: Callable[[], None] | None = None
        leave_connections(self)

    def all_engines(self) -> list[sa.Engine]:
        """Return the engines of the application."""
        return list(self._engines.values())

    @property
    def is_active(self) -> bool:
        """Whether a unit of work of the application is active."""
        return self._active() is not None

    @property
    def has_begun(self) -> bool:
        """Whether something may have been done in the transaction of the session."""
        unit = self._active()
        session = self._session() if unit is None else unit.session
        return batch_of(self._db) is not None or session.in_transaction()

    def excuse(self, error: BaseException) -> None:
        """Take an error for none, as nothing was lost with it."""
        unit = self._active()
        if unit is not None:
            unit.errors[:] = [each for each in unit.errors if each[1] is not error]

    def run(self, payload: t.Any, proceed: Callable[[], t.Any]) -> t.Any:
        """Call ``proceed`` in the active unit of work, or in a new one.

        A new one commits at the end, and rolls back on any exception.

        :raises UnitOfWorkError: It can't be begun, or was rolled back inside.
        """
        if active.get() is not None:
            unit = self._active()
            if unit is not None:
                unit.check_thread()
                self._check_context()
                return proceed()
        session = self._session()
        has_begun = session.in_transaction()
        if self.prepare is not None and not has_written(session):
            self.prepare()
        if has_begun:
            self._refuse_block(session)
        unit = UnitOfWork(
            self._db, self._engines, session, self._on_commit, active.get()
        )
        token = active.set(unit)
        try:
            if has_begun:
                self._join_begun(session)
            result = proceed()
            self._complete(unit)
            return result
        except BaseException as error:
            self._give_up(unit, error)
            raise
        finally:
            active.reset(token)

    def is_outage(self, error: BaseException) -> bool:
        """Whether the database, and not what was done, is the reason of a failure."""
        return is_outage(error)

    def is_transient(self, error: BaseException) -> bool:
        """Whether what failed may succeed when it is done again at once."""
        return is_transient(error)

    def may_repeat(self) -> bool:
        """Whether a failure now could be repeated.

        It can't inside a unit of work, which is lost with the failure, nor where
        several share a transaction, which may be. Nor can it while the caller has
        changes of its own that the rollback would take along, or a block that it ends.
        """
        if self.is_active or batch_of(self._db) is not None:
            return False
        self._check_context()
        # What there is no session for has not been written.
        if not self._db.session.registry.has():
            return True
        session = self._session()
        return not session.is_in_block and not has_written(session)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Use a new session; the caller's session comes back afterwards."""
        registry = self._db.session.registry
        before = registry()
        # A handler without a unit of work may have left something behind.
        try:
            EcotoneSession.roll_back(before)
        except sa.exc.SQLAlchemyError:
            before.invalidate()  # the connection is lost, and what it began with it
        registry.set(self._db.session.session_factory())
        try:
            yield
        finally:
            registry().close()
            registry.set(before)

    @contextmanager
    def batch(self) -> Iterator[Check]:
        """Let units of work share one transaction, each of them in a savepoint."""
        batch = Batch(self._db, self._engines, _begin)
        token = current.set(batch)
        try:
            yield batch.check
            batch.commit()
        finally:
            current.reset(token)
            batch.close()
        batch.send()

    def refuses(self, payload_class: type) -> Callable[[t.Any], None] | None:
        """Return a check for models, which belong to one session."""
        if sa.inspect(payload_class, raiseerr=False) is None:
            return None

        def check(payload: t.Any) -> None:
            owner = sa_orm.object_session(payload)
            if owner is not None and owner is not self._db.session():
                name = type(payload).__qualname__
                raise MessagingError(
                    f"The message is a {name} that belongs to another database session,"
                    " where its handler can't use it. Send a dataclass with the id of"
                    f" the {name} instead, and load it in the handler."
                )

        return check

    def end_guest(self, error: BaseException | None) -> None:
        """Hand over what a nested app context wrote, before its session goes.

        :param error: The exception that ended the context; what it didn't commit is
            then given up.
        """
        unit = self._active()
        registry = self._db.session.registry
        if unit is None or not registry.has():
            return
        session = registry()
        if session is not unit.session:
            try:
                if error is None and not unit.failed:
                    EcotoneSession.commit_for_good(session)
            finally:
                EcotoneSession.drop(session)
                registry.clear()

    def _active(self) -> UnitOfWork | None:
        return unit_of_work_of(self._db, self._engines)

    def _check_context(self) -> None:
        if self._db.engines is not self._engines:
            raise UnitOfWorkError(
                "A command bus was used inside the context of another application,"
                " whose database isn't its own. Push the context of the application"
                " that the bus belongs to: 'with app.app_context():'."
            )

    def _session(self) -> EcotoneSession:
        self._check_context()
        session = self._db.session()
        if not isinstance(session, EcotoneSession):
            raise UnitOfWorkError(
                "db.session was used before Ecotone knew of the database. Call"
                " ecotone.init_app(app) before the first use of db.session."
            )
        return session

    def _refuse_block(self, session: EcotoneSession) -> None:
        if session.is_in_block:
            raise UnitOfWorkError(
                "A command was sent inside 'with db.session.begin()' or"
                " 'begin_nested()'. The command bus commits by itself, which would end"
                " that block early: send the command outside of it, or let one command"
                " handler send the others."
            )

    def _join_begun(self, session: sa_orm.Session) -> None:
        try:
            engine = session.get_bind()
        except (TenancyError, sa.exc.UnboundExecutionError):
            return  # the transaction is on other binds only
        if engine.dialect.name == "sqlite":
            begin_immediate(session.connection(), is_fresh=False)

    def _complete(self, unit: UnitOfWork) -> None:
        guest = self._db.session.registry()
        has_guest = guest is not unit.session
        if has_guest and not unit.failed:
            EcotoneSession.commit_for_good(guest)
        if unit.failed:
            raise UnitOfWorkError(
                "db.session.rollback() was called inside a command, which then ended"
                " as if all were well. Nothing was stored. Raise an exception to give"
                " up a command, or use 'with db.session.begin_nested()' to give up a"
                " part of it."
            )
        if has_guest:
            self._bring_back(unit)
        unit.check_errors()
        EcotoneSession.commit_for_good(unit.session)

    def _give_up(self, unit: UnitOfWork, error: BaseException) -> None:
        try:
            try:
                self._bring_back(unit)
            finally:
                for connection in connections_of(unit.session):
                    end_by_itself(connection)
                EcotoneSession.roll_back(unit.session)
        except Exception as failure:
            # A lost connection can't be rolled back, which must not hide what happened.
            error.add_note(f"The rollback failed as well: {failure}")
            batch = batch_of(self._db)
            if batch is not None:
                batch.give_up(failure)
            with suppress(sa.exc.SQLAlchemyError):
                unit.session.invalidate()

    def _bring_back(self, unit: UnitOfWork) -> None:
        # After db.session.remove() the registry holds a guest, on a connection that
        # the owner is about to give back.
        registry = self._db.session.registry
        guest = registry()
        if guest is not unit.session:
            EcotoneSession.drop(guest)
            registry.set(t.cast(t.Any, unit.session))


def _begin(connection: sa.Connection) -> None:
    begin_immediate(connection, is_fresh=True)
