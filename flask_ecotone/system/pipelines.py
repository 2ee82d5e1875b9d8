"""From a bus to an endpoint: interceptors of the bus, retry, unit of work.

The pipelines are closures: everything that can be known is looked up when they are
made, and a bus without interceptors goes straight to its endpoint.
"""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Callable
from dataclasses import dataclass

from ..context import MessageContext
from ..conversion import Conversion
from ..conversion import MediaType
from ..definitions import InstantRetryMark
from ..definitions import Kind
from ..handling.interceptors import Interception
from ..handling.interceptors import replaced
from ..message import checked_metadata
from ..message import CONTENT_TYPE
from ..message import Message
from ..message import REPLY_CONTENT_TYPE
from ..message import ROUTING_KEY
from ..storage.protocols import Transaction
from .endpoint import Endpoint
from .endpoint import Flow
from .routes import EventRoutes
from .routes import UniqueRoutes

#: The precedence of the unit of work; interceptors below it run outside of it.
TRANSACTION_PRECEDENCE = -2000

#: Told of every message that enters a bus, by the kind of the bus.
Observer = Callable[[Kind, Message], None]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all pipelines of a system have in common."""

    context: MessageContext
    conversion: Conversion
    logger: logging.Logger
    transaction: Transaction | None
    #: How often any command is tried again, if it says nothing itself.
    retry: InstantRetryMark | None
    observer: Observer | None
    #: Returns headers for messages that no other message caused.
    provider: Callable[[], dict[str, t.Any]] | None

    @property
    def is_plain(self) -> bool:
        """Whether nothing has a look at each message."""
        return self.observer is None and self.provider is None

    def message(self, payload: t.Any, headers: dict[str, t.Any] | None) -> Message:
        """Return a new message, caused by the one being handled if there is one."""
        parent = self.context.get()
        if parent is None and self.provider is not None:
            headers = {**self.provider(), **(headers or {})}
        return Message(payload, headers, parent)


@dataclass(frozen=True, slots=True)
class BusPlan:
    """One type of bus."""

    kind: Kind
    interception: Interception
    retry: InstantRetryMark | None
    is_transactional: bool
    propagates: bool

    @property
    def is_plain(self) -> bool:
        """Whether messages go straight to the endpoint."""
        return self.interception.is_empty and self.propagates


def in_context(
    context: MessageContext, message: Message, flow: Callable[[Message], t.Any]
) -> t.Any:
    """Call a flow with the message as the one being handled."""
    token = context.set(message)
    try:
        return flow(message)
    finally:
        context.reset(token)
        close_scope(message)


def through(
    interception: Interception,
    context: MessageContext,
    message: Message,
    flow_of: Callable[[Message], Flow],
    *,
    propagates: bool = True,
) -> t.Any:
    """Send a message through the interceptors of a gateway and return the reply.

    :param flow_of: Chooses where the message goes once the interceptors before it ran:
        they may have changed the payload, and so who handles it.
    :param propagates: Whether messages that it causes inherit its headers.
    """
    held = message
    token = context.set(message)
    try:
        entered = interception.enter(message)
        if entered is None:
            return None
        if not propagates:
            entered = entered.isolated()
        if entered is not message:
            # What the interceptors changed is what later messages inherit.
            entered.scope, message.scope = message.scope, None
            held = entered
            context.set(entered)
        reply = flow_of(entered)(entered)
        if reply is None or not interception.after:
            return reply
        left = interception.leave(replaced(entered, reply))
        return None if left is None else left.payload
    finally:
        context.reset(token)
        close_scope(held)


def close_scope(message: Message) -> None:
    """Clean up the services that were made for a message."""
    scope = message.scope
    if scope is not None:
        message.scope = None
        scope.close()


def retrying(flow: Flow, retry: InstantRetryMark, around: Surroundings) -> Flow:
    """Return a flow that is tried again when it fails outside of a unit of work.

    Inside of one the transaction is lost with the failure: who began it tries again.
    """
    transaction = around.transaction

    def attempt(message: Message) -> t.Any:
        if transaction is None:
            return flow(message)
        with transaction.attempt():
            return flow(message)

    def tried(message: Message) -> t.Any:
        if transaction is not None and transaction.is_active:
            return flow(message)
        failed = 0
        run = flow
        while True:
            try:
                return run(message)
            except retry.exceptions as error:
                failed += 1
                if failed > retry.times:
                    raise
                around.logger.info(
                    "Instant retry %d of %d after %s.",
                    failed,
                    retry.times,
                    type(error).__qualname__,
                )
            close_scope(message)
            run = attempt

    return tried


class UniquePipeline:
    """Sends the commands, or the queries, of one type of bus."""

    def __init__(
        self, plan: BusPlan, routes: UniqueRoutes, around: Surroundings
    ) -> None:
        self._plan = plan
        self._routes = routes
        self._around = around
        self._flows: dict[Endpoint, Flow] = {}
        self._by_class: dict[type, Flow] = {}
        self.send = self._compile()

    def send_named(
        self,
        name: str,
        payload: t.Any,
        media_type: str | None,
        metadata: t.Any,
    ) -> t.Any:
        """Send a payload to a routing key."""
        endpoint = self._routes.named(name)
        headers = named_headers(name, media_type, metadata)
        return self._enter(self._around.message(payload, headers), endpoint)

    def encoded(self, reply: t.Any, media_type: str | None) -> t.Any:
        """Return a reply in the media type that was asked for."""
        return (
            self._around.conversion.encode(reply, media_type) if media_type else reply
        )

    def _compile(self) -> Callable[..., t.Any]:
        by_class = self._by_class
        context = self._around.context
        get, set_, reset = context.get, context.set, context.reset
        enter, flow_of = self._enter, self._flow_of_class
        is_enabled_for = self._around.logger.isEnabledFor
        if not (self._plan.is_plain and self._around.is_plain):

            def send_through(payload: t.Any, metadata: t.Any = None) -> t.Any:
                headers = None if metadata is None else checked_metadata(metadata)
                return enter(self._around.message(payload, headers), None)

            return send_through

        def send(payload: t.Any, metadata: t.Any = None) -> t.Any:
            flow = by_class.get(payload.__class__)
            if flow is None:
                flow = flow_of(payload.__class__)
            headers = None if metadata is None else checked_metadata(metadata)
            message = Message(payload, headers, get())
            if is_enabled_for(_INFO):
                self._log(message, self._routes.by_class(payload.__class__))
            token = set_(message)
            try:
                return flow(message)
            finally:
                reset(token)
                if message.scope is not None:
                    close_scope(message)

        return send

    def _enter(self, message: Message, endpoint: Endpoint | None) -> t.Any:
        plan, around = self._plan, self._around
        if around.observer is not None:
            around.observer(plan.kind, message)

        def flow_of(entered: Message) -> Flow:
            chosen = endpoint or self._routes.by_class(type(entered.payload))
            self._log(entered, chosen)
            return self._flow(chosen, type(entered.payload))

        return through(
            plan.interception,
            around.context,
            message,
            flow_of,
            propagates=plan.propagates,
        )

    def _log(self, message: Message, endpoint: Endpoint) -> None:
        logger = self._around.logger
        if logger.isEnabledFor(_INFO):
            kind = self._plan.kind.value.capitalize()
            shown = message.routing_key or type(message.payload).__qualname__
            logger.info("Sending %s Message with: %s.", kind, shown)
            logger.info("Executing %s Handler %s.", kind, endpoint.title)

    def _flow_of_class(self, cls: type) -> Flow:
        flow = self._by_class[cls] = self._flow(self._routes.by_class(cls), cls)
        return flow

    def _flow(self, endpoint: Endpoint, cls: type) -> Flow:
        flow = self._flows.get(endpoint)
        if flow is None:
            flow = self._flows[endpoint] = self._compose(endpoint)
        return guarded(flow, cls, self._around.transaction)

    def _compose(self, endpoint: Endpoint) -> Flow:
        plan, around = self._plan, self._around
        interception = plan.interception
        flow = interception.around_flow(
            endpoint.handle, lambda p: p >= TRANSACTION_PRECEDENCE
        )
        if plan.kind is Kind.COMMAND:
            transaction = around.transaction
            is_transactional = plan.is_transactional and endpoint.is_transactional
            if transaction is not None and is_transactional:
                flow = _transactional(flow, transaction)
            retry = endpoint.retry or plan.retry or around.retry
            if retry is not None:
                flow = retrying(flow, retry, around)
        flow = interception.around_flow(flow, lambda p: p < TRANSACTION_PRECEDENCE)
        return flow


class EventPipeline:
    """Publishes the events of one type of bus."""

    def __init__(
        self, plan: BusPlan, routes: EventRoutes, around: Surroundings
    ) -> None:
        self._plan = plan
        self._routes = routes
        self._around = around
        self._by_class: dict[type, tuple[Endpoint, ...]] = {}
        self._handles: dict[type, tuple[Flow, ...]] = {}
        self.publish = self._compile()

    def publish_named(
        self, name: str, payload: t.Any, media_type: str | None, metadata: t.Any
    ) -> None:
        """Publish an event by its name."""
        subscriptions = self._routes.named(name)
        headers = named_headers(name, media_type, metadata)
        message = self._around.message(payload, headers)

        def deliver(entered: Message) -> None:
            converted: dict[type, Message] = {}
            for endpoint, cls in subscriptions:
                if cls is None:
                    endpoint.handle(entered)
                    continue
                if cls not in converted:
                    decode = self._around.conversion.decoder(cls)
                    value = decode(entered.payload, entered.header(CONTENT_TYPE))
                    converted[cls] = replaced(entered, value)
                endpoint.handle(converted[cls])

        self._log(message, [endpoint for endpoint, _ in subscriptions])
        self._enter(message, deliver)

    def publish_recorded(self, payload: t.Any, headers: dict[str, t.Any]) -> None:
        """Publish an event that an aggregate recorded."""
        self._enter(self._around.message(payload, headers), self._deliver)

    def _compile(self) -> Callable[..., None]:
        handles = self._handles
        context = self._around.context
        get, set_, reset = context.get, context.set, context.reset
        enter, deliver, flows_of = self._enter, self._deliver, self._flows_of_class
        is_enabled_for = self._around.logger.isEnabledFor
        if not (self._plan.is_plain and self._around.is_plain):

            def publish_through(payload: t.Any, metadata: t.Any = None) -> None:
                headers = None if metadata is None else checked_metadata(metadata)
                enter(self._around.message(payload, headers), deliver)

            return publish_through

        def publish(payload: t.Any, metadata: t.Any = None) -> None:
            flows = handles.get(payload.__class__)
            if flows is None:
                flows = flows_of(payload.__class__)
            headers = None if metadata is None else checked_metadata(metadata)
            message = Message(payload, headers, get())
            if is_enabled_for(_INFO):
                self._log(message, self._by_class[payload.__class__])
            token = set_(message)
            try:
                for flow in flows:
                    flow(message)
            finally:
                reset(token)
                if message.scope is not None:
                    close_scope(message)

        return publish

    def _deliver(self, message: Message) -> None:
        cls = type(message.payload)
        flows = self._handles.get(cls)
        if flows is None:
            flows = self._flows_of_class(cls)
        self._log(message, self._by_class[cls])
        for flow in flows:
            flow(message)

    def _enter(self, message: Message, deliver: Callable[[Message], None]) -> None:
        plan, around = self._plan, self._around
        if around.observer is not None:
            around.observer(plan.kind, message)
        flow = plan.interception.around_flow(deliver)
        through(
            plan.interception,
            around.context,
            message,
            lambda _: flow,
            propagates=plan.propagates,
        )

    def _flows_of_class(self, cls: type) -> tuple[Flow, ...]:
        endpoints = self._by_class[cls] = self._routes.by_class(cls)
        flows = self._handles[cls] = tuple(
            guarded(endpoint.handle, cls, self._around.transaction)
            for endpoint in endpoints
        )
        return flows

    def _log(self, message: Message, endpoints: t.Iterable[Endpoint]) -> None:
        logger = self._around.logger
        if logger.isEnabledFor(_INFO):
            shown = message.routing_key or type(message.payload).__qualname__
            logger.info("Sending Event Message with: %s.", shown)
            for endpoint in endpoints:
                logger.info("Executing Event Handler %s.", endpoint.title)


def guarded(flow: Flow, cls: type, transaction: Transaction | None) -> Flow:
    """Return a flow that refuses payloads of a class that can't leave their session."""
    check = transaction.refuses(cls) if transaction else None
    if check is None:
        return flow

    def checked(message: Message) -> t.Any:
        check(message.payload)
        return flow(message)

    return checked


def named_headers(
    name: str, media_type: str | None, metadata: t.Any
) -> dict[str, t.Any]:
    """Return the headers of a message that is sent to a name."""
    headers = {} if metadata is None else checked_metadata(metadata)
    headers[ROUTING_KEY] = name
    if media_type is not None:
        MediaType.parse(media_type)
        headers[CONTENT_TYPE] = media_type
    return headers


def expecting(media_type: str | None, metadata: t.Any) -> t.Any:
    """Return metadata that also says which media type the reply is to have."""
    if media_type is None:
        return metadata
    MediaType.parse(media_type)
    given = {} if metadata is None else checked_metadata(metadata)
    return {**given, REPLY_CONTENT_TYPE: media_type}


def _transactional(flow: Flow, transaction: Transaction) -> Flow:
    run = transaction.run
    return lambda message: run(message.payload, lambda: flow(message))


_INFO = logging.INFO
