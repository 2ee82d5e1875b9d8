"""Schedules: which ticks are due, and how they are fired."""

from __future__ import annotations

import datetime
import threading
import traceback
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from logging import Logger

from ..channels.protocols import NULL_CHANNEL
from ..definitions import Misfire
from ..definitions import Timing
from ..errors import did_you_mean
from ..errors import TenancyError
from ..errors import TickBusyError
from ..errors import UnknownEndpointError
from ..message import DUE_AT
from ..message import Message
from ..message import new_id
from ..storage.protocols import Ticks
from ..system import MessagingSystem
from ..system.endpoint import ScheduledEndpoint
from .failures import class_name
from .failures import FailedMessage
from .processing import Environment
from .processing import OutageError

T = t.TypeVar("T")

_UTC = datetime.UTC
_SECOND = datetime.timedelta(seconds=1)
#: A worker that starts fires a tick that is no older than this, if the schedule ran
#: before: a restart loses nothing.
_GRACE = 60 * _SECOND
#: How long to leave alone what another worker fires, or what failed in passing.
_PAUSE = 0.5 * _SECOND
#: How long to leave alone a schedule whose tenant or database is gone.
_OUTAGE_PAUSE = 2 * _SECOND
_REPEATS: t.Final = 3
#: Ticks of one schedule that are fired in a row before others have their turn.
_IN_A_ROW: t.Final = 10
#: How far to look back for the latest tick, from near to far.
_WINDOWS = tuple(n * _SECOND for n in (1, 60, 3600, 86_400, 32 * 86_400))


@dataclass(slots=True)
class Schedule:
    """When a function is due, as one worker process sees it.

    :param begins: Nothing is fired before.
    """

    endpoint: ScheduledEndpoint
    begins: datetime.datetime
    #: The ticks up to here are done with; ``None``: not known yet.
    done: datetime.datetime | None = None
    upcoming: datetime.datetime | None = None
    #: When to try again what couldn't be fired.
    again_at: datetime.datetime | None = None
    failures: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def id(self) -> str:
        """The name of the schedule."""
        return self.endpoint.id

    def pass_to(self, moment: datetime.datetime) -> None:
        """Be done with the ticks up to a moment."""
        self.done, self.again_at, self.failures = moment, None, 0
        self.upcoming = self.endpoint.timing.next_after(moment)

    def due(self, now: datetime.datetime) -> datetime.datetime | None:
        """Return the tick to fire, if one is due."""
        upcoming = self.upcoming
        if self.done is None or upcoming is None or upcoming > now:
            return None
        if self.endpoint.misfire is Misfire.ALL:
            return upcoming
        return latest(self.endpoint.timing, upcoming, now)

    def next_due(self, now: datetime.datetime) -> datetime.datetime:
        """Return when to look again."""
        if self.upcoming is None:
            return max(now, self.begins, self.again_at or now)
        return max(self.upcoming, self.again_at or self.upcoming, self.begins)


def latest(
    timing: Timing, known: datetime.datetime, now: datetime.datetime
) -> datetime.datetime:
    """Return the latest tick that is due.

    :param known: A tick that is due.
    """
    for window in _WINDOWS:
        if now - window <= known:
            break
        found = timing.next_after(now - window)
        if found <= now:
            known = found
            break
    while (following := timing.next_after(known)) <= now:
        known = following
    return known


