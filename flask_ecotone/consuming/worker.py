"""The worker: it claims messages, has them handled and knows when to stop."""

from __future__ import annotations

import datetime
import time
import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from logging import Logger

from ..channels.protocols import Delivery
from ..channels.protocols import Source
from ..definitions import Timing
from ..handling.writing import slip_of
from ..storage.failures import told
from .claimed import Claimed
from .company import Company
from .environment import OutageError
from .final_failures import GivenBackError
from .leases import Leases
from .limits import Limits
from .limits import Outcome
from .limits import resident_megabytes
from .outages import lengthening
from .outages import LISTING
from .outages import Outages
from .outages import SCHEDULES
from .processing import Processor
from .returning import Returning
from .scheduling import Schedules
from .stopping import Stopping

#: Seconds between two looks for what became due.
_RECOVERY_INTERVAL = 0.2
#: And when a source has said that nothing will be. Another worker may have died before
#: it claimed what it had made ready.
_LONGEST_TRUST = 5.0
#: How much longer an idle worker waits than it was busy with looking: it has less than
#: two percent of a processor, however many sources there are.
_IDLENESS = 60
_LONGEST_PAUSE = 1.0
#: Seconds after which a failure doesn't wait any longer for others.
_PATIENCE = 0.5
#: Seconds between two signs of life.
_SIGN_INTERVAL = 1.0
#: Why a worker has stopped that another one is to replace.
MEMORY_LIMIT: t.Final = "memory limit"


