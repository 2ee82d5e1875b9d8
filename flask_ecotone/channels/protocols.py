"""What the rooms nearer to the door know of channels.

A *channel* is what is sent to. A *source* is where a worker takes messages of a channel
from: one for each database that the channel has messages in. Both speak of envelopes,
which are messages in writing.
"""

from __future__ import annotations

import abc
import enum
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from dataclasses import replace
from itertools import groupby

from ..errors import ConfigurationError
from ..errors import did_you_mean
from ..message import Message

if t.TYPE_CHECKING:
    import sqlalchemy as sa

#: Where a failed message is given up without a word.
NULL_CHANNEL: t.Final = "nullChannel"
#: Where a failed message waits until somebody decides.
DEAD_LETTER_CHANNEL: t.Final = "dead_letter"


class Capability(enum.Flag):
    """What a channel can do with a message besides handing it on."""

    NONE = 0
    #: It hands a message out once its delay is over.
    DELAY = enum.auto()
    #: It hands out more important messages first.
    PRIORITY = enum.auto()
    #: It gives up messages that nobody took in time.
    TIME_TO_LIVE = enum.auto()
    #: It takes many messages at once for hardly more than one.
    BATCH = enum.auto()
    #: It hands out messages of one priority in the order they were sent.
    ORDERED = enum.auto()
    #: It sends and acknowledges in the transaction of the session.
    TRANSACTIONAL = enum.auto()


class FinalFailure(enum.StrEnum):
    """What becomes of a message that failed for good and that no error channel takes.

    Nothing but ``IGNORE`` loses it.
    """

    #: It is kept among the dead letters.
    DEAD_LETTER = "dead_letter"
    #: It goes behind the others in its channel, and comes back later each time.
    RESEND = "resend"
    #: It keeps its place, and the worker leaves the channel alone for a while.
    RELEASE = "release"
    #: It is removed, with an error in the log.
    IGNORE = "ignore"
    #: It keeps its place, and the worker stops.
    STOP = "stop"

    @classmethod
    def named(cls, name: str | None, where: str) -> FinalFailure | None:
        """Return the one of a name; ``None`` if there is no name.

        :param where: Who says so, for errors.
        :raises ConfigurationError: There is none.
        """
        if name is None:
            return None
        known = [each.value for each in cls]
        if name not in known:
            raise ConfigurationError(
                f"{where} is {name!r}.{did_you_mean(str(name), known)} It is one of"
                f" {', '.join(known)}."
            )
        return cls(name)


