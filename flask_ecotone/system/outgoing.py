"""Buses whose messages are handled by workers: all of them, or those that failed."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from ..channels.abilities import lacking
from ..channels.protocols import Capability
from ..channels.protocols import Channel
from ..definitions import DelayedRetryMark
from ..definitions import ErrorChannelMark
from ..definitions import InstantRetryMark
from ..handling.interceptors import Interception
from ..handling.writing import Writing
from ..message import BUS
from ..message import Message
from .asynchronous import Channels
from .asynchronous import Entrance
from .endpoint import Endpoint
from .endpoint import Flow
from .surroundings import Surroundings

_NOTHING = Interception()


@dataclass(frozen=True, slots=True)
class BusReception:
    """How a worker handles the messages of a bus.

    :param name: ``module:qualname`` of its class.
    :param where: Name, file and line, for errors.
    :param recovery: What is done with messages that failed, unless the handler says so.
    :param is_transactional: Whether the messages are handled in a unit of work.
    :param surround: Puts around a handler what the bus itself has around it.
    """

    name: str
    where: str
    recovery: DelayedRetryMark | ErrorChannelMark | None
    retry: InstantRetryMark | None
    is_transactional: bool
    surround: Callable[[Flow], Flow] | None = None
    _endpoints: dict[str, Endpoint] = field(default_factory=dict, repr=False)

    def of(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint as a worker has it for messages of this bus."""
        found = self._endpoints.get(endpoint.id)
        if found is None:
            execute = endpoint.execute
            if self.surround is not None:
                execute = self.surround(execute or endpoint.handle)
            found = self._endpoints[endpoint.id] = replace(
                endpoint,
                recovery=endpoint.recovery or self.recovery,
                retry=endpoint.retry or self.retry,
                is_transactional=endpoint.is_transactional and self.is_transactional,
                execute=execute,
            )
        return found


@dataclass(frozen=True, slots=True)
class AsynchronousBus:
    """A bus that sends its messages over channels, to the same endpoints.

    An endpoint that is asynchronous by itself gets them over its own channels then.

    :param name: ``module:qualname`` of its class.
    :param slip: The channels after the first one.
    :param priority: How important its messages are that don't say so themselves.
    """

    name: str
    channel: Channel
    slip: tuple[str, ...]
    channels: Channels
    writing: Writing
    priority: int
    _entrances: dict[str, Entrance] = field(default_factory=dict, repr=False)

    @property
    def lacks(self) -> dict[Capability, str]:
        """What its channels can't do, each with the channel that can't."""
        return lacking([self.channel, *map(self.channels.get, self.slip)])

    def entrance(self, endpoint: Endpoint) -> Entrance:
        """Return what sends a message to an endpoint."""
        found = self._entrances.get(endpoint.id)
        if found is None:
            found = self._entrances[endpoint.id] = self._entrance(endpoint)
        return found

    def _entrance(self, endpoint: Endpoint) -> Entrance:
        own = endpoint.entrance
        return Entrance(
            endpoint.id,
            self.channel,
            (*self.slip, *endpoint.channels),
            own.sending if own else _NOTHING,
            self.writing,
            self.channels.outbox,
            self.priority or (own.priority if own else 0),
            self.lacks,
            {BUS: self.name},
            endpoint.check,
        )


@dataclass(slots=True, eq=False)
class ErrorRoute:
    """Where a bus that waits for its handlers sends messages that failed.

    :param channel: The error channel.
    :param retry: When they are tried again, if that is said.
    :param outgoing: Sends them over a message channel, if the error channel is one.
    :param reception: How they are handled then.
    """

    channel: str
    retry: DelayedRetryMark | None
    outgoing: AsynchronousBus | None
    reception: BusReception
    #: Takes a message that failed over, and returns whether it did. There is nobody as
    #: long as nothing works with the channels, which is so in flow tests.
    take: Callable[[ErrorRoute, Endpoint, Message, Exception], bool] | None = None

    def around(self, flow: Flow, endpoint: Endpoint, around: Surroundings) -> Flow:
        """Return a flow whose caller isn't told of failures that are taken over.

        Inside of a unit of work it is: that is lost with the failure. So it is if it
        has unsaved changes, which the failure takes along, and if the database is gone:
        perhaps the commit was its last word.
        """
        transaction = around.transaction

        def handle(message: Message) -> t.Any:
            take = self.take
            if transaction is not None and not transaction.may_repeat():
                take = None
            try:
                return flow(message)
            except Exception as error:
                if transaction is not None and transaction.is_outage(error):
                    take = None
                if take is None:
                    raise
                # A handler without a unit of work may have left something behind,
                # which nobody is told not to commit.
                apart = nullcontext() if transaction is None else transaction.attempt()
                with apart:
                    is_taken = take(self, endpoint, message, error)
                if not is_taken:
                    raise
            return None

        return handle
