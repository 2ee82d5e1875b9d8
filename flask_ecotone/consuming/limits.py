"""When a worker stops by itself, and what it has done until then."""

from __future__ import annotations

import os
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field

resource: types.ModuleType | None
try:
    import resource
except ImportError:  # Windows has none
    resource = None

#: Where Linux says how much memory the process has, in pages.
_STATM = "/proc/self/statm"
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a worker stops by itself; the first limit that is reached counts.

    :param handled: After so many messages; 0 for no limit.
    :param execution_time: After so many seconds.
    :param memory: When the process has so many megabytes, where that can be measured.
    :param stops_on_failure: When a message fails.
    :param finishes_when_empty: When a whole round found nothing.
    """

    handled: int = 0
    execution_time: float = 0
    memory: int = 0
    stops_on_failure: bool = False
    finishes_when_empty: bool = False


@dataclass(slots=True)
class Outcome:
    """What a worker has done."""

    handled: int = 0
    failed: int = 0
    reason: str = ""
    #: Whether it was stopped by a message that failed for good.
    is_broken_off: bool = False
    #: How many messages its threads are at, or may claim.
    reserved: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, *, is_success: bool) -> None:
        """Count a message."""
        with self.lock:
            if is_success:
                self.handled += 1
            else:
                self.failed += 1

    def left(self, limit: int) -> int:
        """Return how many messages a limit leaves, those in work counted as done."""
        return limit - self.handled - self.failed - self.reserved

    @contextmanager
    def reserving(self, wanted: int, limit: int) -> Iterator[int]:
        """Reserve messages, and yield how many may be claimed.

        :param limit: How many all threads together may handle; 0 for no limit.
        """
        if not limit:
            yield wanted
            return
        with self.lock:
            number = max(0, min(wanted, self.left(limit)))
            self.reserved += number
        try:
            yield number
        finally:
            with self.lock:
                self.reserved -= number


def resident_megabytes() -> float | None:
    """Return how much memory the process has; ``None`` where nobody says.

    On Linux it is what the process has just now. Other systems with ``getrusage`` tell
    the most that it ever had, which seldom is much more: memory hardly goes back to the
    system.
    """
    try:
        with open(_STATM) as file:
            return int(file.read().split()[1]) * _PAGE / 1_048_576
    except (OSError, ValueError, IndexError):
        pass
    if resource is None:
        return None
    peak: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1_048_576 if sys.platform == "darwin" else 1024)
