"""Which threads of a worker process may work at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager

from ..channels.protocols import Delivery

Deliveries = Sequence[Delivery]


class Company:
    """Lets threads work side by side, but for one that handles a suspect.

    If the process ends then, that message was to blame, and no other one that a thread
    had claimed.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._changed = threading.Condition()
        self._working = 0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work beside others."""
        with self._turn:
            self._begin()
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def claiming(
        self,
        claim: Callable[[], Deliveries],
        give_back: Callable[[Deliveries], None],
    ) -> Iterator[Deliveries]:
        """Claim, and be alone with a suspect as long as it is handled.

        :param give_back: Gives back a suspect: it is claimed only when the others are
            done, as it would be blamed if one of them ended the process.
        """
        with self._turn:
            claimed = claim()
            if _is_suspect(claimed) and self._working:
                give_back(claimed)
                with self._changed:
                    self._changed.wait_for(lambda: not self._working)
                claimed = claim()
            if _is_suspect(claimed):
                yield claimed
                return
            self._begin()
        try:
            yield claimed
        finally:
            self._end()

    def _begin(self) -> None:
        with self._changed:
            self._working += 1

    def _end(self) -> None:
        with self._changed:
            self._working -= 1
            self._changed.notify_all()


def _is_suspect(claimed: Deliveries) -> bool:
    return any(delivery.attempts for delivery in claimed)
