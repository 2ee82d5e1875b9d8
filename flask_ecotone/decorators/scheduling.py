"""Markers of functions that run at certain times."""

from __future__ import annotations

import datetime
import typing as t

from ..definitions import Misfire
from ..definitions import PollerMark
from ..definitions import ScheduledMark
from ..definitions import Timing
from ..errors import ConfigurationError
from ..errors import did_you_mean
from .asynchronous import Duration
from .asynchronous import milliseconds
from .marking import Decorator
from .marking import F
from .marking import is_markable
from .marking import marking
from .timing import Cron
from .timing import Every


@t.overload
def scheduled(marked: F, /) -> F: ...
@t.overload
def scheduled(
    *,
    cron: str | None = None,
    every: datetime.timedelta | None = None,
    timezone: datetime.tzinfo | str | None = None,
    endpoint_id: str | None = None,
    output_channel: str | None = None,
    misfire: t.Literal["skip", "once", "all"] = "skip",
    initial_delay: Duration | None = None,
) -> Decorator: ...
def scheduled(
    marked: t.Any = None,
    /,
    *,
    cron: str | None = None,
    every: datetime.timedelta | None = None,
    timezone: datetime.tzinfo | str | None = None,
    endpoint_id: str | None = None,
    output_channel: str | None = None,
    misfire: t.Literal["skip", "once", "all"] = "skip",
    initial_delay: Duration | None = None,
) -> t.Any:
    """Run a function or method at certain times, however many workers there are.

    It takes no message; services and what is marked :class:`Header`,
    :class:`Reference` or :class:`ConfigVariable` are injected.

    :param cron: Five fields: minute, hour, day of the month, month, day of the week.
    :param every: The time between two firings, instead.
    :param timezone: Whose clocks ``cron`` is about; those of UTC unless given.
    :param endpoint_id: The name of the schedule; ``module:qualname`` unless given.
    :param output_channel: Where a result that isn't ``None`` is sent.
    :param misfire: What becomes of ticks that passed while no worker ran: they are
        left out (``"skip"``), made up for by one firing (``"once"``), or all of them
        are fired (``"all"``).
    :param initial_delay: How long a worker runs before the first firing; a number is
        milliseconds.
    """
    if is_markable(marked):
        return scheduled()(marked)
    if marked is not None:
        raise ConfigurationError(
            f"@scheduled({marked!r}) doesn't say what that is. Write cron={marked!r} or"
            " every=timedelta(minutes=5)."
        )
    known = {each.value: each for each in Misfire}
    if not isinstance(misfire, str) or misfire not in known:
        raise ConfigurationError(
            f"@scheduled has misfire={misfire!r}.{did_you_mean(str(misfire), known)}"
            f" It is one of {', '.join(known)}."
        )
    if endpoint_id is not None and (not endpoint_id or len(endpoint_id) > 255):
        raise ConfigurationError(
            f"@scheduled has endpoint_id={endpoint_id!r}. Give 1 to 255 characters."
        )
    return marking(
        ScheduledMark(
            timing=_timing("scheduled", cron, every, timezone),
            endpoint_id=endpoint_id,
            output_channel=output_channel,
            misfire=known[misfire],
            initial_delay=_delay("scheduled", initial_delay) or 0,
        )
    )


def poller(
    *,
    cron: str | None = None,
    every: datetime.timedelta | None = None,
    timezone: datetime.tzinfo | str | None = None,
    error_channel: str | None = None,
    initial_delay: Duration | None = None,
) -> Decorator:
    """Say when a ``@scheduled`` function runs, over what that says, and how it fails.

    :param error_channel: The input of an internal handler that takes a
        :class:`~flask_ecotone.FailedMessage`, or ``"nullChannel"``. Failures are logged
        unless given.
    """
    return marking(
        PollerMark(
            timing=_timing("poller", cron, every, timezone),
            error_channel=error_channel,
            initial_delay=_delay("poller", initial_delay),
        )
    )


def _timing(
    name: str,
    cron: str | None,
    every: datetime.timedelta | None,
    timezone: datetime.tzinfo | str | None,
) -> Timing | None:
    if cron is not None and every is not None:
        raise ConfigurationError(
            f"@{name} has both cron={cron!r} and every={every!r}. Give one of them."
        )
    if timezone is not None and cron is None:
        raise ConfigurationError(
            f"@{name} has timezone={timezone!r} without cron=…, and only that is about"
            " clocks. Leave it out, or give a cron expression."
        )
    if cron is not None:
        return Cron(cron, timezone)
    return None if every is None else Every(every)


def _delay(name: str, given: Duration | None) -> int | None:
    if given is None:
        return None
    delay = milliseconds(given)
    if delay < 0:
        raise ConfigurationError(
            f"@{name} has an initial_delay of {delay} ms. It is 0 or more."
        )
    return delay
