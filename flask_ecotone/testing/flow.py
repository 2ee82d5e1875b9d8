"""The real messaging system, with the handlers of a test and repositories in memory."""

from __future__ import annotations

import datetime
import logging
import types
import typing as t
from collections.abc import Iterable
from collections.abc import Mapping

import svcs

from ..console import InMemoryConsoleWriter
from ..consuming import Limits
from ..definitions import Kind
from ..discovery import collect
from ..discovery import marked_in
from ..errors import ConfigurationError
from ..gateways import build_gateways
from ..gateways import CommandBus
from ..gateways import EventBus
from ..gateways import QueryBus
from ..message import AGGREGATE_ID
from ..message import checked_metadata
from ..message import Headers
from ..message import Message
from ..message import ROUTING_KEY
from ..services import Services
from ..storage.memory_notes import MemoryNotes
from ..storage.memory_notes import MemoryTransaction
from ..storage.protocols import ModelRepository
from ..system import compile_system
from ..system import Configuration
from ..system import MessagingSystem
from ..system.schedules import FailedFiringError
from .channels import FlowChannels
from .context import FlowContext
from .memory import InMemoryModelRepository
from .memory import NoStatements
from .recorder import MessageRecorder

T = t.TypeVar("T")
Metadata = Mapping[str, t.Any] | None


