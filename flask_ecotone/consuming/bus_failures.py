"""What becomes of messages that failed on a bus which waits for its handlers."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from logging import Logger

from ..channels.parking import Failure
from ..channels.protocols import Capability
from ..channels.protocols import DEAD_LETTER_CHANNEL
from ..channels.protocols import Delivery
from ..channels.protocols import Envelope
from ..channels.protocols import FinalFailure
from ..channels.protocols import NULL_CHANNEL
from ..definitions import ErrorChannelMark
from ..errors import ConfigurationError
from ..errors import did_you_mean
from ..message import Message
from ..storage.failures import told
from ..storage.failures import values_hidden
from ..system import MessagingSystem
from ..system.endpoint import Endpoint
from ..system.outgoing import ErrorRoute
from ..system.reception import is_new
from .environment import Environment
from .failures import Recovery
from .final_failures import class_name
from .final_failures import GivenBackError
from .forwarding import in_tenant
from .naming import named
from .tracebacks import written

_R = t.TypeVar("_R")


@dataclass(frozen=True, slots=True)
class BusOrigin:
    """A message that failed where it was sent.

    It implements :class:`~flask_ecotone.channels.protocols.Origin`. Nothing keeps the
    message: what takes it over stores it, or its sender gets the error.

    :param channel: The message channel that it goes on over, else the name of the bus.
    :param send: Sends it over the message channel, if there is one.
    """

    channel: str
    capabilities: Capability
    send: Callable[[Envelope], None] | None
    tenant: str | None = None
    on_exhausted: FinalFailure | None = None

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Do nothing: it lies nowhere."""

    def discard(self, delivery: Delivery) -> None:
        """Do nothing: it lies nowhere."""

    def requeue(self, delivery: Delivery, envelope: Envelope) -> None:
        """Send it over the message channel.

        :raises GivenBackError: There is none.
        """
        if self.send is None:
            raise GivenBackError("It has no channel to wait in.", stops=False)
        self.send(envelope)


