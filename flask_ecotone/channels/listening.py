"""Wakes a worker when PostgreSQL says that there are messages."""

from __future__ import annotations

import select
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from logging import Logger

import sqlalchemy as sa

from .background import BackgroundThread
from .database import NOTIFICATION

_CHECK = 1.0
_RETRY = 2.0


def can_listen(engine: sa.Engine) -> bool:
    """Whether the database of an engine tells about messages."""
    return engine.dialect.name == "postgresql" and engine.dialect.driver == "psycopg"


class Listener:
    """A thread with a connection of its own that waits for notifications.

    Whoever waits also looks by itself now and then: a notification may be lost with the
    connection, or never come through a pooler of transactions.

    :param names: The channels of interest.
    :param wake: Called when one of them got messages.
    """

    def __init__(
        self,
        engine: sa.Engine,
        names: Iterable[str],
        wake: Callable[[], None],
        logger: Logger,
    ) -> None:
        self._engine = engine
        self._names = frozenset(names)
        self._wake = wake
        self._log = logger
        self._ended = threading.Event()
        self._thread = BackgroundThread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, and wait for the end of the thread."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._listen()
            except Exception as error:
                self._log.warning("No notifications until it works again: %s", error)
                self._ended.wait(_RETRY)

    def _listen(self) -> None:
        pooled = self._engine.raw_connection()
        driver = t.cast(t.Any, pooled.driver_connection)
        # It is never given back: the pool must not hand out one that listens.
        pooled.detach()
        try:
            driver.rollback()
            driver.autocommit = True
            driver.execute(f"LISTEN {NOTIFICATION}")
            # What came before it listened has nobody told about.
            self._wake()
            while not self._ended.is_set():
                readable, _, _ = select.select([driver.fileno()], [], [], _CHECK)
                if readable:
                    self._read(driver.pgconn)
        finally:
            driver.close()

    def _read(self, connection: t.Any) -> None:
        connection.consume_input()
        while (notification := connection.notifies()) is not None:
            if notification.extra.decode() in self._names:
                self._wake()
