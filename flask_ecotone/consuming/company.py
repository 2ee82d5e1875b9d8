"""Which threads of a worker process may work at the same time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Company:
    """Lets threads work side by side, but for one that handles a suspect.

    If the process ends then, that message was to blame, and none that another thread
    was handling.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working = 0
        self._suspects = 0
        self._is_alone = False

    @contextmanager
    def of(self, *, is_suspect: bool) -> Iterator[None]:
        """Work in company, or wait until all others are done and work alone."""
        with self._changed:
            self._enter_alone() if is_suspect else self._enter()
        try:
            yield
        finally:
            with self._changed:
                self._working -= 1
                self._is_alone = False
                self._changed.notify_all()

    def _enter(self) -> None:
        # Who waits to be alone goes first: the others would never all be done.
        self._changed.wait_for(lambda: not self._is_alone and not self._suspects)
        self._working += 1

    def _enter_alone(self) -> None:
        self._suspects += 1
        try:
            self._changed.wait_for(lambda: not self._working)
        finally:
            self._suspects -= 1
        self._working, self._is_alone = 1, True
