"""How much poison slows down the messages between it.

Every second message can't be handled: its handler fails three times, its body can't be
read, or nobody knows its endpoint. The figure is how many good ones are handled until
the last of them is.
"""

from __future__ import annotations

import logging
import time
import typing as t
from dataclasses import dataclass

import sqlalchemy as sa

from flask_ecotone import asynchronous
from flask_ecotone import DatabaseChannel
from flask_ecotone import delayed_retry
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone.consuming import Limits
from flask_ecotone.storage.tables import dead_letters
from flask_ecotone.storage.tables import messages

from .measuring import compare
from .measuring import Subject
from .measuring import verdict
from .model_command import on_postgresql
from .model_command import sqlite
from .queues import Application
from .queues import Counted
from .queues import ROWS

_ROUNDS = 9
_COUNT = 200
_PURE = "no poison"
_MODES: t.Final = ("message", "batch")


@dataclass
class Failing:
    """An event whose handler fails."""

    number: int


@asynchronous(ROWS)
@delayed_retry(1, max_attempts=2)
@event_handler(endpoint_id="fail")
def fail(event: Failing) -> None:
    """Fail."""
    raise ValueError(event.number)


def main() -> None:
    """Print the figures."""
    logging.getLogger("benchmarks.queues").setLevel(logging.CRITICAL)
    on_postgresql(lambda url: _report("PostgreSQL", url))
    with sqlite() as url:
        _report("SQLite", url)


def _report(database: str, url: str) -> None:
    for mode in _MODES:
        channel = DatabaseChannel(ROWS, transaction=t.cast(t.Any, mode))
        application = Application(url, [channel], handlers=[fail])
        poison = {
            _PURE: None,
            "fails 3 times": Failing,
            "can't be read": {"body": b"{"},
            "is unknown": {"endpoint_id": "gone"},
        }
        subjects = {name: _among(application, what) for name, what in poison.items()}
        for subject in subjects.values():
            subject(20)
        found = compare(subjects, _PURE, rounds=_ROUNDS, count=_COUNT)
        found.show_rates(f"Good messages, a transaction a {mode}, {database}")
        print()
        for name in poison:
            if name != _PURE:
                speed = found.speed(name)
                verdict(
                    f"among those of which each {name}",
                    speed,
                    0.5,
                    "times",
                    at_least=True,
                )
        application.close()


def _among(application: Application, poison: t.Any) -> Subject:
    """Return a subject that handles good messages with poison between them.

    :param poison: A class of events, or what to change in messages.
    """
    app, db = application.app, application.db

    def turn(count: int) -> float:
        with app.app_context():
            db.session.connection()
            for number in range(count):
                event_bus.publish(Counted(number))
                if isinstance(poison, type):
                    event_bus.publish(poison(number))
                elif poison is not None:
                    event_bus.publish(Counted(-1))
            db.session.commit()
            if isinstance(poison, dict):
                ids = db.session.scalars(sa.select(messages.c.id).order_by("id")).all()
                change = sa.update(messages).where(messages.c.id.in_(ids[1::2]))
                db.session.execute(change.values(**poison))
                db.session.commit()
        started = time.perf_counter()
        limits = Limits(finishes_when_empty=True)
        outcome = application.messaging.worker([ROWS], limits=limits).run()
        assert outcome.handled == count, outcome
        assert bool(outcome.failed) is bool(poison), outcome
        taken = application.handled_at - started
        with application.engine.begin() as connection:
            connection.execute(sa.delete(messages))
            connection.execute(sa.delete(dead_letters))
        return taken

    return turn


if __name__ == "__main__":
    main()