class Schedules:
    """Fires what is due. Any number of workers do so at the same time.

    :param endpoints: What there is to fire.
    :param clock: Returns the seconds since the epoch, in an app context.
    """

    def __init__(
        self,
        system: MessagingSystem,
        endpoints: Iterable[ScheduledEndpoint],
        ticks: Ticks,
        environment: Environment,
        logger: Logger,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._system = system
        self._ticks = ticks
        self._environment = environment
        self._log = logger
        self._clock = clock or ticks.time
        self._listed = tuple(endpoints)
        self._schedules: tuple[Schedule, ...] | None = None
        self._starting = threading.Lock()

    @property
    def ids(self) -> list[str]:
        """The names of the schedules."""
        return [endpoint.id for endpoint in self._listed]

    def only(self, ids: Iterable[str]) -> Schedules:
        """Return some of them, as one worker process runs them.

        :raises UnknownEndpointError: One of them isn't there.
        """
        by_id = {endpoint.id: endpoint for endpoint in self._listed}
        wanted = list(ids)
        for each in wanted:
            if each not in by_id:
                raise UnknownEndpointError(
                    f"There is no schedule {each!r} to run.{did_you_mean(each, by_id)}"
                    f" There are: {', '.join(by_id) or 'none'}."
                )
        return Schedules(
            self._system,
            [by_id[each] for each in wanted],
            self._ticks,
            self._environment,
            self._log,
            self._clock,
        )

    def due(self, now: datetime.datetime) -> list[str]:
        """Return the names of those that are due."""
        return [each.id for each in self._started(now) if self._due(each, now)]

    def next_runs(self) -> dict[str, datetime.datetime]:
        """Return when each of them is due next, in UTC."""
        now = self._now()
        return {each.id: each.timing.next_after(now) for each in self._listed}

    def run_due(self) -> int:
        """Fire what is due, and return how many firings there were.

        One whose tenant isn't known, or whose database is gone, is left for later.

        :raises OutageError: The database that knows the time is gone.
        """
        if not self._listed:
            return 0
        now, fired = self._now(), 0
        for schedule in self._started(now):
            # Another thread of this worker may be at it.
            if schedule.lock.acquire(blocking=False):
                try:
                    fired += self._run(schedule, now)
                except (OutageError, TenancyError) as error:
                    schedule.again_at = now + _OUTAGE_PAUSE
                    is_outage = isinstance(error, OutageError)
                    self._log.warning(
                        "%s the schedule %r is %s; trying again in %.1f s (%s).",
                        "The database of" if is_outage else "The tenant of",
                        schedule.id,
                        "gone" if is_outage else "not known",
                        _OUTAGE_PAUSE.total_seconds(),
                        error,
                    )
                finally:
                    schedule.lock.release()
        return fired

    def next_due(self) -> float | None:
        """Return in how many seconds something is due; ``None`` if nothing ever is."""
        if not self._listed:
            return None
        now = self._now()
        # One that another thread is firing isn't waited for.
        waits = [
            (each.next_due(now) - now).total_seconds()
            for each in self._started(now)
            if not each.lock.locked()
        ]
        return max(0.0, min(waits)) if waits else None

    def _run(self, schedule: Schedule, now: datetime.datetime) -> int:
        fired = 0
        while fired < _IN_A_ROW and (tick := self._due(schedule, now)) is not None:
            try:
                fired += self._fire(schedule, tick)
            except TickBusyError:
                schedule.again_at = now + _PAUSE
                break
            except _PassingError as error:
                schedule.failures += 1
                schedule.again_at = now + _PAUSE
                self._log.warning(
                    "%r failed in passing and is fired again (%s).", schedule.id, error
                )
                break
            schedule.pass_to(tick)
        return fired

    def _due(
        self, schedule: Schedule, now: datetime.datetime
    ) -> datetime.datetime | None:
        if now < schedule.begins:
            return None
        if schedule.again_at is not None and schedule.again_at > now:
            return None
        if schedule.done is None:
            schedule.pass_to(self._beginning(schedule, now))
        return schedule.due(now)

    def _beginning(
        self, schedule: Schedule, now: datetime.datetime
    ) -> datetime.datetime:
        """Return up to when ticks are done with, for a worker that starts."""
        endpoint = schedule.endpoint
        last = self._surely(lambda: self._last_taken(endpoint))
        if last is None:
            return schedule.begins
        if schedule.endpoint.misfire is Misfire.SKIP:
            return max(last, schedule.begins - _GRACE)
        return last

    def _last_taken(self, endpoint: ScheduledEndpoint) -> datetime.datetime | None:
        def ask() -> int | None:
            self._ticks.prepare(endpoint.id)
            return self._ticks.last_taken(endpoint.id)

        found: int | None = endpoint.for_tenant(ask)
        return None if found is None else _moment(found / 1000)

    def _fire(self, schedule: Schedule, tick: datetime.datetime) -> bool:
        endpoint, at = schedule.endpoint, round(tick.timestamp() * 1000)
        may_repeat = schedule.failures < _REPEATS

        def fire() -> bool:
            # Who comes late finds out without a transaction.
            ticks = self._ticks
            last = self._last_taken(endpoint)
            if last is not None and last >= tick:
                return False
            take = ticks.take if endpoint.is_transactional else ticks.take_at_once
            return endpoint.fire(tick, lambda: take(endpoint.id, at))

        try:
            return self._surely(fire)
        except (OutageError, TickBusyError):
            raise
        except Exception as error:
            if may_repeat and self._environment.is_transient(error):
                raise _PassingError(str(error)) from error
            failed = error
        # It was rolled back together with the work; what failed is done with.
        self._surely(lambda: self._give_up(endpoint, tick, at, failed))
        return True

    def _give_up(
        self,
        endpoint: ScheduledEndpoint,
        tick: datetime.datetime,
        at: int,
        error: Exception,
    ) -> None:
        endpoint.for_tenant(lambda: self._ticks.take_at_once(endpoint.id, at))
        target = endpoint.error_channel
        if target == NULL_CHANNEL:
            return
        if target is None:
            self._log.error(
                "The schedule %r failed at its tick %s.",
                endpoint.id,
                tick.isoformat(),
                exc_info=error,
            )
            return
        headers = {DUE_AT: tick}
        failed = FailedMessage(
            message_id=new_id(),
            endpoint_id=endpoint.id,
            channel=endpoint.id,
            error_class=class_name(error),
            error_message=str(error),
            traceback="".join(traceback.format_exception(error)),
            attempts=1,
            headers=headers,
            body=b"",
        )
        listener = self._system.channel(target, endpoint.marked.where)
        try:
            self._system.execute(listener, Message(failed, headers), lambda: True)
        except Exception as failure:
            if self._environment.is_outage(failure):
                raise
            self._log.exception(
                "The error channel %r of the schedule %r failed as well: %s",
                target,
                endpoint.id,
                error,
            )

    def _started(self, now: datetime.datetime) -> tuple[Schedule, ...]:
        with self._starting:
            if self._schedules is None:
                self._schedules = tuple(
                    Schedule(each, now + each.initial_delay * _SECOND / 1000)
                    for each in self._listed
                )
            return self._schedules

    def _now(self) -> datetime.datetime:
        return _moment(self._surely(self._clock))

    def _surely(self, call: Callable[[], T]) -> T:
        """Call something in an app context of its own, and tell outages apart."""
        try:
            with self._environment.context():
                return call()
        except Exception as error:
            if self._environment.is_outage(error):
                raise OutageError(str(error)) from error
            raise


class _PassingError(Exception):
    """A firing failed for a reason that may be gone the next time."""


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, _UTC)
