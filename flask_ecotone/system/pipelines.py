"""From a bus to an endpoint: interceptors of the bus, retry, unit of work.

The pipelines are closures: everything that can be known is looked up when they are
made, and a bus without interceptors goes straight to its endpoint.
"""

from __future__ import annotations

import logging
import types
import typing as t
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass

from ..conversion import MediaType
from ..definitions import InstantRetryMark
from ..definitions import Kind
from ..handling.deduplication import IdempotentReceiver
from ..handling.interceptors import Interception
from ..handling.interceptors import replaced
from ..message import checked_metadata
from ..message import CONTENT_TYPE
from ..message import Message
from ..message import REPLY_CONTENT_TYPE
from ..message import ROUTING_KEY
from ..reflection import MISSING
from ..reflection import reflect
from ..reflection import Remembered
from ..storage.protocols import Transaction
from .endpoint import Endpoint
from .endpoint import fan_out
from .endpoint import Flow
from .outgoing import AsynchronousBus
from .outgoing import ErrorRoute
from .routes import EventRoutes
from .routes import UniqueRoutes
from .surroundings import asked
from .surroundings import close_scope
from .surroundings import guarded
from .surroundings import retrying
from .surroundings import Surroundings
from .surroundings import through

#: The precedence of the unit of work; interceptors below it run outside of it.
TRANSACTION_PRECEDENCE = -2000
#: That of handling messages once.
DEDUPLICATION_PRECEDENCE = -1900


@dataclass(frozen=True, slots=True)
class BusPlan:
    """One type of bus."""

    kind: Kind
    interception: Interception
    retry: InstantRetryMark | None
    is_transactional: bool
    propagates: bool
    #: Lets one message of those with the same key pass.
    receiver: IdempotentReceiver | None = None
    #: Sends the messages over channels.
    outgoing: AsynchronousBus | None = None
    #: Where messages go that failed, instead of their caller being told.
    errors: ErrorRoute | None = None

    @property
    def is_plain(self) -> bool:
        """Whether messages go straight to the endpoint."""
        is_direct = self.interception.is_empty and self.receiver is None
        return is_direct and self.propagates

    def surround(self, flow: Flow, *, is_unit: bool, returns: t.Any = MISSING) -> Flow:
        """Return a flow with what is inside of the unit of work around it."""
        around_flow = self.interception.around_flow
        flow = around_flow(flow, lambda p: p >= DEDUPLICATION_PRECEDENCE)
        if self.receiver is not None:
            flow = self.receiver.around(flow, is_unit=is_unit, returns=returns)
        inside = range(TRANSACTION_PRECEDENCE, DEDUPLICATION_PRECEDENCE)
        return around_flow(flow, lambda p: p in inside)

    def outside(self, flow: Flow) -> Flow:
        """Return a flow with what is outside of the unit of work around it."""
        around_flow = self.interception.around_flow
        return around_flow(flow, lambda p: p < TRANSACTION_PRECEDENCE)


