"""Markers of handlers that workers run."""

from __future__ import annotations

import datetime
import typing as t
from collections.abc import Iterable

from ..definitions import AsynchronousMark
from ..definitions import DelayedRetryMark
from ..definitions import ErrorChannelMark
from ..definitions import HeaderMark
from ..definitions import Mark
from ..definitions import WithoutTransactionMark
from ..errors import ConfigurationError
from ..message import DELIVERY_DELAY
from ..message import TIME_TO_LIVE
from ..retries import Exceptions
from ..retries import RetryTemplate
from .marking import Decorator
from .marking import marking
from .marking import several
from .pointcuts import EndpointMark
from .pointcuts import EndpointMarker

# For ``@asynchronous(…, execution=[…])``.
DelayedRetry = DelayedRetryMark
ErrorChannel = ErrorChannelMark
WithoutTransaction = WithoutTransactionMark

_OF_EXECUTION = (DelayedRetry, ErrorChannel, WithoutTransaction, EndpointMark)

Duration = datetime.timedelta | int


def asynchronous(
    channels: str | Iterable[str], *, execution: Iterable[Mark | EndpointMarker] = ()
) -> Decorator:
    """Let a worker handle the messages of a handler, or of all handlers of a class.

    Each handler gets a copy of the message of its own.

    :param channels: The name of a channel; several are passed one after the other.
    :param execution: What counts only while a worker handles a message:
        ``WithoutTransaction()``, ``DelayedRetry(…)``, ``ErrorChannel(…)`` or a marker
        of your own, an instance of an :class:`EndpointMarker`.
    """
    listed = () if callable(channels) else several(channels)
    if not listed or not all(isinstance(c, str) and c for c in listed):
        raise ConfigurationError(
            f"@asynchronous({channels!r}) names no channel. Give the name of one, for"
            ' example @asynchronous("orders").'
        )
    given = tuple(
        EndpointMark(marker=each) if isinstance(each, EndpointMarker) else each
        for each in execution
    )
    for mark in given:
        if not isinstance(mark, _OF_EXECUTION):
            raise ConfigurationError(
                f"@asynchronous has {mark!r} as an attribute of execution. Give"
                " WithoutTransaction(), DelayedRetry(…), ErrorChannel(…) or an"
                " EndpointMarker of your own."
            )
    return marking(AsynchronousMark(channels=listed, execution=given))


def delayed(
    delay: t.Any = None, *, expression: t.Any = None, replace: bool = True
) -> Decorator:
    """Have the worker handle messages only after a while.

    :param delay: A :class:`~datetime.timedelta`, milliseconds, or a moment with a time
        zone.
    :param expression: A callable or string that computes one of those instead.
    :param replace: Replace a delay that the message already carries.
    """
    return _timed("delayed", DELIVERY_DELAY, delay, expression, replace)


def time_to_live(
    duration: t.Any = None, *, expression: t.Any = None, replace: bool = True
) -> Decorator:
    """Forget messages that no worker takes in time.

    The time begins when a message is due first, and neither relays nor retries make it
    longer. What fails and would expire before its retry has failed for good.

    :param duration: A :class:`~datetime.timedelta`, or milliseconds.
    :param expression: A callable or string that computes it instead.
    :param replace: Replace one that the message already carries.
    """
    return _timed("time_to_live", TIME_TO_LIVE, duration, expression, replace)


def delayed_retry(
    initial: Duration = 1000,
    *,
    multiplier: float = 1.0,
    max_delay: Duration | None = None,
    max_attempts: int | None = 3,
    jitter: float = 0.0,
    exceptions: Exceptions = BaseException,
    except_for: Exceptions = (),
    dead_letter: str | None = None,
) -> Decorator:
    """Try a failed message of an asynchronous handler again after a while.

    :param initial: How long to wait the first time; a number is milliseconds.
    :param multiplier: How many times longer to wait each further time.
    :param max_delay: The longest wait.
    :param max_attempts: How many retries; ``None`` for no end.
    :param jitter: The part of a wait, 0 to 1, that is left to chance.
    :param exceptions: The exceptions that are worth trying again, all unless given.
    :param except_for: Those among them that never are.
    :param dead_letter: Where the message goes when all retries failed, or at once with
        an exception that isn't tried again; the dead letters unless given.
    """
    longest = None if max_delay is None else milliseconds(max_delay)
    retry = RetryTemplate(
        milliseconds(initial),
        multiplier,
        longest,
        max_attempts,
        jitter,
        exceptions,
        except_for,
    )
    return marking(DelayedRetryMark(retry=retry, dead_letter=dead_letter))


def error_channel(name: str) -> Decorator:
    """Send failed messages of an asynchronous handler to a channel.

    On a command bus that isn't asynchronous, it is for messages that failed at once;
    their sender isn't told. Those can go on over a message channel, where
    :func:`delayed_retry` says when they are tried again.

    :param name: The channel of an :class:`~flask_ecotone.ErrorHandler`, the input of an
        internal handler that takes a :class:`~flask_ecotone.FailedMessage`,
        ``"dead_letter"``, or ``"nullChannel"`` to give them up.
    """
    return marking(ErrorChannelMark(name=name))


def milliseconds(duration: t.Any) -> int:
    """Return a duration in milliseconds.

    :raises ConfigurationError: It is none.
    """
    if isinstance(duration, datetime.timedelta):
        duration = duration / datetime.timedelta(milliseconds=1)
    if isinstance(duration, bool) or not isinstance(duration, (int, float)):
        raise ConfigurationError(
            f"{duration!r} is no duration. Give a timedelta, or milliseconds."
        )
    return int(duration)


def _timed(
    name: str, header: str, value: t.Any, expression: t.Any, replace: bool
) -> Decorator:
    if (value is None) == (expression is None):
        raise ConfigurationError(
            f"@{name} takes either a value, for example timedelta(minutes=5), or an"
            " expression."
        )
    if isinstance(value, datetime.datetime) and header == DELIVERY_DELAY:
        if value.tzinfo is None:
            raise ConfigurationError(
                f"@{name} has the moment {value}, without time zone. Give one, for"
                " example datetime(…, tzinfo=UTC)."
            )
    elif value is not None:
        value = milliseconds(value)
        if value < 0:
            raise ConfigurationError(f"@{name} has {value} ms. It is 0 or more.")
    return marking(
        HeaderMark(
            name=header, value=value, expression=expression, keep_existing=not replace
        )
    )
