"""Our tables come into a database, whoever creates them and however many do."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.dialects import mysql
from sqlalchemy.pool import NullPool

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone.storage import tables

NAMES = [
    "ecotone_dead_letter",
    "ecotone_handled",
    "ecotone_message",
    "ecotone_tick",
]
INDEXES = {
    "ecotone_message_next",
    "ecotone_message_due",
    "ecotone_handled_at",
    "ecotone_dead_letter_failed",
    "ecotone_dead_letter_channel",
}
_PROCESSES = 8


def new_engine(url: str) -> sa.Engine:
    """Return an engine that keeps no connection."""
    return sa.create_engine(url, poolclass=NullPool)


def found_tables(url: str, schema: str | None = None) -> list[str]:
    """Return the tables of a database."""
    return sorted(sa.inspect(new_engine(url)).get_table_names(schema))


def found_indexes(url: str, schema: str | None = None) -> set[str]:
    """Return the indexes of our tables."""
    inspector = sa.inspect(new_engine(url))
    return {
        str(index["name"])
        for name in NAMES
        for index in inspector.get_indexes(name, schema)
    }


@command_handler("order.place")
def place() -> None: ...


def create_app(url: str) -> tuple[Flask, SQLAlchemy]:
    """Return an application with a channel in its database."""
    app, db = Flask("shop"), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    db.init_app(app)
    ecotone = Ecotone(app, packages=[], channels=[DatabaseChannel("orders")])
    ecotone.register(place)
    return app, db


def test_create_all_creates_them(database_url: str) -> None:
    """``db.create_all()`` of an application with a database channel does."""
    app, db = create_app(database_url)
    with app.app_context():
        db.create_all()
        assert tables.missing(db.engine) == []
    assert found_tables(database_url) == NAMES
    assert found_indexes(database_url) >= INDEXES


def test_they_are_registered_once(database_url: str) -> None:
    """Two applications may share a ``db``, and a naming convention harms nothing."""
    convention = {"uq": "uq_%(table_name)s_%(column_0_name)s"}
    db = SQLAlchemy(metadata=sa.MetaData(naming_convention=convention))
    for _ in range(2):
        app = Flask("shop")
        app.config["SQLALCHEMY_DATABASE_URI"] = database_url
        db.init_app(app)
        Ecotone(app, packages=[], channels=[DatabaseChannel("orders")])
    assert sorted(db.metadata.tables) == NAMES
    with app.app_context():
        db.create_all()
        tables.create(db.engine)
    assert found_tables(database_url) == NAMES


def test_without_channel_they_are_not_registered(sqlite_url: str) -> None:
    """An application that keeps no messages has no tables for them."""
    app, db = Flask("shop"), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = sqlite_url
    db.init_app(app)
    Ecotone(app, packages=[])
    assert list(db.metadata.tables) == []


def test_creating_twice_and_dropping(database_url: str) -> None:
    """What is there is left as it is; what was dropped is created again on use."""
    engine = new_engine(database_url)
    assert tables.missing(engine) == list(tables.FEATURES)
    tables.create(engine, tables.FEATURES[:1])
    assert tables.missing(engine) == list(tables.FEATURES[1:])
    tables.ensure(engine)
    tables.create(engine)
    assert found_tables(database_url) == NAMES
    assert found_indexes(database_url) >= INDEXES
    tables.drop(engine, tables.FEATURES[:2])
    assert tables.missing(engine) == list(tables.FEATURES[:2])
    tables.ensure(engine)
    assert tables.missing(engine) == []
    tables.drop(engine)
    tables.drop(engine)
    assert found_tables(database_url) == []


def test_what_a_killed_process_left_out_is_created(database_url: str) -> None:
    """A table without its indexes gets them."""
    engine = new_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.schema.CreateTable(tables.messages))
    tables.create(engine)
    assert found_indexes(database_url) >= INDEXES


def test_existing_tables_are_not_waited_for(database_url: str) -> None:
    """Somebody who writes into them holds up nobody who looks whether they exist."""
    engine = new_engine(database_url)
    tables.create(engine)
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    with engine.begin() as writing:
        writing.execute(
            sa.insert(tables.ticks).values(
                schedule="nightly", due_at=1, taken_at=tables.now_ms()
            )
        )
        limit = {
            "postgresql": "SET lock_timeout = '1s'",
            "mysql": "SET lock_wait_timeout = 1",
        }

        @sa.event.listens_for(engine, "connect")
        def set_limit(connection: t.Any, record: t.Any) -> None:
            with connection.cursor() as cursor:
                cursor.execute(limit[engine.dialect.name])

        tables.create(engine)
        tables.ensure(engine)


def test_a_schema_of_its_own(postgres_url: str) -> None:
    """An engine that translates to a schema has them there, and nowhere else."""
    plain = new_engine(postgres_url)
    with plain.begin() as connection:
        connection.execute(sa.schema.CreateSchema("north"))
    engine = plain.execution_options(schema_translate_map={None: "north"})
    tables.create(engine, tables.FEATURES[:1])
    tables.ensure(engine)
    tables.create(engine)
    assert found_tables(postgres_url) == []
    assert found_tables(postgres_url, "north") == NAMES
    assert found_indexes(postgres_url, "north") >= INDEXES
    assert tables.missing(engine) == []
    assert tables.missing(plain) == list(tables.FEATURES)
    tables.create(plain)
    tables.drop(engine)
    assert found_tables(postgres_url, "north") == []
    assert found_tables(postgres_url) == NAMES


def test_printed_statements_create_the_same(database_url: str) -> None:
    """They run as they are, and leave nothing for ``create`` to do."""
    engine = new_engine(database_url)
    with engine.begin() as connection:
        for statement in tables.statements(engine):
            connection.exec_driver_sql(statement)
    assert tables.missing(engine) == []
    assert found_indexes(database_url) >= INDEXES


def test_printed_statements_of_a_schema(postgres_url: str) -> None:
    """They create the schema, and everything in it."""
    plain = new_engine(postgres_url)
    engine = plain.execution_options(schema_translate_map={None: "north"})
    with plain.begin() as connection:
        for statement in tables.statements(engine):
            connection.exec_driver_sql(statement)
    assert tables.missing(engine) == []
    assert found_tables(postgres_url) == []


_BOOT = """
import sys
import sqlalchemy as sa
from flask_ecotone.storage import tables

