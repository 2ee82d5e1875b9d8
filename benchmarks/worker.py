"""How many messages a worker handles, beside the classic loop in raw SQLAlchemy.

A handler inserts one row through ``db.session``. The classic loop claims one message
with three statements, handles it in a transaction with a look-up and an insert against
duplicates, and removes the message afterwards: each of the three is committed. Both use
the same database and table in turn. Sending is measured beside a plain insert.
"""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import without_transaction
from flask_ecotone.channels.protocols import Envelope
from flask_ecotone.consuming import Limits
from flask_ecotone.message import new_id
from flask_ecotone.storage.tables import handled
from flask_ecotone.storage.tables import messages

from .model_command import postgresql
from .model_command import sqlite

_COUNT = 1_000
_CLASSIC = 300
_FOREIGN = 100_000


@dataclass
class Happened:
    number: int


class Bench:
    """An application with a channel, and the classic loop on the same tables."""

    def __init__(self, url: str) -> None:
        self.app = app = Flask(__name__)
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.db = db = SQLAlchemy(app)

        class Row(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
            number: sa_orm.Mapped[int]

        self.row = Row

        @asynchronous("rows")
        @event_handler(endpoint_id="insert")
        def insert(event: Happened) -> None:
            db.session.add(Row(number=event.number))

        @asynchronous("apart")
        @without_transaction
        @command_handler("nothing", endpoint_id="nothing")
        def nothing() -> None:
            pass

        channels = [DatabaseChannel("rows"), DatabaseChannel("apart", batch=100)]
        ecotone = Ecotone(packages=[], channels=channels)
        ecotone.register(insert, nothing)
        ecotone.init_app(app)
        with app.app_context():
            db.create_all()
            ecotone.compile()
            self.engine = db.engine
        self.messaging = app.extensions["ecotone"].messaging

    def publish(self, count: int) -> float:
        """Send messages in one transaction and return how many a second."""
        with self.app.app_context():
            started = time.perf_counter()
            self.db.session.execute(sa.text("SELECT 1"))
            for number in range(count):
                event_bus.publish(Happened(number))
            self.db.session.commit()
            return count / (time.perf_counter() - started)

    def work(self, channel: str) -> float:
        """Empty a channel and return how many messages a second."""
        started = time.perf_counter()
        limits = Limits(finishes_when_empty=True)
        outcome = self.messaging.worker([channel], limits=limits).run()
        return float(outcome.handled / (time.perf_counter() - started))

    def publish_apart(self, count: int) -> None:
        """Send messages for the handler without transaction."""
        headers = '{"id": "%s", "__TypeId__": "builtins:NoneType"}'
        envelopes = [
            Envelope("nothing", key, b"null", headers % key)
            for key in (new_id() for _ in range(count))
        ]
        with self.app.app_context():
            self.messaging.channels.get("apart").send(envelopes)
            self.db.session.commit()

    def classic(self, count: int) -> float:
        """Handle messages in the classic way and return how many a second."""
        m, h, row = messages, handled, self.row.__table__
        started = time.perf_counter()
        for number in range(count):
            with self.engine.begin() as one:
                found = one.scalar(
                    sa.select(m.c.id)
                    .where(m.c.channel == "rows", m.c.state == 1)
                    .order_by(m.c.rank, m.c.id)
                    .limit(1)
                )
                mine = sa.update(m).where(m.c.id == found).values(token="x", state=0)
                one.execute(mine)
                one.execute(sa.select(m).where(m.c.id == found)).one()
            with self.engine.begin() as two:
                digest = new_id()[:32].encode()
                two.execute(sa.select(h.c.key).where(h.c.digest == digest)).all()
                two.execute(sa.insert(row).values(number=number))
                two.execute(
                    sa.insert(h).values(
                        digest=digest, key="x", endpoint_id="x", handled_at=0
                    )
                )
            with self.engine.begin() as three:
                three.execute(sa.delete(m).where(m.c.id == found))
        return count / (time.perf_counter() - started)

    def foreign(self) -> None:
        """Put messages of another channel in front."""
        with self.engine.begin() as connection:
            values: dict[str, t.Any] = {
                "channel": "other",
                "state": 1,
                "rank": 0,
                "due_at": 0,
                "created_at": 0,
                "attempts": 0,
                "endpoint_id": "x",
                "message_id": "x",
                "headers": "{}",
                "body": b"",
            }
            for _ in range(_FOREIGN // 5_000):
                connection.execute(sa.insert(messages), [values] * 5_000)


def main() -> None:
    """Print the figures."""
    for title, database in (("PostgreSQL", postgresql), ("SQLite", sqlite)):
        try:
            with database() as url:
                _report(title, url)
        except sa.exc.OperationalError as error:
            print(f"\n  no {title}: {error.orig}")


def _report(title: str, url: str) -> None:
    bench = Bench(url)
    print(f"\nMessages a second, {title}\n")
    sent = bench.publish(_COUNT)
    ours, classic = [], []
    for _ in range(3):
        bench.publish(_CLASSIC)
        ours.append(bench.work("rows"))
        bench.publish(_CLASSIC)
        classic.append(bench.classic(_CLASSIC))
    ratios = sorted(a / b for a, b in zip(ours, classic, strict=True))
    print(f"  sent in one transaction                {sent:8.0f}")
    print(f"  handled                                {sorted(ours)[1]:8.0f}")
    print(f"  the classic loop                       {sorted(classic)[1]:8.0f}")
    print(f"  ratio to the classic loop              {ratios[1]:8.2f}")
    bench.publish_apart(2_000)
    print(f"  handled without transaction            {bench.work('apart'):8.0f}")
    bench.foreign()
    bench.publish(_COUNT)
    with_foreign = bench.work("rows")
    print(f"  handled, 100 000 others in front       {with_foreign:8.0f}")
    bench.engine.dispose()


if __name__ == "__main__":
    main()