class BusFailures:
    """Takes over what failed on buses that wait for their handlers.

    It is Ecotone's error channel of a command bus.
    """

    def __init__(
        self,
        system: MessagingSystem,
        recovery: Recovery,
        environment: Environment,
        logger: Logger,
        *,
        keeps_dead_letters: bool,
    ) -> None:
        self._system = system
        self._recovery = recovery
        self._environment = environment
        self._log = logger
        for route in system.error_routes.values():
            self._check(route, keeps_dead_letters)
            route.take = self.take

    def take(
        self, route: ErrorRoute, endpoint: Endpoint, message: Message, error: Exception
    ) -> bool:
        """Do with a failed message what its bus says; return whether that was done.

        If not, its sender gets the error.
        """
        name = route.reception.name
        try:
            if self._is_for_nobody(message):
                return False
            origin, envelope = self._written(route, endpoint, message)
            delivery = Delivery(envelope, None, "", 0)
            if route.outgoing is not None and route.retry is None:
                origin.requeue(delivery, envelope)
                self._log.warning(
                    "%s failed on the bus %s and goes on over the channel: %s: %s.",
                    named(origin, envelope, self._environment.tenant_header),
                    name,
                    type(error).__qualname__,
                    told(error),
                )
            else:
                said = route.retry or ErrorChannelMark(name=route.channel)
                addressee = replace(endpoint, recovery=said)
                line = self._recovery.fail(origin, delivery, addressee, error)
                if line is not None:
                    line.write(self._log)
        except GivenBackError:
            return False
        except Exception as failure:
            error.add_note(
                f"The error channel of the bus {name} failed as well:"
                f" {type(failure).__qualname__}: {told(failure)}"
            )
            with values_hidden(failure):
                self._log.exception("The error channel of the bus %s failed.", name)
            return False
        return True

    def has(self, name: str) -> bool:
        """Whether there is a bus of a name that sends what failed somewhere."""
        return name in self._system.error_routes

    def in_unit(self, tenant: str | None, call: Callable[[], _R]) -> _R:
        """Call something in a unit of work, and a session, of its own."""
        environment = self._environment
        with environment.context():
            return in_tenant(self._system, tenant, lambda: environment.in_unit(call))

    def handle(self, name: str, envelope: Envelope) -> None:
        """Handle a message again that failed on a bus.

        :raises UnknownEndpointError: Its handler is gone.
        :raises ConversionError: It can't be read.
        """
        endpoint = self._system.endpoint(envelope.endpoint_id)
        message = self._system.writing.read(envelope, name, endpoint.types)
        # An asynchronous one is sent over its own channel, as the bus does.
        received = self._system.error_routes[name].reception.of(
            replace(endpoint, execute=None)
        )
        self._system.execute(received, message, is_new)

    def failure(self, name: str, envelope: Envelope, error: Exception) -> Failure:
        """Log that a message failed again, and return its error in writing."""
        origin = BusOrigin(name, Capability.NONE, None)
        self._log.error(
            "%s failed again: %s: %s.",
            named(origin, envelope, self._environment.tenant_header),
            type(error).__qualname__,
            told(error),
        )
        return Failure(class_name(error), str(error), written(error), 1)

    def _is_for_nobody(self, message: Message) -> bool:
        """Whether it names a tenant that isn't there, and so no database keeps it."""
        header = self._environment.tenant_header
        if header is None or message.headers.get(header) is None:
            return False
        return self._environment.tenant_named(message.headers) is None

    def _written(
        self, route: ErrorRoute, endpoint: Endpoint, message: Message
    ) -> tuple[BusOrigin, Envelope]:
        outgoing = route.outgoing
        if outgoing is None:
            envelope = self._system.writing.write(message, endpoint.id)
            return BusOrigin(route.reception.name, Capability.NONE, None), envelope
        post = outgoing.entrance(endpoint).post(message)
        if post is None:
            raise GivenBackError("An interceptor stopped it.", stops=False)
        channel, envelope = post

        def send(postponed: Envelope) -> None:
            put = partial(outgoing.channels.outbox.put, [(channel, postponed)])
            self._system.resume(message, lambda: self._environment.in_unit(put))

        return BusOrigin(channel.name, channel.capabilities, send), envelope

    def _check(self, route: ErrorRoute, keeps_dead_letters: bool) -> None:
        where, name, retry = route.reception.where, route.channel, route.retry
        outgoing, channels = route.outgoing, self._system.channels
        if outgoing is not None:
            if retry is not None and retry.retry.initial > 0:
                lacks = outgoing.lacks
                if Capability.DELAY in lacks:
                    raise ConfigurationError(
                        f"{where} has @delayed_retry, and its channel"
                        f" {lacks[Capability.DELAY]!r} lacks Capability.DELAY, which"
                        " that takes. Remove @delayed_retry, or name a channel that"
                        f" can, such as DatabaseChannel({name!r})."
                    )
            return
        known = [] if channels is None else channels.names
        if retry is not None:
            new = "retries" if name in (DEAD_LETTER_CHANNEL, NULL_CHANNEL) else name
            raise ConfigurationError(
                f"{where} has @delayed_retry, and what failed waits for its retry in a"
                f" message channel, which {name!r} isn't.{did_you_mean(name, known)}"
                f" Say @error_channel({new!r}) with"
                f" channels=[DatabaseChannel({new!r})], or name one that is there."
            )
        self._recovery.check(ErrorChannelMark(name=name), where, known)
        handler = self._recovery.handler_named(name)
        if handler.retry.max_attempts != 0:
            raise ConfigurationError(
                f"{where} has @error_channel({name!r}), whose ErrorHandler tries"
                " messages again after a while, and nothing says where they wait."
                " Name a message channel with @error_channel, and mark the bus with"
                " @delayed_retry."
            )
        if handler.dead_letter == DEAD_LETTER_CHANNEL and not keeps_dead_letters:
            raise ConfigurationError(
                f"{where} sends what failed to the dead letters, and nothing keeps"
                " them here: that takes a DatabaseChannel. Give Ecotone one."
            )
