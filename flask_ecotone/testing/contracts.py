"""What every channel must keep, as tests.

A class of tests is a subclass that says how to open the channel::

    class TestMyChannel(ChannelContract):
        def open_channel(self) -> Channel:
            return MyChannel("orders").open(surroundings)
"""

from __future__ import annotations

import json
import os
import threading
import typing as t
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ..channels.protocols import Capability
from ..channels.protocols import Envelope
from ..channels.protocols import Source
from ..errors import ConfigurationError
from ..errors import LeaseLostError
from .channel_worker import ChannelHooks
from .channel_worker import ChannelWorker
from .channel_worker import Claim
from .channel_worker import Place

THREADS: t.Final = 8


def envelope(number: int, **changes: t.Any) -> Envelope:
    """Return a message that is told from others by its number."""
    values = {
        "endpoint_id": "shop.send_receipt",
        "message_id": f"message-{number:06}",
        "body": b'{"number": %d}' % number,
        "headers": json.dumps({"number": number}),
    }
    return Envelope(**{**values, **changes})


def ids(claimed: t.Iterable[Claim]) -> list[str]:
    """Return the ids of messages, in order."""
    return [claim.delivery.envelope.message_id for claim in claimed]


def per_source(claimed: t.Iterable[Claim]) -> dict[Place, list[Envelope]]:
    """Return the messages of each source, in order."""
    found: dict[Place, list[Envelope]] = {}
    for claim in claimed:
        found.setdefault(claim.place, []).append(claim.delivery.envelope)
    return found


def needs(able: Capability, capability: Capability) -> None:
    """Skip a test of what a channel can't do."""
    if capability not in able:
        pytest.skip(f"the channel hasn't the capability {capability.name}")


