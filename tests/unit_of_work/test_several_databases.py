"""Binds, applications that share a database extension, threads, session classes."""

from __future__ import annotations

import contextvars
import threading
import typing as t

import pytest
import sqlalchemy as sa
from flask_sqlalchemy.session import Session
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone.errors import UnitOfWorkError

from .notebook import Notebook
from .notebook import stored


@pytest.mark.parametrize("fail", [False, True])
def test_models_with_a_bind_key_take_part(
    database_url: str, second_database_url: str, fail: bool
) -> None:
    """A model of another database is stored, or not, with the same command."""
    notebook = Notebook(database_url, SQLALCHEMY_BINDS={"archive": second_database_url})
    db = notebook.db

    class Entry(db.Model):
        __bind_key__ = "archive"
        __tablename__ = "entries"

        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(sa.String(50))

    @command_handler("archive")
    def archive(text: str) -> None:
        notebook.write(text)
        db.session.add(Entry(text=text))
        db.session.commit()
        with notebook.app.app_context():
            db.session.add(Entry(text=f"{text} again"))
        if fail:
            raise ValueError(text)

    notebook.ecotone.register(archive)
    with notebook.app.app_context():
        db.create_all("archive")
        if fail:
            with pytest.raises(ValueError):
                command_bus.send_with_routing("archive", "milk")
        else:
            command_bus.send_with_routing("archive", "milk")
    assert stored(database_url) == ([] if fail else ["milk"])
    entries = stored(second_database_url, "entries")
    assert entries == ([] if fail else ["milk", "milk again"])
    assert notebook.sessions == 0


def test_an_application_with_binds_only(database_url: str) -> None:
    """Without a default database the unit of work is on the binds."""
    from flask import Flask
    from flask_sqlalchemy import SQLAlchemy

    from flask_ecotone import Ecotone

    app, db = Flask(__name__), SQLAlchemy()
    app.config["SQLALCHEMY_BINDS"] = {"archive": database_url}
    db.init_app(app)
    ecotone = Ecotone(app, packages=[])

    class Entry(db.Model):
        __bind_key__ = "archive"
        __tablename__ = "entries"

        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(sa.String(50))

    @command_handler("archive")
    def archive(text: str) -> None:
        db.session.add(Entry(text=text))
        with app.app_context():
            db.session.add(Entry(text=f"{text} again"))
        if text == "bad":
            raise ValueError(text)

    ecotone.register(archive)
    with app.app_context():
        db.create_all("archive")
        db.session.scalars(sa.select(Entry)).all()
        command_bus.send_with_routing("archive", "milk")
        with pytest.raises(ValueError):
            command_bus.send_with_routing("archive", "bad")
    assert sorted(stored(database_url, "entries")) == ["milk", "milk again"]


@pytest.fixture
def two_apps(
    database_url: str, second_database_url: str
) -> t.Iterator[tuple[Notebook, Notebook]]:
    """Two applications with a database each, and one Flask-SQLAlchemy extension."""
    first = Notebook(database_url)
    second = Notebook(second_database_url, db=first.db, model=first.Note)
    yield first, second
    for notebook in (first, second):
        assert notebook.in_use == 0
        assert notebook.sessions == 0


def test_a_command_for_another_application_is_a_transaction_of_its_own(
    two_apps: tuple[Notebook, Notebook],
) -> None:
    """In the context of app B its bus commits B's database, whatever becomes of A."""
    a, b = two_apps

    @command_handler("start")
    def start() -> None:
        a.write("of a")
        with b.app.app_context():
            command_bus.send_with_routing("write")
        assert b.stored() == ["of b"]
        raise ValueError("a failed")

    @command_handler("write")
    def write() -> None:
        b.write("of b")

    a.ecotone.register(start)
    b.ecotone.register(write)
    with a.app.app_context():
        with pytest.raises(ValueError, match="a failed"):
            command_bus.send_with_routing("start")
    assert a.stored() == []
    assert b.stored() == ["of b"]


@pytest.mark.parametrize("fail", [False, True])
def test_back_in_the_first_application_a_command_joins_it(
    two_apps: tuple[Notebook, Notebook], fail: bool
) -> None:
    """From A through B to A again: the last is part of the first, B is its own."""
    a, b = two_apps

    @command_handler("start")
    def start() -> None:
        a.write("a first")
        a.db.session.flush()
        with b.app.app_context():
            command_bus.send_with_routing("write")
        if fail:
            raise ValueError("a failed")

    @command_handler("back")
    def back() -> None:
        a.write("a again")

    @command_handler("write")
    def write() -> None:
        b.write("of b")
        with a.app.app_context():
            command_bus.send_with_routing("back")

    a.ecotone.register(start, back)
    b.ecotone.register(write)
    with a.app.app_context():
        if fail:
            with pytest.raises(ValueError):
                command_bus.send_with_routing("start")
        else:
            command_bus.send_with_routing("start")
    assert a.stored() == ([] if fail else ["a first", "a again"])
    assert b.stored() == ["of b"]