class Worker:
    """Takes messages from sources, in turn, until it is to stop.

    :param sources: Returns where to take messages from; asked again in each round, as
        tenants come and go.
    :param poll_interval: Seconds to wait when there was nothing to do.
    :param sign_of_life: Called once a second while messages come or are waited for.
    :param schedules: What to fire between messages.
    :param company: The other workers in this process.
    :param timing: When to begin to work, until there is nothing more to do; always
        unless given.
    :param turn: Which source begins each round. Always the same one: in a circle nobody
        is asked twice before the others were.
    """

    def __init__(
        self,
        sources: Callable[[], Sequence[Source]],
        processor: Processor,
        logger: Logger,
        *,
        limits: Limits | None = None,
        stopping: Stopping | None = None,
        poll_interval: float = 0.1,
        sign_of_life: Callable[[], None] | None = None,
        outcome: Outcome | None = None,
        schedules: Schedules | None = None,
        company: Company | None = None,
        timing: Timing | None = None,
        turn: int = 0,
    ) -> None:
        self._timing = timing
        self._company = company or Company()
        self._sources = sources
        self._schedules = schedules
        self._processor = processor
        self._log = logger
        self.limits = limits or Limits()
        self.stopping = stopping or Stopping()
        self._poll_interval = poll_interval
        self._sign_of_life = sign_of_life
        self._signed = 0.0
        self.outcome = outcome or Outcome()
        self._leases = Leases(logger)
        self._returning = Returning(self._leases, processor, logger)
        #: Source → when to look for what became due.
        self._look_at: dict[tuple[str, str | None], float] = {}
        self._turn = turn
        self._outages = Outages(logger)
        self._claimed_in = 0.0
        #: Source → how often in a row it was left alone, and until when.
        self._left_alone: dict[tuple[str, str | None], tuple[int, float]] = {}
        self._started = time.monotonic()

    def run(self) -> Outcome:
        """Work until a limit is reached or somebody asks to stop."""
        with self._leases:
            try:
                self._work_on()
            finally:
                self._returning.settle_all()
        return self.outcome

    def _work_on(self) -> None:
        has_worked = False
        while not self._is_done():
            if self._timing and not has_worked and not self._outages:
                self._wait_for(self._timing)
                if self._is_done():
                    break
            began = time.thread_time()
            has_worked = self._round()
            if has_worked or self._is_done():
                continue
            # Of what can't be reached nobody knows whether it is empty.
            if self.limits.finishes_when_empty and not self._has_to_wait():
                self.outcome.reason = "no messages"
                break
            if self._timing is None or self._outages:
                self._idle(began)

    def _round(self) -> bool:
        """Give each source a turn, and return whether one had something."""
        has_worked = self._schedules is not None and self._fire(self._schedules)
        sources = self._listed()
        turn = self._turn % max(1, len(sources))
        for source in (*sources[turn:], *sources[:turn]):
            if self._is_done():
                return True
            if self._outages.is_pending(source):
                continue
            try:
                has_worked |= self._take_turn(source)
            except Exception as error:
                is_alone = len(sources) == 1
                is_outage = isinstance(error, OutageError)
                if is_alone and source.tenant is None and not is_outage:
                    raise
                took = 0.0 if is_alone else self._claimed_in
                self._outages.begin(source, error, took)
            else:
                self._outages.end(source)
        return has_worked

    def _take_turn(self, source: Source) -> bool:
        give_back = partial(self._returning.give_back, source)
        self._returning.settle(source)
        wanted = 1 if self.limits.stops_on_failure else source.batch
        with self.outcome.reserving(wanted, self.limits.handled) as limit:
            if not limit:
                return False
            claim = partial(self._claim, source, limit)
            with self._company.claiming(claim, give_back) as deliveries:
                if deliveries:
                    self._work(source, deliveries)
                return bool(deliveries)

    def _listed(self) -> Sequence[Source]:
        """Return the sources, none while nobody knows the tenants."""
        if self._outages.is_pending(LISTING):
            return ()
        try:
            sources = list(self._sources())
        except Exception as error:
            if not self._processor.is_outage(error):
                raise
            self._outages.begin(LISTING, OutageError(told(error)))
            return ()
        self._outages.end(LISTING)
        self._outages.keep(sources)
        return sources

    def _fire(self, schedules: Schedules) -> bool:
        if self._outages.is_pending(SCHEDULES):
            return False
        has_fired = False
        try:
            with self._company.working(), closing(schedules.firings()) as firings:
                while not self._is_done():
                    with self.outcome.reserving(1, self.limits.handled) as limit:
                        is_success = next(firings, None) if limit else None
                        if is_success is None:
                            break
                        has_fired = True
                        self.outcome.count(is_success=is_success)
        except OutageError as error:
            self._outages.begin(SCHEDULES, error)
        else:
            self._outages.end(SCHEDULES)
        return has_fired

    def _claim(self, source: Source, limit: int) -> Sequence[Delivery]:
        now = time.monotonic()
        key = source.channel, source.tenant
        if self._left_alone.get(key, (0, 0.0))[1] > now:
            return ()
        try:
            if now >= self._look_at.get(key, now):
                source.recover()
                self._look_at[key] = now + _RECOVERY_INTERVAL
            found = source.claim(limit)
            if not found and self.limits.finishes_when_empty:
                source.recover()
                found = source.claim(limit)
            return found
        except Exception as error:
            self._look_at.pop(key, None)
            if self._processor.is_outage(error):
                raise OutageError(told(error)) from error
            raise
        finally:
            self._claimed_in = time.monotonic() - now

    def _work(self, source: Source, deliveries: Sequence[Delivery]) -> None:
        claimed = Claimed(source, list(deliveries))
        self._leases.hold(source, deliveries)
        key = source.channel, source.tenant
        try:
            self._handle(claimed)
            self._left_alone.pop(key, None)
        except GivenBackError as error:
            self.outcome.count(is_success=False)
            self._leave_alone(key, error)
        except BaseException as error:
            if not isinstance(error, Exception) and not self.stopping.is_requested:
                # A handler ends the worker. It counts as if that had died: given back,
                # the message would do so for ever.
                claimed.waiting.clear()
            raise
        finally:
            # What was handled apart from its message is removed at once for all.
            self._returning.give_back(source, claimed.waiting, claimed.finished)

    def _handle(self, claimed: Claimed) -> None:
        """Handle what waits, and take from it what is done."""
        waiting = claimed.waiting
        travelling = [each for each in waiting if slip_of(each.envelope)]
        if travelling:
            sent = self._processor.forward(claimed.source, travelling)
            for number in range(len(travelling)):
                self.outcome.count(is_success=number < sent)
            self._leases.drop(*travelling)
            gone = {each.position for each in travelling}
            waiting[:] = [each for each in waiting if each.position not in gone]
        try:
            self._handle_together(claimed)
            self._handle_each(claimed)
        except OutageError:
            claimed.take_back_failures()
            raise
        finally:
            self._put_away(claimed)

    def _handle_together(self, claimed: Claimed) -> None:
        """Handle those from the first on that can share a transaction."""
        source, waiting = claimed.source, claimed.waiting
        alone: list[Delivery] = []
        try:
            while not self._is_done():
                count = self._processor.together(source, waiting)
                if not count:
                    break
                result = self._processor.process_together(
                    source, waiting[:count], self._is_done
                )
                del waiting[: result.count]
                alone.extend(result.alone)
                claimed.failed.extend(result.failed)
                self._leases.drop(*result.handled)
                for _ in result.handled:
                    self.outcome.count(is_success=True)
                self._put_away(claimed)
                if result.is_over:
                    break
        finally:
            waiting[:0] = alone

    def _handle_each(self, claimed: Claimed) -> None:
        waiting, finished, failed = claimed.waiting, claimed.finished, claimed.failed
        if waiting:
            claimed.handled = self._processor.handled_apart(claimed.source, waiting)
        while waiting and not self._is_done():
            delivery = waiting[0]
            is_success = self._processor.process(claimed, delivery)
            waiting.pop(0)
            if not failed or failed[-1].delivery is not delivery:
                if not finished or finished[-1] is not delivery:
                    self._leases.drop(delivery)
                self.outcome.count(is_success=is_success)
            if failed and self._is_pressing(claimed):
                self._put_away(claimed)

    def _is_pressing(self, claimed: Claimed) -> bool:
        """Whether failures are to be seen to, though others of the claim may follow."""
        failed = claimed.failed
        if time.monotonic() - failed[0].at >= _PATIENCE:
            return True
        return not self._processor.can_wait(claimed.source, failed[-1])

    def _put_away(self, claimed: Claimed) -> None:
        """See to what failed: it is put back, parked, or what else is to be done."""
        while failed := claimed.failed:
            count = len(failed)
            if count > 1 and not self._processor.can_wait(claimed.source, failed[-1]):
                count -= 1
            try:
                self._processor.put_away(claimed.source, failed[:count])
            except BaseException:
                claimed.take_back_failures()
                raise
            self._leases.drop(*(each.delivery for each in failed[:count]))
            for _ in range(count):
                self.outcome.count(is_success=False)
            del failed[:count]

    def _leave_alone(self, key: tuple[str, str | None], error: GivenBackError) -> None:
        """Stop, or pass over a source for a while, longer each time."""
        if error.stops:
            self._log.error("%s. The worker stops.", error)
            self.outcome.is_broken_off = True
            self.outcome.reason = "a message failed for good"
            self.stopping.request()
            return
        times = self._left_alone.get(key, (0, 0.0))[0] + 1
        wait = lengthening(times)
        self._left_alone[key] = times, time.monotonic() + wait
        self._log.error("%s; %r is left alone for %.1f s.", error, key[0], wait)

    def _wait_for(self, timing: Timing) -> None:
        now = datetime.datetime.now(datetime.UTC)
        due = time.monotonic() + (timing.next_after(now) - now).total_seconds()
        while (left := due - time.monotonic()) > 0 and not self._is_done():
            self.stopping.wait(self._remaining(min(left, 1.0)))

    def _idle(self, began: float) -> None:
        due = [self._next_due(source) for source in self._listed()]
        if self._schedules is not None:
            due.append(self._next_due(SCHEDULES))
        busy = time.thread_time() - began
        wait = max(self._poll_interval, min(_IDLENESS * busy, _LONGEST_PAUSE))
        for seconds in due:
            if seconds is not None:
                wait = min(wait, max(seconds, 0.001))
        pending = self._outages.next_try()
        if pending is not None:
            wait = min(wait, max(pending, 0.001))
        self._pause(self._remaining(wait))

    def _pause(self, seconds: float) -> None:
        """Wait for something to change, with signs of life in between."""
        until = time.monotonic() + seconds
        while not self.stopping.wait(min(seconds, _SIGN_INTERVAL)):
            seconds = until - time.monotonic()
            if seconds <= 0 or self._is_done():
                return

    def _next_due(self, source: Source | str) -> float | None:
        if self._outages.is_pending(source):
            return None
        try:
            if not isinstance(source, str):
                found = source.next_due()
                trust = _LONGEST_TRUST if found is None else min(found, _LONGEST_TRUST)
                key = source.channel, source.tenant
                self._look_at[key] = time.monotonic() + trust
                return found
            return None if self._schedules is None else self._schedules.next_due()
        except OutageError as error:
            self._outages.begin(source, error)
        except Exception as error:
            if self._processor.is_outage(error):
                self._outages.begin(source, OutageError(told(error)))
            elif isinstance(source, str):
                raise
            # Whatever else it is, the next claim meets it too.
        return None

    def _has_to_wait(self) -> bool:
        """Whether nobody knows yet if there is something to do."""
        limit = self.limits.handled
        # What other threads may claim, and don't, is left to this one.
        return bool(self._outages) or (limit > 0 and self.outcome.left(limit) <= 0)

    def _remaining(self, wait: float) -> float:
        if not self.limits.execution_time:
            return wait
        left = self._started + self.limits.execution_time - time.monotonic()
        return max(0.0, min(wait, left))

    def _is_done(self) -> bool:
        if self._sign_of_life is not None:
            now = time.monotonic()
            if now - self._signed >= _SIGN_INTERVAL:
                self._signed = now
                self._sign_of_life()
        reason = self._reason()
        if reason:
            self.outcome.reason = self.outcome.reason or reason
        return bool(reason)

    def _reason(self) -> str:
        limits, outcome = self.limits, self.outcome
        if self.stopping.is_requested:
            return "asked to stop"
        if limits.handled and outcome.handled + outcome.failed >= limits.handled:
            return "handled message limit"
        if limits.stops_on_failure and outcome.failed:
            return "a message failed"
        if limits.execution_time:
            if time.monotonic() - self._started >= limits.execution_time:
                return "execution time limit"
        if limits.memory and (resident_megabytes() or 0) >= limits.memory:
            return MEMORY_LIMIT
        return ""
