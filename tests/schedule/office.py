"""An application with schedules, whose clock a test sets."""

from __future__ import annotations

import datetime
import typing as t
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import Ecotone
from flask_ecotone.consuming.environment import Environment
from flask_ecotone.consuming.scheduling import Schedules
from flask_ecotone.storage.failures import is_outage
from flask_ecotone.storage.ticks import DatabaseTicks

UTC = datetime.UTC
#: A full hour.
START = datetime.datetime(2026, 6, 5, 12, tzinfo=UTC)


class Office:
    """An application whose schedules write what they did into a table."""

    def __init__(self, url: str) -> None:
        self.app = app = Flask("office")
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.db = db = SQLAlchemy(app)
        self.now = START

        class Work(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
            text: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(80))

        self.work = Work
        self.ecotone = Ecotone(packages=[])

    def open(self, *marked: t.Any) -> Office:
        self.ecotone.register(*marked)
        self.ecotone.init_app(self.app)
        with self.app.app_context():
            self.db.create_all()
            self.ecotone.compile()
        return self

    def worker(self) -> Schedules:
        """The schedules as a new worker process sees them."""
        state, db = self.app.extensions["ecotone"], self.db
        with self.app.app_context():
            engine = db.engine
        return Schedules(
            state.system,
            state.system.schedules.values(),
            DatabaseTicks(db.session, lambda: engine, lambda: [engine]),
            Environment(self.app.app_context, None, is_outage),
            self.app.logger,
            lambda: self.now.timestamp(),
        )

    def pass_time(self, **duration: float) -> None:
        self.now += datetime.timedelta(**duration)

    def add(self, text: str) -> None:
        self.db.session.add(self.work(text=text))
        self.db.session.flush()

    def texts(self) -> list[str]:
        with self.app.app_context(), self.db.engine.connect() as connection:
            return sorted(connection.scalars(sa.select(self.work.text)))


def run_due(worker: Schedules) -> int:
    """Let a worker fire what is due; return how many firings there were."""
    return sum(1 for _ in worker.firings())


def at_once(workers: list[Schedules]) -> int:
    """Let workers fire what is due at the same time; return how many they fired."""
    with ThreadPoolExecutor(len(workers)) as pool:
        return sum(pool.map(run_due, workers))
