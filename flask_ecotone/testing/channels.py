"""Channels in memory for flow tests, with a clock that moves when a test says so."""

from __future__ import annotations

import contextlib
import datetime
import logging
import time
import typing as t
from collections.abc import Sequence

from ..channels.collecting import CollectingOutbox
from ..channels.memory import MemoryQueue
from ..channels.protocols import Channel
from ..channels.protocols import Delivery
from ..channels.protocols import Envelope
from ..channels.protocols import FinalFailure
from ..channels.protocols import Origin
from ..consuming import Limits
from ..consuming import Worker
from ..consuming.environment import Environment
from ..consuming.failures import Recovery
from ..consuming.final_failures import FinalFailures
from ..consuming.final_failures import LogLine
from ..consuming.processing import Processor
from ..definitions import AsynchronousMark
from ..definitions import inherited_mark_of
from ..discovery import Catalogue
from ..errors import ConfigurationError
from ..errors import did_you_mean
from ..message import DELIVERY_DELAY
from ..message import Message
from ..message import TIME_TO_LIVE
from ..system import MessagingSystem
from ..system.asynchronous import Channels

_log = logging.getLogger("flask_ecotone.testing")


class Clock:
    """The time, until a test sets it."""

    def __init__(self) -> None:
        self._shift = 0.0
        self._frozen: float | None = None

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        base = time.time() if self._frozen is None else self._frozen
        return base + self._shift

    def advance(self, duration: datetime.timedelta) -> None:
        """Let time pass.

        :raises ConfigurationError: It would go back, or the duration is none.
        """
        if not isinstance(duration, datetime.timedelta):
            raise ConfigurationError(
                f"Time can't pass by {duration!r}: give a timedelta, for example"
                " advance_time(timedelta(days=7))."
            )
        if duration < datetime.timedelta(0):
            raise ConfigurationError(f"Time doesn't go back by {-duration}.")
        self._shift += duration.total_seconds()

    def freeze(self, moment: datetime.datetime) -> None:
        """Stop the clock at a moment.

        :raises ConfigurationError: It has no time zone, or is over.
        """
        if moment.tzinfo is None:
            raise ConfigurationError(f"The moment {moment} has no time zone.")
        if self._frozen is not None and moment.timestamp() < self.now():
            raise ConfigurationError(f"Time doesn't go back to {moment}.")
        self._frozen, self._shift = moment.timestamp(), 0.0


class _SpiedQueue(MemoryQueue):
    """Keeps what was sent to it, for assertions."""

    def __init__(self, name: str, clock: Clock) -> None:
        super().__init__(name, now=clock.now)
        self.sent: list[Envelope] = []

    def send(self, envelopes: Sequence[Envelope]) -> None:
        """Take messages, all of them or none."""
        super().send(envelopes)
        self.sent.extend(envelopes)

    def take_sent(self) -> list[Envelope]:
        """Return what was sent since the last time, and forget it."""
        taken, self.sent = self.sent, []
        return taken


