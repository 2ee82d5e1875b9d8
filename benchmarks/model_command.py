"""What a command on a model costs, beside the same work in a plain view's code.

Get a row, change it, commit: as the action of an aggregate addressed by metadata, with
Flask-SQLAlchemy alone, and with a bare SQLAlchemy session. Every operation has an app
context of its own, as a request has, and all use the same row and engine options. The
PostgreSQL server is found at ``POSTGRES_DSN``.
"""

from __future__ import annotations

import os
import tempfile
import typing as t
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import aggregate
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone

from .measuring import calling
from .measuring import compare
from .measuring import Subject
from .measuring import verdict

_DEFAULT_DSN = "postgresql://postgres@127.0.0.1:5432/postgres"
_ROUNDS = 300
_COUNT = 10
_BARE = "SQLAlchemy session"
_PLAIN = "Flask-SQLAlchemy"
_OURS = "command on a model"


def create_plain_app(url: str) -> tuple[Flask, Callable[[], None]]:
    """Return an application without Ecotone and the work in it."""
    app, db = _app(url)

    class Account(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
        __tablename__ = "account"
        id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
        owner: sa_orm.Mapped[str]
        balance: sa_orm.Mapped[int]

    def work() -> None:
        with app.app_context():
            account = db.session.get(Account, 1)
            account.balance += 1
            db.session.commit()

    with app.app_context():
        db.create_all()
        db.session.add(Account(id=1, owner="Alice", balance=0))
        db.session.commit()
    return app, work


def create_ecotone_app(url: str) -> tuple[Flask, Callable[[], None]]:
    """Return an application with the same model as an aggregate and the work in it."""
    app, db = _app(url)

    @aggregate
    class Account(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
        __tablename__ = "account"
        id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
        owner: sa_orm.Mapped[str]
        balance: sa_orm.Mapped[int]

        @command_handler("account.deposit")
        def deposit(self) -> None:
            """Change the row."""
            self.balance += 1

    ecotone = Ecotone(packages=[])
    ecotone.register(Account)
    ecotone.init_app(app)

    def work() -> None:
        with app.app_context():
            command_bus.send_with_routing(
                "account.deposit", metadata={"aggregate.id": 1}
            )

    return app, work


def _app(url: str) -> tuple[Flask, SQLAlchemy]:
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = url
    db = SQLAlchemy()
    db.init_app(app)
    return app, db


def bare_session(engine: sa.Engine) -> Callable[[], None]:
    """Return the same work without Flask."""

    class Base(sa_orm.DeclarativeBase):
        pass

    class Account(Base):
        __tablename__ = "account"
        id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
        owner: sa_orm.Mapped[str]
        balance: sa_orm.Mapped[int]

    def work() -> None:
        with sa_orm.Session(engine) as session:
            session.get_one(Account, 1).balance += 1
            session.commit()

    return work


@contextmanager
def sqlite() -> Iterator[str]:
    """Make a SQLite file with a write-ahead log and yield its URL."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'benchmark.sqlite'}"
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL").close()
        engine.dispose()
        yield url


@contextmanager
def postgresql() -> Iterator[str]:
    """Make a PostgreSQL database, yield its URL and drop it."""
    server = sa.make_url(os.environ.get("POSTGRES_DSN") or _DEFAULT_DSN)
    server = server.set(drivername="postgresql+psycopg")
    name = f"ecotone_benchmark_{uuid.uuid4().hex}"
    engine = sa.create_engine(
        server, isolation_level="AUTOCOMMIT", connect_args={"connect_timeout": 3}
    )
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f'CREATE DATABASE "{name}" TEMPLATE template0')
        try:
            yield server.set(database=name).render_as_string(hide_password=False)
        finally:
            with engine.connect() as connection:
                connection.exec_driver_sql(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        engine.dispose()


def on_postgresql(report: Callable[[str], None]) -> None:
    """Call with the URL of a new PostgreSQL database, or say that there is none."""
    try:
        with postgresql() as url:
            report(url)
    except sa.exc.OperationalError as error:
        print(f"\n  no PostgreSQL (start one or set POSTGRES_DSN): {error.orig}")
    except ModuleNotFoundError as error:
        print(f"\n  no driver for PostgreSQL: pip install 'psycopg[binary]' ({error})")


def main() -> None:
    """Print the figures."""
    with sqlite() as url:
        _report("SQLite", url, 8)
    on_postgresql(lambda url: _report("PostgreSQL", url, 5))


def _report(title: str, url: str, budget: float) -> None:
    plain, plain_work = create_plain_app(url)
    ours, our_work = create_ecotone_app(url)
    engines = [_engine(plain), _engine(ours), sa.create_engine(url)]
    works = {
        _BARE: bare_session(engines[2]),
        _PLAIN: plain_work,
        _OURS: our_work,
    }
    subjects: dict[str, Subject] = {name: calling(work) for name, work in works.items()}
    for subject in subjects.values():
        subject(200)
    before = _balance(engines[2])
    found = compare(subjects, _PLAIN, rounds=_ROUNDS, count=_COUNT)
    assert _balance(engines[2]) - before == len(works) * _ROUNDS * _COUNT
    for engine in engines:
        engine.dispose()
    found.show(f"Get, change and commit a row, {title}")
    for name in (_PLAIN, _OURS):
        over = (found.ratio(name, _BARE) - 1) * 100
        print(f"  {name}: {over:.2f} % over a session without Flask")
    print()
    verdict(f"{_OURS}, {title}", (found.ratio(_OURS) - 1) * 100, budget, "% over plain")


def _engine(app: Flask) -> sa.Engine:
    with app.app_context():
        return t.cast(sa.Engine, app.extensions["sqlalchemy"].engine)


def _balance(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT balance FROM account")
        return t.cast(int, found.scalar())


if __name__ == "__main__":
    main()
