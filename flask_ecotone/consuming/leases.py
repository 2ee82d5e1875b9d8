"""Extends the leases of messages that a worker still works on."""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Iterable
from logging import Logger

from ..channels.background import BackgroundThread
from ..channels.protocols import Delivery
from ..channels.protocols import Source


class Leases:
    """A thread that tells sources that the worker lives."""

    def __init__(self, logger: Logger) -> None:
        self._log = logger
        self._held: dict[int, tuple[Source, Delivery]] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def hold(self, source: Source, deliveries: Iterable[Delivery]) -> None:
        """Extend the leases of messages from now on."""
        with self._lock:
            for delivery in deliveries:
                self._held[id(delivery)] = source, delivery
        if self._thread is None:
            self._thread = BackgroundThread(
                target=self._run, args=[source.lease / 3], daemon=True
            )
            self._thread.start()

    def drop(self, *deliveries: Delivery) -> None:
        """Extend the leases of messages no longer."""
        with self._lock:
            for delivery in deliveries:
                self._held.pop(id(delivery), None)

    def _run(self, interval: float) -> None:
        while not self._ended.wait(interval):
            by_source: dict[int, tuple[Source, list[Delivery]]] = {}
            with self._lock:
                for source, delivery in self._held.values():
                    by_source.setdefault(id(source), (source, []))[1].append(delivery)
            for source, deliveries in by_source.values():
                try:
                    source.extend(deliveries)
                except Exception as error:
                    # The lease may still last until the next time.
                    self._log.warning(
                        "The lease of %d messages of %r could not be extended: %s",
                        len(deliveries),
                        source.channel,
                        error,
                    )
