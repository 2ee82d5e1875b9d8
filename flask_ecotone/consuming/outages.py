"""Databases that a worker can't reach, while it goes on with the others."""

from __future__ import annotations

import random
import time
import typing as t
from dataclasses import dataclass
from logging import Logger

from ..storage.failures import told
from ..storage.failures import values_hidden
from ..tenancy.tenants import shown
from .environment import OutageError

if t.TYPE_CHECKING:
    from ..channels.protocols import Source

#: What a worker does besides taking messages from sources.
SCHEDULES: t.Final = "schedules"
LISTING: t.Final = "listing"
_NAMES: t.Final = frozenset({(SCHEDULES, None), (LISTING, None)})

_LONGEST_BACKOFF = 5.0
#: How much longer than an attempt the pause after it is, and its limit.
_PATIENCE = 4
_LONGEST_PAUSE = 60.0


@dataclass(slots=True)
class _Outage:
    failures: int = 0
    again_at: float = 0.0


class Outages:
    """Says which sources are to be left alone for now.

    All channels in the database of a tenant share its outage. What isn't a source has
    a name.
    """

    def __init__(self, logger: Logger) -> None:
        self._log = logger
        self._found: dict[t.Hashable, _Outage] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def is_pending(self, source: Source | str) -> bool:
        """Whether a source isn't to be asked yet."""
        if not self._found:
            return False
        outage = self._found.get(_key(source))
        return outage is not None and time.monotonic() < outage.again_at

    def begin(self, source: Source | str, error: Exception, took: float = 0.0) -> None:
        """Leave a source alone, the longer the more often it failed in a row.

        :param took: Seconds for which others have waited until a claim failed. If they
            are many it is seldom tried.
        """
        outage = self._found.setdefault(_key(source), _Outage())
        outage.failures += 1
        wait = lengthening(outage.failures) + min(_LONGEST_PAUSE, _PATIENCE * took)
        outage.again_at = time.monotonic() + wait
        is_outage = isinstance(error, OutageError)
        with values_hidden(error):
            self._log.warning(
                "%s %s; trying again in %.1f s (%s).",
                _name(source),
                "is gone" if is_outage else "can't be worked with",
                wait,
                told(error),
                exc_info=None if is_outage else error,
            )

    def end(self, source: Source | str) -> None:
        """Note that a source answers."""
        if self._found and self._found.pop(_key(source), None) is not None:
            self._log.info("%s is back.", _name(source))

    def keep(self, sources: t.Iterable[Source]) -> None:
        """Forget those of sources that aren't there any more."""
        if self._found:
            keys = set(map(_key, sources))
            gone = [k for k in self._found if k not in keys and k not in _NAMES]
            for key in gone:
                del self._found[key]

    def next_try(self) -> float | None:
        """Return in how many seconds one of them is asked again, if there are any."""
        if not self._found:
            return None
        first = min(outage.again_at for outage in self._found.values())
        return max(0.0, first - time.monotonic())


def lengthening(times: int) -> float:
    """Return how many seconds to wait, longer each time, and partly up to chance."""
    wait = min(_LONGEST_BACKOFF, 0.1 * 2.0 ** min(times, 10))
    return wait * (0.5 + random.random() / 2)


def _key(source: Source | str) -> t.Hashable:
    if isinstance(source, str):
        return source, None
    return source.tenant or (source.channel,)


def _name(source: Source | str) -> str:
    if isinstance(source, str) or source.tenant is None:
        return "The database"
    return f"The database of the tenant `{shown(source.tenant)}`"
