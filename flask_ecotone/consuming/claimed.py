"""What a worker has claimed, and how far it has come with that."""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass
from dataclasses import field

from ..channels.protocols import Delivery
from ..channels.protocols import Source
from ..system.endpoint import Endpoint


@dataclass(frozen=True, slots=True)
class Failed:
    """A delivery that failed; what was done for it is rolled back.

    :param may_retry: Whether another attempt could end otherwise.
    :param at: When it failed, in seconds of the monotonic clock.
    """

    delivery: Delivery
    endpoint: Endpoint | None
    error: BaseException
    may_retry: bool = True
    at: float = field(default_factory=time.monotonic)

    @property
    def has_begun(self) -> bool:
        """Whether its handler was called; what can't be read comes to none."""
        return self.endpoint is not None and self.may_retry


@dataclass(slots=True)
class Together:
    """What became of deliveries that were to share a transaction.

    :param handled: Those that were handled: that is committed.
    :param failed: Those that failed for good, so far as a handler can.
    :param alone: Those that are to be handled each for itself.
    :param is_over: Whether those that follow are, too: what comes first is repeated.
    """

    handled: list[Delivery] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    alone: list[Delivery] = field(default_factory=list)
    is_over: bool = False

    @property
    def count(self) -> int:
        """How many were begun."""
        return len(self.handled) + len(self.failed) + len(self.alone)


@dataclass(slots=True)
class Claimed:
    """The deliveries of a claim.

    :param waiting: Those that nothing was done with yet.
    :param finished: Those that were handled apart from their message, which is still to
        be removed.
    :param failed: Those whose failure is still to be seen to.
    :param handled: The positions of those that were handled already.
    """

    source: Source
    waiting: list[Delivery]
    finished: list[Delivery] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    handled: set[t.Any] = field(default_factory=set)

    def take_back_failures(self) -> None:
        """Have those that failed wait once more, as if nothing had been done."""
        self.waiting.extend(each.delivery for each in self.failed)
        self.failed.clear()
