"""How many messages a worker handles when handlers do nothing, without transaction.

That is what the machinery costs. Beside the same rows claimed, read and removed in
tens with the driver alone, and beside PgQueuer if it is installed:
``pip install pgqueuer asyncpg``.
"""

from __future__ import annotations

import json
import time

import sqlalchemy as sa

from flask_ecotone import DatabaseChannel

from .measuring import compare
from .measuring import verdict
from .model_command import on_postgresql
from .model_command import postgresql
from .queue_peers import pgqueuer
from .queues import Application
from .queues import Ignored
from .queues import ROWS

_ROUNDS = 11
_COUNT = 2_000
_FLOOR = "the driver, ten at once"
_TAKE = """
DELETE FROM ecotone_message WHERE id IN (
    SELECT id FROM ecotone_message WHERE channel = %s AND state = 1
    ORDER BY rank, id LIMIT 10 FOR UPDATE SKIP LOCKED
) RETURNING headers, body
"""


def main() -> None:
    """Print the figures."""
    on_postgresql(_report)


def _report(url: str) -> None:
    ours = {
        f"batch of {size}": Application(url, [DatabaseChannel(ROWS, batch=size)])
        for size in (10, 100, 500)
    }
    first = next(iter(ours.values()))

    def floor(number: int) -> float:
        first.send(number, Ignored)
        return _take(first.engine, number)

    with postgresql() as other:
        peers = pgqueuer(other)
        subjects = {
            _FLOOR: floor,
            **{name: app.working(Ignored) for name, app in ours.items()},
            **peers,
        }
        for subject in subjects.values():
            subject(50)
        found = compare(subjects, _FLOOR, rounds=_ROUNDS, count=_COUNT)
    for app in ours.values():
        app.close()
    found.show_rates("Messages that one worker handles without transaction, PostgreSQL")
    print()
    for name in ours:
        for peer in peers:
            speed = found.speed(name, peer)
            verdict(f"{name}, to {peer}", speed, 1, "times", at_least=True)


def _take(engine: sa.Engine, number: int) -> float:
    taken = 0
    pooled = engine.raw_connection()
    connection = pooled.driver_connection
    assert connection is not None
    started = time.perf_counter()
    while taken < number:
        for headers, body in connection.execute(_TAKE, (ROWS,)):
            json.loads(headers), json.loads(body)
            taken += 1
        connection.commit()
    seconds = time.perf_counter() - started
    pooled.close()
    return seconds


if __name__ == "__main__":
    main()