#: The names of the above.
OnExhausted = t.Literal["dead_letter", "resend", "release", "ignore", "stop"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message in writing.

    :param endpoint_id: Whom it is for.
    :param message_id: The id of the message; copies for several endpoints share it.
    :param body: The payload.
    :param headers: The headers, a JSON object.
    :param delay: Milliseconds after which it may be handed out.
    :param due_at: When it may be handed out, in milliseconds since the epoch; in place
        of a delay.
    :param time_to_live: Milliseconds after which nobody needs it any more, from when it
        may be handed out.
    :param priority: Higher is handed out earlier.
    :param expires_at: When nobody needs it any more, in milliseconds since the epoch;
        in place of a time to live. What was claimed has this one: put back, or sent on,
        a message lives no longer.
    """

    endpoint_id: str
    message_id: str
    body: bytes
    headers: str
    delay: int = 0
    due_at: int | None = None
    time_to_live: int | None = None
    priority: int = 0
    expires_at: int | None = None

    @property
    def needs(self) -> Capability:
        """What a channel must be able to do for it."""
        found = Capability.NONE
        if self.delay > 0 or self.due_at is not None:
            found |= Capability.DELAY
        if self.time_to_live is not None or self.expires_at is not None:
            found |= Capability.TIME_TO_LIVE
        if self.priority:
            found |= Capability.PRIORITY
        return found

    def postponed(self, delay: int, headers: str | None = None) -> Envelope:
        """Return the same message, due after a delay in milliseconds."""
        written = self.headers if headers is None else headers
        return replace(self, delay=delay, due_at=None, headers=written)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that a worker has claimed.

    :param envelope: The message.
    :param position: Where it lies in its source.
    :param token: Shows that the claim is still ours.
    :param attempts: How many workers disappeared with it.
    :param claimed_at: When, in milliseconds since the epoch, if its source has a clock.
    """

    envelope: Envelope
    position: t.Any
    token: str
    attempts: int
    claimed_at: int | None = None


@dataclass(frozen=True, slots=True)
class ChannelStatus:
    """What lies in a source just now.

    :param oldest_age: Seconds that the oldest ready message has waited.
    """

    ready: int = 0
    in_flight: int = 0
    delayed: int = 0
    oldest_age: float | None = None


class Origin(t.Protocol):
    """Where a message was that failed: all that is done with it then begins here."""

    @property
    def channel(self) -> str:
        """The name of the channel, or of the bus that waits for its handlers."""
        ...

    @property
    def tenant(self) -> str | None:
        """Whose database it is; ``None`` for the default one and without tenants."""
        ...

    @property
    def capabilities(self) -> Capability:
        """What it can do."""
        ...

    @property
    def on_exhausted(self) -> FinalFailure | None:
        """What becomes of messages that failed for good; ``None``: as elsewhere."""
        ...

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages that were handled: if it can, along with the session.

        :raises LeaseLostError: One of them isn't ours any more.
        """
        ...

    def requeue(self, delivery: Delivery, envelope: Envelope) -> None:
        """Put a message back, changed, behind the others; at once or not at all.

        :raises LeaseLostError: It isn't ours any more.
        """
        ...

    def discard(self, delivery: Delivery) -> None:
        """Remove a message that is given up; as :meth:`acknowledge` does."""
        ...


class Source(Origin, t.Protocol):
    """Where a worker takes the messages of a channel from."""

    @property
    def batch(self) -> int:
        """How many messages to claim at once."""
        ...

    @property
    def lease(self) -> float:
        """Seconds after which a claim that isn't extended is void."""
        ...

    @property
    def max_deliveries(self) -> int:
        """How many workers may disappear with a message before it is to blame.

        The first may have disappeared with another one that it was claimed with.
        """
        ...

    @property
    def is_batched(self) -> bool:
        """Whether the messages of a claim are to be handled in one transaction.

        Only a transactional source may say so.
        """
        ...

    def claim(self, limit: int) -> Sequence[Delivery]:
        """Claim ready messages and return them, the next one first.

        A message whose worker disappeared is claimed alone, and that is counted as one
        of its attempts. So no other one is blamed if it takes this worker along, too.
        """
        ...

    def recover(self) -> None:
        """Make ready what is due: after a delay, or because its worker disappeared."""
        ...

    def next_due(self) -> float | None:
        """Return in how many seconds something becomes due; ``None`` if nothing."""
        ...

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Extend the lease of messages that are claimed and still worked on."""
        ...

    def settle(self, delivery: Delivery) -> bool:
        """Remove a message and note, in the same transaction, that it was handled.

        :return: Whether it is handled for the first time.
        :raises LeaseLostError: It isn't ours any more.
        """
        ...

    def note(self, delivery: Delivery) -> bool:
        """Note in the transaction of the session that a message is handled.

        Only asked of a source that isn't transactional, which removes the message
        later: then a worker that dies in between doesn't have it handled twice.

        :return: Whether it is handled for the first time, as far as is known.
        """
        ...

    def settle_all(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages and note, in the same transaction, that they were handled.

        Only of a batched source. Raises an exception if one of them was handled
        before or isn't ours any more.
        """
        ...

    def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give back messages that nothing was done with; no attempt is counted."""
        ...

    def at_once(self) -> AbstractContextManager[None]:
        """Have messages put back or given up in a context all at once, if possible.

        One that isn't ours any more is told of, and doesn't concern the others.
        """
        ...

    def handled_before(self, deliveries: Sequence[Delivery]) -> set[t.Any]:
        """Return the positions of those messages that were handled already."""
        ...

    def finish(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages, and note them as handled, in a transaction of its own.

        Those that aren't ours any more are left to who has them.
        """
        ...

    def status(self) -> ChannelStatus:
        """Return what lies in the source."""
        ...

    def purge(self) -> int:
        """Remove everything and return how much it was."""
        ...


class Channel(t.Protocol):
    """What is sent to, in one application."""

    @property
    def name(self) -> str:
        """What it is called in the application."""
        ...

    @property
    def capabilities(self) -> Capability:
        """What it can do."""
        ...

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Take messages. A transactional channel does so in the session."""
        ...

    def sources(self) -> Sequence[Source]:
        """Return where its messages are; empty if it is only sent to."""
        ...


class Inserting(abc.ABC):
    """A channel in the database that the session leads to."""

    @abc.abstractmethod
    def insert(self, connection: sa.Connection, envelopes: Sequence[Envelope]) -> None:
        """Take messages in a transaction of the caller."""


class Preparing(abc.ABC):
    """A channel outside of the session that can fail before the session commits."""

    @abc.abstractmethod
    def taking(self, envelopes: Sequence[Envelope]) -> AbstractContextManager[None]:
        """Take messages at the end of a context; what may well fail comes before.

        If an exception ends the context, none are taken.
        """


@t.runtime_checkable
class Managed(t.Protocol):
    """A channel that something is set up for, such as a queue at a broker."""

    def is_initialized(self) -> bool:
        """Whether it is set up."""
        ...

    def initialize(self) -> None:
        """Set up what is missing."""
        ...

    def delete(self) -> None:
        """Delete what was set up for this channel alone; it is empty."""
        ...


class ChannelConfiguration(t.Protocol):
    """What an application says about a channel. It opens one for each application."""

    @property
    def name(self) -> str:
        """What the channel is called in the application."""
        ...

    def open(self, surroundings: t.Any) -> Channel:
        """Return the channel of an application.

        :param surroundings: What the application has; see
            :class:`~flask_ecotone.channels.opening.ChannelSurroundings`.
        """
        ...


#: A message and the channel that it goes to.
Post = tuple[Channel, Envelope]


class Distributing(abc.ABC):
    """A channel that hands on to others what it is sent."""

    @abc.abstractmethod
    def distributed(self, envelopes: Sequence[Envelope]) -> list[Post]:
        """Return messages with the channels that they go to.

        :raises MessageDeliveryError: There is none for one of them.
        """


def distributed(posts: Sequence[Post]) -> Sequence[Post]:
    """Return messages with the channels that take them in the end."""
    if not any(isinstance(channel, Distributing) for channel, _ in posts):
        return posts
    found: list[Post] = []
    for channel, envelopes in by_channel(posts):
        if isinstance(channel, Distributing):
            found.extend(distributed(channel.distributed(envelopes)))
        else:
            found.extend((channel, envelope) for envelope in envelopes)
    return found


def by_channel(posts: Iterable[Post]) -> Iterator[tuple[Channel, list[Envelope]]]:
    """Return channels with what they are sent, as many times as they have a turn."""
    for channel, group in groupby(posts, key=lambda post: post[0]):
        yield channel, [envelope for _, envelope in group]


def deliver(posts: Iterable[Post]) -> None:
    """Send messages, those in a row for one channel together."""
    for channel, envelopes in by_channel(posts):
        channel.send(envelopes)


class Outbox(t.Protocol):
    """Sends messages along with the transaction of the caller, or not at all."""

    @property
    def is_open(self) -> bool:
        """Whether something is going on that may yet be given up, messages included."""
        ...

    def put(self, posts: Sequence[Post]) -> None:
        """Send messages when the transaction is committed, at once if there is none."""
        ...

    def collecting(
        self, proceed: Callable[[Message], t.Any]
    ) -> Callable[[Message], t.Any]:
        """Return a call whose messages go out when it is done, and not if it fails."""
        ...
