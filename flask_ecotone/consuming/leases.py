"""Extends the leases of messages that a worker still works on."""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Iterable
from logging import Logger

from ..channels.background import BackgroundThread
from ..channels.protocols import Delivery
from ..channels.protocols import Source
from ..storage.failures import told


class Leases:
    """A thread that tells sources that the worker lives."""

    def __init__(self, logger: Logger) -> None:
        self._log = logger
        self._held: dict[int, tuple[Source, Delivery]] = {}
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._is_over = False
        self._interval = 0.0
        self._thread: threading.Thread | None = None

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over = True
        self._changed.set()
        if self._thread is not None:
            self._thread.join()

    def hold(self, source: Source, deliveries: Iterable[Delivery]) -> None:
        """Extend the leases of messages from now on."""
        with self._lock:
            for delivery in deliveries:
                self._held[id(delivery)] = source, delivery
        interval = source.lease / 3
        if self._thread is None:
            self._interval = interval
            self._thread = BackgroundThread(target=self._run, daemon=True)
            self._thread.start()
        elif interval < self._interval:
            # It must not sleep through a lease that is shorter than those before.
            self._interval = interval
            self._changed.set()

    def drop(self, *deliveries: Delivery) -> None:
        """Extend the leases of messages no longer."""
        with self._lock:
            for delivery in deliveries:
                self._held.pop(id(delivery), None)

    def _run(self) -> None:
        while not self._is_over:
            if self._changed.wait(self._interval):
                self._changed.clear()
                continue
            self._extend()

    def _extend(self) -> None:
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
                    told(error),
                )