class FlowTesting:
    """Sends messages through a messaging system and shows what came of it.

    Sending methods return the object itself, to be chained; the result of a command is
    that of the bus: :attr:`command_bus`.
    """

    def __init__(
        self,
        system: MessagingSystem,
        recorder: MessageRecorder,
        *,
        console: InMemoryConsoleWriter,
        fail_on_command_handler_not_found: bool = True,
        fail_on_query_handler_not_found: bool = True,
        channels: FlowChannels | None = None,
    ) -> None:
        self.system = system
        self._channels = channels
        #: What console commands wrote.
        self.console = console
        self._recorder = recorder
        self._fails = {
            Kind.COMMAND: fail_on_command_handler_not_found,
            Kind.QUERY: fail_on_query_handler_not_found,
        }

    @property
    def command_bus(self) -> CommandBus:
        """The command bus."""
        return self.gateway(CommandBus)

    @property
    def query_bus(self) -> QueryBus:
        """The query bus."""
        return self.gateway(QueryBus)

    @property
    def event_bus(self) -> EventBus:
        """The event bus."""
        return self.gateway(EventBus)

    def send_command(self, command: t.Any, metadata: Metadata = None) -> t.Self:
        """Send a command."""
        if not self._ignores(Kind.COMMAND, type(command)):
            self.command_bus.send(command, metadata)
        return self

    def send_command_with_routing(
        self,
        routing_key: str,
        payload: t.Any = None,
        *,
        media_type: str | None = None,
        metadata: Metadata = None,
    ) -> t.Self:
        """Send a command to a routing key."""
        if not self._ignores(Kind.COMMAND, routing_key):
            self.command_bus.send_with_routing(
                routing_key, payload, media_type=media_type, metadata=metadata
            )
        return self

    def publish_event(self, event: t.Any, metadata: Metadata = None) -> t.Self:
        """Publish an event."""
        self.event_bus.publish(event, metadata)
        return self

    def publish_event_with_routing(
        self,
        routing_key: str,
        payload: t.Any = None,
        *,
        media_type: str | None = None,
        metadata: Metadata = None,
    ) -> t.Self:
        """Publish an event by its name."""
        self.event_bus.publish_with_routing(
            routing_key, payload, media_type=media_type, metadata=metadata
        )
        return self

    def send_query(
        self,
        query: t.Any,
        metadata: Metadata = None,
        *,
        expected_media_type: str | None = None,
    ) -> t.Any:
        """Send a query and return the answer."""
        if self._ignores(Kind.QUERY, type(query)):
            return None
        return self.query_bus.send(
            query, metadata, expected_media_type=expected_media_type
        )

    def send_query_with_routing(
        self,
        routing_key: str,
        payload: t.Any = None,
        *,
        media_type: str | None = None,
        metadata: Metadata = None,
        expected_media_type: str | None = None,
    ) -> t.Any:
        """Send a query to a routing key and return the answer."""
        if self._ignores(Kind.QUERY, routing_key):
            return None
        return self.query_bus.send_with_routing(
            routing_key,
            payload,
            media_type=media_type,
            metadata=metadata,
            expected_media_type=expected_media_type,
        )

    def send_to_channel(
        self, channel: str, payload: t.Any = None, metadata: Metadata = None
    ) -> t.Any:
        """Send a message to a channel, past the buses, and return the reply."""
        endpoint = self.system.channel(channel, "send_to_channel()")
        headers = None if metadata is None else checked_metadata(metadata)
        return self.system.send_to(endpoint, payload, headers)

    def run_console_command(
        self,
        name: str,
        params: Mapping[str, t.Any] | None = None,
        headers: Metadata = None,
    ) -> t.Self:
        """Run a console command, which writes to :attr:`console`.

        :param name: The name of the command, with colons.
        :param params: Parameter → value.
        :param headers: Headers, as given with ``--header``.
        """
        self.system.run_console_command(name, params, headers, writer=self.console)
        return self

    def discard_recorded_messages(self) -> t.Self:
        """Forget what was recorded so far."""
        self._recorder.clear()
        if self._channels is not None:
            self._channels.forget_sent()
        return self

    def recorded_events(self) -> list[t.Any]:
        """Return the events published since the last time."""
        return [message.payload for message in self._recorder.take(Kind.EVENT)]

    def recorded_event_headers(self) -> list[Headers]:
        """Return the headers of the events published since the last time."""
        return [message.headers for message in self._recorder.take(Kind.EVENT)]

    def recorded_event_routing(self) -> list[str | None]:
        """Return the names that events were published by since the last time."""
        return [message.routing_key for message in self._recorder.take(Kind.EVENT)]

    def recorded_commands(self) -> list[t.Any]:
        """Return the commands sent since the last time."""
        return [message.payload for message in self._recorder.take(Kind.COMMAND)]

    def recorded_command_headers(self) -> list[Headers]:
        """Return the headers of the commands sent since the last time."""
        return [message.headers for message in self._recorder.take(Kind.COMMAND)]

    def recorded_commands_with_routing(self) -> list[tuple[str, t.Any]]:
        """Return routing key and ``aggregate.id`` of the commands sent to names."""
        taken = self._recorder.take(Kind.COMMAND)
        return [
            (message.headers[ROUTING_KEY], message.headers.get(AGGREGATE_ID))
            for message in taken
            if ROUTING_KEY in message.headers
        ]

    def recorded_queries(self) -> list[t.Any]:
        """Return the queries sent since the last time."""
        return [message.payload for message in self._recorder.take(Kind.QUERY)]

    def recorded_payloads_from(self, channel: str) -> list[t.Any]:
        """Return what was sent to a channel since the last time."""
        return [message.payload for message in self.recorded_messages_from(channel)]

    def recorded_messages_from(self, channel: str) -> list[Message]:
        """Return the messages sent to a channel since the last time.

        :param channel: An output channel, or one of :meth:`consumers`: then it is what
            was sent there, whether it was handled meanwhile or not.
        :raises UnknownChannelError: Nothing listens on it.
        """
        if self._channels is not None and channel in self._channels.names:
            return self._channels.take_sent(channel)
        self.system.channel(channel, "recorded_messages_from()")
        return self._recorder.take_from(channel)

    def run(
        self,
        *names: str,
        limits: Limits | None = None,
        release_awaiting: datetime.timedelta | datetime.datetime | None = None,
    ) -> t.Self:
        """Handle the messages of channels, until there are none or one fails.

        The exception of a handler is raised, unless it is tried again later.

        :param names: The names of the channels. The name of a schedule fires it once.
        :param limits: When to stop, instead.
        :param release_awaiting: Handle what is delayed for no longer than this, too.
        """
        schedules = [name for name in names if name in self.system.schedules]
        for name in schedules:
            now = datetime.datetime.now(datetime.UTC)
            failed: BaseException | None = None
            try:
                self.system.schedules[name].fire(now, lambda: True)
            except FailedFiringError as error:
                failed = error.__cause__
            if failed is not None:
                raise failed
        others = [name for name in names if name not in schedules]
        if others or not schedules:
            self._flow_channels.run(others, limits, release_awaiting)
        return self

    def advance_time(self, duration: datetime.timedelta) -> t.Self:
        """Let time pass for the channels."""
        self._flow_channels.clock.advance(duration)
        return self

    def freeze_time(self, moment: datetime.datetime) -> t.Self:
        """Set the time of the channels; it doesn't go back."""
        self._flow_channels.clock.freeze(moment)
        return self

    def waiting_in(self, channel: str) -> int:
        """Return how many messages lie in a channel, delayed ones too."""
        return self._flow_channels.waiting_in(channel)

    def receive_from(self, channel: str) -> Message | None:
        """Take the next message that is due out of a channel, so that nobody handles
        it; ``None`` if there is none.
        """
        return self._flow_channels.receive_from(channel)

    def consumers(self) -> list[str]:
        """Return the names of the channels that :meth:`run` takes."""
        return self._flow_channels.names

    @property
    def _flow_channels(self) -> FlowChannels:
        if self._channels is None:
            raise ConfigurationError(
                "There are no channels: asynchronous handlers run at once. Ask for them"
                " with flow_testing(…, asynchronous=True)."
            )
        return self._channels

    def with_state_for(self, *aggregates: t.Any) -> t.Self:
        """Store aggregates as they are, without publishing what they recorded."""
        for aggregate in aggregates:
            self.system.keep(aggregate)
        return self

    def aggregate(self, cls: type[T], identifier: t.Any) -> T:
        """Load an aggregate.

        :param identifier: One value, or a dict for several identifiers.
        :raises AggregateNotFoundError: There is none.
        """
        return t.cast(T, self.system.load(cls, identifier))

    def gateway(self, cls: type[T]) -> T:
        """Return a bus or business interface."""
        return t.cast(T, self.system.services.get(cls))

    def service(self, cls: type[T]) -> T:
        """Return a service."""
        return t.cast(T, self.system.services.get(cls))

    def _ignores(self, kind: Kind, message: type | str) -> bool:
        return not (self._fails[kind] or self.system.handles(kind, message))


