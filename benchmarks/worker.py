"""How many messages a worker handles whose handler inserts a row.

Beside the classic loop on the same tables with the same handler, which claims one
message at a time and commits after each step, and Procrastinate if it is installed:
``pip install procrastinate``. See :mod:`benchmarks.queues` and
:mod:`benchmarks.queue_peers`.
"""

from __future__ import annotations

from flask_ecotone import DatabaseChannel

from .measuring import compare
from .measuring import Comparison
from .measuring import Subject
from .measuring import verdict
from .model_command import on_postgresql
from .model_command import postgresql
from .model_command import sqlite
from .queue_peers import procrastinate_inserting
from .queues import Application
from .queues import ROWS

_ROUNDS = 11
_COUNT = 300
_CLASSIC = "the classic loop"
_OURS = "a transaction a message"
_THREADS = "the same, 4 threads"
_BATCH = "a transaction a batch of 100"


def main() -> None:
    """Print the figures."""
    on_postgresql(_report_postgresql)
    with sqlite() as url:
        found = _measure("SQLite", url, {})
    rate = found.per_second(_BATCH)
    verdict(f"{_BATCH}, SQLite", rate, 1_500, "messages/s", at_least=True)


def _report_postgresql(url: str) -> None:
    with postgresql() as theirs:
        peers = procrastinate_inserting(theirs)
        found = _measure("PostgreSQL", url, peers)
    for ours in (_OURS, _THREADS, _BATCH):
        speed = found.speed(ours)
        verdict(f"{ours}, to the classic loop", speed, 3, "times", at_least=True)
        for peer in peers:
            speed = found.speed(ours, peer)
            verdict(f"{ours}, to {peer}", speed, 2, "times", at_least=True)


def _measure(title: str, url: str, peers: dict[str, Subject]) -> Comparison:
    batch = DatabaseChannel(ROWS, transaction="batch", batch=100)
    single = Application(url, [DatabaseChannel(ROWS)])
    batched = Application(url, [batch])
    subjects = {
        _CLASSIC: single.classic,
        _OURS: single.working(),
        _THREADS: single.working(threads=4),
        _BATCH: batched.working(),
        **peers,
    }
    for subject in subjects.values():
        subject(50)
    found = compare(subjects, _CLASSIC, rounds=_ROUNDS, count=_COUNT)
    single.close()
    batched.close()
    found.show_rates(f"Messages that one worker handles, {title}")
    print()
    return found


if __name__ == "__main__":
    main()
