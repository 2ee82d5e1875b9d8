"""How many messages can be sent: many in a transaction, and each with a commit.

The floor is a bare insert, with SQLAlchemy Core, of a row that is ready to be inserted:
of all rows with one statement, or of one in an app context and committed.
"""

from __future__ import annotations

import time
import typing as t

import sqlalchemy as sa

from flask_ecotone import DatabaseChannel
from flask_ecotone.message import new_id
from flask_ecotone.storage.tables import messages

from .measuring import compare
from .measuring import verdict
from .model_command import on_postgresql
from .queues import Application
from .queues import ROWS

_TOGETHER = "in one transaction"
_EACH = "each with a commit"
_FLOOR = "bare insert"
_INSERT = sa.insert(messages)


def main() -> None:
    """Print the figures."""
    on_postgresql(_report)


def _report(url: str) -> None:
    app = Application(url, [DatabaseChannel(ROWS)])
    app.send(1)
    with app.engine.connect() as connection:
        values = dict(connection.execute(sa.select(messages)).one()._mapping)
    del values["id"]

    def rows(number: int) -> list[dict[str, t.Any]]:
        return [{**values, "message_id": new_id()} for _ in range(number)]

    def bare_together(number: int) -> float:
        listed = rows(number)
        started = time.perf_counter()
        with app.app.app_context(), app.engine.begin() as connection:
            connection.execute(_INSERT, listed)
        return time.perf_counter() - started

    def bare_each(number: int) -> float:
        listed = rows(number)
        started = time.perf_counter()
        for each in listed:
            with app.app.app_context(), app.engine.begin() as connection:
                connection.execute(_INSERT, each)
        return time.perf_counter() - started

    subjects = {_FLOOR: bare_together, _TOGETHER: app.send}
    for subject in subjects.values():
        subject(500)
    together = compare(subjects, _FLOOR, rounds=21, count=2_000)
    subjects = {_FLOOR: bare_each, _EACH: app.send_each}
    each = compare(subjects, _FLOOR, rounds=101, count=20)
    app.close()
    together.show_rates("Messages sent in one transaction, PostgreSQL")
    each.show_rates("Messages sent with a commit each, PostgreSQL")
    print()
    rate = together.per_second(_TOGETHER)
    verdict(_TOGETHER, rate, 15_000, "messages/s", at_least=True)
    verdict(_EACH, each.speed(_EACH), 0.8, "times the floor", at_least=True)


if __name__ == "__main__":
    main()
