"""The database servers that the tests use, and the engines that they open.

A server is looked for at its ``*_DSN`` environment variable, else at its usual
local port. Every database made here has a name of its own and is dropped again.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import typing as t
import uuid
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool

_CONNECT_TIMEOUT = 3
_LOCK_TIMEOUT = 10


@dataclass(frozen=True, slots=True)
class DatabaseServer:
    """A server that can make databases for one test.

    :param name: The name used in test ids.
    :param variable: The environment variable that holds its address.
    :param default: The address when the variable is not set.
    :param driver: The SQLAlchemy driver, whatever the address names.
    :param query: Options added to every URL.
    """

    name: str
    variable: str
    default: str
    driver: str
    query: tuple[tuple[str, str], ...] = ()

    @property
    def url(self) -> sa.URL:
        """The address of the server's own administration database."""
        url = sa.make_url(os.environ.get(self.variable) or self.default)
        return url.set(drivername=self.driver).update_query_dict(dict(self.query))

    @contextlib.contextmanager
    def database(self) -> t.Iterator[str]:
        """Create a database, yield its URL, close its engines and drop it."""
        require(self)
        name = f"ecotone_test_{uuid.uuid4().hex}"
        self._run(_CREATE[self.name].format(name=name))

        try:
            yield self.url.set(database=name).render_as_string(hide_password=False)
        finally:
            engines.dispose(engine for engine in engines if _uses(engine, name))
            self._drop(name)

    def _drop(self, name: str) -> None:
        if self.name == "mariadb":
            # A forgotten transaction would make DROP DATABASE wait for its locks.
            for process in self._run(
                "SELECT id FROM information_schema.processlist WHERE db = :name",
                name=name,
            ):
                with contextlib.suppress(sa.exc.DBAPIError):
                    self._run(f"KILL {process.id}")

        self._run(_DROP[self.name].format(name=name))

    def _run(self, statement: str, **parameters: str) -> t.Sequence[sa.Row[t.Any]]:
        engine = sa.create_engine(
            self.url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"connect_timeout": _CONNECT_TIMEOUT},
        )

        with engine.connect() as connection:
            if self.name == "mariadb":
                connection.execute(
                    sa.text(f"SET SESSION lock_wait_timeout = {_LOCK_TIMEOUT}")
                )

            result = connection.execute(sa.text(statement), parameters)
            return result.all() if result.returns_rows else ()


_CREATE = {
    # The default template cannot be copied while somebody is connected to it.
    "postgresql": 'CREATE DATABASE "{name}" TEMPLATE template0',
    "mariadb": "CREATE DATABASE `{name}` CHARACTER SET utf8mb4",
}
_DROP = {
    "postgresql": 'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)',
    "mariadb": "DROP DATABASE IF EXISTS `{name}`",
}

POSTGRESQL = DatabaseServer(
    "postgresql",
    "POSTGRES_DSN",
    "postgresql://postgres@127.0.0.1:5432/postgres",
    "postgresql+psycopg",
)
MARIADB = DatabaseServer(
    "mariadb",
    "MARIADB_DSN",
    "mysql://root@127.0.0.1:3306/mysql",
    "mysql+pymysql",
    (("charset", "utf8mb4"),),
)


def require(server: DatabaseServer) -> None:
    """Skip the test when the server does not answer.

    With ``ECOTONE_REQUIRE_SERVICES=1`` the test fails instead, so that a run that
    is meant to cover everything cannot pass by skipping.
    """
    reason = _why_unavailable(server)

    if reason is None:
        return

    message = f"{server.name} does not answer (set {server.variable}): {reason}"

    if os.environ.get("ECOTONE_REQUIRE_SERVICES") == "1":
        pytest.fail(message, pytrace=False)

    pytest.skip(message)


@functools.cache
def _why_unavailable(server: DatabaseServer) -> str | None:
    try:
        server._run("SELECT 1")
    except sa.exc.OperationalError as error:
        return str(error.orig)

    return None


class EngineTracker:
    """Know every engine that connected, so that a test's engines can be closed.

    Flask-SQLAlchemy makes engines inside ``init_app`` and never disposes of them; an
    idle pooled connection would then be reported as a :exc:`ResourceWarning`.
    Connections still checked out are left alone: those are leaks worth reporting.
    """

    def __init__(self) -> None:
        self._engines: set[sa.Engine] = set()
        self._lock = threading.Lock()

    def __iter__(self) -> t.Iterator[sa.Engine]:
        with self._lock:
            return iter(list(self._engines))

    def install(self) -> None:
        """Start watching the engines of this process."""
        event.listen(sa.Engine, "engine_connect", self._remember)

    def uninstall(self) -> None:
        """Stop watching."""
        event.remove(sa.Engine, "engine_connect", self._remember)

    def dispose(self, engines: t.Iterable[sa.Engine]) -> None:
        """Close the idle connections of the given engines."""
        for engine in engines:
            engine.dispose()

            with self._lock:
                self._engines.discard(engine)

    def _remember(self, connection: sa.Connection) -> None:
        with self._lock:
            self._engines.add(connection.engine)


engines = EngineTracker()


def _uses(engine: sa.Engine, database: str) -> bool:
    return engine.url.database == database
