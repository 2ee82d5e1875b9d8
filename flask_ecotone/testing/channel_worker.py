"""A worker of a contract: it takes messages from all sources of a channel."""

from __future__ import annotations

import time
import typing as t
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextlib import nullcontext
from dataclasses import dataclass

from ..channels.protocols import Channel
from ..channels.protocols import ChannelStatus
from ..channels.protocols import Delivery
from ..channels.protocols import Envelope
from ..channels.protocols import Source

#: Seconds that a contract waits for a message before it says that there is none.
PATIENCE: t.Final = 30.0


#: Tells one source of a channel from the others: its channel and its tenant.
Place: t.TypeAlias = tuple[str, str | None]


class Claim(t.NamedTuple):
    """A delivery, and the source it was claimed from."""

    source: Source
    delivery: Delivery

    @property
    def place(self) -> Place:
        """Which source it is. A channel may make its sources anew each time."""
        return self.source.channel, self.source.tenant


class ChannelHooks:
    """What a contract must know about a channel; see :class:`ChannelContract`."""

    #: Seconds that a delayed message is delayed: more than sending and claiming take.
    delay: float = 0.5
    #: How many messages are many.
    many: int = 10_000

    def open_channel(self) -> Channel:
        """Return an empty channel."""
        raise NotImplementedError(
            f"{type(self).__name__} doesn't say which channel to test. Give it a method"
            " open_channel() that returns an empty one."
        )

    def now(self) -> float:
        """Return the time in seconds since the epoch, by the clock of the channel."""
        return time.time()

    def wait(self, seconds: float) -> None:
        """Let time go by, by the clock of the channel."""
        time.sleep(seconds)

    def worker(self) -> AbstractContextManager[t.Any]:
        """Surround what one thread does, for example with an app context."""
        return nullcontext()

    def transaction(self) -> AbstractContextManager[t.Any]:
        """Surround what is to be committed, or rolled back if it fails."""
        return nullcontext()


@dataclass(frozen=True, slots=True)
class ChannelWorker:
    """Sends to a channel, and takes from its sources what was sent."""

    hooks: ChannelHooks
    channel: Channel

    def send(self, *envelopes: Envelope) -> None:
        """Send messages at once."""
        with self.hooks.transaction():
            self.channel.send(envelopes)

    def claim(self, limit: int) -> list[Claim]:
        """Claim what is ready now."""
        claimed: list[Claim] = []
        for source in self.channel.sources():
            source.recover()
            if len(claimed) < limit:
                found = source.claim(limit - len(claimed))
                claimed += [Claim(source, delivery) for delivery in found]
        return claimed

    def take(self, count: int) -> list[Claim]:
        """Claim so many messages, and wait for those that aren't due yet."""
        claimed: list[Claim] = []
        waited = 0.0
        while len(claimed) < count:
            found = self.claim(count - len(claimed))
            claimed += found
            if not found:
                assert waited < PATIENCE, f"got {len(claimed)} of {count} messages"
                pause = min(max(self.next_due() or 0.0, 0.01), 1.0)
                self.hooks.wait(pause)
                waited += pause
        return claimed

    def take_one(self) -> Claim:
        """Claim one message, and wait for it."""
        (claim,) = self.take(1)
        return claim

    def drain(self, limit: int, each: Callable[[Claim], object]) -> None:
        """Claim and acknowledge until nothing is ready."""
        while claimed := self.claim(limit):
            for claim in claimed:
                each(claim)
            self.acknowledge(claimed)

    def acknowledge(self, claimed: list[Claim]) -> None:
        """Acknowledge what was claimed."""
        by_place: dict[Place, list[Claim]] = {}
        for claim in claimed:
            by_place.setdefault(claim.place, []).append(claim)
        for claims in by_place.values():
            with self.hooks.transaction():
                claims[0].source.acknowledge([claim.delivery for claim in claims])

    def lose(self, source: Source) -> None:
        """Let the claims on a source become void, as if their worker was killed."""
        self.hooks.wait(source.lease + 0.05)
        source.recover()

    def next_due(self) -> float | None:
        """Return in how many seconds a source has something."""
        found = [source.next_due() for source in self.channel.sources()]
        return min((due for due in found if due is not None), default=None)

    def status(self) -> ChannelStatus:
        """Return what lies in all sources."""
        found = [source.status() for source in self.channel.sources()]
        ages = [each.oldest_age for each in found if each.oldest_age is not None]
        return ChannelStatus(
            ready=sum(each.ready for each in found),
            in_flight=sum(each.in_flight for each in found),
            delayed=sum(each.delayed for each in found),
            oldest_age=max(ages, default=None),
        )

    def counts(self) -> tuple[int, int, int]:
        """Return how many messages are ready, in flight and delayed."""
        status = self.status()
        return status.ready, status.in_flight, status.delayed
