"""The database is lost at each statement of a worker in turn; nothing else is."""

from __future__ import annotations

import itertools
import os
import typing as t
from collections.abc import Callable
from collections.abc import Iterator

import pytest
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
from flask_ecotone.consuming import Stopping
from flask_ecotone.storage.tables import dead_letters
from flask_ecotone.storage.tables import handled
from flask_ecotone.storage.tables import messages
from flask_ecotone.storage.tables import WAITING

from .sabotage import Sabotage

#: Without it, each statement has its turn in one of so many runs only.
_IN_FULL = "ECOTONE_FULL_LOAD"
_STRIDE = 9
#: More often than this no worker has to begin anew.
_RUNS = 25


_UNREADABLE = "flask_ecotone.errors.ConversionError"


class Impatient(Stopping):
    """Doesn't wait: what it would wait for doesn't depend on time here."""

    def wait(self, seconds: float) -> None:
        """Return at once."""


class Press:
    """An application of which each statement is known."""

    def __init__(self, url: str, transaction: t.Literal["message", "batch"]) -> None:
        self.sabotage = Sabotage(url)
        self.app = app = Flask("press")
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = self.sabotage.engine_options
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.db = db = SQLAlchemy(app)
        self.begun: list[tuple[str, int]] = []

        class Row(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
            name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(20))

        self.row = Row

        def write(name: str, number: int = 0) -> None:
            self.begun.append((name, number))
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
            self.begun.append(("ring", number))

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
            for name, number in _MESSAGES:
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
                self.messaging.worker(
                    ["press", "post"],
                    limits=Limits(finishes_when_empty=True),
                    stopping=Impatient(),
                ).run()
                if not self.count(messages):
                    return
                self.let_time_pass()
        pytest.fail("it never ends")

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
        """Return what came of it, and forget it."""
        with self.quiet() as connection:
            rows = sorted(connection.scalars(sa.select(self.row.name)))
            letters = connection.execute(
                sa.select(
                    dead_letters.c.endpoint_id,
                    dead_letters.c.error_class,
                    dead_letters.c.attempts,
                ).order_by(dead_letters.c.endpoint_id, dead_letters.c.error_class)
            ).all()
            for table in (self.row.__table__, dead_letters, handled):
                connection.execute(sa.delete(table))
        rung = {number for name, number in self.begun if name == "ring"}
        self.begun.clear()
        return {"rows": rows, "parked": [tuple(each) for each in letters], "rung": rung}


_MESSAGES = (
    ("write", 1),
    ("fail", 2),
    ("order", 3),
    ("ring", 4),
    ("far", 5),
    ("write", 98),
    ("write", 6),
)


@pytest.fixture(params=["message", "batch"])
def press(database_url: str, request: pytest.FixtureRequest) -> Iterator[Press]:
    """A press that handles messages one by one, or those of a claim together."""
    yield Press(database_url, request.param)


@pytest.mark.parametrize("length", [1, 3])
def test_the_database_may_be_lost_at_any_statement(press: Press, length: int) -> None:
    """Each effect happens once, and an outage costs no attempt."""
    press.send()
    press.work(lambda number: False)
    count, expected = len(press.sabotage.said), press.result()
    assert expected == {
        "rows": ["far5", "order3", "write1", "write3", "write6"],
        "parked": [("fail", "ValueError", 2), ("write", _UNREADABLE, 1)],
        "rung": {4},
    }
    in_full = bool(os.environ.get(_IN_FULL))
    step = length if in_full else _STRIDE
    differences = []
    for at in itertools.count(1, step):
        press.send()
        press.work(range(at, at + length).__contains__)
        found = press.result()
        if not press.sabotage.struck:
            break
        if found != expected:
            differences.append((at, press.sabotage.struck, found))
    assert at > count / 2
    assert not differences