engine = sa.create_engine(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
getattr(tables, sys.argv[2])(engine)
assert not tables.missing(engine)
"""


@pytest.mark.parametrize("function", ["ensure", "create"])
def test_eight_processes_boot_at_once(database_url: str, function: str) -> None:
    """All of them find the tables there, whoever was first."""
    command = [sys.executable, "-c", _BOOT, database_url, function]
    booting = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(_PROCESSES)
    ]
    for process in booting:
        assert t.cast("t.IO[str]", process.stdout).readline() == "ready\n"
    for process in booting:
        stdin = t.cast("t.IO[str]", process.stdin)
        stdin.write("\n")
        stdin.flush()
    for process in booting:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert found_tables(database_url) == NAMES
    assert found_indexes(database_url) >= INDEXES


_SHOP = """
from flask import Flask
from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = {url!r}
db = SQLAlchemy(app)
Ecotone(app, packages=[], channels=[DatabaseChannel("orders")])
Migrate(app, db)
"""


def test_migrations_see_them(database_url: str, tmp_path: Path) -> None:
    """Flask-Migrate writes a migration that creates them, and then has nothing to do.

    What the migration made needs no more from us.
    """
    pytest.importorskip("flask_migrate")
    (tmp_path / "shop.py").write_text(_SHOP.format(url=database_url))

    def flask(*arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "flask", "db", *arguments],
            cwd=tmp_path,
            env={**os.environ, "FLASK_APP": "shop.py", "PYTHONPATH": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout

    flask("init")
    flask("migrate", "-m", "Messages")
    assert found_tables(database_url) in ([], ["alembic_version"])
    flask("upgrade")
    assert found_tables(database_url) == ["alembic_version", *NAMES]
    assert found_indexes(database_url) >= INDEXES
    flask("check")
    flask("downgrade", "base")
    assert found_tables(database_url) == ["alembic_version"]


def test_mysql_is_imported_where_it_is_used() -> None:
    """Other applications don't have its dialect in their memory."""
    code = "import sys, flask_ecotone.storage.tables; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    )
    imported = done.stdout.split()
    assert "sqlalchemy" in imported
    assert "sqlalchemy.dialects.mysql" not in imported


def test_the_types_of_mysql_are_called_as_there() -> None:
    """What writes them down can be imported; copies and pickles have them, too."""
    dialect = mysql.dialect()
    kept = pickle.loads(pickle.dumps(tables.metadata)).tables["ecotone_message"]
    for name, type_ in (("headers", mysql.LONGTEXT), ("body", mysql.LONGBLOB)):
        for table in (
            tables.messages,
            tables.messages.to_metadata(sa.MetaData()),
            kept,
        ):
            found = table.c[name].type.dialect_impl(dialect)
            assert found.compile(dialect) == type_().compile(dialect)
            assert repr(found) == repr(type_())
            assert getattr(mysql, type(found).__name__) is type_
            assert type(found).__module__ == mysql.__name__


def test_the_clock_of_the_database(database_url: str) -> None:
    """``now_ms`` is the time of the server, to the millisecond."""
    seen = set()
    with new_engine(database_url).connect() as connection:
        for _ in range(50):
            before = time.time_ns() // 1_000_000
            said = connection.scalar(sa.select(tables.now_ms()))
            after = time.time_ns() // 1_000_000
            assert type(said) is int
            # What is rounded may be a millisecond off.
            assert before - 1 <= said <= after + 1
            seen.add(said % 10)
    # Tenths of a second, or hundredths, have the same last digit.
    assert len(seen) > 1


def test_the_clock_can_be_calculated_with(database_url: str) -> None:
    """It stands for one number, wherever it is in an expression."""
    now = tables.now_ms()
    with new_engine(database_url).connect() as connection:
        said, twice, rest = connection.execute(
            sa.select(now, sa.literal(2) * now, sa.literal(0) - now)
        ).one()
    assert abs(twice - 2 * said) <= 10
    assert abs(rest + said) <= 10


@pytest.mark.parametrize("zone", ["+00:00", "-09:30", "+14:00"])
def test_the_clock_knows_no_time_zones(database_url: str, zone: str) -> None:
    """That of the connection doesn't matter."""
    engine = new_engine(database_url)
    said = {
        "postgresql": f"SET TIME ZONE INTERVAL '{zone}' HOUR TO MINUTE",
        "mysql": f"SET time_zone = '{'+13:00' if zone == '+14:00' else zone}'",
    }
    with engine.connect() as connection:
        if engine.dialect.name in said:
            connection.exec_driver_sql(said[engine.dialect.name])
        found = t.cast(int, connection.scalar(sa.select(tables.now_ms())))
    assert abs(found - time.time() * 1000) < 10_000


def test_who_may_not_create_tables_is_told_what_to_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is that of the database, with a note."""
    (tmp_path / "shop.sqlite").touch()
    app, _ = create_app(f"sqlite:///file:{tmp_path}/shop.sqlite?mode=ro&uri=true")

    @app.post("/")
    def order() -> str:
        command_bus.send_with_routing("order.place")
        return ""

    assert app.test_client().post("/").status_code == 500
    assert "readonly database" in caplog.text
    assert "ecotone database setup --initialize'" in caplog.text
