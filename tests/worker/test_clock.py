"""Times are those of the database, whatever the clock of a worker shows."""

from __future__ import annotations

import types

import pytest
import sqlalchemy as sa

from flask_ecotone.consuming import Limits
from flask_ecotone.consuming import Stopping
from flask_ecotone.consuming import worker as worker_module
from flask_ecotone.storage.tables import messages
from flask_ecotone.storage.tables import now_ms
from flask_ecotone.storage.tables import WAITING

from ..processes import until
from .conftest import OpenMailroom
from .shop import Shop
from .test_handling import publish

_HOUR = 3600


@pytest.mark.parametrize("offset", [-_HOUR, _HOUR])
def test_a_wrong_clock_changes_nothing(
    open_mailroom: OpenMailroom, database_url: str, offset: int
) -> None:
    """Delays, leases and retries of a worker an hour off are as long as they should."""
    mailroom = open_mailroom(database_url, clock=str(offset))
    mailroom.publish(1)
    mailroom.publish(2, delay=1500)
    mailroom.publish(3, delay=600_000)
    mailroom.publish(-1, raises="ValueError")
    # Somebody who disappears has claimed the first one.
    assert mailroom.source.claim(1)
    with mailroom.engine.connect() as one:
        due = sa.select(messages.c.due_at).where(messages.c.state == WAITING)
        lease, delay, _ = sorted(one.scalars(due).all())
    worker = mailroom.start()
    until(lambda: mailroom.count() == 2)
    until(mailroom.parked)
    mailroom.stop(worker)
    assert "the clock is wrong" in mailroom.said_by(worker)
    assert mailroom.numbers() == [1, 2]
    with mailroom.engine.connect() as one:
        letter = mailroom.module.Letter
        times = dict(one.execute(sa.select(letter.number, letter.sorted_at)).all())
        now = one.scalar(sa.select(now_ms())) or 0
    assert times[1] >= lease
    assert times[2] >= delay
    (parked,) = mailroom.parked()
    assert parked.attempts == 3
    assert now - 600_000 < parked.first_failed_at <= parked.last_failed_at <= now


class Passing(Stopping):
    """Time passes by as much as is waited for, here and in the database."""

    def __init__(self, shop: Shop) -> None:
        super().__init__()
        self.now = 1000.0
        self.waited = 0.0
        self.waits = 0
        self._shop = shop

    def wait(self, seconds: float) -> None:
        """Let it pass."""
        self.now += seconds
        self.waited += seconds
        self.waits += 1
        with self._shop.app.app_context(), self._shop.db.engine.begin() as one:
            # Later by the clock of the database is earlier on that clock.
            passing = sa.update(messages).values(
                due_at=messages.c.due_at - round(seconds * 1000)
            )
            one.execute(passing.where(messages.c.state == WAITING))

    def monotonic(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def passing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Shop, Passing]:
    """A shop with a long lease, and a worker's time that passes when it waits."""
    shop = Shop(database_url, lease=60)
    passing = Passing(shop)
    clock = types.SimpleNamespace(monotonic=passing.monotonic, thread_time=lambda: 0.0)
    monkeypatch.setattr(worker_module, "time", clock)
    return shop, passing


@pytest.mark.parametrize("interval", [0.1, 1.0])
def test_what_a_dead_worker_held_is_handled_when_its_lease_is_over(
    passing: tuple[Shop, Passing], interval: float
) -> None:
    """Within two seconds."""
    shop, time_passing = passing
    publish(shop, 1)
    assert len(shop.source().claim(10)) == 2
    worker = shop.messaging.worker(
        ["orders"],
        limits=Limits(handled=2),
        stopping=time_passing,
        poll_interval=interval,
    )
    worker.run()
    assert shop.effects() == [("mail", 1), ("pack", 1)]
    # What the test itself takes is part of the lease.
    assert time_passing.waited <= 62


def test_an_idle_worker_asks_the_database_seldom(
    passing: tuple[Shop, Passing],
) -> None:
    """What is ready, and when something is due, for each poll interval."""
    shop, time_passing = passing
    statements: list[str] = []
    with shop.app.app_context():
        engine = shop.db.engine

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(one: object, cursor: object, text: str, *rest: object) -> None:
        if "due_at = (" not in text and "due_at=(" not in text:
            statements.append(text)

    worker = shop.messaging.worker(
        ["orders", "bell"],
        limits=Limits(execution_time=60),
        stopping=time_passing,
        poll_interval=1.0,
    )
    worker._started = time_passing.now
    worker.run()
    assert time_passing.waited >= 60
    assert time_passing.waits <= 61
    # For each of two channels: two, on MariaDB with the kind of the transaction. Now
    # and then what is due, and what a worker that died had made so.
    assert 0 < len(statements) <= 61 * 2 * (5 if engine.dialect.name == "mysql" else 3)
