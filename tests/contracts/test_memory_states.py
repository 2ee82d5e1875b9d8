"""Whatever workers do to a channel in memory, no message is lost or doubled."""

from __future__ import annotations

import typing as t

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle
from hypothesis.stateful import consumes
from hypothesis.stateful import invariant
from hypothesis.stateful import multiple
from hypothesis.stateful import rule
from hypothesis.stateful import RuleBasedStateMachine

from flask_ecotone.channels.memory import MemoryQueue
from flask_ecotone.channels.protocols import Delivery
from flask_ecotone.errors import LeaseLostError
from flask_ecotone.testing.contracts import envelope

from .clock import Clock

_SECONDS: t.Final = st.sampled_from([0.5, 5.0, 20.0, 61.0, -10.0])


class MemoryQueueMachine(RuleBasedStateMachine):
    """A queue, and a book of what should be in it.

    The book has the messages that were sent and not yet handled, the moment when each
    expires, and for each one that is claimed, the token and the end of the lease.
    """

    deliveries = Bundle("deliveries")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.queue = MemoryQueue("orders", now=self.clock.now)
        self.number = 0
        self.alive: set[str] = set()
        self.due: dict[str, float] = {}
        self.expiry: dict[str, float] = {}
        self.claimed: dict[str, tuple[str, float]] = {}

    def owns(self, delivery: Delivery) -> bool:
        """Whether the claim is still in the book."""
        held = self.claimed.get(delivery.envelope.message_id)
        return held is not None and held[0] == delivery.token

    def forget(self, message_id: str) -> None:
        """Strike a message out."""
        self.alive.discard(message_id)
        for book in (self.due, self.expiry, self.claimed):
            book.pop(message_id, None)

    def expire(self) -> None:
        """Strike out what nobody took in time."""
        for message_id, expires_at in list(self.expiry.items()):
            if expires_at <= self.clock.time and message_id not in self.claimed:
                self.forget(message_id)

    def write(self, message_id: str, delay: int, life: int | None) -> None:
        """Enter a message."""
        self.alive.add(message_id)
        due_at = self.clock.time + delay / 1000
        self.due[message_id] = due_at if delay else 0.0
        if life is not None:
            self.expiry[message_id] = due_at + life / 1000

    @rule(
        delay=st.sampled_from([0, 0, 1000, 30_000]),
        life=st.sampled_from([None, None, 2000, 40_000]),
        priority=st.integers(-1, 1),
    )
    def send(self, delay: int, life: int | None, priority: int) -> None:
        self.number += 1
        sent = envelope(self.number, delay=delay, time_to_live=life, priority=priority)
        self.queue.send([sent])
        self.write(sent.message_id, delay, life)

    @rule(target=deliveries, limit=st.integers(1, 4))
    def claim(self, limit: int) -> t.Any:
        now = self.clock.time
        self.expire()
        ready = {
            each
            for each in self.alive
            if each not in self.claimed and self.due[each] <= now
        }
        found = self.queue.claim(limit)
        ids = [each.envelope.message_id for each in found]
        assert len(set(ids)) == len(ids) <= limit
        assert set(ids) <= ready
        assert bool(found) == bool(ready)
        for each in found:
            lease_end = now + self.queue.lease
            self.claimed[each.envelope.message_id] = each.token, lease_end
        return multiple(*found)

    @rule(delivery=consumes(deliveries), how=st.sampled_from(["acknowledge", "settle"]))
    def finish(self, delivery: Delivery, how: str) -> None:
        owned = self.owns(delivery)
        try:
            if how == "settle":
                self.queue.settle(delivery)
            else:
                self.queue.acknowledge([delivery])
        except LeaseLostError:
            assert not owned
        else:
            assert owned
            self.forget(delivery.envelope.message_id)

    @rule(delivery=deliveries)
    def release(self, delivery: Delivery) -> None:
        self.queue.release([delivery])
        if self.owns(delivery):
            del self.claimed[delivery.envelope.message_id]
            self.due[delivery.envelope.message_id] = 0.0

    @rule(delivery=deliveries)
    def extend(self, delivery: Delivery) -> None:
        self.queue.extend([delivery])
        if self.owns(delivery):
            until = self.clock.time + self.queue.lease
            self.claimed[delivery.envelope.message_id] = delivery.token, until

    @rule(delivery=deliveries, delay=st.sampled_from([0, 10_000]))
    def requeue(self, delivery: Delivery, delay: int) -> None:
        owned = self.owns(delivery)
        try:
            self.queue.requeue(delivery, delivery.envelope.postponed(delay))
        except LeaseLostError:
            assert not owned
        else:
            assert owned
            expiry = self.expiry.get(delivery.envelope.message_id)
            self.forget(delivery.envelope.message_id)
            self.write(delivery.envelope.message_id, delay, None)
            if expiry is not None:
                self.expiry[delivery.envelope.message_id] = expiry

    @rule()
    def recover(self) -> None:
        self.queue.recover()
        for message_id, (_, lease_end) in list(self.claimed.items()):
            if lease_end <= self.clock.time:
                del self.claimed[message_id]
                self.due[message_id] = 0.0

    @rule(seconds=_SECONDS)
    def let_time_pass(self, seconds: float) -> None:
        self.clock.move(seconds)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        self.expire()
        status = self.queue.status()
        in_queue = [each.message_id for each in self.queue.envelopes()]
        assert len(set(in_queue)) == len(in_queue)
        assert set(in_queue) == self.alive
        assert status.in_flight == len(self.claimed)
        total = status.ready + status.in_flight + status.delayed
        assert total == len(in_queue)


MemoryQueueMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None
)
TestMemoryQueue = MemoryQueueMachine.TestCase
