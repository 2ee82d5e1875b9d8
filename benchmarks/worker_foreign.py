"""How much slower a worker is behind 100,000 messages of another channel.

The same application on two databases, of which one has them. Nothing is analyzed but by
autovacuum, as in real life.
"""

from __future__ import annotations

from flask_ecotone import DatabaseChannel

from .measuring import compare
from .measuring import verdict
from .model_command import on_postgresql
from .model_command import postgresql
from .queues import Application
from .queues import ROWS

_ROUNDS = 21
_COUNT = 300
_FOREIGN = 100_000
_ALONE = "alone"
_BEHIND = f"behind {_FOREIGN:,} others"


def main() -> None:
    """Print the figures."""
    on_postgresql(_report)


def _report(url: str) -> None:
    with postgresql() as other:
        alone = Application(url, [DatabaseChannel(ROWS)])
        behind = Application(other, [DatabaseChannel(ROWS)])
        behind.put_foreign(_FOREIGN)
        subjects = {_ALONE: alone.working(), _BEHIND: behind.working()}
        for subject in subjects.values():
            subject(50)
        found = compare(subjects, _ALONE, rounds=_ROUNDS, count=_COUNT)
        alone.close()
        behind.close()
    found.show_rates("Messages that one worker handles, PostgreSQL")
    print()
    verdict(_BEHIND, (1 - found.speed(_BEHIND)) * 100, 10, "% slower")


if __name__ == "__main__":
    main()
