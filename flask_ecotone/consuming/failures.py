"""What becomes of a message whose handler failed."""

from __future__ import annotations

import random
import time
import traceback
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from logging import Logger

from ..channels.protocols import DEAD_LETTER_CHANNEL
from ..channels.protocols import Delivery
from ..channels.protocols import NULL_CHANNEL
from ..channels.protocols import Source
from ..definitions import DelayedRetryMark
from ..definitions import ErrorChannelMark
from ..definitions import RetryTemplate
from ..errors import ConfigurationError
from ..errors import ConversionError
from ..errors import did_you_mean
from ..handling.writing import read_headers
from ..message import Message
from ..message import TYPE_ID
from ..system import MessagingSystem
from ..system.endpoint import Endpoint

#: How often a message was tried again.
RETRY_NUMBER: t.Final = "ecotone_retry_number"
#: When it failed first, in milliseconds since the epoch.
FIRST_FAILED: t.Final = "ecotone.first_failed_at"

_DEFAULT_RETRY = RetryTemplate(initial=1000, multiplier=10.0, max_attempts=3)


@dataclass(frozen=True, slots=True)
class ErrorHandler:
    """What becomes of messages that failed, if their handler says nothing else.

    :param error_channel: Its name, for ``@error_channel``.
    :param retry: When they are tried again.
    :param dead_letter: Where they go in the end: ``"dead_letter"``, the input of an
        internal handler that takes a :class:`FailedMessage`, or ``"nullChannel"``.
    """

    error_channel: str = "errorChannel"
    retry: RetryTemplate = _DEFAULT_RETRY
    dead_letter: str = field(default=DEAD_LETTER_CHANNEL)


@dataclass(frozen=True, slots=True)
class FailedMessage:
    """A message that failed, as the handler of an error channel gets it.

    :param body: The payload as it lay in the channel.
    :param attempts: How often it was tried.
    """

    message_id: str
    endpoint_id: str
    channel: str
    error_class: str
    error_message: str
    traceback: str
    attempts: int
    headers: dict[str, t.Any]
    body: bytes


class Parking(t.Protocol):
    """Keeps messages that failed for good."""

    def park(
        self, source: Source, delivery: Delivery, failure: t.Any, message_type: str
    ) -> None:
        """Keep a message and remove it from its channel."""
        ...


