"""Wakes a worker when PostgreSQL says that there are messages."""

from __future__ import annotations

import select
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from logging import Logger

import sqlalchemy as sa

from ..storage.failures import told
from .background import BackgroundThread
from .inserting import NOTIFICATION

if t.TYPE_CHECKING:
    from .protocols import Source

_CHECK = 1.0
_RETRY = 2.0
#: Each takes a connection for itself. Who has more databases than that looks by itself.
_MOST: t.Final = 20


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
        self._has_failed = False
        self._thread = BackgroundThread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def end(self) -> None:
        """Stop listening, soon."""
        self._ended.set()

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._listen()
            except Exception as error:
                if not self._has_failed:
                    self._log.warning(
                        "No notifications of %r until it works again: %s",
                        self._engine.url,
                        told(error),
                    )
                self._has_failed = True
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
            self._has_failed = False
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


class Listeners:
    """Listens to the databases of all tenants, as they come and go.

    :param names: The channels of interest.
    :param wake: Called when one of them got messages.
    """

    def __init__(
        self, names: Iterable[str], wake: Callable[[], None], logger: Logger
    ) -> None:
        self._names = tuple(names)
        self._wake = wake
        self._log = logger
        self._known: Sequence[Source] = ()
        self._running: dict[str, Listener] = {}

    def follow(self, sources: Sequence[Source]) -> bool:
        """Listen where sources are; return whether all of them tell of messages."""
        if sources == self._known:
            return True
        self._known = sources
        found = [_engine_of(source) for source in sources]
        engines = {str(each.url): each for each in found if each is not None}
        is_all = None not in found and len(engines) <= _MOST
        if len(engines) > _MOST:
            engines = {}
        for url in [url for url in self._running if url not in engines]:
            self._running.pop(url).end()
        for url in [url for url in engines if url not in self._running]:
            listener = Listener(engines[url], self._names, self._wake, self._log)
            self._running[url] = listener
            listener.start()
        return is_all

    def close(self) -> None:
        """Stop listening."""
        for listener in self._running.values():
            listener.end()
        for listener in self._running.values():
            listener.join()


def _engine_of(source: Source) -> sa.Engine | None:
    try:
        engine = getattr(source, "engine", None)
    except Exception:
        return None  # the worker will be told, too
    return engine if engine is not None and can_listen(engine) else None
