"""Schedules: which ticks are due, and how they are fired."""

from __future__ import annotations

import datetime
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
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
from ..storage.failures import told
from ..storage.failures import values_hidden
from ..storage.protocols import Ticks
from ..system import MessagingSystem
from ..system.endpoint import ScheduledEndpoint
from ..system.schedules import FailedFiringError
from .environment import Environment
from .environment import OutageError
from .failures import FailedMessage
from .final_failures import class_name
from .tracebacks import written

T = t.TypeVar("T")

_UTC = datetime.UTC
_SECOND = datetime.timedelta(seconds=1)
#: A worker that starts fires a tick that is no older than this, if the schedule ran
#: before: a restart loses nothing.
_GRACE = 60 * _SECOND
#: How long to leave alone what another worker fires.
_PAUSE = 0.5 * _SECOND
#: How long to leave alone a schedule whose tenant or database is gone.
_OUTAGE_PAUSE = 2 * _SECOND
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
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def id(self) -> str:
        """The name of the schedule."""
        return self.endpoint.id

    def pass_to(self, moment: datetime.datetime) -> None:
        """Be done with the ticks up to a moment."""
        self.done, self.again_at = moment, None
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
    :param error_channel: Where failures are told of those that don't say it.
    """

    def __init__(
        self,
        system: MessagingSystem,
        endpoints: Iterable[ScheduledEndpoint],
        ticks: Ticks,
        environment: Environment,
        logger: Logger,
        clock: Callable[[], float] | None = None,
        error_channel: str | None = None,
        catches_up: bool = False,
    ) -> None:
        self._system = system
        self._ticks = ticks
        self._environment = environment
        self._log = logger
        self._clock = clock or ticks.time
        self._error_channel = error_channel
        self._catches_up = catches_up
        self._listed = tuple(endpoints)
        self._schedules: tuple[Schedule, ...] | None = None
        self._starting = threading.Lock()

    @property
    def ids(self) -> list[str]:
        """The names of the schedules."""
        return [endpoint.id for endpoint in self._listed]

    def only(self, ids: Iterable[str], *, catches_up: bool = False) -> Schedules:
        """Return some of them, as one worker process runs them.

        :param catches_up: Whether a process runs now and then only, so that what became
            due since the last one is due, and one that is new begins now.
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
            self._error_channel,
            catches_up,
        )

    def due(self, now: datetime.datetime) -> list[str]:
        """Return the names of those that are due."""
        return [each.id for each in self._started(now) if self._due(each, now)]

    def next_runs(self) -> dict[str, datetime.datetime]:
        """Return when each of them is due next, in UTC."""
        now = self._now()
        return {each.id: each.timing.next_after(now) for each in self._listed}

    def firings(self) -> Generator[bool, None, None]:
        """Fire what is due, one after the other, and yield whether it succeeded.

        One whose tenant isn't known, or whose database is gone, is left for later.

        :raises OutageError: The database that knows the time is gone.
        """
        if not self._listed:
            return
        now = self._now()
        for schedule in self._started(now):
            # Another thread of this worker may be at it.
            if schedule.lock.acquire(blocking=False):
                try:
                    yield from self._run(schedule, now)
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

    def _run(self, schedule: Schedule, now: datetime.datetime) -> Iterator[bool]:
        for _ in range(_IN_A_ROW):
            tick = self._due(schedule, now)
            if tick is None:
                return
            try:
                is_success = self._fire(schedule, tick)
            except TickBusyError:
                schedule.again_at = now + _PAUSE
                return
            schedule.pass_to(tick)
            if is_success is not None:
                yield is_success

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
            if self._catches_up:
                self._note_begin(endpoint, now)
            return schedule.begins
        if schedule.endpoint.misfire is Misfire.SKIP and not self._catches_up:
            return max(last, schedule.begins - _GRACE)
        return last

    def _note_begin(self, endpoint: ScheduledEndpoint, now: datetime.datetime) -> None:
        # The next process is to know since when there is something to catch up with.
        at = round(now.timestamp() * 1000)
        self._surely(
            lambda: endpoint.for_tenant(
                lambda: self._ticks.take_at_once(endpoint.id, at)
            )
        )

    def _last_taken(self, endpoint: ScheduledEndpoint) -> datetime.datetime | None:
        def ask() -> int | None:
            self._ticks.prepare(endpoint.id)
            return self._ticks.last_taken(endpoint.id)

        found: int | None = endpoint.for_tenant(ask)
        return None if found is None else _moment(found / 1000)

    def _fire(self, schedule: Schedule, tick: datetime.datetime) -> bool | None:
        """Fire a tick; return whether that succeeded, ``None`` if it was fired."""
        endpoint, at = schedule.endpoint, round(tick.timestamp() * 1000)
        ticks = self._ticks
        take = ticks.take if endpoint.is_transactional else ticks.take_at_once
        # Who comes late finds out without a transaction.
        last = self._surely(lambda: self._last_taken(endpoint))
        if last is not None and last >= tick:
            return None
        try:
            is_fired = self._surely(
                lambda: endpoint.fire(tick, lambda: take(endpoint.id, at))
            )
            return is_fired or None
        except (OutageError, TickBusyError):
            raise
        except FailedFiringError as error:
            failed = t.cast(Exception, error.__cause__)
        except Exception as error:
            # The transaction that took the tick was lost as well.
            failed = error
            self._surely(
                lambda: endpoint.for_tenant(lambda: ticks.take_at_once(endpoint.id, at))
            )
        self._surely(lambda: self._tell(endpoint, tick, failed))
        return False

    def _tell(
        self, endpoint: ScheduledEndpoint, tick: datetime.datetime, error: Exception
    ) -> None:
        target = endpoint.error_channel or self._error_channel
        if target == NULL_CHANNEL:
            self._log.warning(
                "The schedule %r failed at its tick %s: %s.",
                endpoint.id,
                tick,
                told(error),
            )
            return
        with values_hidden(error):
            self._log.error(
                "The schedule %r failed at its tick %s.",
                endpoint.id,
                tick.isoformat(),
                exc_info=error,
            )
        if target is None:
            return
        headers = {DUE_AT: tick}
        failed = FailedMessage(
            message_id=new_id(),
            endpoint_id=endpoint.id,
            channel=endpoint.id,
            error_class=class_name(error),
            error_message=str(error),
            traceback=written(error),
            attempts=1,
            headers=headers,
            body=b"",
        )
        listener = replace(
            self._system.channel(target, endpoint.marked.where), execute=None
        )
        try:
            self._system.execute(listener, Message(failed, headers), lambda: True)
        except Exception as failure:
            if self._environment.is_outage(failure):
                raise
            with values_hidden(failure):
                self._log.exception(
                    "The error channel %r of the schedule %r failed as well: %s",
                    target,
                    endpoint.id,
                    told(error),
                )

    def _started(self, now: datetime.datetime) -> tuple[Schedule, ...]:
        with self._starting:
            if self._schedules is None:
                delays = 0 if self._catches_up else 1
                self._schedules = tuple(
                    Schedule(each, now + delays * each.initial_delay * _SECOND / 1000)
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
                raise OutageError(told(error)) from error
            raise


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, _UTC)
