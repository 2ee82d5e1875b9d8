"""A channel in memory, for tests and for what may be lost with the process."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import nullcontext
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from ..errors import ConfigurationError
from ..errors import LeaseLostError
from ..message import new_id
from .protocols import Capability
from .protocols import ChannelStatus
from .protocols import Delivery
from .protocols import Envelope
from .protocols import FinalFailure
from .protocols import OnExhausted

#: How many handled messages are remembered, to tell duplicates of them.
_REMEMBERED: t.Final = 100_000
_ABILITIES: t.Final = (
    Capability.PRIORITY
    | Capability.TIME_TO_LIVE
    | Capability.BATCH
    | Capability.ORDERED
)


@dataclass(frozen=True, slots=True)
class InMemoryChannel:
    """A channel in the memory of the process.

    Workers in the same process take from it: it is for tests, and for messages that may
    be lost.

    :param name: The name of the channel.
    :param delayable: Whether it keeps delayed messages back.
    :param on_exhausted: What becomes of a message whose retries are used up, as with
        :class:`DatabaseChannel`.
    :param error_channel: Where failed messages go whose handler says nothing itself.
    """

    name: str
    delayable: bool = True
    on_exhausted: OnExhausted | None = field(default=None, kw_only=True)
    error_channel: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        FinalFailure.named(self.on_exhausted, f"on_exhausted of {self.name!r}")

    def open(self, surroundings: t.Any) -> MemoryQueue:
        """Return an empty channel for one application."""
        return MemoryQueue(
            self.name,
            self.delayable,
            surroundings.now,
            on_exhausted=FinalFailure.named(self.on_exhausted, self.name),
        )


@dataclass(slots=True)
class _Stored:
    envelope: Envelope
    position: int
    due_at: float
    created_at: float
    token: str | None = None
    attempts: int = 0
    is_suspect: bool = False

    def order(self) -> tuple[int, int]:
        return -self.envelope.priority, self.position


@dataclass(slots=True, eq=False)
class MemoryQueue:
    """The messages of an :class:`InMemoryChannel` in one application.

    It is the channel, and its only source.

    :param now: Returns the time in seconds since the epoch.
    """

    name: str
    delayable: bool = True
    now: Callable[[], float] = time.time
    batch: int = 20
    lease: float = 60.0
    max_deliveries: int = 5
    tenant: str | None = None
    on_exhausted: FinalFailure | None = None
    _stored: dict[int, _Stored] = field(default_factory=dict)
    _handled: dict[tuple[str, str], None] = field(default_factory=dict)
    _numbers: t.Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def channel(self) -> str:
        """The name of the channel."""
        return self.name

    @property
    def capabilities(self) -> Capability:
        """What it can do."""
        return _ABILITIES | (Capability.DELAY if self.delayable else Capability.NONE)

    def sources(self) -> Sequence[MemoryQueue]:
        """Return itself."""
        return (self,)

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Take messages, all of them or none.

        :raises ConfigurationError: One is delayed, and the channel can't.
        """
        with self._lock:
            for stored in [self._accept(envelope) for envelope in envelopes]:
                self._stored[stored.position] = stored

    def claim(self, limit: int) -> list[Delivery]:
        """Claim ready messages and return them, the next one first."""
        with self._lock:
            now = self.now()
            self._expire(now)
            ready = [
                each
                for each in self._stored.values()
                if each.token is None and each.due_at <= now
            ]
            suspects = [each for each in ready if each.is_suspect]
            number = min(limit, 1) if suspects else limit
            chosen = heapq.nsmallest(number, suspects or ready, key=_Stored.order)
            for each in chosen:
                each.token = new_id()
                each.attempts += each.is_suspect
                each.due_at = now + self.lease
            return [
                Delivery(
                    each.envelope,
                    each.position,
                    t.cast(str, each.token),
                    each.attempts,
                    round(now * 1000),
                )
                for each in chosen
            ]

    def recover(self) -> None:
        """Void the claims of workers that disappeared."""
        with self._lock:
            now = self.now()
            for each in self._stored.values():
                if each.token is not None and each.due_at <= now:
                    each.token, each.is_suspect, each.due_at = None, True, 0.0

    def next_due(self) -> float | None:
        """Return in how many seconds something becomes due; ``None`` if nothing."""
        with self._lock:
            now = self.now()
            waiting = [
                max(each.due_at - now, 0.0)
                for each in self._stored.values()
                if each.token is not None or each.due_at > now
            ]
        return min(waiting, default=None)

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        """Extend the lease of messages that are still worked on."""
        with self._lock:
            until = self.now() + self.lease
            for delivery in deliveries:
                stored = self._stored.get(delivery.position)
                if stored is not None and stored.token == delivery.token:
                    stored.due_at = until

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages that were handled."""
        with self._lock:
            for delivery in deliveries:
                self._check_owned(delivery)
            for delivery in deliveries:
                self._stored.pop(delivery.position, None)

    @property
    def is_batched(self) -> bool:
        """Never: there is no transaction."""
        return False

    def note(self, delivery: Delivery) -> bool:
        """Note nothing: what dies takes the channel along."""
        return True

    def settle_all(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages and note that they were handled."""
        self.finish(deliveries)

    def settle(self, delivery: Delivery) -> bool:
        """Remove a message and note that it was handled."""
        with self._lock:
            self.acknowledge([delivery])
            is_new = _key(delivery) not in self._handled
            self._handled[_key(delivery)] = None
            if len(self._handled) > _REMEMBERED:
                del self._handled[next(iter(self._handled))]
        return is_new

    def release(self, deliveries: Sequence[Delivery]) -> None:
        """Give back messages that nothing was done with."""
        with self._lock:
            for delivery in deliveries:
                stored = self._stored.get(delivery.position)
                if stored is not None and stored.token == delivery.token:
                    stored.token, stored.due_at = None, 0.0
                    stored.attempts -= stored.is_suspect

    def requeue(self, delivery: Delivery, envelope: Envelope) -> None:
        """Put a message back, changed, behind the others."""
        with self._lock:
            self._check_owned(delivery)
            stored = self._accept(envelope)
            del self._stored[delivery.position]
            self._stored[stored.position] = stored

    def at_once(self) -> AbstractContextManager[None]:
        """Do nothing: each of them is put back at no cost."""
        return nullcontext()

    def discard(self, delivery: Delivery) -> None:
        """Remove a message that is given up."""
        self.acknowledge([delivery])

    def handled_before(self, deliveries: Sequence[Delivery]) -> set[t.Any]:
        """Return the positions of those messages that were handled already."""
        return {d.position for d in deliveries if _key(d) in self._handled}

    def finish(self, deliveries: Sequence[Delivery]) -> None:
        """Remove messages and note them as handled."""
        with self._lock:
            for delivery in deliveries:
                stored = self._stored.get(delivery.position)
                if stored is not None and stored.token == delivery.token:
                    self.settle(delivery)

    def status(self) -> ChannelStatus:
        """Return what lies in the channel."""
        with self._lock:
            now = self.now()
            self._expire(now)
            stored = list(self._stored.values())
        ready = [s for s in stored if s.token is None and s.due_at <= now]
        ages = [now - s.created_at for s in ready]
        in_flight = sum(s.token is not None for s in stored)
        delayed = len(stored) - len(ready) - in_flight
        return ChannelStatus(len(ready), in_flight, delayed, max(ages, default=None))

    def purge(self) -> int:
        """Remove everything and return how much it was."""
        with self._lock:
            count = len(self._stored)
            self._stored.clear()
        return count

    def envelopes(self) -> list[Envelope]:
        """Return what lies in the channel, delayed messages too, in order."""
        with self._lock:
            ordered = sorted(self._stored.values(), key=_Stored.order)
        return [each.envelope for each in ordered]

    def release_until(self, moment: float) -> None:
        """Make ready what is due until a moment, in seconds since the epoch."""
        with self._lock:
            for each in self._stored.values():
                if each.token is None and each.due_at <= moment:
                    each.due_at = 0.0

    def _accept(self, envelope: Envelope) -> _Stored:
        now = self.now()
        # What isn't delayed is ready, even if the clock is set back.
        due_at = now + envelope.delay / 1000 if envelope.delay > 0 else 0.0
        if envelope.due_at is not None:
            due_at = envelope.due_at / 1000
        if due_at > now and not self.delayable:
            raise ConfigurationError(
                f"A message for {envelope.endpoint_id} is delayed, and the channel"
                f" {self.name!r} hands out messages at once. Make it"
                f" InMemoryChannel({self.name!r}, delayable=True)."
            )
        expires_at = envelope.expires_at
        if expires_at is None and envelope.time_to_live is not None:
            expires_at = round(max(now, due_at) * 1000) + envelope.time_to_live
        number = next(self._numbers)
        kept = replace(
            envelope, delay=0, due_at=None, time_to_live=None, expires_at=expires_at
        )
        return _Stored(kept, number, due_at, now)

    def _expire(self, now: float) -> None:
        for position, each in list(self._stored.items()):
            expires_at = each.envelope.expires_at
            if each.token is None and expires_at is not None:
                if expires_at <= now * 1000:
                    del self._stored[position]

    def _check_owned(self, delivery: Delivery) -> None:
        stored = self._stored.get(delivery.position)
        if stored is None or stored.token != delivery.token:
            raise LeaseLostError(self.name, delivery.envelope.message_id)


def _key(delivery: Delivery) -> tuple[str, str]:
    return delivery.envelope.message_id, delivery.envelope.endpoint_id