class ChannelContract(ChannelHooks):
    """The tests that every channel passes.

    Override :meth:`open_channel`, and the other methods where they don't fit. With a
    real clock the lease of the channel should be about a second, because the tests wait
    until it is over. A test of what the channel can't do, by its capabilities, is
    skipped.
    """

    @pytest.fixture
    def queue(self) -> Iterator[ChannelWorker]:
        """A worker of an empty channel."""
        with self.worker():
            yield ChannelWorker(self, self.open_channel())

    # What is sent arrives.

    def test_empty_channel(self, queue: ChannelWorker) -> None:
        """An empty channel has nothing, and nothing can be done with nothing."""
        queue.send()
        assert queue.claim(10) == []
        assert queue.counts() == (0, 0, 0)
        assert queue.status().oldest_age is None
        assert queue.next_due() is None
        for source in queue.channel.sources():
            with self.transaction():
                source.acknowledge([])
            source.release([])
            source.extend([])
            assert source.purge() == 0

    def test_message_arrives_as_it_was_sent(self, queue: ChannelWorker) -> None:
        """Ids, body and headers arrive unchanged, with all of Unicode and all bytes."""
        headers = json.dumps({"zażółć": "🦊 \u202e\u0000 ' \" \\"}, ensure_ascii=False)
        escaped = json.dumps({"zażółć": "🦊 \u202e\u0000"})
        body = bytes(range(256))
        queue.send(
            envelope(1, body=body, headers=headers),
            envelope(2, body=b"", headers=escaped, endpoint_id="żółw.handle"),
        )
        first, second = sorted(queue.take(2), key=lambda claim: ids([claim]))
        assert first.delivery.envelope == envelope(1, body=body, headers=headers)
        assert second.delivery.envelope == envelope(
            2, body=b"", headers=escaped, endpoint_id="żółw.handle"
        )

    def test_big_body(self, queue: ChannelWorker) -> None:
        """A body of a mebibyte arrives."""
        body = os.urandom(1024 * 1024)
        queue.send(envelope(1, body=body))
        assert queue.take_one().delivery.envelope.body == body

    def test_acknowledged_message_is_gone(self, queue: ChannelWorker) -> None:
        """A message that was handled is never handed out again."""
        queue.send(envelope(1), envelope(2))
        queue.acknowledge(queue.take(2))
        assert queue.claim(10) == []
        assert queue.counts() == (0, 0, 0)

    def test_claim_keeps_the_limit(self, queue: ChannelWorker) -> None:
        """Not more messages are handed out than were asked for."""
        queue.send(*[envelope(number) for number in range(10)])
        assert len(queue.claim(3)) == 3
        assert len(queue.claim(10)) == 7

    def test_many_messages(self, queue: ChannelWorker) -> None:
        """Many messages, sent at once, are handed out once each."""
        sent = [envelope(number) for number in range(self.many)]
        queue.send(*sent)
        assert queue.counts() == (self.many, 0, 0)
        got: list[str] = []
        queue.drain(500, lambda claim: got.append(claim.delivery.envelope.message_id))
        assert sorted(got) == [each.message_id for each in sent]

    # In which order.

    def test_order(self, queue: ChannelWorker) -> None:
        """Messages are handed out in the order they were sent."""
        numbers = range(40)
        queue.send(*[envelope(number) for number in numbers[:20]])
        for number in numbers[20:]:
            queue.send(envelope(number))
        claimed = [claim for _ in range(10) for claim in queue.take(4)]
        needs(claimed[0].source.capabilities, Capability.ORDERED)
        for found in per_source(claimed).values():
            assert found == sorted(found, key=lambda each: each.message_id)
        if Capability.ORDERED in queue.channel.capabilities:
            assert ids(claimed) == sorted(ids(claimed))

    def test_priority(self, queue: ChannelWorker) -> None:
        """Higher priorities are handed out first, equal ones in their order."""
        needs(queue.channel.capabilities, Capability.PRIORITY)
        priorities = [0, 5, 1, 1, 5, -3, 0, 9, 2, 5, 0, 1]
        queue.send(*[envelope(n, priority=p) for n, p in enumerate(priorities)])
        claimed = [queue.take_one() for _ in priorities]
        for found in per_source(claimed).values():
            order = [-each.priority for each in found]
            assert order == sorted(order)
            if Capability.ORDERED in claimed[0].source.capabilities:
                assert found == sorted(found, key=lambda e: (-e.priority, e.message_id))

    # When.

    def test_delayed_message_waits(self, queue: ChannelWorker) -> None:
        """A delayed message is handed out once its delay is over, and not before."""
        needs(queue.channel.capabilities, Capability.DELAY)
        sent_at = self.now()
        queue.send(envelope(1, delay=int(self.delay * 1000)), envelope(2))
        assert ids(queue.take(1)) == ["message-000002"]
        assert queue.claim(10) == []
        assert queue.counts() == (0, 1, 1)
        due = queue.next_due()
        assert due is not None and 0 <= due <= self.delay + 0.05
        claim = queue.take_one()
        assert ids([claim]) == ["message-000001"]
        assert self.now() >= sent_at + self.delay - 0.02

    def test_message_is_due_at_a_time(self, queue: ChannelWorker) -> None:
        """A message with a due time is handed out then; at once if that is past."""
        needs(queue.channel.capabilities, Capability.DELAY)
        moment = int((self.now() + 4 * self.delay) * 1000)  # after a claim that is slow
        queue.send(envelope(1, due_at=moment), envelope(2, due_at=moment - 3_600_000))
        first = queue.take(1)
        assert ids(first) == ["message-000002"]
        queue.acknowledge(first)
        assert queue.claim(10) == []
        queue.take_one()
        assert self.now() >= moment / 1000 - 0.02

    def test_delay_is_refused_without_the_capability(
        self, queue: ChannelWorker
    ) -> None:
        """A channel that can't delay says so, and keeps nothing of what was sent."""
        if Capability.DELAY in queue.channel.capabilities:
            pytest.skip("the channel can delay")
        with pytest.raises(ConfigurationError):
            queue.send(envelope(1), envelope(2, delay=60_000))
        assert queue.claim(10) == []

    def test_expired_message_is_given_up(self, queue: ChannelWorker) -> None:
        """A message that nobody took in time isn't handed out; others are."""
        needs(queue.channel.capabilities, Capability.TIME_TO_LIVE)
        life = int(self.delay * 1000)
        queue.send(
            envelope(1, time_to_live=life),
            envelope(2),
            envelope(3, time_to_live=3_600_000),
        )
        self.wait(self.delay + 0.05)
        assert sorted(ids(queue.take(2))) == ["message-000002", "message-000003"]
        assert queue.claim(10) == []

    def test_message_that_is_put_back_lives_no_longer(
        self, queue: ChannelWorker
    ) -> None:
        """A message that was claimed expires when it would have done so anyway."""
        needs(queue.channel.capabilities, Capability.TIME_TO_LIVE)
        # On a busy machine it takes a while until it is claimed.
        life = 4 * self.delay
        queue.send(envelope(1, time_to_live=int(life * 1000)))
        source, delivery = queue.take_one()
        with self.transaction():
            source.requeue(delivery, delivery.envelope.postponed(0))
        self.wait(life + 0.05)
        assert queue.claim(10) == []

    # Whose it is.

    def test_claimed_message_is_not_handed_out_again(
        self, queue: ChannelWorker
    ) -> None:
        """What one worker has claimed, another one doesn't get."""
        queue.send(*[envelope(number) for number in range(4)])
        mine = queue.take(2)
        with ThreadPoolExecutor(1) as pool:
            others = pool.submit(self._in_worker, lambda: queue.claim(10)).result()
        assert len(others) == 2
        assert set(ids(mine)).isdisjoint(ids(others))
        assert queue.counts() == (0, 4, 0)
        assert len({claim.delivery.token for claim in [*mine, *others]}) >= 2

    def test_threads_take_each_message_once(self, queue: ChannelWorker) -> None:
        """Of many workers at once, exactly one gets each message."""
        sent = [envelope(number) for number in range(self.many // 5)]
        queue.send(*sent)
        start = threading.Barrier(THREADS)

        def work() -> list[str]:
            got: list[str] = []
            start.wait(30)
            queue.drain(20, lambda claim: got.append(ids([claim])[0]))
            return got

        with ThreadPoolExecutor(THREADS) as pool:
            futures = [pool.submit(self._in_worker, work) for _ in range(THREADS)]
            counted = Counter(each for future in futures for each in future.result())
        assert counted == Counter(each.message_id for each in sent)
        assert queue.counts() == (0, 0, 0)

    def test_lost_claim_changes_nothing(self, queue: ChannelWorker) -> None:
        """A worker whose lease ran out can't do anything to the message."""
        queue.send(envelope(1))
        source, late = queue.take_one()
        queue.lose(source)
        _, current = queue.take_one()
        assert current.token != late.token
        with pytest.raises(LeaseLostError), self.transaction():
            source.acknowledge([late])
        with pytest.raises(LeaseLostError), self.transaction():
            source.settle(late)
        with pytest.raises(LeaseLostError), self.transaction():
            source.requeue(late, envelope(2))
        source.release([late])
        source.extend([late])
        assert queue.claim(10) == []
        assert queue.counts() == (0, 1, 0)
        with self.transaction():
            assert source.settle(current)

    def test_message_is_acknowledged_once(self, queue: ChannelWorker) -> None:
        """What was acknowledged can't be acknowledged again."""
        queue.send(envelope(1))
        claim = queue.take_one()
        queue.acknowledge([claim])
        with pytest.raises(LeaseLostError):
            queue.acknowledge([claim])

    def test_extended_claim_stays(self, queue: ChannelWorker) -> None:
        """A claim that is extended in time outlives its first lease."""
        queue.send(envelope(1))
        source, delivery = queue.take_one()
        for _ in range(3):
            self.wait(source.lease * 0.6)
            source.extend([delivery])
        assert queue.claim(10) == []
        with self.transaction():
            source.acknowledge([delivery])

    # What becomes of it.

    def test_released_message_is_as_before(self, queue: ChannelWorker) -> None:
        """A message that is given back is ready, keeps its place, and wasn't tried."""
        queue.send(*[envelope(number) for number in range(6)])
        source, delivery = queue.take_one()
        source.release([delivery])
        again = source.claim(1)[0]
        assert again.attempts == 0
        if Capability.ORDERED in source.capabilities:
            assert again.envelope == delivery.envelope
        with pytest.raises(LeaseLostError), self.transaction():
            source.acknowledge([delivery])

    def test_requeued_message_is_changed_and_behind(self, queue: ChannelWorker) -> None:
        """A message that is put back changed comes after the others, as a new one."""
        queue.send(*[envelope(number) for number in range(6)])
        source, delivery = queue.take_one()
        changed = envelope(99, headers='{"retried": true}')
        with self.transaction():
            source.requeue(delivery, changed)
        assert sum(queue.counts()) == 6
        rest = source.claim(10)
        assert delivery.envelope not in [each.envelope for each in rest]
        (found,) = [each for each in rest if each.envelope == changed]
        assert found.attempts == 0
        if Capability.ORDERED in source.capabilities:
            assert rest[-1] == found

    def test_message_is_requeued_with_a_delay(self, queue: ChannelWorker) -> None:
        """A message that is put back with a delay isn't ready before it is over."""
        queue.send(envelope(1))
        source, delivery = queue.take_one()
        needs(source.capabilities, Capability.DELAY)
        with self.transaction():
            source.requeue(
                delivery, delivery.envelope.postponed(int(self.delay * 1000))
            )
        assert queue.claim(10) == []
        assert queue.counts() == (0, 0, 1)
        assert queue.take_one().delivery.envelope == delivery.envelope

    def test_disappeared_workers_are_counted(self, queue: ChannelWorker) -> None:
        """A message knows how many workers it has cost, if any."""
        queue.send(envelope(1))
        attempts = []
        for _ in range(3):
            source, delivery = queue.take_one()
            attempts.append(delivery.attempts)
            queue.lose(source)
        assert attempts == [0, 1, 2]

    def test_released_suspect_stays_one(self, queue: ChannelWorker) -> None:
        """What is given back is suspected no more, and no less, than before."""
        queue.send(*[envelope(number) for number in range(12)])
        source, _ = queue.take_one()
        queue.lose(source)
        for _ in range(3):
            (alone,) = source.claim(10)
            assert alone.attempts == 1
            source.release([alone])

    def test_suspect_is_claimed_alone(self, queue: ChannelWorker) -> None:
        """A message whose worker disappeared is claimed alone; the others follow."""
        queue.send(*[envelope(number) for number in range(12)])
        source, first = queue.take_one()
        (second,) = source.claim(1)
        queue.lose(source)
        suspects = {first.envelope.message_id, second.envelope.message_id}
        for _ in range(2):
            (alone,) = source.claim(10)
            suspects.remove(alone.envelope.message_id)
            assert alone.attempts == 1
            with self.transaction():
                source.acknowledge([alone])
        assert len(source.claim(10)) >= 2

    def test_duplicate_is_reported(self, queue: ChannelWorker) -> None:
        """Settling tells a message that was handled before, for the same endpoint."""
        queue.send(*[envelope(1)] * 4)
        queue.send(*[envelope(1, endpoint_id="shop.count")] * 4)
        seen: set[tuple[Place, str]] = set()
        for claim in queue.take(8):
            key = (claim.place, claim.delivery.envelope.endpoint_id)
            with self.transaction():
                is_new = claim.source.settle(claim.delivery)
            assert is_new == (key not in seen)
            seen.add(key)
        assert queue.counts() == (0, 0, 0)

    # What there is.

    def test_status(self, queue: ChannelWorker) -> None:
        """Ready, claimed and delayed messages are counted, and there is an age."""
        queue.send(*[envelope(number) for number in range(5)])
        if Capability.DELAY in queue.channel.capabilities:
            queue.send(envelope(5, delay=3_600_000))
        claimed = queue.take(2)
        delayed = int(Capability.DELAY in queue.channel.capabilities)
        assert queue.counts() == (3, 2, delayed)
        self.wait(0.1)
        age = queue.status().oldest_age
        assert age is not None and 0.08 <= age < 60
        queue.acknowledge(claimed)
        assert queue.counts() == (3, 0, delayed)

    def test_purge(self, queue: ChannelWorker) -> None:
        """Purging removes everything, what is claimed too, and says how much it was."""
        queue.send(*[envelope(number) for number in range(5)])
        source, delivery = queue.take_one()
        sources: list[Source] = list(queue.channel.sources())
        assert sum(each.purge() for each in sources) == 5
        assert queue.counts() == (0, 0, 0)
        assert queue.claim(10) == []
        with pytest.raises(LeaseLostError), self.transaction():
            source.acknowledge([delivery])

    def _in_worker(self, work: t.Callable[[], t.Any]) -> t.Any:
        with self.worker():
            return work()
