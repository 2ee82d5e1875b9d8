"""Tenants that a function tells, for those who go through all of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from collections.abc import Iterable
from contextlib import AbstractContextManager

#: Seconds for which an answer is good: a worker asks in each of its rounds.
_GOOD_FOR = 1.0


class Listing:
    """Asks a function for the tenants, now and then.

    :param ask: Returns the tenants.
    :param context: Makes the app context of a question, so that its session ends with
        it.
    """

    def __init__(
        self,
        ask: Callable[[], Iterable[object]],
        context: Callable[[], AbstractContextManager[object]],
        logger: logging.Logger,
    ) -> None:
        self._ask = ask
        self._context = context
        self._log = logger
        self._known: tuple[str, ...] | None = None
        self._again_at = 0.0

    def __call__(self) -> tuple[str, ...]:
        """Return the tenants; if they can't be found out, those known before."""
        now = time.monotonic()
        if self._known is None or now >= self._again_at:
            try:
                with self._context():
                    self._known = tuple(map(str, self._ask()))
            except Exception as error:
                if self._known is None:
                    raise
                self._log.warning(
                    "The tenants can't be listed, so those of before stay: %s", error
                )
            self._again_at = now + _GOOD_FOR
        return self._known
