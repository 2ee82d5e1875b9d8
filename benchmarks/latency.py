"""How long a message waits whose worker has nothing else to do.

From before it is published until its handler begins, in a worker that is a process of
its own: ``flask ecotone run``. The floor is a process that listens: from before a row
is inserted and a notification sent, until it is there. One message at a time, in turns.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import time
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from flask_ecotone import DatabaseChannel

from .measuring import compare
from .measuring import Subject
from .measuring import verdict
from .model_command import on_postgresql
from .queues import Application
from .queues import Ignored
from .queues import ROWS

_ROUNDS = 61
_FLOOR = "notification, the driver"
_OURS = "message, its handler"
_ROOT = Path(__file__).parent.parent
#: Where the worker finds its database, and the pipe for what it has to tell.
_URL = "BENCHMARK_URL"
_PIPE = "BENCHMARK_PIPE"


def create_app() -> t.Any:
    """Return the application of the worker."""
    channels = [DatabaseChannel(ROWS)]
    return Application(os.environ[_URL], channels, on_ignored=_tell).app


def listen() -> None:
    """Tell when there is a notification."""
    engine = sa.create_engine(os.environ[_URL])
    driver: t.Any = engine.raw_connection().driver_connection
    driver.autocommit = True
    driver.execute("LISTEN benchmark")
    _tell()
    for _ in driver.notifies():
        _tell()


def _tell() -> None:
    now = time.monotonic_ns()
    os.write(int(os.environ[_PIPE]), now.to_bytes(8, "little"))


def main() -> None:
    """Print the figures."""
    on_postgresql(_report)


def _report(url: str) -> None:
    app = Application(url, [DatabaseChannel(ROWS)])
    with app.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE note (number integer)")
    worker = ["-m", "flask", "--app", "benchmarks.latency:create_app", "ecotone"]
    with (
        _telling(url, ["-m", "benchmarks.latency", "--listen"]) as heard,
        _telling(url, [*worker, "run", ROWS]) as handled,
    ):
        _read(heard)
        app.send(1, Ignored)
        _read(handled)
        subjects = {
            _FLOOR: _waiting(lambda: _notify(app.engine), heard),
            _OURS: _waiting(lambda: app.send_each(1, Ignored), handled),
        }
        found = compare(subjects, _FLOOR, rounds=_ROUNDS, count=1)
    app.close()
    found.show("From publishing to handling, PostgreSQL")
    print()
    verdict("an idle worker begins", found.median(_OURS) * 1e3, 15, "ms after")


def _notify(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO note VALUES (1)")
        connection.exec_driver_sql("SELECT pg_notify('benchmark', '')").close()


def _waiting(send: t.Callable[[], t.Any], pipe: int) -> Subject:
    def turn(number: int) -> float:
        # What was before is over, and no wait of the worker is met by habit.
        time.sleep(0.15 + random.random() * 0.2)
        started = time.monotonic_ns()
        send()
        return (_read(pipe) - started) / 1e9

    return turn


def _read(pipe: int) -> int:
    found = os.read(pipe, 8)
    assert len(found) == 8, "The process that was to tell has ended."
    return int.from_bytes(found, "little")


@contextmanager
def _telling(url: str, command: list[str]) -> Iterator[int]:
    """Run a process that tells the time through a pipe, and yield the other end."""
    ours, theirs = os.pipe()
    process = subprocess.Popen(
        [sys.executable, *command],
        cwd=_ROOT,
        env={**os.environ, _URL: url, _PIPE: str(theirs)},
        pass_fds=[theirs],
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    try:
        yield ours
    finally:
        process.terminate()
        process.wait()
        os.close(ours)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", action="store_true", help=argparse.SUPPRESS)
    if parser.parse_args().listen:
        listen()
    else:
        main()
