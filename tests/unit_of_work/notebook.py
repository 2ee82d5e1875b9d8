"""A small application with one table, for handlers that a test writes itself."""

from __future__ import annotations

import threading
import typing as t
from contextlib import contextmanager

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from sqlalchemy.pool import NullPool

from flask_ecotone import Ecotone


class Notebook:
    """An application with a table of notes.

    :param url: The database.
    :param options: Arguments of ``SQLAlchemy()``.
    :param channels: The channels of the extension.
    :param extensions: What else the extension is given.
    :param config: More configuration of the application.
    """

    def __init__(
        self,
        url: str,
        *,
        db: SQLAlchemy | None = None,
        model: t.Any = None,
        options: dict[str, t.Any] | None = None,
        channels: t.Sequence[t.Any] = (),
        extensions: t.Sequence[t.Any] = (),
        **config: t.Any,
    ) -> None:
        self.url = url
        self.db = db or SQLAlchemy(**(options or {}))
        self.Note = model or self._model()
        self.app = Flask("notebook")
        self.app.config.update(SQLALCHEMY_DATABASE_URI=url, **config)
        self.db.init_app(self.app)
        self.ecotone = Ecotone(
            self.app, packages=[], channels=channels, extensions=extensions
        )
        with self.app.app_context():
            self.db.create_all()

    def _model(self) -> t.Any:
        class Note(self.db.Model):
            __tablename__ = "notes"

            id: Mapped[int] = mapped_column(primary_key=True)
            text: Mapped[str] = mapped_column(sa.String(100), unique=True)

        return Note

    def write(self, text: str) -> None:
        """Add a note to the session of the current context."""
        self.db.session.add(self.Note(text=text))

    def stored(self) -> list[str]:
        """Return the committed notes, read on a connection of its own."""
        return stored(self.url)

    @property
    def engine(self) -> sa.Engine:
        """The engine of the application."""
        with self.app.app_context():
            return self.db.engine

    @property
    def in_use(self) -> int:
        """How many connections are taken out of the pool."""
        return t.cast(sa.pool.QueuePool, self.engine.pool).checkedout()

    @property
    def sessions(self) -> int:
        """How many sessions the registry holds."""
        return len(self.db.session.registry.registry)

    @contextmanager
    def checkouts(self) -> t.Iterator[list[str]]:
        """Collect an entry for each connection that is taken out of the pool."""
        seen: list[str] = []
        engine = self.engine

        def remember(*arguments: t.Any) -> None:
            seen.append(threading.current_thread().name)

        sa.event.listen(engine, "checkout", remember)
        yield seen
        sa.event.remove(engine, "checkout", remember)


def stored(url: str, table: str = "notes") -> list[str]:
    """Return the committed texts of a table, read on a connection of its own."""
    engine = sa.create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        found = connection.scalars(sa.text(f"SELECT text FROM {table} ORDER BY id"))
        return list(found)
