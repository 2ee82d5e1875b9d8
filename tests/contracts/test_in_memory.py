"""The channel in memory keeps the contract."""

from __future__ import annotations

import pytest

from flask_ecotone.channels import InMemoryChannel
from flask_ecotone.channels.memory import MemoryQueue
from flask_ecotone.channels.protocols import Channel
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import LeaseLostError
from flask_ecotone.testing.contracts import ChannelContract
from flask_ecotone.testing.contracts import envelope

from .clock import Clock
from .clock import House
from .clock import MovedClockContract


class TestInMemoryChannel(MovedClockContract):
    """A channel in memory."""

    def open_channel(self) -> Channel:
        house = House([InMemoryChannel("orders")], self.clock)
        return house.channel("orders")


class TestImmediateInMemoryChannel(MovedClockContract):
    """A channel in memory that doesn't delay."""

    def open_channel(self) -> Channel:
        house = House([InMemoryChannel("orders", delayable=False)], self.clock)
        return house.channel("orders")


class TestInMemoryChannelInRealTime(ChannelContract):
    """A channel in memory with a real clock: the contract waits by itself."""

    delay = 0.2
    many = 500

    def open_channel(self) -> Channel:
        return MemoryQueue("orders", lease=0.3)


def test_requeue_with_a_refused_delay_keeps_the_message() -> None:
    """A message stays claimed if it can't be put back as it was asked for."""
    queue = MemoryQueue("orders", delayable=False)
    queue.send([envelope(1)])
    (delivery,) = queue.claim(1)
    with pytest.raises(ConfigurationError, match="delayable=True"):
        queue.requeue(delivery, delivery.envelope.postponed(1000))
    queue.release([delivery])
    assert queue.envelopes() == [envelope(1)]


def test_batch_with_a_lost_message_is_not_acknowledged() -> None:
    """Nothing of a batch is removed if one of its messages isn't ours any more."""
    clock = Clock()
    queue = MemoryQueue("orders", now=clock.now)
    queue.send([envelope(1), envelope(2)])
    first, second = queue.claim(2)
    queue.release([second])
    with pytest.raises(LeaseLostError):
        queue.acknowledge([first, second])
    assert queue.envelopes() == [envelope(1), envelope(2)]
    queue.acknowledge([first])


def test_more_important_suspect_comes_first() -> None:
    """Messages of a worker that disappeared keep their order among each other."""
    clock = Clock()
    queue = MemoryQueue("orders", now=clock.now)
    queue.send([envelope(1), envelope(2, priority=5)])
    queue.claim(2)
    clock.move(queue.lease)
    queue.recover()
    assert queue.claim(0) == []
    assert queue.claim(2)[0].envelope == envelope(2, priority=5)


def test_worker_is_woken_for_a_lease_that_ran_out() -> None:
    """A claim that became void after the last look is due now."""
    clock = Clock()
    queue = MemoryQueue("orders", now=clock.now)
    queue.send([envelope(1)])
    queue.claim(1)
    assert queue.next_due() == queue.lease
    clock.move(queue.lease + 1)
    assert queue.next_due() == 0.0


def test_expired_messages_are_not_counted() -> None:
    """The status tells what a worker could still get."""
    clock = Clock()
    queue = MemoryQueue("orders", now=clock.now)
    queue.send([envelope(1, time_to_live=1000)])
    clock.move(1)
    assert queue.status().ready == 0
    assert queue.claim(1) == []
