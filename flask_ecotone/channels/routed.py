"""A channel that hands on to other channels what it is sent."""

from __future__ import annotations

import itertools
import logging
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from dataclasses import field
from functools import reduce
from operator import and_

from .abilities import ALL_ABILITIES
from .abilities import lacking
from .abilities import refuse_unable
from .protocols import Capability
from .protocols import Channel
from .protocols import ChannelStatus
from .protocols import deliver
from .protocols import Delivery
from .protocols import Distributing
from .protocols import Envelope
from .protocols import FinalFailure
from .protocols import NULL_CHANNEL
from .protocols import Post
from .protocols import Source
from .routes import Admission
from .routes import Route


@dataclass(frozen=True, slots=True, eq=False)
class RoutedChannel(Distributing):
    """The channel that :class:`~flask_ecotone.channels.DynamicChannel` opens.

    :param name: The name of the channel.
    :param sending: The names of the channels that it may send to.
    :param receiving: The names of the channels that its worker takes messages from.
    :param find: Returns one of the channels by its name.
    :param route: Chooses where an envelope goes.
    :param admission: Decides which channels are asked for messages; ``None``: all.
    """

    name: str
    sending: Sequence[str]
    receiving: Sequence[str]
    find: Callable[[str], Channel]
    route: Route
    admission: Admission | None
    logger: logging.Logger
    _rounds: Iterator[int] = field(default_factory=itertools.count)

    @property
    def capabilities(self) -> Capability:
        """What all the channels that it sends to can do.

        Messages in several channels overtake each other. Where a header names the
        channel, it is known only then what that can do.
        """
        able = [self.find(name).capabilities for name in self.sending]
        common = reduce(and_, able) if able else ALL_ABILITIES
        return common & ~Capability.ORDERED if len(able) > 1 else common

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Hand on messages.

        All of them are routed before the first one is sent.

        :raises MessageDeliveryError: There is no channel for one of them, or it can't
            do what the message asks for.
        """
        deliver(self.distributed(envelopes))

    def distributed(self, envelopes: Sequence[Envelope]) -> list[Post]:
        """Return messages with the channels that they go to."""
        chosen: dict[str, list[Envelope]] = {}
        for envelope in envelopes:
            for name in self.route(envelope):
                if name is None or name == NULL_CHANNEL:
                    self._drop(envelope)
                else:
                    chosen.setdefault(name, []).append(envelope)
        posts: list[Post] = []
        for name, each in chosen.items():
            channel = self.find(name)
            lacks = lacking([channel])
            for envelope in each if lacks else ():
                refuse_unable(envelope, lacks)
            posts.extend((channel, envelope) for envelope in each)
        return posts

    def sources(self) -> Sequence[Source]:
        """Return where the messages are, each time beginning with another channel."""
        if not self.receiving:
            return ()
        start = next(self._rounds) % len(self.receiving)
        names = [*self.receiving[start:], *self.receiving[:start]]
        return [source for name in names for source in self._sources_of(name)]

    def _sources_of(self, name: str) -> Sequence[Source]:
        sources = self.find(name).sources()
        if self.admission is None:
            return sources
        count = len(sources)
        return [GatedSource(each, name, count, self.admission) for each in sources]

    def _drop(self, envelope: Envelope) -> None:
        self.logger.info(
            "Dropped the message %s for %s: the channel %r sends it nowhere (%s).",
            envelope.message_id,
            envelope.endpoint_id,
            self.name,
            NULL_CHANNEL,
        )


def members_of(channel: Channel, is_received: bool) -> Iterator[Channel]:
    """Yield the channels that a dynamic one is made of in the end; else the channel.

    :param is_received: Only those that a worker takes messages from.
    """
    if not isinstance(channel, RoutedChannel):
        yield channel
        return
    sending = () if is_received else channel.sending
    for name in dict.fromkeys([*sending, *channel.receiving]):
        yield from members_of(channel.find(name), is_received)


@dataclass(frozen=True, slots=True)
class GatedSource:
    """A source that has nothing to give while it isn't admitted.

    :param source: The source itself.
    :param name: The name of its channel in the dynamic channel.
    :param siblings: How many sources the channel has, this one included.
    """

    source: Source
    name: str
    siblings: int
    admission: Admission

    @property
    def channel(self) -> str:
        """The name of the channel."""
        return self.source.channel

    @property
    def tenant(self) -> str | None:
        """Whose database it is."""
        return self.source.tenant

    @property
    def capabilities(self) -> Capability:
        """What it can do."""
        return self.source.capabilities

    @property
    def batch(self) -> int:
        """How many messages to claim at once."""
        return self.source.batch

    @property
    def lease(self) -> float:
        """Seconds after which a claim is void."""
        return self.source.lease

    @property
    def max_deliveries(self) -> int:
        """How often a message may be claimed."""
        return self.source.max_deliveries

    @property
    def is_batched(self) -> bool:
        """Whether the messages of a claim are handled in one transaction."""
        return self.source.is_batched

    @property
    def on_exhausted(self) -> FinalFailure | None:
        """What becomes of messages that failed for good."""
        return self.source.on_exhausted

    def claim(self, limit: int) -> Sequence[Delivery]:
        """Claim ready messages, or none while the channel isn't admitted."""
        if not self.admission.admits(self.name):
            return []
        deliveries = self.source.claim(limit)
        if not deliveries:
            self.admission.was_empty(self.name, self.tenant, self.siblings)
        return deliveries

    def next_due(self) -> float | None:
        """Return when to look again; a closed channel isn't worth a look earlier."""
        closed = self.admission.closed_for(self.name)
        return self.source.next_due() if closed is None else closed

    def recover(self) -> None:
        """Make ready what is due."""
        self.source.recover()

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Extend the lease of messages."""
        self.source.extend(deliveries)

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages that were handled."""
        self.source.acknowledge(deliveries)

    def settle(self, delivery: Delivery) -> bool:
        """Remove a message and note that it was handled."""
        return self.source.settle(delivery)

    def note(self, delivery: Delivery) -> bool:
        """Note that a message is handled."""
        return self.source.note(delivery)

    def settle_all(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages and note that they were handled."""
        self.source.settle_all(deliveries)

    def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give back messages that nothing was done with."""
        self.source.release(deliveries)

    def requeue(self, delivery: Delivery, envelope: Envelope) -> None:
        """Put a message back, changed, behind the others."""
        self.source.requeue(delivery, envelope)

    def at_once(self) -> AbstractContextManager[None]:
        """Have messages put back or given up all at once."""
        return self.source.at_once()

    def discard(self, delivery: Delivery) -> None:
        """Remove a message that is given up."""
        self.source.discard(delivery)

    def handled_before(self, deliveries: Sequence[Delivery]) -> set[t.Any]:
        """Return the positions of those messages that were handled already."""
        return self.source.handled_before(deliveries)

    def finish(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages and note them as handled."""
        self.source.finish(deliveries)

    def status(self) -> ChannelStatus:
        """Return what lies in the source."""
        return self.source.status()

    def purge(self) -> int:
        """Remove everything."""
        return self.source.purge()
