"""Buses whose messages are handled by workers."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

from ..channels.abilities import lacking
from ..channels.protocols import Channel
from ..definitions import DelayedRetryMark
from ..definitions import ErrorChannelMark
from ..definitions import InstantRetryMark
from ..handling.interceptors import Interception
from ..handling.writing import Writing
from ..message import BUS
from .asynchronous import Channels
from .asynchronous import Entrance
from .endpoint import Endpoint

_NOTHING = Interception()


@dataclass(frozen=True, slots=True)
class AsynchronousBus:
    """A bus that sends its messages over channels, to the same endpoints.

    An endpoint that is asynchronous by itself gets them over its own channels then.

    :param name: ``module:qualname`` of its class.
    :param where: Name, file and line, for errors.
    :param slip: The channels after the first one.
    :param priority: How important its messages are that don't say so themselves.
    :param recovery: What is done with messages that failed, unless the handler says so.
    :param is_transactional: Whether the messages are handled in a unit of work.
    """

    name: str
    where: str
    channel: Channel
    slip: tuple[str, ...]
    channels: Channels
    writing: Writing
    priority: int
    recovery: DelayedRetryMark | ErrorChannelMark | None
    retry: InstantRetryMark | None
    is_transactional: bool
    _entrances: dict[str, Entrance] = field(default_factory=dict, repr=False)
    _received: dict[str, Endpoint] = field(default_factory=dict, repr=False)

    def entrance(self, endpoint: Endpoint) -> Entrance:
        """Return what sends a message to an endpoint."""
        found = self._entrances.get(endpoint.id)
        if found is None:
            found = self._entrances[endpoint.id] = self._entrance(endpoint)
        return found

    def received(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint as a worker has it for messages of this bus."""
        found = self._received.get(endpoint.id)
        if found is None:
            found = self._received[endpoint.id] = replace(
                endpoint,
                recovery=endpoint.recovery or self.recovery,
                retry=endpoint.retry or self.retry,
                is_transactional=endpoint.is_transactional and self.is_transactional,
            )
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
            lacking([self.channel, *map(self.channels.get, self.slip)]),
            {BUS: self.name},
        )