class FlowChannels:
    """A channel in memory for each name that a handler mentions."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.clock = Clock()
        self._queues: dict[str, _SpiedQueue] = {}
        said = [marked.mark(AsynchronousMark) for marked in catalogue.handlers]
        said += [inherited_mark_of(bus, AsynchronousMark) for bus in catalogue.buses]
        for each in said:
            for name in each.channels if each else ():
                self._queues[name] = _SpiedQueue(name, self.clock)
        opened: dict[str, Channel] = dict(self._queues)
        self.channels = Channels(opened, CollectingOutbox())
        self._failures: list[BaseException] = []
        self._processor: Processor
        self._system: MessagingSystem

    @property
    def names(self) -> list[str]:
        """The names of the channels."""
        return list(self._queues)

    def complete(self, system: MessagingSystem) -> None:
        """Give it the system; the channels were there before."""
        recovery = _Raising(system, self._failures)
        environment = Environment(contextlib.nullcontext, None, _never)
        self._processor = Processor(system, environment, recovery, _log)
        self._system = system

    def run(
        self,
        names: Sequence[str],
        limits: Limits | None,
        release: datetime.timedelta | datetime.datetime | None,
    ) -> None:
        """Handle messages until there are none, and raise what a handler raised."""
        queues = [self._queue(name) for name in names]
        if not queues:
            raise ConfigurationError(
                f"run() names no channel. There are {', '.join(self._queues)}."
            )
        if release is not None:
            moment = (
                release.timestamp()
                if isinstance(release, datetime.datetime)
                else self.clock.now() + release.total_seconds()
            )
            for queue in queues:
                queue.release_until(moment)
        self._failures.clear()
        Worker(
            lambda: queues,
            self._processor,
            _log,
            limits=limits or Limits(stops_on_failure=True, finishes_when_empty=True),
        ).run()
        if self._failures:
            raise self._failures[0]

    def waiting_in(self, name: str) -> int:
        """Return how many messages lie in a channel."""
        return len(self._queue(name).envelopes())

    def receive_from(self, name: str) -> Message | None:
        """Take the next message that is due; ``None`` if there is none."""
        queue = self._queue(name)
        claimed = queue.claim(1)
        if not claimed:
            return None
        queue.acknowledge(claimed)
        return self._read(claimed[0].envelope, name)

    def take_sent(self, name: str) -> list[Message]:
        """Return what was sent to a channel since the last time, and forget it."""
        return [
            self._read(envelope, name) for envelope in self._queue(name).take_sent()
        ]

    def forget_sent(self) -> None:
        """Forget what was sent."""
        for queue in self._queues.values():
            queue.take_sent()

    def _read(self, envelope: Envelope, name: str) -> Message:
        endpoint = self._system.endpoint(envelope.endpoint_id)
        message = self._system.writing.read(envelope, name, endpoint.types)
        # They travel beside the headers; a test looks for them there.
        delay: t.Any = envelope.delay or None
        if envelope.due_at is not None:
            delay = datetime.datetime.fromtimestamp(
                envelope.due_at / 1000, datetime.UTC
            )
        return message.with_headers(
            {DELIVERY_DELAY: delay, TIME_TO_LIVE: envelope.time_to_live}
        )

    def _queue(self, name: str) -> _SpiedQueue:
        found = self._queues.get(name)
        if found is None:
            raise ConfigurationError(
                f"There is no channel {name!r}.{did_you_mean(name, self._queues)}"
                f" Asynchronous handlers have {', '.join(self._queues) or 'none'}."
            )
        return found


class _Raising(Recovery):
    """Keeps the exceptions of messages that aren't tried again."""

    def __init__(self, system: MessagingSystem, failures: list[BaseException]) -> None:
        parks = FinalFailure.DEAD_LETTER
        final = FinalFailures(system.writing, parks, self, _nothing)
        super().__init__(system, (), None, {}, final, _never, _log)
        self._failures = failures
        #: What the message at hand has failed with.
        self._error: BaseException

    def fail(
        self,
        source: Origin,
        delivery: Delivery,
        endpoint: t.Any,
        error: BaseException,
        *,
        may_retry: bool = True,
    ) -> LogLine | None:
        """Do what the handler says about failures, or else raise the error."""
        self._error = error
        if endpoint is not None and endpoint.recovery is not None:
            return super().fail(source, delivery, endpoint, error, may_retry=may_retry)
        self._failures.append(error)
        source.discard(delivery)
        return None

    def park(
        self, source: Origin, delivery: Delivery, failure: t.Any, message_type: str
    ) -> None:
        """Keep what a message failed with whose retries are over."""
        source.discard(delivery)
        self._failures.append(self._error)


def _never(error: BaseException) -> bool:
    return False


def _nothing(*details: t.Any) -> None:
    # A test gets the exception itself.
    return None
