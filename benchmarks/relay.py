"""How many messages a worker hands on from one database channel to another.

The floor does the same with one statement for each thousand: nothing leaves the server.
"""

from __future__ import annotations

import time

import sqlalchemy as sa

from flask_ecotone import DatabaseChannel
from flask_ecotone.channels import CombinedChannel

from .measuring import compare
from .measuring import verdict
from .model_command import on_postgresql
from .queues import Application

_ROUNDS = 11
_COUNT = 5_000
_FLOOR = "one statement for a thousand"
_MOVE = sa.text("""
WITH taken AS (
    DELETE FROM ecotone_message WHERE id IN (
        SELECT id FROM ecotone_message WHERE channel = 'outbox' AND state = 1
        ORDER BY rank, id LIMIT 1000 FOR UPDATE SKIP LOCKED
    ) RETURNING *
)
INSERT INTO ecotone_message
    (channel, state, rank, due_at, created_at, attempts, endpoint_id, message_id,
     headers, body)
SELECT 'target', state, rank, due_at, created_at, 0, endpoint_id, message_id,
    headers, body
FROM taken
""")


def main() -> None:
    """Print the figures."""
    on_postgresql(_report)


def _report(url: str) -> None:
    apps = {f"batch of {size:,}": _application(url, size) for size in (100, 1_000)}
    first = next(iter(apps.values()))

    def floor(number: int) -> float:
        first.send(number)
        started = time.perf_counter()
        moved = 0
        while moved < number:
            with first.engine.begin() as connection:
                moved += connection.execute(_MOVE).rowcount
        return time.perf_counter() - started

    subjects = {
        _FLOOR: floor,
        **{name: app.working(channel="outbox") for name, app in apps.items()},
    }
    for subject in subjects.values():
        subject(50)
    found = compare(subjects, _FLOOR, rounds=_ROUNDS, count=_COUNT)
    for app in apps.values():
        app.close()
    found.show_rates("Messages that one worker hands on, PostgreSQL")
    print()
    best = max(apps, key=found.per_second)
    rate = found.per_second(best)
    verdict(f"handed on, {best}", rate, 10_000, "messages/s", at_least=True)


def _application(url: str, size: int) -> Application:
    channels = [
        DatabaseChannel("outbox", batch=size),
        DatabaseChannel("target"),
        CombinedChannel("chain", ["outbox", "target"]),
    ]
    return Application(url, channels, on="chain")


if __name__ == "__main__":
    main()
