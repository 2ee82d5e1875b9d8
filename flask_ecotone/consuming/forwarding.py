"""Deliveries that go on to the next channel on their way."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from logging import Logger

from ..channels.protocols import Capability
from ..channels.protocols import Delivery
from ..channels.protocols import Envelope
from ..channels.protocols import Post
from ..channels.protocols import Source
from ..errors import ConfigurationError
from ..errors import LeaseLostError
from ..handling.writing import read_headers
from ..message import ROUTING_SLIP
from ..system import MessagingSystem
from .environment import Environment
from .final_failures import without_retries

_R = t.TypeVar("_R")


class Forwarding:
    """Sends deliveries to the next channels on their way.

    :param fail: Decides what becomes of one that can't be sent.
    """

    def __init__(
        self,
        system: MessagingSystem,
        environment: Environment,
        fail: Callable[[Source, Delivery, BaseException], None],
        logger: Logger,
    ) -> None:
        self._system = system
        self._environment = environment
        self._fail = fail
        self._log = logger

    def forward(self, source: Source, deliveries: Sequence[Delivery]) -> int:
        """Send deliveries, those of one database in one transaction.

        :return: How many were sent.
        """
        homes: dict[str | None, list[Delivery]] = {}
        for each in deliveries:
            homes.setdefault(self._home(source, each), []).append(each)
        return sum(self._forward(source, homes[home], home) for home in homes)

    def _home(self, source: Source, delivery: Delivery) -> str | None:
        """Return the tenant in whose database a delivery is sent."""
        if Capability.TRANSACTIONAL in source.capabilities:
            return source.tenant
        return self._environment.tenant_named(read_headers(delivery.envelope))

    def _forward(
        self, source: Source, deliveries: Sequence[Delivery], home: str | None
    ) -> int:
        channels = self._system.channels
        assert channels is not None
        staged: list[Post] = []
        others: dict[str, list[Envelope]] = {}
        sent: list[Delivery] = []
        for delivery in deliveries:
            name, envelope = self._next(delivery)
            try:
                channel = channels.get(name)
            except ConfigurationError as error:
                # It was taken out of the application, and the message is still here.
                self._fail(source, delivery, error)
                continue
            sent.append(delivery)
            if Capability.TRANSACTIONAL in channel.capabilities:
                staged.append((channel, envelope))
            else:
                others.setdefault(name, []).append(envelope)
        environment = self._environment
        is_joined = Capability.TRANSACTIONAL in source.capabilities

        def send() -> None:
            channels.outbox.put(staged)
            if is_joined:
                source.acknowledge(sent)
            # Before they are gone for good: rather twice than not at all.
            for name, envelopes in others.items():
                channels.get(name).send(envelopes)

        try:
            with environment.context():
                in_tenant(self._system, home, lambda: environment.in_unit(send))
                if not is_joined:
                    source.acknowledge(sent)
            return len(sent)
        except LeaseLostError as error:
            # Those that are still ours can go with the next ones.
            self._log.warning("%s", error)
            source.release(sent)
        except Exception as error:
            if self._environment.is_outage(error):
                raise
            for delivery in sent:
                self._fail(source, delivery, error)
        return 0

    def _next(self, delivery: Delivery) -> tuple[str, Envelope]:
        headers = without_retries(read_headers(delivery.envelope))
        name, *rest = headers.pop(ROUTING_SLIP)
        if rest:
            headers[ROUTING_SLIP] = rest
        written = self._system.writing.headers(headers)
        return name, delivery.envelope.postponed(0, written)


def in_tenant(
    system: MessagingSystem, tenant: str | None, call: Callable[[], _R]
) -> _R:
    """Call something with a tenant active, if there is one."""
    if tenant is None:
        return call()
    return t.cast(_R, system.for_tenant(tenant, call))
