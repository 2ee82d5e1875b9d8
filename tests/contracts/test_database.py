"""The contract of channels, kept by the one in the database."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone.channels.protocols import Channel
from flask_ecotone.storage.tables import ensure
from flask_ecotone.testing.contracts import ChannelContract


class TestDatabaseChannel(ChannelContract):
    """A channel in SQLite, PostgreSQL and MariaDB."""

    many = 2_000
    delay = 0.2

    bind: str | None = None

    @pytest.fixture(autouse=True)
    def _app(self, database_url: str) -> Iterator[None]:
        self.app = Flask(__name__)
        urls = {None: "sqlite://", self.bind: database_url}
        self.app.config["SQLALCHEMY_DATABASE_URI"] = urls.pop(None)
        self.app.config["SQLALCHEMY_BINDS"] = urls
        self.db = SQLAlchemy(self.app)
        channel = DatabaseChannel("orders", lease=1, bind=self.bind)
        self.ecotone = Ecotone(self.app, packages=[], channels=[channel])
        with self.app.app_context():
            self.db.create_all()
        yield

    def open_channel(self) -> Channel:
        with self.app.app_context():
            self.ecotone.compile()
            # Who looks for the tables first shall not spend the time of a delay.
            ensure(self.db.engines[self.bind])
        messaging = self.app.extensions["ecotone"].messaging
        return t.cast(Channel, messaging.channels.get("orders"))

    @contextmanager
    def worker(self) -> Iterator[None]:
        with self.app.app_context():
            yield

    @contextmanager
    def transaction(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.db.session.rollback()
            raise
        self.db.session.commit()


class TestBoundDatabaseChannel(TestDatabaseChannel):
    """A channel in another database than the session's."""

    bind = "queues"