def flow_testing(
    found: Iterable[t.Any] = (),
    *,
    services: Mapping[t.Any, t.Any] | Iterable[t.Any] = (),
    configuration: Mapping[str, t.Any] | None = None,
    asynchronous: bool = False,
    environment: str = "test",
    in_memory_repositories: bool = True,
    fail_on_command_handler_not_found: bool = True,
    fail_on_query_handler_not_found: bool = True,
) -> FlowTesting:
    """Return a messaging system with the handlers of a test.

    There is no Flask app and no database: aggregates, models too, are kept in memory.

    :param found: Marked classes and functions, and modules or packages to scan.
    :param services: Service type, or name, → object; or objects, provided by type.
    :param configuration: Configuration variables.
    :param asynchronous: Run asynchronous handlers from channels in memory. Off, they
        run at once.
    :param environment: The environment, for ``@environment``.
    :param in_memory_repositories: Keep aggregates in memory that no repository among
        the given classes handles.
    :param fail_on_command_handler_not_found: Raise when a command has no handler.
    :param fail_on_query_handler_not_found: Raise when a query has no handler.
    """
    registry = svcs.Registry()
    bridge = Services(registry)
    if not isinstance(services, Mapping):
        services = {type(service): service for service in services}
    for key, service in services.items():
        _check_object(key, service)
        bridge.provide_value(key, service)
    listed = list(found)
    modules = [each for each in listed if isinstance(each, types.ModuleType)]
    marked = [each for each in listed if not isinstance(each, types.ModuleType)]
    catalogue = collect(
        [*marked, *marked_in(module.__name__ for module in modules)], environment
    )
    models: list[ModelRepository] = []
    if in_memory_repositories:
        models.append(InMemoryModelRepository())
    recorder = MessageRecorder()
    console = InMemoryConsoleWriter()
    channels = FlowChannels(catalogue) if asynchronous else None
    transaction = MemoryTransaction()
    context = FlowContext()
    system = compile_system(
        catalogue,
        Configuration(
            services=bridge,
            variables=_Variables(configuration or {}),
            logger=logging.getLogger("flask_ecotone.testing"),
            transaction=transaction if catalogue.is_deduplicating else None,
            notes=MemoryNotes(transaction),
            models=models,
            observer=recorder.record,
            spy=recorder.spy,
            writer=console,
            channels=channels.channels if channels else None,
            context=context,
        ),
    )
    if channels is not None:
        channels.complete(system)
    build_gateways(system, catalogue, NoStatements())
    context.flow = FlowTesting(
        system,
        recorder,
        console=console,
        fail_on_command_handler_not_found=fail_on_command_handler_not_found,
        fail_on_query_handler_not_found=fail_on_query_handler_not_found,
        channels=channels,
    )
    return t.cast(FlowTesting, context.flow)


def _check_object(key: t.Any, service: t.Any) -> None:
    # Where Ecotone(services=…) takes a factory, often the class, this takes the object.
    is_instance_asked_for = isinstance(key, type) and not issubclass(key, type)
    if is_instance_asked_for and isinstance(service, type):
        raise ConfigurationError(
            f"A flow test can't have the class {service.__name__} as the service"
            f" {key.__name__}: services are objects here, not factories. Give it"
            f" {service.__name__}()."
        )


class _Variables:
    def __init__(self, values: Mapping[str, t.Any]) -> None:
        self._values = values

    def has(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> t.Any:
        return self._values.get(name)
