"""Takes the database away from a worker at a chosen statement."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pymysql
import pymysql.cursors
import sqlalchemy as sa

_PATIENCE = 30.0
_tick = threading.Event()


class Sabotage:
    """Counts what is said to a database, and strikes at some of it.

    A statement counts once, a commit twice: it may be lost before the database hears of
    it, or its confirmation may be lost.

    :param url: The database. On a server the connection is killed by another one; a
        file fails with ``disk I/O error``.
    """

    def __init__(self, url: str) -> None:
        self._url = sa.make_url(url)
        self._strikes: Callable[[int], bool] | None = None
        self._server: t.Any = None
        #: Whether the worker itself is struck, by SIGKILL.
        self.is_deadly = False
        #: What was said so far while it was active.
        self.said: list[str] = []
        #: What was struck.
        self.struck: list[str] = []

    @property
    def engine_options(self) -> dict[str, t.Any]:
        """What the engine of the victim is to be made with."""
        name = self._url.get_backend_name()
        kinds: dict[str, dict[str, t.Any]] = {
            "sqlite": {"factory": _watched(sqlite3.Connection, sqlite3.Cursor, self)},
            "postgresql": {"cursor_factory": _cursor(psycopg.Cursor, self)},
            "mysql": {"cursorclass": _cursor(pymysql.cursors.Cursor, self)},
        }
        return {"connect_args": kinds[name]}

    def watch(self, engine: sa.Engine) -> None:
        """See the commits of an engine, too."""
        if engine.dialect.name == "sqlite":
            return

        @sa.event.listens_for(engine, "connect")
        def replace(connection: t.Any, record: t.Any) -> None:
            commit = connection.commit

            def committing() -> None:
                self.note(connection, "COMMIT")
                commit()
                self.note(connection, "(committed)")

            connection.commit = committing

    @contextmanager
    def striking(self, strikes: Callable[[int], bool]) -> Iterator[None]:
        """Strike what is chosen by its number, from 1 on."""
        self.said, self.struck, self._strikes = [], [], strikes
        try:
            yield
        finally:
            self._strikes = None

    def note(self, connection: t.Any, text: str) -> None:
        """Count what is said on a connection of the driver, and strike perhaps."""
        strikes = self._strikes
        if strikes is None:
            return
        self.said.append(text)
        if strikes(len(self.said)):
            self.struck.append(text)
            self._strike(connection)
            if text == "(committed)":
                # The driver would only notice the next time.
                cursor = connection.cursor()
                cursor.execute("SELECT 1")

    def _strike(self, connection: t.Any) -> None:
        if self.is_deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if isinstance(connection, sqlite3.Connection):
            raise sqlite3.OperationalError("disk I/O error")
        if isinstance(connection, psycopg.Connection):
            if not connection.closed:
                process = connection.info.backend_pid
                self._run(f"SELECT pg_terminate_backend({process}, 10000)")
            return
        if not connection.open:
            return
        process = connection.thread_id()
        alive = f"SELECT id FROM information_schema.processlist WHERE id = {process}"
        deadline = time.monotonic() + _PATIENCE
        if self._run(alive):
            self._run(f"KILL {process}")
        while self._run(alive):
            assert time.monotonic() < deadline, "it wasn't killed"
            _tick.wait(0.001)

    def _run(self, statement: str) -> t.Sequence[t.Any]:
        if self._server is None:
            options = {"isolation_level": "AUTOCOMMIT"}
            self._server = sa.create_engine(self._url, **options)
        with self._server.connect() as connection:
            result = connection.exec_driver_sql(statement)
            return t.cast(
                "t.Sequence[t.Any]", result.all() if result.returns_rows else ()
            )


def is_committed(connection: t.Any) -> bool:
    """Whether a statement was a transaction of its own."""
    return isinstance(connection, psycopg.Connection) and connection.autocommit


def _cursor(base: t.Any, sabotage: Sabotage) -> t.Any:
    class Cursor(base):  # type: ignore[misc]
        def execute(self, statement: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
            sabotage.note(self.connection, str(statement))
            result = super().execute(statement, *args, **options)
            if str(statement) != "SELECT 1" and is_committed(self.connection):
                sabotage.note(self.connection, "(committed)")
            return result

        def executemany(
            self, statement: t.Any, *args: t.Any, **options: t.Any
        ) -> t.Any:
            sabotage.note(self.connection, str(statement))
            return super().executemany(statement, *args, **options)

    return Cursor


def _watched(base: t.Any, cursor: t.Any, sabotage: Sabotage) -> t.Any:
    cursor_class = _cursor(cursor, sabotage)

    class Connection(base):  # type: ignore[misc]
        def cursor(self, factory: t.Any = cursor_class) -> t.Any:
            return super().cursor(factory)

        def commit(self) -> None:
            sabotage.note(self, "COMMIT")
            super().commit()
            sabotage.note(self, "(committed)")

    return Connection