class Recovery:
    """Decides what becomes of failed messages, and does it.

    :param handlers: What the application configures.
    :param default: The name of the error channel of handlers that name none.
    :param parking: Keeps messages that failed for good, if something does.
    :param failure: Makes what ``parking`` keeps of an error.
    """

    def __init__(
        self,
        system: MessagingSystem,
        handlers: Iterable[ErrorHandler],
        default: str | None,
        parking: Parking | None,
        failure: Callable[..., t.Any],
        logger: Logger,
    ) -> None:
        self._system = system
        self._handlers = {each.error_channel: each for each in handlers}
        fallback = ErrorHandler()
        self._handlers.setdefault(fallback.error_channel, fallback)
        self._default = default or fallback.error_channel
        if default is None and len(self._handlers) == 2:
            # The one that the application has configured itself.
            self._default = next(iter(self._handlers))
        self._parking = parking
        self._failure = failure
        self._log = logger
        self._check(self._default, "ECOTONE_DEFAULT_ERROR_CHANNEL")

    def check(
        self, said: DelayedRetryMark | ErrorChannelMark | None, where: str
    ) -> None:
        """Refuse an error channel that isn't there.

        :param where: Who names it.
        :raises ConfigurationError: It isn't.
        """
        if isinstance(said, ErrorChannelMark):
            self._check(said.name, where)
        elif isinstance(said, DelayedRetryMark) and said.dead_letter is not None:
            self._check(said.dead_letter, where)

    def fail(
        self,
        source: Source,
        delivery: Delivery,
        endpoint: Endpoint | None,
        error: BaseException,
        *,
        may_retry: bool = True,
    ) -> None:
        """Do with a failed message what is to be done.

        :param may_retry: Whether another attempt could end otherwise.
        :raises LeaseLostError: It isn't ours any more.
        """
        handler = self._handler(endpoint)
        headers = _headers(delivery)
        retried = _number(headers.get(RETRY_NUMBER))
        delay = handler.retry.delay(retried + 1, random.random()) if may_retry else None
        said = f"{type(error).__qualname__}: {error}"
        if delay is not None:
            headers[RETRY_NUMBER] = retried + 1
            headers.setdefault(FIRST_FAILED, int(time.time() * 1000))
            written = self._system.writing.headers(headers)
            source.requeue(delivery, delivery.envelope.postponed(delay, written))
            self._log.warning(
                "The message %s for %s failed and is tried again in %.1f s (%s).",
                delivery.envelope.message_id,
                delivery.envelope.endpoint_id,
                delay / 1000,
                said,
            )
            return
        self._give_up(handler.dead_letter, source, delivery, error, headers)

    def _give_up(
        self,
        target: str,
        source: Source,
        delivery: Delivery,
        error: BaseException,
        headers: dict[str, t.Any],
    ) -> None:
        envelope = delivery.envelope
        attempts = _number(headers.get(RETRY_NUMBER)) + 1
        if target == NULL_CHANNEL:
            source.discard(delivery)
            self._log.warning(
                "The message %s for %s failed and was given up: %s.",
                envelope.message_id,
                envelope.endpoint_id,
                error,
            )
            return
        if target != DEAD_LETTER_CHANNEL:
            self._notify(target, source, delivery, error, headers, attempts)
            return
        if self._parking is None:
            # Nothing keeps it: it stays in its channel, and comes back later.
            source.requeue(delivery, envelope.postponed(60_000))
            return
        failure = self._failure(
            class_name(error),
            str(error),
            "".join(traceback.format_exception(error)),
            max(attempts, delivery.attempts),
            _number(headers.get(FIRST_FAILED)) or None,
        )
        cleaned = {k: v for k, v in headers.items() if k not in _OF_RETRIES}
        if headers:
            written = self._system.writing.headers(cleaned)
            kept = envelope.postponed(0, written)
            delivery = Delivery(kept, delivery.position, delivery.token, 0)
        message_type = str(headers.get(TYPE_ID) or "")
        self._parking.park(source, delivery, failure, message_type)
        self._log.error(
            "The message %s for %s failed for good and was parked: %s: %s",
            envelope.message_id,
            envelope.endpoint_id,
            class_name(error),
            error,
        )

    def _notify(
        self,
        target: str,
        source: Source,
        delivery: Delivery,
        error: BaseException,
        headers: dict[str, t.Any],
        attempts: int,
    ) -> None:
        envelope = delivery.envelope
        failed = FailedMessage(
            envelope.message_id,
            envelope.endpoint_id,
            source.channel,
            class_name(error),
            str(error),
            "".join(traceback.format_exception(error)),
            attempts,
            headers,
            envelope.body,
        )
        endpoint = self._system.channel(target, "An error channel")
        settle = _settling(source, delivery)
        kept = {k: v for k, v in headers.items() if k not in _OF_RETRIES}
        kept.pop(TYPE_ID, None)
        self._system.execute(endpoint, Message(failed, kept), settle)

    def _handler(self, endpoint: Endpoint | None) -> ErrorHandler:
        said = None if endpoint is None else endpoint.recovery
        if isinstance(said, DelayedRetryMark):
            target = said.dead_letter or self._handlers[self._default].dead_letter
            return ErrorHandler("", said.retry, target)
        name = self._default if said is None else said.name
        found = self._handlers.get(name)
        if found is not None:
            return found
        return ErrorHandler(name, RetryTemplate(max_attempts=0), name)

    def _check(self, name: str, where: str) -> None:
        if name in (NULL_CHANNEL, DEAD_LETTER_CHANNEL) or name in self._handlers:
            return
        try:
            self._system.channel(name, where)
        except ConfigurationError as error:
            known = [*self._handlers, NULL_CHANNEL, DEAD_LETTER_CHANNEL]
            raise ConfigurationError(
                f"{where} names the error channel {name!r}, which is not there."
                f"{did_you_mean(name, known)} It is that of an ErrorHandler, the input"
                " of an @internal_handler that takes a FailedMessage, 'dead_letter' or"
                " 'nullChannel'."
            ) from error


_OF_RETRIES = frozenset({RETRY_NUMBER, FIRST_FAILED})


def _settling(source: Source, delivery: Delivery) -> Callable[[], bool]:
    def settle() -> bool:
        source.acknowledge([delivery])
        return True

    return settle


def _headers(delivery: Delivery) -> dict[str, t.Any]:
    try:
        return read_headers(delivery.envelope)
    except ConversionError:
        return {}


def _number(value: t.Any) -> int:
    return value if isinstance(value, int) else 0


def class_name(error: BaseException) -> str:
    """Return the name of the class of an error, with its module."""
    cls = type(error)
    if cls.__module__ == "builtins":
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"
