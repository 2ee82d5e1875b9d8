"""A print shop that does everything a worker can do, statement by statement."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import DatabaseChannel
from flask_ecotone import delayed_retry
from flask_ecotone import Ecotone
from flask_ecotone import without_transaction
from flask_ecotone.consuming import Limits
from flask_ecotone.storage.tables import dead_letters
from flask_ecotone.storage.tables import handled
from flask_ecotone.storage.tables import messages
from flask_ecotone.storage.tables import WAITING

from .sabotage import Sabotage

#: More often than this no worker has to begin anew.
_RUNS = 25
#: What is sent, and what comes of it.
MESSAGES: t.Final = (
    ("write", 1),
    ("fail", 2),
    ("order", 3),
    ("ring", 4),
    ("far", 5),
    ("write", 98),
    ("write", 6),
)
RESULT: t.Final[dict[str, t.Any]] = {
    "rows": ["far5", "order3", "write1", "write3", "write6"],
    "parked": [
        ("fail", "ValueError", 2),
        ("write", "flask_ecotone.errors.ConversionError", 1),
    ],
}


class Press:
    """An application of which each statement is known."""

    def __init__(self, url: str, transaction: t.Literal["message", "batch"]) -> None:
        self.url, self.transaction = url, transaction
        self.sabotage = Sabotage(url)
        self.app = app = Flask("press")
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = self.sabotage.engine_options
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.db = db = SQLAlchemy(app)

        class Row(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
            name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(20))

        class Rung(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)

        self.row, self.rung = Row, Rung

        def write(name: str, number: int) -> None:
            db.session.add(Row(name=f"{name}{number}"))
            db.session.flush()

        @asynchronous("press")
        @command_handler("write", endpoint_id="write")
        def handle(number: int) -> None:
            write("write", number)

        @asynchronous("press")
        @command_handler("order", endpoint_id="order")
        def order(number: int, bus: CommandBus) -> None:
            write("order", number)
            bus.send_with_routing("write", number)

        @asynchronous("press")
        @delayed_retry(1000, max_attempts=1)
        @command_handler("fail", endpoint_id="fail")
        def fail(number: int) -> None:
            write("fail", number)
            raise ValueError("no ink")

        @asynchronous("press")
        @without_transaction
        @command_handler("ring", endpoint_id="ring")
        def ring(number: int) -> None:
            db.session.add(Rung())
            db.session.commit()

        @asynchronous(["post", "press"])
        @command_handler("far", endpoint_id="far")
        def far(number: int) -> None:
            write("far", number)

        options: dict[str, t.Any] = {"batch": 4, "transaction": transaction}
        channels = [DatabaseChannel(name, **options) for name in ("press", "post")]
        self.ecotone = Ecotone(packages=[], channels=channels)
        self.ecotone.register(handle, order, fail, ring, far)
        self.ecotone.init_app(app)
        with app.app_context():
            self.engine = db.engine
            self.undisturbed = sa.create_engine(self.engine.url)
            self.sabotage.watch(self.engine)
            db.create_all()
            self.ecotone.compile()

    @property
    def messaging(self) -> t.Any:
        """The channels and workers."""
        return self.app.extensions["ecotone"].messaging

    def send(self) -> None:
        """Send messages of all kinds, in an order that mixes them."""
        with self.app.app_context():
            self.db.session.execute(sa.text("SELECT 1"))
            for name, number in MESSAGES:
                command_bus.send_with_routing(name, number)
            self.db.session.commit()
        with self.engine.begin() as connection:
            for body, changed in ((b"98", {"body": b"?"}),):
                change = sa.update(messages).where(messages.c.body == body)
                connection.execute(change.values(**changed))

    def work(self, strikes: Callable[[int], bool]) -> None:
        """Let workers do all of it while the database is lost now and then."""
        with self.sabotage.striking(strikes):
            for _ in range(_RUNS):
                self.work_once()
                if not self.count(messages):
                    return
                self.let_time_pass()
        raise AssertionError("it never ends")

    def work_once(self) -> None:
        """Let a worker do what is due."""
        limits = Limits(finishes_when_empty=True)
        self.messaging.worker(
            ["press", "post"], limits=limits, poll_interval=0.01
        ).run()

    def let_time_pass(self) -> None:
        """Make everything due that waits, for whatever reason."""
        with self.quiet() as connection:
            waiting = sa.update(messages).where(messages.c.state == WAITING)
            connection.execute(waiting.values(due_at=0))

    def quiet(self) -> t.Any:
        """Return a transaction that is never struck."""
        return self.undisturbed.begin()

    def count(self, table: t.Any) -> int:
        """Return how many rows there are."""
        with self.quiet() as connection:
            query = sa.select(sa.func.count()).select_from(table)
            return int(connection.scalar(query))

    def result(self) -> dict[str, t.Any]:
        """Return what came of it, and forget it.

        What is rung is rung without a transaction: perhaps more than once.
        """
        with self.quiet() as connection:
            rows = sorted(connection.scalars(sa.select(self.row.name)))
            letters = connection.execute(
                sa.select(
                    dead_letters.c.endpoint_id,
                    dead_letters.c.error_class,
                    dead_letters.c.attempts,
                ).order_by(dead_letters.c.endpoint_id, dead_letters.c.error_class)
            ).all()
            rung = connection.scalar(sa.select(sa.func.count(self.rung.id)))
            for table in (self.row, self.rung, dead_letters, handled):
                connection.execute(sa.delete(table))
        return {"rows": rows, "parked": [tuple(each) for each in letters], "rung": rung}
