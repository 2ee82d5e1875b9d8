"""The end of messages that failed for good and that no error channel takes."""

from __future__ import annotations

import logging
import time
import typing as t
from collections.abc import Callable
from dataclasses import dataclass
from logging import Logger

from ..channels.protocols import Capability
from ..channels.protocols import Delivery
from ..channels.protocols import FinalFailure
from ..channels.protocols import Origin
from ..handling.writing import Writing
from ..message import FIRST_FAILED
from ..message import RETRY_NUMBER
from ..message import TYPE_ID
from ..retries import RetryTemplate
from ..storage.failures import told
from .tracebacks import written

#: When what is sent again comes back: later each time.
_RESENDING: t.Final = RetryTemplate(1000, 2.0, 600_000, None)


#: What headers may say: whoever writes them must not make a message impossible to end.
_MOST: t.Final = 1_000_000
_LATEST: t.Final = 2**53


class GivenBackError(Exception):
    """A message failed for good and keeps its place: the worker gives it back.

    :param stops: Whether the worker stops; else it leaves the channel alone for a
        while.
    """

    def __init__(self, text: str, *, stops: bool) -> None:
        super().__init__(text)
        self.stops = stops


@dataclass(frozen=True, slots=True)
class LogLine:
    """What to log once that what was done with a message is committed.

    :param level: One of those of :mod:`logging`.
    :param values: What the text is formatted with.
    """

    level: int
    text: str
    values: tuple[t.Any, ...]

    def write(self, logger: Logger) -> None:
        """Log it."""
        logger.log(self.level, self.text, *self.values)


class Parking(t.Protocol):
    """Keeps messages that failed for good."""

    def park(
        self, source: Origin, delivery: Delivery, failure: t.Any, message_type: str
    ) -> None:
        """Keep a message and remove it from its channel."""
        ...


class FinalFailures:
    """Does with messages what their channel says, or else the application.

    :param default: What the application says.
    :param parking: Keeps dead letters, if something does.
    :param failure: Makes what ``parking`` keeps of an error.
    """

    def __init__(
        self,
        writing: Writing,
        default: FinalFailure,
        parking: Parking | None,
        failure: Callable[..., t.Any],
    ) -> None:
        self._writing = writing
        self._default = default
        self._parking = parking
        self._failure = failure

    def can_wait(self, source: Origin) -> bool:
        """Whether what fails can be ended a little later: it doesn't keep its place."""
        strategy = source.on_exhausted or self._default
        return strategy not in (FinalFailure.RELEASE, FinalFailure.STOP)

    def end(
        self,
        source: Origin,
        delivery: Delivery,
        error: BaseException,
        headers: dict[str, t.Any],
        what: str,
        strategy: FinalFailure | None = None,
    ) -> LogLine:
        """Do with a message what is said, and return what to log.

        :param headers: Its headers; empty if they can't be read.
        :param what: What logs call it.
        :param strategy: What is said for this message, whatever the channel says.
        :raises GivenBackError: It is to be given back.
        :raises LeaseLostError: It isn't ours any more.
        """
        strategy = strategy or source.on_exhausted or self._default
        said = f"{class_name(error)}: {told(error)}"
        if strategy is FinalFailure.DEAD_LETTER and self._parking is not None:
            self._park(self._parking, source, delivery, error, headers)
            became = "was parked"
        elif strategy is FinalFailure.IGNORE:
            source.discard(delivery)
            became = "was removed"
        elif strategy in (FinalFailure.RELEASE, FinalFailure.STOP):
            stops = strategy is FinalFailure.STOP
            text = f"{what} failed for good and is given back: {said}"
            raise GivenBackError(text, stops=stops) from error
        else:
            wait = self._resend(source, delivery, headers)
            became = f"comes back in {wait:.1f} s"
        values = what, became, said
        return LogLine(logging.ERROR, "%s failed for good and %s: %s", values)

    def _resend(
        self, source: Origin, delivery: Delivery, headers: dict[str, t.Any]
    ) -> float:
        """Put a message behind the others; return the seconds until it comes back."""
        retried = number(headers.get(RETRY_NUMBER))
        # How often one failed that can't be read is written nowhere.
        wait = _RESENDING.delay(retried + 1) if headers else _RESENDING.max_delay
        return put_back(source, delivery, headers, wait or 0, self._writing) / 1000

    def _park(
        self,
        parking: Parking,
        source: Origin,
        delivery: Delivery,
        error: BaseException,
        headers: dict[str, t.Any],
    ) -> None:
        attempts = number(headers.get(RETRY_NUMBER)) + 1
        failure = self._failure(
            class_name(error),
            str(error),
            written(error),
            max(attempts, delivery.attempts),
            number(headers.get(FIRST_FAILED), _LATEST) or None,
        )
        if headers:
            again = self._writing.headers(without_retries(headers))
            kept = delivery.envelope.postponed(0, again)
            delivery = Delivery(kept, delivery.position, delivery.token, 0)
        parking.park(source, delivery, failure, str(headers.get(TYPE_ID) or ""))


def put_back(
    source: Origin,
    delivery: Delivery,
    headers: dict[str, t.Any],
    delay: int,
    writing: Writing,
) -> int:
    """Put a failed message behind the others, and note in it that it failed once more.

    :param headers: Its headers; empty if they can't be read.
    :param delay: Milliseconds until it comes back.
    :return: The delay, 0 if the channel can't wait: then one comes after the other.
    """
    if Capability.DELAY not in source.capabilities:
        delay = 0
    again = None
    if headers:
        headers = {**headers, RETRY_NUMBER: number(headers.get(RETRY_NUMBER)) + 1}
        headers.setdefault(FIRST_FAILED, _claimed_at(delivery))
        again = writing.headers(headers)
    source.requeue(delivery, delivery.envelope.postponed(delay, again))
    return delay


def expires_within(delay: int, delivery: Delivery) -> bool:
    """Return whether a message expires before a delay, in milliseconds, is over."""
    expires_at = delivery.envelope.expires_at
    return expires_at is not None and _claimed_at(delivery) + delay >= expires_at


def _claimed_at(delivery: Delivery) -> int:
    return delivery.claimed_at or int(time.time() * 1000)


def without_retries(headers: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return headers that say nothing of retries."""
    own = (RETRY_NUMBER, FIRST_FAILED)
    return {name: value for name, value in headers.items() if name not in own}


def number(value: t.Any, most: int = _MOST) -> int:
    """Return a header that counts, up to a limit; 0 unless it does."""
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return max(0, min(value, most))


def class_name(error: BaseException) -> str:
    """Return the name of the class of an error, with its module."""
    cls = type(error)
    if cls.__module__ == "builtins":
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"
