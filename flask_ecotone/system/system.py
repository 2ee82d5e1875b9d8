"""The compiled system: every gateway and every endpoint leads through it."""

from __future__ import annotations

import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from functools import partial

from ..console import ConsoleWriter
from ..conversion import Conversion
from ..decorators.deduplication import DeduplicatedMark
from ..definitions import HeaderMark
from ..definitions import InstantRetryMark
from ..definitions import Kind
from ..definitions import RemoveHeaderMark
from ..errors import AggregateNotFoundError
from ..errors import ConfigurationError
from ..errors import did_you_mean
from ..errors import DuplicateHandlerError
from ..errors import NoHandlerError
from ..errors import UnknownChannelError
from ..errors import UnknownEndpointError
from ..handling.deduplication import IdempotentReceiver
from ..handling.deduplication import key_of
from ..handling.evaluation import functions
from ..handling.evaluation import Resolution
from ..handling.headers import header_changes
from ..handling.interceptors import Interception
from ..handling.interceptors import Interceptors
from ..handling.pointcuts import JoinPoint
from ..handling.writing import Writing
from ..message import AGGREGATE_ID
from ..message import Message
from ..message import ROUTING_KEY
from ..modelling.aggregate import Aggregate
from ..modelling.handlers import Outcome
from ..services import Services
from ..storage.protocols import Notes
from .asynchronous import Channels
from .console import ConsoleCommands
from .deferred import Deferred
from .endpoint import Endpoint
from .endpoint import Flow
from .endpoint import ScheduledEndpoint
from .outgoing import BusReception
from .outgoing import ErrorRoute
from .pipelines import BusPlan
from .pipelines import EventPipeline
from .pipelines import gateway_flow
from .pipelines import TRANSACTION_PRECEDENCE
from .pipelines import UniquePipeline
from .reception import received
from .routes import EventRoutes
from .routes import UniqueRoutes
from .surroundings import in_context
from .surroundings import of_worker
from .surroundings import Surroundings
from .surroundings import through

#: Handlers whose name is a channel.
_CHANNELS = (Kind.COMMAND, Kind.QUERY, Kind.INTERNAL)
#: Those that may write.
_WRITING = (Kind.COMMAND, Kind.INTERNAL)


