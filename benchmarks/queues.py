"""An application with channels for the benchmarks of messaging, and the classic loop.

A handler inserts one row through ``db.session``, or does nothing and is marked with
``@without_transaction``. A turn sends messages in one transaction, which isn't timed,
and has a worker handle them until there are no more, which is.
"""

from __future__ import annotations

import time
import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import without_transaction
from flask_ecotone.consuming import Limits
from flask_ecotone.consuming import Outcome
from flask_ecotone.message import new_id
from flask_ecotone.storage.tables import handled
from flask_ecotone.storage.tables import messages
from flask_ecotone.storage.tables import READY

from .measuring import Subject

ROWS = "rows"
#: The table that handlers insert into, here and at the peers.
row = sa.Table(
    "row",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
)


@dataclass
class Counted:
    """An event whose handler inserts a row."""

    number: int


@dataclass
class Ignored:
    """An event whose handler does nothing, without a transaction."""

    number: int


def _nothing() -> None:
    pass


class Application:
    """An application with channels.

    :param channels: The channels. Applications on the same database share its tables.
    :param on: The name of the channel that the handlers are asynchronous on.
    :param on_ignored: What the handler that does nothing does instead.
    :param handlers: Further ones.
    """

    def __init__(
        self,
        url: str,
        channels: Sequence[t.Any],
        on: str = ROWS,
        on_ignored: Callable[[], None] = _nothing,
        handlers: Sequence[Callable[..., t.Any]] = (),
    ) -> None:
        self.app = app = Flask(__name__)
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.db = db = SQLAlchemy(app)

        class Row(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            __tablename__ = row.name
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
            number: sa_orm.Mapped[int]

        @asynchronous(on)
        @event_handler(endpoint_id="insert")
        def insert(event: Counted) -> None:
            db.session.add(Row(number=event.number))
            self.handled_at = time.perf_counter()

        @asynchronous(on)
        @without_transaction
        @event_handler(endpoint_id="ignore")
        def ignore(event: Ignored) -> None:
            on_ignored()

        self._insert = insert
        self.handled_at = 0.0
        ecotone = Ecotone(packages=[], channels=channels)
        ecotone.register(insert, ignore, *handlers)
        ecotone.init_app(app)
        with app.app_context():
            db.create_all()
            ecotone.compile()
            self.engine: sa.Engine = db.engine
        self.messaging = app.extensions["ecotone"].messaging

    def send(self, number: int, event: type = Counted) -> float:
        """Send messages in one transaction and return how many seconds that took."""
        with self.app.app_context():
            started = time.perf_counter()
            self.db.session.connection()
            for each in range(number):
                event_bus.publish(event(each))
            self.db.session.commit()
            return time.perf_counter() - started

    def send_each(self, number: int, event: type = Counted) -> float:
        """Send messages, each with a context and a transaction of its own."""
        started = time.perf_counter()
        for each in range(number):
            with self.app.app_context():
                event_bus.publish(event(each))
        return time.perf_counter() - started

    def work(self, number: int, channel: str = ROWS, threads: int = 1) -> float:
        """Empty a channel and return how many seconds that took.

        :param number: How many messages there are.
        """

        def run(_: int) -> Outcome:
            limits = Limits(finishes_when_empty=True)
            return self.messaging.worker([channel], limits=limits).run()

        with ThreadPoolExecutor(threads) as pool:
            started = time.perf_counter()
            outcomes = list(pool.map(run, range(threads)))
            taken = time.perf_counter() - started
        handled = sum(each.handled for each in outcomes)
        assert (handled, any(each.failed for each in outcomes)) == (number, False)
        return taken

    def working(
        self, event: type = Counted, channel: str = ROWS, threads: int = 1
    ) -> Subject:
        """Return a subject that sends messages, and times how a worker handles them."""

        def turn(number: int) -> float:
            self.send(number, event)
            return self.work(number, channel, threads)

        return turn

    def classic(self, number: int) -> float:
        """Send messages, and time a loop that claims one and commits after each step.

        It claims with three statements, calls the same handler in a context and a
        transaction with a look-up and an insert against duplicates, and removes the
        message afterwards.
        """
        self.send(number)
        m, h = messages.c, handled.c
        started = time.perf_counter()
        for each in range(number):
            with self.engine.begin() as one:
                found = one.scalar(
                    sa.select(m.id)
                    .where(m.channel == ROWS, m.state == READY)
                    .order_by(m.rank, m.id)
                    .limit(1)
                )
                mine = sa.update(messages).where(m.id == found)
                one.execute(mine.values(token="x", state=0))
                one.execute(sa.select(messages).where(m.id == found)).one()
            with self.app.app_context():
                two = self.db.session
                digest = new_id()[:32].encode()
                two.execute(sa.select(h.key).where(h.digest == digest)).all()
                two.execute(
                    sa.insert(handled).values(
                        digest=digest, key="x", endpoint_id="x", handled_at=0
                    )
                )
                self._insert(Counted(each))
                two.commit()
            with self.engine.begin() as three:
                three.execute(sa.delete(messages).where(m.id == found))
        return time.perf_counter() - started

    def put_foreign(self, number: int) -> None:
        """Put messages of another channel in front."""
        with self.app.app_context():
            self.send(1)
            found = self.db.session.execute(sa.select(messages)).one()
            values = {**found._mapping, "channel": "other"}
            del values["id"]
            insert = sa.insert(messages)
            for _ in range(number // 5_000):
                self.db.session.execute(insert, [values] * 5_000)
            self.db.session.commit()
        self.work(1)

    def close(self) -> None:
        """Give up the connections."""
        self.engine.dispose()