class UniquePipeline:
    """Sends the commands, or the queries, of one type of bus."""

    def __init__(
        self, plan: BusPlan, routes: UniqueRoutes, around: Surroundings
    ) -> None:
        self._plan = plan
        self._routes = routes
        self._around = around
        self._flows = Remembered[tuple[Endpoint, type], Flow]()
        self._by_class = Remembered[type, Flow]()
        self._is_plain = plan.is_plain and around.is_plain
        handle = self._handling()
        self.send = self._sending(handle)
        self.send_named = self._sending_named(handle)

    def encoded(self, reply: t.Any, media_type: str | None) -> t.Any:
        """Return a reply in the media type that was asked for."""
        return (
            self._around.conversion.encode(reply, media_type) if media_type else reply
        )

    def _handling(self) -> Callable[[Flow, Message], t.Any]:
        context = self._around.context
        set_, reset = context.set, context.reset

        def handle(flow: Flow, message: Message) -> t.Any:
            token = set_(message)
            try:
                return flow(message)
            finally:
                reset(token)
                if message.scope is not None:
                    close_scope(message)

        return handle

    def _sending(
        self, handle: Callable[[Flow, Message], t.Any]
    ) -> Callable[..., t.Any]:
        by_class, get = self._by_class, self._around.context.get
        enter, flow_of = self._enter, self._flow_of_class
        is_enabled_for = self._around.logger.isEnabledFor
        if not self._is_plain:

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
            return handle(flow, message)

        return send

    def _sending_named(
        self, handle: Callable[[Flow, Message], t.Any]
    ) -> Callable[[str, t.Any, str | None, t.Any], t.Any]:
        flows, get, is_plain = self._flows, self._around.context.get, self._is_plain
        enter, endpoint_of, around = self._enter, self._routes.named, self._around
        is_enabled_for = self._around.logger.isEnabledFor

        def send_named(
            name: str, payload: t.Any, media_type: str | None, metadata: t.Any
        ) -> t.Any:
            endpoint = endpoint_of(name)
            headers = named_headers(name, media_type, metadata)
            flow = flows.get((endpoint, payload.__class__)) if is_plain else None
            if flow is None:
                return enter(around.message(payload, headers), endpoint)
            message = Message(payload, headers, get())
            if is_enabled_for(_INFO):
                self._log(message, endpoint)
            return handle(flow, message)

        return send_named

    def _enter(self, message: Message, endpoint: Endpoint | None) -> t.Any:
        plan, around = self._plan, self._around
        if around.observer is not None:
            around.observer(plan.kind, message)

        def flow_of(entered: Message) -> Flow:
            # What isinstance() says of a LocalProxy, as on the short way.
            cls = entered.payload.__class__
            chosen = endpoint or self._routes.by_class(cls)
            self._log(entered, chosen)
            return self._flow(chosen, cls)

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
        flow = self._flows.get((endpoint, cls))
        if flow is None:
            outgoing = self._plan.outgoing
            handle = outgoing.entrance(endpoint) if outgoing else endpoint.handle
            handle = guarded(handle, cls, self._around.transaction)
            flow = self._flows[endpoint, cls] = self._compose(endpoint, handle)
        return flow

    def _compose(self, endpoint: Endpoint, handle: Flow) -> Flow:
        plan, around = self._plan, self._around
        transaction = around.transaction
        is_transactional = plan.is_transactional and endpoint.is_transactional
        returns = MISSING
        if plan.receiver is not None and plan.receiver.has_replies:
            marked = endpoint.marked
            returns = reflect(marked.function, marked.owner).returns
        flow = plan.surround(handle, is_unit=is_transactional, returns=returns)
        if plan.kind is Kind.COMMAND:
            if transaction is not None and is_transactional:
                flow = _transactional(flow, transaction)
            if around.outbox is not None:
                flow = around.outbox.collecting(flow)
        flow = around.for_tenant(flow)
        if plan.kind is Kind.COMMAND:
            retry = endpoint.retry or plan.retry or around.retry
            if retry is not None:
                flow = retrying(flow, asked(retry), around)
            if plan.errors is not None:
                flow = plan.errors.around(flow, endpoint, around)
        return plan.outside(flow)


