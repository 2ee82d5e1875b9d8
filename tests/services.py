"""The database servers that the tests use, and the engines that they open.

A server is looked for at its ``*_DSN`` environment variable, else at its usual
local port. Every test gets an empty database with a name of its own. PostgreSQL takes
longer to make one than most tests take, so a used one is emptied and named anew; all
are dropped at the end.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import typing as t
import uuid
from dataclasses import dataclass
from dataclasses import field

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
    :param query: Options added to every URL; those of the address prevail.
    """

    name: str
    variable: str
    default: str
    driver: str
    query: tuple[tuple[str, str], ...] = ()
    _used: list[str] = field(default_factory=list, init=False, compare=False)

    @property
    def url(self) -> sa.URL:
        """The address of the server's own administration database."""
        url = sa.make_url(os.environ.get(self.variable) or self.default)
        query = {**dict(self.query), **url.query}
        return url.set(drivername=self.driver, query=query)

    @contextlib.contextmanager
    def database(self) -> t.Iterator[str]:
        """Yield the URL of an empty database, and close its engines."""
        require(self)
        name = f"ecotone_test_{uuid.uuid4().hex}"

        if not self._take_over(name):
            self.create(name)

        try:
            yield self.url.set(database=name).render_as_string(hide_password=False)
        finally:
            engines.dispose(engine for engine in engines if _uses(engine, name))

            if self.name == "postgresql":
                # What the test has started may still run: it is emptied when it is
                # needed.
                self._used.append(name)
            else:
                self.drop(name)

    def create(self, name: str) -> None:
        """Create a database."""
        with self.connect() as connection:
            connection.execute(sa.text(_CREATE[self.name].format(name=name)))

            if self.name == "postgresql":
                # Nobody needs it after a power failure.
                setting = f'ALTER DATABASE "{name}" SET synchronous_commit = off'
                connection.execute(sa.text(setting))

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        with self.connect() as connection:
            if self.name == "mariadb":
                # A forgotten transaction would make DROP DATABASE wait for its locks.
                for process in connection.execute(_PROCESSES, {"name": name}).all():
                    with contextlib.suppress(sa.exc.DBAPIError):
                        connection.execute(sa.text(f"KILL {process.id}"))

            connection.execute(sa.text(_DROP[self.name].format(name=name)))

    def drop_used(self) -> None:
        """Drop the databases that no test needs anymore."""
        while self._used:
            self.drop(self._used.pop())

    def connect(self, database: str | None = None) -> sa.Connection:
        """Connect as an administrator; each statement is a transaction."""
        if database is None:
            return _engine(self.url).connect()

        return _engine.__wrapped__(self.url.set(database=database)).connect()

    def _take_over(self, name: str) -> bool:
        """Empty a database that a test has used, and name it anew.

        A process that a test has forgotten does not find it under its new name.
        """
        while self._used:
            used = self._used.pop()

            try:
                with self.connect() as connection:
                    connection.execute(_TERMINATE, {"name": used})
                    rename = f'ALTER DATABASE "{used}" RENAME TO "{name}"'
                    connection.execute(sa.text(rename))

                with self.connect(name) as connection:
                    connection.execute(_EMPTY)
            except sa.exc.DBAPIError:
                # A test may have dropped it, or filled it with what cannot be dropped.
                self.drop(used)
                self.drop(name)
            else:
                return True

        return False


@functools.cache
def _engine(url: sa.URL) -> sa.Engine:
    options = _OPTIONS[url.get_backend_name()]
    return sa.create_engine(
        url,
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        connect_args={"connect_timeout": _CONNECT_TIMEOUT, **options},
    )


_OPTIONS: t.Final[dict[str, dict[str, str]]] = {
    "postgresql": {"options": f"-c lock_timeout={_LOCK_TIMEOUT}s"},
    "mysql": {"init_command": f"SET SESSION lock_wait_timeout = {_LOCK_TIMEOUT}"},
}
_CREATE = {
    # The default template cannot be copied while somebody is connected to it.
    "postgresql": 'CREATE DATABASE "{name}" TEMPLATE template0',
    "mariadb": "CREATE DATABASE `{name}` CHARACTER SET utf8mb4",
}
_DROP = {
    "postgresql": 'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)',
    "mariadb": "DROP DATABASE IF EXISTS `{name}`",
}
_PROCESSES = sa.text("SELECT id FROM information_schema.processlist WHERE db = :name")
_TERMINATE = sa.text(
    "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
    " WHERE datname = :name"
)
_EMPTY = sa.text(
    """\
DO $$
DECLARE schema name;
BEGIN
    FOR schema IN
        SELECT nspname FROM pg_namespace
        WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
    LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', schema);
    END LOOP;
    CREATE SCHEMA public;
END $$"""
)

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
    # To encrypt, the driver reads all certificates of the system for each connection.
    (("charset", "utf8mb4"), ("ssl_disabled", "true")),
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
        server.connect().close()
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
