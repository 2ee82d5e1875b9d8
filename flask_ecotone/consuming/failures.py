"""What becomes of a message whose handler failed."""

from __future__ import annotations

import logging
import random
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from logging import Logger

from ..channels.parking import headers_of
from ..channels.protocols import Capability
from ..channels.protocols import DEAD_LETTER_CHANNEL
from ..channels.protocols import Delivery
from ..channels.protocols import FinalFailure
from ..channels.protocols import NULL_CHANNEL
from ..channels.protocols import Origin
from ..channels.protocols import Source
from ..definitions import DelayedRetryMark
from ..definitions import ErrorChannelMark
from ..errors import ConfigurationError
from ..errors import did_you_mean
from ..errors import LeaseLostError
from ..message import CONTENT_TYPE
from ..message import Message
from ..message import RETRY_NUMBER
from ..message import TYPE_ID
from ..retries import RetryTemplate
from ..storage.failures import told
from ..storage.failures import values_hidden
from ..system import MessagingSystem
from ..system.endpoint import Endpoint
from ..system.reception import is_new
from .final_failures import class_name
from .final_failures import expires_within
from .final_failures import FinalFailures
from .final_failures import LogLine
from .final_failures import number
from .final_failures import put_back
from .final_failures import without_retries
from .naming import named
from .tracebacks import written

_DEFAULT_RETRY = RetryTemplate(initial=1000, multiplier=10.0, max_attempts=3)


@dataclass(frozen=True, slots=True)
class ErrorHandler:
    """What becomes of messages that failed, if their handler says nothing else.

    :param error_channel: Its name, for ``@error_channel``.
    :param retry: When they are tried again.
    :param dead_letter: Where they go in the end: ``"dead_letter"``, the input of an
        internal handler that takes a :class:`FailedMessage`, or ``"nullChannel"``.
        Unless given, their channel says it with ``on_exhausted``.
    """

    error_channel: str = "errorChannel"
    retry: RetryTemplate = _DEFAULT_RETRY
    dead_letter: str | None = None


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


