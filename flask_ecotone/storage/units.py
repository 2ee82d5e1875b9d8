"""The units of work: who owns which transaction."""

from __future__ import annotations

import threading
import typing as t
from contextvars import ContextVar

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from ..errors import UnitOfWorkError
from .endings import has_ended

if t.TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy


class UnitOfWork:
    """The transaction of one outermost command.

    :param db: The Flask-SQLAlchemy extension.
    :param engines: The engines of the application the command belongs to.
    :param session: The session that owns the transaction.
    :param on_commit: What ``db.session.commit()`` does inside: ``"flush"`` or
        ``"raise"``.
    """

    __slots__ = (
        "db",
        "engines",
        "errors",
        "failed",
        "on_commit",
        "outer",
        "session",
        "thread",
    )

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
        #: What the database refused, and the connection it was refused on.
        self.errors: list[tuple[sa.Connection, BaseException]] = []
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

    def check_errors(self) -> None:
        """Refuse to commit what the database has given up already.

        :raises UnitOfWorkError: A handler swallowed what ended the transaction.
        """
        for connection, error in self.errors:
            if has_ended(connection, error):
                raise UnitOfWorkError(
                    "A handler swallowed an error of the database that ended the"
                    f" transaction: {getattr(error, 'orig', error)}. Nothing was"
                    " stored. Let such an error pass, or, unless it is a deadlock, use"
                    " 'with db.session.begin_nested()' around what may fail."
                ) from error


active: ContextVar[UnitOfWork | None] = ContextVar("unit_of_work", default=None)


def unit_of_work_of(db: SQLAlchemy, engines: t.Any) -> UnitOfWork | None:
    """Return the innermost active unit of work of an application."""
    unit = active.get()
    while unit is not None:
        if unit.db is db and unit.engines is engines:
            return unit
        unit = unit.outer
    return None