@pytest.mark.parametrize("nested", [False, True])
def test_a_bus_in_the_context_of_another_application_is_refused(
    two_apps: tuple[Notebook, Notebook], nested: bool
) -> None:
    """There ``db.session`` is B's, and A's bus would commit the wrong database."""
    a, b = two_apps

    @command_handler("start")
    def start() -> None:
        with b.app.app_context():
            bus.send_with_routing("write")

    @command_handler("write")
    def write() -> None:
        a.write("astray")

    a.ecotone.register(start, write)
    with a.app.app_context():
        bus = a.ecotone.command_bus
        with pytest.raises(UnitOfWorkError, match="context of another application"):
            if nested:
                bus.send_with_routing("start")
            else:
                with b.app.app_context():
                    bus.send_with_routing("write")
    assert a.stored() == b.stored() == []


@pytest.mark.parametrize("use", ["bus", "commit", "execute"])
def test_a_thread_with_a_copied_context_is_refused(
    notebook: Notebook, use: str
) -> None:
    """A connection belongs to one thread; the error says what to do instead."""
    errors: list[BaseException] = []
    session = notebook.db.session
    uses: dict[str, t.Callable[[], t.Any]] = {
        "bus": lambda: command_bus.send_with_routing("write", "by the thread"),
        "commit": lambda: session.commit(),
        "execute": lambda: session.execute(sa.text("SELECT 1")),
    }

    def work() -> None:
        try:
            uses[use]()
        except BaseException as error:
            errors.append(error)

    @command_handler("start")
    def start() -> None:
        notebook.write("by the handler")
        # What is pending would be flushed by the thread, if it were allowed to.
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(work,))
        thread.start()
        thread.join()

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)

    notebook.ecotone.register(start, write)
    with notebook.app.app_context():
        command_bus.send_with_routing("start")
    assert [type(error) for error in errors] == [UnitOfWorkError]
    assert "belongs to one thread" in str(errors[0])
    assert notebook.stored() == ["by the handler"]


def test_a_thread_with_a_context_of_its_own_is_independent(
    notebook: Notebook,
) -> None:
    """A thread that pushes its own app context has its own transaction."""
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with notebook.app.app_context():
                command_bus.send_with_routing("write", "by the thread")
        except BaseException as error:
            errors.append(error)

    @command_handler("start")
    def start() -> None:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        raise ValueError("the handler fails")

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)

    notebook.ecotone.register(start, write)
    with notebook.app.app_context():
        with pytest.raises(ValueError, match="the handler fails"):
            command_bus.send_with_routing("start")
    assert errors == []
    assert notebook.stored() == ["by the thread"]


def test_a_session_class_of_the_application_composes(database_url: str) -> None:
    """What the application chose as its session class stays in force."""

    class CountingSession(Session):
        commits = 0

        def commit(self) -> None:
            CountingSession.commits += 1
            super().commit()

    options = {"session_options": {"class_": CountingSession, "autoflush": False}}
    notebook = Notebook(database_url, options=options)

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        assert isinstance(notebook.db.session(), CountingSession)
        assert notebook.db.session.autoflush is False
        if text == "bad":
            raise ValueError(text)

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        command_bus.send_with_routing("write", "milk")
        with pytest.raises(ValueError):
            command_bus.send_with_routing("write", "bad")
    assert notebook.stored() == ["milk"]
    assert CountingSession.commits == 1


def test_a_session_imported_earlier_takes_part(database_url: str) -> None:
    """``from app import session`` before ``init_app`` is the same object after it."""
    from flask import Flask
    from flask_sqlalchemy import SQLAlchemy

    from flask_ecotone import Ecotone

    db = SQLAlchemy()
    session = db.session

    class Note(db.Model):
        __tablename__ = "notes"

        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(sa.String(50))

    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db.init_app(app)
    ecotone = Ecotone(app, packages=[])

    @command_handler("write")
    def write(text: str) -> None:
        session.add(Note(text=text))
        session.commit()
        if text == "bad":
            raise ValueError(text)

    ecotone.register(write)
    assert db.session is session
    with app.app_context():
        db.create_all()
        with pytest.raises(ValueError):
            command_bus.send_with_routing("write", "bad")
        command_bus.send_with_routing("write", "milk")
    assert stored(database_url) == ["milk"]


def test_a_session_used_before_the_extension_is_refused(sqlite_url: str) -> None:
    """The session in use can't be taught afterwards, and the error says so."""
    from flask import Flask
    from flask_sqlalchemy import SQLAlchemy

    from flask_ecotone import Ecotone

    app, db = Flask(__name__), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = sqlite_url
    db.init_app(app)
    ecotone = Ecotone(packages=[])
    ecotone.register(command_handler("think")(lambda: None))
    with app.app_context():
        db.session.execute(sa.text("SELECT 1"))
        ecotone.init_app(app)
        with pytest.raises(UnitOfWorkError, match="before the first use"):
            command_bus.send_with_routing("think")