class EventPipeline:
    """Publishes the events of one type of bus."""

    def __init__(
        self, plan: BusPlan, routes: EventRoutes, around: Surroundings
    ) -> None:
        self._plan = plan
        self._routes = routes
        self._around = around
        self._by_class = Remembered[type, tuple[Endpoint, ...]]()
        self._handles = Remembered[type, tuple[Flow, ...]]()
        self._delivery = self._surrounded(self._deliver)
        self.publish = self._compile()

    def publish_named(
        self, name: str, payload: t.Any, media_type: str | None, metadata: t.Any
    ) -> None:
        """Publish an event by its name."""
        subscriptions = self._routes.named(name)
        headers = named_headers(name, media_type, metadata)
        message = self._around.message(payload, headers)

        decoder = self._around.conversion.decoder

        def deliver(entered: Message) -> None:
            converted: dict[type | None, Message] = {None: entered}
            for _, cls in subscriptions:
                if cls is not None and cls not in converted:
                    value = decoder(cls)(entered.payload, entered.header(CONTENT_TYPE))
                    converted[cls] = replaced(entered, value)
            calls = [(endpoint, converted[cls]) for endpoint, cls in subscriptions]
            self._fan_out(calls)

        self._log(message, [endpoint for endpoint, _ in subscriptions])
        self._enter(message, self._surrounded(deliver))

    def publish_recorded(self, payload: t.Any, headers: dict[str, t.Any]) -> None:
        """Publish an event that an aggregate recorded."""
        self._enter(self._around.message(payload, headers), self._delivery)

    def _compile(self) -> Callable[..., None]:
        handles = self._handles
        context = self._around.context
        get, set_, reset = context.get, context.set, context.reset
        enter, delivery, flows_of = self._enter, self._delivery, self._flows_of_class
        is_enabled_for = self._around.logger.isEnabledFor
        is_plain = self._plan.is_plain and self._around.is_plain
        if not is_plain or self._around.tenancy is not None:

            def publish_through(payload: t.Any, metadata: t.Any = None) -> None:
                headers = None if metadata is None else checked_metadata(metadata)
                enter(self._around.message(payload, headers), delivery)

            return publish_through

        def publish(payload: t.Any, metadata: t.Any = None) -> None:
            flows = handles.get(payload.__class__)
            if flows is None:
                flows = flows_of(payload.__class__)
            headers = None if metadata is None else checked_metadata(metadata)
            message = Message(payload, headers, get())
            if is_enabled_for(_INFO):
                self._log(message, self._endpoints_of(payload.__class__))
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
        cls = message.payload.__class__
        flows = self._handles.get(cls)
        if flows is None:
            flows = self._flows_of_class(cls)
        self._log(message, self._endpoints_of(cls))
        for flow in flows:
            flow(message)

    def _surrounded(self, deliver: Callable[[Message], None]) -> Flow:
        plan = self._plan
        flow = plan.surround(deliver, is_unit=plan.is_transactional)
        return self._around.for_tenant(plan.outside(flow))

    def _fan_out(self, calls: Sequence[tuple[Endpoint, Message]]) -> None:
        outgoing, outbox = self._plan.outgoing, self._around.outbox
        if outgoing is None or outbox is None:
            fan_out(calls, outbox)
            return
        posts = [
            outgoing.entrance(endpoint).post(message) for endpoint, message in calls
        ]
        outbox.put([post for post in posts if post is not None])

    def _enter(self, message: Message, flow: Flow) -> None:
        plan, around = self._plan, self._around
        if around.observer is not None:
            around.observer(plan.kind, message)
        through(
            plan.interception,
            around.context,
            message,
            lambda _: flow,
            propagates=plan.propagates,
        )

    def _flows_of_class(self, cls: type) -> tuple[Flow, ...]:
        endpoints = self._by_class[cls] = self._routes.by_class(cls)
        around = self._around
        flows: tuple[Flow, ...] = tuple(
            guarded(endpoint.handle, cls, around.transaction) for endpoint in endpoints
        )
        is_sent = self._plan.outgoing is not None
        if is_sent or any(endpoint.entrance for endpoint in endpoints):

            def fanned(message: Message) -> None:
                self._fan_out([(e, message) for e in endpoints])

            flows = (guarded(fanned, cls, around.transaction),)
        self._handles[cls] = flows
        return flows

    def _endpoints_of(self, cls: type) -> tuple[Endpoint, ...]:
        # Another thread may have made the pipeline start over.
        found = self._by_class.get(cls)
        return self._routes.by_class(cls) if found is None else found

    def _log(self, message: Message, endpoints: t.Iterable[Endpoint]) -> None:
        logger = self._around.logger
        if logger.isEnabledFor(_INFO):
            shown = message.routing_key or type(message.payload).__qualname__
            logger.info("Sending Event Message with: %s.", shown)
            for endpoint in endpoints:
                logger.info("Executing Event Handler %s.", endpoint.title)


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


def gateway_flow(
    flow: Flow,
    around: Surroundings,
    is_unit: bool,
    retry: InstantRetryMark | None = None,
) -> Flow:
    """Return a flow that runs with the tenant of the message active.

    The session of a message that opens the tenant ends with the message: rows that it
    returns are read before.

    :param is_unit: Whether such a message is a unit of work, as a command is.
    :param retry: How often that is tried again, if not as any command is.
    """
    if around.tenancy is None:
        return flow
    opens, opened = around.tenancy.opens, _read_at_once(flow)
    if is_unit and around.transaction is not None:
        opened = _transactional(opened, around.transaction)
        if around.outbox is not None:
            opened = around.outbox.collecting(opened)
    opened, joined = around.for_tenant(opened), around.for_tenant(flow)
    retry = retry or around.retry
    if is_unit and retry is not None:
        opened = retrying(opened, asked(retry), around)
    return lambda message: opened(message) if opens(message) else joined(message)


def _read_at_once(flow: Flow) -> Flow:
    def read(message: Message) -> t.Any:
        reply = flow(message)
        if not isinstance(reply, types.GeneratorType):
            return reply
        rows = list(reply)
        return (row for row in rows)

    return read


def _transactional(flow: Flow, transaction: Transaction) -> Flow:
    run = transaction.run
    return lambda message: run(message.payload, lambda: flow(message))


_INFO = logging.INFO
