"""Other queues in PostgreSQL, whose worker does what ours does.

Each has a database of its own and runs its worker in the process of the benchmark. Its
clock starts with its first task and stops with its last: what it does before and after
isn't counted.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
import typing as t
from collections.abc import Callable

import sqlalchemy as sa
import sqlalchemy.ext.asyncio as sa_asyncio

from .measuring import Subject
from .queues import row

_INSERT = sa.insert(row)


class _Clock:
    """Sees tasks begin."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def tick(self) -> None:
        """Note that a task has begun."""
        self._times.append(time.perf_counter())

    def read(self, number: int) -> float:
        """Return how many seconds a number of tasks took, and start anew."""
        times, self._times = self._times, []
        assert len(times) == number, (len(times), number)
        return (times[-1] - times[0]) * number / (number - 1)


def procrastinate_inserting(url: str) -> dict[str, Subject]:
    """Return the workers of Procrastinate that insert a row in each task.

    One runs tasks as functions one after the other, one as coroutines ten at a time;
    and both remove what is done.
    """
    try:
        import procrastinate
    except ImportError:
        print("  procrastinate is not installed: pip install procrastinate")
        return {}
    logging.disable(logging.WARNING)
    _create(url)
    clock, engine = _Clock(), sa.create_engine(url)
    engines: list[sa_asyncio.AsyncEngine] = []
    connector = procrastinate.PsycopgConnector(conninfo=_plain(url))
    queue = procrastinate.App(connector=connector)
    with queue.open():
        queue.schema_manager.apply_schema()

    @queue.task(queue="sync")
    def insert(number: int) -> None:
        clock.tick()
        with engine.begin() as connection:
            connection.execute(_INSERT, {"number": number})

    @queue.task(queue="async")
    async def insert_async(number: int) -> None:
        clock.tick()
        async with engines[-1].begin() as connection:
            await connection.execute(_INSERT, {"number": number})

    async def run(task: t.Any, concurrency: int, number: int) -> None:
        engines.append(sa_asyncio.create_async_engine(url, pool_size=concurrency))
        async with queue.open_async():
            await task.batch_defer_async(*({"number": n} for n in range(number)))
            await queue.run_worker_async(
                queues=[task.queue],
                concurrency=concurrency,
                wait=False,
                delete_jobs="always",
                install_signal_handlers=False,
            )
        await engines[-1].dispose()

    def subject(task: t.Any, concurrency: int) -> Subject:
        def turn(number: int) -> float:
            asyncio.run(run(task, concurrency, number))
            return clock.read(number)

        return turn

    return {
        "Procrastinate": subject(insert, 1),
        "Procrastinate, 10 coroutines": subject(insert_async, 10),
    }


def pgqueuer(url: str) -> dict[str, Subject]:
    """Return the worker of PgQueuer, which takes ten messages at once."""
    try:
        import asyncpg
        import pgqueuer
        from pgqueuer.db import AsyncpgDriver
        from pgqueuer.types import QueueExecutionMode
    except ImportError:
        print("  pgqueuer is not installed: pip install pgqueuer asyncpg")
        return {}
    logging.disable(logging.WARNING)
    plain = _plain(url)
    command = [sys.executable, "-m", "pgqueuer", "--pg-dsn", plain, "install"]
    subprocess.run(command, check=True, capture_output=True)
    clock = _Clock()

    async def run(number: int) -> None:
        connection = await asyncpg.connect(plain)
        queue = pgqueuer.PgQueuer(AsyncpgDriver(connection))

        @queue.entrypoint("ignore")
        async def ignore(job: t.Any) -> None:
            clock.tick()

        names, bodies = ["ignore"] * number, [b'{"number": 1}'] * number
        await queue.qm.queries.enqueue(names, bodies, [0] * number)
        await queue.run(batch_size=10, mode=QueueExecutionMode.drain)
        await connection.close()

    def turn(number: int) -> float:
        _loop()(run(number))
        return clock.read(number)

    return {"PgQueuer, batch of ten": turn}


def _loop() -> Callable[[t.Any], None]:
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return t.cast("Callable[[t.Any], None]", uvloop.run)


def _create(url: str) -> None:
    engine = sa.create_engine(url)
    row.metadata.create_all(engine)
    engine.dispose()


def _plain(url: str) -> str:
    plain = sa.make_url(url).set(drivername="postgresql")
    return plain.render_as_string(hide_password=False)
