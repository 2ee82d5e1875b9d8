"""SQLite: one writer at a time, who waits for its turn instead of failing."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import typing as t

import pytest
import sqlalchemy as sa

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import query_bus
from flask_ecotone import query_handler

from .notebook import Notebook

ROUNDS = 200

COUNTING = """
import sys
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_ecotone import command_bus, command_handler, Ecotone

db = SQLAlchemy()
app = Flask("counting")
app.config["SQLALCHEMY_DATABASE_URI"] = sys.argv[1]
db.init_app(app)
ecotone = Ecotone(app, packages=[])

@ecotone.register
@command_handler("count")
def count():
    found = db.session.scalar(sa.text("SELECT n FROM counter"))
    db.session.execute(sa.text("UPDATE counter SET n = :n"), {"n": found + 1})

for _ in range(int(sys.argv[2])):
    with app.app_context():
        command_bus.send_with_routing("count")
"""


def make_counter(notebook: Notebook) -> None:
    """Make a table with a single number."""
    with notebook.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE counter (n INTEGER NOT NULL)"))
        connection.execute(sa.text("INSERT INTO counter VALUES (0)"))


def counted(notebook: Notebook) -> t.Any:
    """Return the number."""
    with notebook.engine.connect() as connection:
        return connection.scalar(sa.text("SELECT n FROM counter"))


def test_two_processes_read_and_write_in_turns(sqlite_url: str) -> None:
    """Reading before writing never ends in "database is locked"; no update is lost."""
    make_counter(notebook := Notebook(sqlite_url))
    command = [sys.executable, "-c", COUNTING, sqlite_url, str(ROUNDS)]
    workers = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    assert [worker.communicate()[1] for worker in workers] == ["", ""]
    assert counted(notebook) == 2 * ROUNDS


def test_threads_read_and_write_in_turns(sqlite_url: str) -> None:
    """The same holds for threads, each with a view that has queried before."""
    make_counter(notebook := Notebook(sqlite_url))
    session = notebook.db.session
    errors: list[BaseException] = []

    @command_handler("count")
    def count() -> None:
        found = session.scalar(sa.text("SELECT n FROM counter"))
        session.execute(sa.text("UPDATE counter SET n = :n"), {"n": found + 1})

    notebook.ecotone.register(count)

    def work() -> None:
        try:
            for _ in range(ROUNDS // 4):
                with notebook.app.app_context():
                    session.scalars(sa.select(notebook.Note)).all()
                    command_bus.send_with_routing("count")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert counted(notebook) == ROUNDS


def statements(notebook: Notebook) -> list[str]:
    """Collect what is sent to the database from now on."""
    seen: list[str] = []

    def trace(connection: t.Any, record: t.Any) -> None:
        connection.set_trace_callback(lambda sql: seen.append(sql.split("\n")[0]))

    notebook.engine.dispose()
    sa.event.listen(notebook.engine, "connect", trace)
    return seen


@pytest.fixture
def notebook(sqlite_url: str) -> Notebook:
    """A notebook with handlers."""
    return handled(Notebook(sqlite_url))


def handled(notebook: Notebook) -> Notebook:
    """Register handlers that read, and that read and write."""

    @command_handler("write")
    def write(text: str) -> None:
        notebook.db.session.scalars(sa.select(notebook.Note)).all()
        notebook.write(text)
        notebook.db.session.flush()
        if text == "bad":
            raise ValueError(text)

    @query_handler("texts")
    def texts() -> list[str]:
        return list(notebook.db.session.scalars(sa.select(notebook.Note.text)))

    notebook.ecotone.register(write, texts)
    return notebook


def test_a_command_takes_the_write_lock_first(notebook: Notebook) -> None:
    """The transaction of a command begins with BEGIN IMMEDIATE, once."""
    seen = statements(notebook)
    with notebook.app.app_context():
        command_bus.send_with_routing("write", "milk")
    assert seen.count("BEGIN IMMEDIATE") == 1
    selects = [number for number, each in enumerate(seen) if each.startswith("SELECT")]
    assert seen.index("BEGIN IMMEDIATE") < selects[0]


def test_queries_take_no_lock(notebook: Notebook) -> None:
    """Reading doesn't wait for a writer, nor does a writer wait for it."""
    seen = statements(notebook)
    path = notebook.engine.url.database
    with notebook.app.app_context():
        command_bus.send_with_routing("write", "milk")
        del seen[:]
        writer = sqlite3.connect(str(path), isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO notes (text) VALUES ('not yet')")
        assert query_bus.send_with_routing("texts") == ["milk"]
        writer.execute("ROLLBACK")
        writer.close()
    assert "BEGIN IMMEDIATE" not in seen


def test_the_journal_is_written_ahead(notebook: Notebook) -> None:
    """The first command switches the file to WAL."""
    with notebook.app.app_context():
        command_bus.send_with_routing("write", "milk")
        assert notebook.db.session.scalar(sa.text("PRAGMA journal_mode")) == "wal"


def test_a_database_in_memory(sqlite_url: str) -> None:
    """Without a file there is no journal to switch, and commands work the same."""
    notebook = handled(Notebook("sqlite:///:memory:"))
    with notebook.app.app_context():
        command_bus.send_with_routing("write", "milk")
        with pytest.raises(ValueError):
            command_bus.send_with_routing("write", "bad")
        assert query_bus.send_with_routing("texts") == ["milk"]


def own_begin(engine: sa.Engine) -> None:
    """Install the recipe of SQLAlchemy's documentation for working savepoints."""

    @sa.event.listens_for(engine, "connect")
    def connect(connection: t.Any, record: t.Any) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(engine, "begin")
    def begin(connection: t.Any) -> None:
        connection.exec_driver_sql("BEGIN")


@pytest.mark.parametrize("view_queries", [False, True])
def test_an_application_that_begins_by_an_event(
    sqlite_url: str, view_queries: bool
) -> None:
    """The recipe of SQLAlchemy's documentation and commands get along."""
    notebook = Notebook(sqlite_url)
    notebook.engine.dispose()
    own_begin(notebook.engine)
    handled(notebook)
    seen = statements(notebook)
    with notebook.app.app_context():
        for text in ("milk", "bread"):
            if view_queries:
                notebook.db.session.scalars(sa.select(notebook.Note)).all()
            command_bus.send_with_routing("write", text)
        with pytest.raises(ValueError):
            command_bus.send_with_routing("write", "bad")
        with notebook.db.session.begin():
            notebook.write("by the view")
    assert notebook.stored() == ["milk", "bread", "by the view"]
    # A transaction that the view has begun is joined as it is.
    assert seen.count("BEGIN IMMEDIATE") == (1 if view_queries else 3)


def test_the_legacy_mode_of_the_driver(notebook: Notebook) -> None:
    """Python's sqlite3 begins by itself before a write; a command comes first."""
    with notebook.app.app_context():
        driver = notebook.db.session.connection().connection.driver_connection
        assert driver is not None
        assert driver.isolation_level == ""
        notebook.db.session.rollback()

        # Before a read it doesn't begin, and after a write it has begun.
        notebook.db.session.scalars(sa.select(notebook.Note)).all()
        command_bus.send_with_routing("write", "milk")
        notebook.write("by the view")
        notebook.db.session.flush()
        command_bus.send_with_routing("write", "bread")
    assert notebook.stored() == ["milk", "by the view", "bread"]


def test_a_locked_database_is_reported_and_nothing_is_left(sqlite_url: str) -> None:
    """When the writer before doesn't finish in time, the command fails cleanly."""
    arguments = {"connect_args": {"timeout": 0}}
    notebook = handled(Notebook(sqlite_url, SQLALCHEMY_ENGINE_OPTIONS=arguments))
    writer = sqlite3.connect(str(notebook.engine.url.database), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with notebook.app.app_context():
        for view_queries in (False, True):
            if view_queries:
                notebook.db.session.scalars(sa.select(notebook.Note)).all()
            with pytest.raises(sa.exc.OperationalError, match="database is locked"):
                command_bus.send_with_routing("write", "milk")
            assert notebook.in_use == 0
        writer.execute("ROLLBACK")
        writer.close()
        command_bus.send_with_routing("write", "bread")
    assert notebook.stored() == ["bread"]