class MessagingSystem:
    """Routes and dispatches. It is made by :func:`compile_system` and doesn't change.

    :param around: What all pipelines have in common.
    :param aggregates: The aggregates, by class.
    :param named_events: Event name → class.
    """

    def __init__(
        self,
        around: Surroundings,
        resolution: Resolution,
        interceptors: Interceptors,
        aggregates: dict[type, Aggregate],
        named_events: dict[str, type],
        deferred: Deferred,
    ) -> None:
        self._around = around
        self._resolution = resolution
        self._interceptors = interceptors
        self._aggregates = aggregates
        self.named_events = named_events
        self._endpoints: list[Endpoint] = []
        self._by_id: dict[str, Endpoint] = {}
        self._channels: dict[str, list[Endpoint]] = {}
        self._deferred = deferred
        self._unique = {
            kind: UniqueRoutes(kind, deferred) for kind in (Kind.COMMAND, Kind.QUERY)
        }
        self._events = EventRoutes(named_events, deferred)
        everywhere: tuple[UniqueRoutes | EventRoutes, ...] = (
            *self._unique.values(),
            self._events,
        )
        for routes in self._unique.values():
            routes.others = tuple(each for each in everywhere if each is not routes)
        self._recorded: EventPipeline
        self.channels: Channels | None = None
        self.writing: Writing
        self.console: ConsoleCommands
        #: By id.
        self.schedules: Mapping[str, ScheduledEndpoint] = {}
        #: Buses whose messages workers handle, and those that say what becomes of
        #: messages that failed, by name.
        self.bus_receptions: dict[str, BusReception] = {}
        self.error_routes: dict[str, ErrorRoute] = {}

    @property
    def services(self) -> Services:
        """The services that handlers get."""
        return self._resolution.services

    @property
    def conversion(self) -> Conversion:
        """The converters."""
        return self._around.conversion

    @property
    def functions(self) -> dict[str, t.Any]:
        """What the expressions of business interfaces may call."""
        return {**functions(self._resolution)}

    @property
    def has_tenants(self) -> bool:
        """Whether messages have tenants."""
        return self._around.tenancy is not None

    @property
    def current_message(self) -> Message | None:
        """The message being handled, if any."""
        return self._around.context.get()

    @property
    def connected(self) -> tuple[Endpoint, ...]:
        """The endpoints whose modules are imported by now."""
        return tuple(self._endpoints)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints, in the order they were found."""
        self._deferred.load_all()
        return tuple(sorted(self._endpoints, key=lambda endpoint: endpoint.number))

    def endpoint(self, endpoint_id: str) -> Endpoint:
        """Return an endpoint by its id, to execute a message that was sent to it.

        :raises UnknownEndpointError: There is none.
        """
        found = self._by_id.get(endpoint_id)
        if found is None:
            self._deferred.load_all()
            found = self._by_id.get(endpoint_id)
        if found is None:
            raise UnknownEndpointError(
                f"A message is for the endpoint {endpoint_id!r}, which this application"
                f" doesn't have.{did_you_mean(endpoint_id, self._by_id)} If it was"
                " renamed, give it its old endpoint_id."
            )
        return found

    def receiver(
        self, said: DeduplicatedMark, name: str, where: str
    ) -> IdempotentReceiver:
        """Return what handles messages once, for an endpoint or a bus.

        :param name: Whose keys they are.
        """
        return IdempotentReceiver(
            name,
            key_of(said, where, self._resolution),
            said.on_duplicate,
            t.cast(Notes, self._around.notes),
            self.writing,
            self._around.logger,
        )

    def execute(
        self, endpoint: Endpoint, message: Message, settle: Callable[[], bool]
    ) -> None:
        """Handle a message that a worker took from a channel.

        :param settle: Removes the message, as part of the transaction, and returns
            whether it is handled for the first time.
        """
        patience = partial(self._patience, endpoint)
        received(endpoint, message, settle, patience, self._around)

    def is_repeated(self, endpoint: Endpoint, error: BaseException) -> bool:
        """Whether a worker executes an endpoint again at once after an error."""
        return self._patience(endpoint, error) > 0

    def _patience(self, endpoint: Endpoint, error: BaseException) -> int:
        return of_worker(endpoint.retry or self._around.retry, self._around)(error)

    def for_tenant(self, tenant: str, call: Callable[[], t.Any]) -> t.Any:
        """Call something with a tenant active."""
        around = self._around
        header = around.tenancy.header if around.tenancy is not None else ""
        message = Message(None, {header: tenant})
        flow = around.for_tenant(lambda _: call())
        return in_context(around.context, message, flow)

    def connect(self, endpoints: Iterable[Endpoint]) -> None:
        """Lay the routes to endpoints. Called by the compiler only."""
        by_kind: dict[Kind, list[Endpoint]] = {kind: [] for kind in Kind}
        for endpoint in endpoints:
            by_kind[endpoint.kind].append(endpoint)
        # Nothing is connected of what can't be connected whole.
        commits = [r.extended(by_kind[kind]) for kind, r in self._unique.items()]
        for endpoint in (each for kind in Kind for each in by_kind[kind]):
            self._endpoints.append(endpoint)
            self._by_id.setdefault(endpoint.id, endpoint)
            if endpoint.kind is not Kind.EVENT and endpoint.name is not None:
                self._channels.setdefault(endpoint.name, []).append(endpoint)
        for commit in commits:
            commit()
        self._events.connect(by_kind[Kind.EVENT])

    def publish_recorded_through(self, pipeline: EventPipeline) -> None:
        """Publish what aggregates record through a bus. Called by the gateways."""
        self._recorded = pipeline

    def handles(self, kind: Kind, message: type | str) -> bool:
        """Whether a command or query has a handler, by its class or routing key."""
        routes = self._unique[kind]
        try:
            if isinstance(message, str):
                routes.named(message)
            else:
                routes.by_class(message)
        except NoHandlerError:
            return False
        return True

    def unique_pipeline(self, plan: BusPlan) -> UniquePipeline:
        """Return how a type of command or query bus sends."""
        return UniquePipeline(plan, self._unique[plan.kind], self._around)

    def event_pipeline(self, plan: BusPlan) -> EventPipeline:
        """Return how a type of event bus publishes."""
        return EventPipeline(plan, self._events, self._around)

    def interception(
        self,
        join_point: JoinPoint,
        required: Iterable[t.Any] = (),
        headers: tuple[list[HeaderMark], list[RemoveHeaderMark]] = ([], []),
    ) -> Interception:
        """Return the interceptors of a gateway.

        :param headers: What is said of the headers of its messages.
        """
        name = join_point.qualified_name
        changes = header_changes(*headers, name, self._resolution)
        return self._interceptors.of(join_point, required, changes)

    def channel(self, name: str, used_by: str) -> Endpoint:
        """Return the endpoint that listens on a channel.

        :param used_by: Who sends to it, for errors.
        :raises UnknownChannelError: There is none.
        """
        self._deferred.before_name(name, *_CHANNELS)
        found = self._channels.get(name, [])
        if len(found) == 1:
            return found[0]
        if found:
            listed = " and ".join(endpoint.marked.where for endpoint in found)
            raise DuplicateHandlerError(
                f"{used_by} sends to {name!r}, which is both {listed}. Give one of"
                " them a routing key of its own."
            )
        known = [*self._channels, *self._deferred.known_names(*_CHANNELS)]
        raise UnknownChannelError(
            f"{used_by} sends to {name!r}, and nothing listens there."
            f"{did_you_mean(name, known)} A channel is the routing key of a command or"
            " query handler, or the input of an @internal_handler."
            f"{self._deferred.hint}"
        )

    def listener(self, name: str, used_by: str) -> Callable[[], Endpoint]:
        """Return what returns the endpoint that listens on a channel.

        It is looked up now, unless its module is imported only when it is needed.

        :raises UnknownChannelError: There is none.
        """
        if self._deferred.waits_for(name, *_CHANNELS):
            return lambda: self.channel(name, used_by)
        endpoint = self.channel(name, used_by)
        return lambda: endpoint

    def send_to(
        self,
        endpoint: Endpoint,
        payload: t.Any,
        headers: dict[str, t.Any] | None,
        interception: Interception | None = None,
    ) -> t.Any:
        """Send a message to an endpoint, past the buses, and return the reply.

        :param interception: The interceptors of the gateway it is sent through.
        """
        is_unit = endpoint.is_transactional and endpoint.kind in _WRITING
        return self.send_through(
            endpoint.handle,
            payload,
            headers,
            interception,
            is_unit=is_unit,
            retry=endpoint.retry,
        )

    def send_through(
        self,
        handle: Flow,
        payload: t.Any,
        headers: dict[str, t.Any] | None,
        interception: Interception | None,
        *,
        is_unit: bool,
        retry: InstantRetryMark | None = None,
    ) -> t.Any:
        """Handle a message of a gateway, and return the reply.

        :param is_unit: Whether a message that opens a tenant is a unit of work: its
            session ends with it, and nobody could commit.
        :param retry: How often that unit of work is tried again.
        """
        around = self._around
        message = around.message(payload, headers)
        if interception is None:
            flow = gateway_flow(handle, around, is_unit, retry)
            return in_context(around.context, message, flow)
        inner = interception.around_flow(handle, lambda p: p >= TRANSACTION_PRECEDENCE)
        flow = gateway_flow(inner, around, is_unit, retry)
        outer = interception.around_flow(flow, lambda p: p < TRANSACTION_PRECEDENCE)
        return through(interception, around.context, message, lambda _: outer)

    def resume(self, message: Message, call: Callable[[], t.Any]) -> t.Any:
        """Call something as if it were part of the handling of a message.

        Messages that it sends inherit the headers, and the tenant is the same.
        """
        flow = self._around.for_tenant(lambda _: call())
        resumed = message.with_headers({})
        resumed.scope = None
        return in_context(self._around.context, resumed, flow)

    def run_console_command(
        self,
        name: str,
        params: Mapping[str, t.Any] | None = None,
        headers: Mapping[str, t.Any] | None = None,
        *,
        writer: ConsoleWriter | None = None,
    ) -> None:
        """Run a console command.

        :param name: The name of the command, with colons.
        :param params: Parameter → value, converted to the type of the parameter.
        :param headers: Headers of the message, which everything inherits that the
            command causes.
        :param writer: Where the command writes.
        :raises NoHandlerError: There is no such command.
        :raises MessagingError: A parameter without default is missing.
        """
        self.console.run(name, params, headers, writer=writer)

    def finish(self, outcome: Outcome, output: Flow | None) -> t.Any:
        """Publish what handling recorded, pass the reply on and return the result."""
        for event, headers in outcome.events:
            self._recorded.publish_recorded(event, headers)
        return self.passed_on(outcome.reply, output)

    def passed_on(self, reply: Message | None, output: Flow | None) -> t.Any:
        """Send a reply to an output channel, if there is one, and return the result."""
        if reply is None:
            return None
        if output is None:
            return reply.payload
        # The address of this step isn't the address of the next one.
        return output(reply.with_headers({AGGREGATE_ID: None, ROUTING_KEY: None}))

    def aggregate_of(self, cls: type) -> Aggregate | None:
        """Return what is known of an aggregate, or of one it derives from."""
        for base in cls.__mro__:
            found = self._aggregates.get(base)
            if found is not None:
                return found
        return None

    def aggregate(self, cls: type, used_by: str) -> Aggregate:
        """Return what is known of an aggregate.

        :raises ConfigurationError: The class isn't a registered aggregate.
        """
        found = self.aggregate_of(cls)
        if found is None:
            known = [c.__qualname__ for c in self._aggregates]
            raise ConfigurationError(
                f"{used_by} is about {cls.__qualname__}, which is no registered"
                f" aggregate.{did_you_mean(cls.__qualname__, known)} Mark the class"
                " with @aggregate and see that its module is scanned."
            )
        return found

    def fetch(self, cls: type, identifier: t.Any) -> t.Any | None:
        """Load an aggregate by one identifier or a dict of them; ``None`` if absent."""
        aggregate = self.aggregate(cls, "Fetch()")
        return aggregate.find(aggregate.identifiers_from(identifier))

    def load(self, cls: type, identifier: t.Any) -> t.Any:
        """Load an aggregate; raise :exc:`AggregateNotFoundError` if there is none."""
        found = self.fetch(cls, identifier)
        if found is None:
            raise AggregateNotFoundError(
                f"{cls.__qualname__} was not found by the identifier {identifier!r}."
            )
        return found

    def keep(self, instance: t.Any) -> None:
        """Store an aggregate as it is, in a unit of work, and publish nothing."""
        aggregate = self.aggregate(type(instance), "with_state_for()")
        transaction = self._around.transaction
        if transaction is None:
            aggregate.keep(instance)
        else:
            transaction.run(instance, lambda: aggregate.keep(instance))

    def save(self, instance: t.Any) -> None:
        """Save an aggregate and publish what it recorded."""
        aggregate = self.aggregate(type(instance), "A repository's save()")
        parent = self._around.context.get()
        is_new = None in (ids := aggregate.identify(instance)).values()
        is_new = is_new or aggregate.find(ids) is None
        before = 0 if is_new else aggregate.version_of(instance)
        _, events = aggregate.save(
            instance, lambda: parent.headers.propagated() if parent else {}, before
        )
        self.finish(Outcome(None, events), None)