class Recovery:
    """Decides what becomes of failed messages, and does it.

    :param handlers: What the application configures.
    :param default: The name of the error channel of handlers that name none.
    :param by_channel: Channel → the error channel for what comes from it, instead.
    :param final: Ends messages that no error channel takes.
    :param is_outage: Whether the database is the reason of an error.
    :param tenant_header: The header that names the tenant; ``None`` without tenants.
    """

    def __init__(
        self,
        system: MessagingSystem,
        handlers: Iterable[ErrorHandler],
        default: str | None,
        by_channel: Mapping[str, str],
        final: FinalFailures,
        is_outage: Callable[[BaseException], bool],
        logger: Logger,
        tenant_header: str | None = None,
    ) -> None:
        self._system = system
        self._tenant_header = tenant_header
        self._handlers, self._default = _configured(handlers, default)
        self._by_channel = by_channel
        self._final = final
        self._is_outage = is_outage
        self._log = logger
        self._check(self._default, "ECOTONE_DEFAULT_ERROR_CHANNEL")
        for channel, name in by_channel.items():
            self._check(name, f"The channel {channel!r}")
        for name, each in self._handlers.items():
            if each.dead_letter is not None:
                self._check(each.dead_letter, f"ErrorHandler({name!r})")

    def check(
        self,
        said: DelayedRetryMark | ErrorChannelMark | None,
        where: str,
        channels: Iterable[str] | None = None,
    ) -> None:
        """Refuse an error channel that isn't there.

        :param where: Who names it.
        :param channels: The message channels, if it could be one of them.
        :raises ConfigurationError: It isn't.
        """
        if isinstance(said, ErrorChannelMark):
            self._check(said.name, where, channels)
        elif isinstance(said, DelayedRetryMark) and said.dead_letter is not None:
            self._check(said.dead_letter, where)

    def can_wait(self, source: Source, endpoint: Endpoint | None) -> bool:
        """Whether a failure can be seen to a little later, together with others.

        Not if the handler of an error channel is to be told, or if the message keeps
        its place.
        """
        target = self._handler(endpoint, source.channel).dead_letter
        if target is None:
            return self._final.can_wait(source)
        return target in (NULL_CHANNEL, DEAD_LETTER_CHANNEL)

    def fail(
        self,
        source: Origin,
        delivery: Delivery,
        endpoint: Endpoint | None,
        error: BaseException,
        *,
        may_retry: bool = True,
    ) -> LogLine | None:
        """Do with a failed message what is to be done, and return what to log.

        :param may_retry: Whether another attempt could end otherwise.
        :raises GivenBackError: It is to be given back.
        :raises LeaseLostError: It isn't ours any more.
        """
        handler = self._handler(endpoint, source.channel)
        headers = headers_of(delivery.envelope)
        retried = number(headers.get(RETRY_NUMBER))
        delay = None
        # What it didn't raise itself, a handler can't say anything about.
        may_retry = may_retry and (endpoint is None or handler.retry.repeats(error))
        if may_retry and headers:  # what can't be read can't be written again
            delay = handler.retry.delay(retried + 1, random.random())
        if delay is not None and expires_within(delay, delivery):
            delay = None  # forgotten while it waits, nobody would know that it failed
        said = f"{type(error).__qualname__}: {told(error)}"
        if delay is not None:
            writing = self._system.writing
            delay = put_back(source, delivery, headers, delay, writing)
            return LogLine(
                logging.WARNING,
                "%s failed and is tried again in %.1f s (%s).",
                (
                    named(source, delivery.envelope, self._tenant_header),
                    delay / 1000,
                    said,
                ),
            )
        return self._give_up(handler.dead_letter, source, delivery, error, headers)

    def _give_up(
        self,
        target: str | None,
        source: Origin,
        delivery: Delivery,
        error: BaseException,
        headers: dict[str, t.Any],
    ) -> LogLine | None:
        if target == NULL_CHANNEL:
            source.discard(delivery)
            what = named(source, delivery.envelope, self._tenant_header)
            text = "%s failed and was given up: %s: %s."
            said = type(error).__qualname__, told(error)
            return LogLine(logging.WARNING, text, (what, *said))
        strategy = None
        if target == DEAD_LETTER_CHANNEL:
            strategy = FinalFailure.DEAD_LETTER
        elif target is not None and self._notify(
            target, source, delivery, error, headers
        ):
            return None
        what = named(source, delivery.envelope, self._tenant_header)
        return self._final.end(source, delivery, error, headers, what, strategy)

    def _notify(
        self,
        target: str,
        source: Origin,
        delivery: Delivery,
        error: BaseException,
        headers: dict[str, t.Any],
    ) -> bool:
        """Tell the handler of an error channel, and return whether it took it."""
        envelope = delivery.envelope
        failed = FailedMessage(
            envelope.message_id,
            envelope.endpoint_id,
            source.channel,
            class_name(error),
            str(error),
            written(error),
            number(headers.get(RETRY_NUMBER)) + 1,
            headers,
            envelope.body,
        )
        # An asynchronous one is told over its own channel.
        listener = self._system.channel(target, "An error channel")
        endpoint = replace(listener, execute=None)
        is_joined = endpoint.is_transactional and (
            Capability.TRANSACTIONAL in source.capabilities
        )
        settle = _settling(source, delivery) if is_joined else is_new
        kept = without_retries(headers)
        kept = {k: v for k, v in kept.items() if k not in (TYPE_ID, CONTENT_TYPE)}
        try:
            self._system.execute(endpoint, Message(failed, kept), settle)
        except LeaseLostError:
            raise
        except Exception as failure:
            if self._is_outage(failure):
                raise
            with values_hidden(failure):
                self._log.exception(
                    "%s failed, and the error channel %r failed as well.",
                    named(source, delivery.envelope, self._tenant_header),
                    target,
                )
            return False
        if not is_joined:
            source.discard(delivery)
        return True

    def _handler(self, endpoint: Endpoint | None, channel: str) -> ErrorHandler:
        said = None if endpoint is None else endpoint.recovery
        if isinstance(said, ErrorChannelMark):
            return self.handler_named(said.name)
        found = self.handler_named(self._by_channel.get(channel, self._default))
        if isinstance(said, DelayedRetryMark):
            return ErrorHandler("", said.retry, said.dead_letter or found.dead_letter)
        return found

    def handler_named(self, name: str) -> ErrorHandler:
        """Return what an error channel does."""
        found = self._handlers.get(name)
        if found is not None:
            return found
        return ErrorHandler(name, RetryTemplate(max_attempts=0), name)

    def _check(
        self, name: str, where: str, channels: Iterable[str] | None = None
    ) -> None:
        if name in (NULL_CHANNEL, DEAD_LETTER_CHANNEL) or name in self._handlers:
            return
        try:
            self._system.channel(name, where)
        except ConfigurationError as error:
            known = [*self._handlers, NULL_CHANNEL, DEAD_LETTER_CHANNEL]
            known += channels or ()
            other = "" if channels is None else "a message channel, "
            raise ConfigurationError(
                f"{where} names the error channel {name!r}, which is not there."
                f"{did_you_mean(name, known)} It is {other}that of an ErrorHandler, the"
                " input of an @internal_handler that takes a FailedMessage,"
                " 'dead_letter' or 'nullChannel'."
            ) from error


def default_target(handlers: Iterable[ErrorHandler], default: str | None) -> str | None:
    """Return where goes in the end what failed and says nothing itself.

    :param default: The name of the error channel, if the application says it.
    :return: The input of an internal handler, ``"dead_letter"``, ``"nullChannel"`` or
        ``None`` if nothing is said.
    """
    by_name, name = _configured(handlers, default)
    found = by_name.get(name)
    return name if found is None else found.dead_letter


def _configured(
    handlers: Iterable[ErrorHandler], default: str | None
) -> tuple[dict[str, ErrorHandler], str]:
    by_name = {each.error_channel: each for each in handlers}
    fallback = ErrorHandler()
    if default is None and len(by_name) == 1:
        # The one that the application has configured itself.
        default = next(iter(by_name))
    by_name.setdefault(fallback.error_channel, fallback)
    return by_name, default or fallback.error_channel


def _settling(source: Origin, delivery: Delivery) -> Callable[[], bool]:
    def settle() -> bool:
        source.acknowledge([delivery])
        return True

    return settle
