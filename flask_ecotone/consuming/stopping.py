"""How a worker that waits is told of what changed, by signals and other threads."""

from __future__ import annotations

import threading
from queue import Empty
from queue import SimpleQueue


class Stopping:
    """Asks a worker to stop, from a signal handler or another thread.

    A signal handler runs in the midst of what its thread does. If that is just about to
    wait, and holds the lock of an event, whoever sets the event there waits for ever.
    A simple queue has no such lock.
    """

    def __init__(self) -> None:
        self.is_requested = False
        #: One for each thread that ever waited.
        self._bells: list[SimpleQueue[None]] = []
        self._own = threading.local()

    def request(self) -> None:
        """Ask the worker to stop after the message at hand."""
        self.is_requested = True
        self.wake()

    def wake(self) -> None:
        """Let workers that wait look for messages now, and others when they would."""
        for bell in self._bells:
            if bell.empty():
                bell.put(None)

    def wait(self, seconds: float) -> bool:
        """Wait for a time in seconds, and return whether something changed before."""
        bell = self._bell()
        if self.is_requested:
            return True
        try:
            bell.get(timeout=seconds)
        except Empty:
            return False
        return True

    def _bell(self) -> SimpleQueue[None]:
        bell: SimpleQueue[None] | None = getattr(self._own, "bell", None)
        if bell is None:
            bell = self._own.bell = SimpleQueue()
            self._bells.append(bell)
        return bell
