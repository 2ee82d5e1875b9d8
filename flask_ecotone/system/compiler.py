"""From the catalogue to a messaging system. All reflection happens here, once."""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass

from ..console import ConsoleOutput
from ..console import ConsoleWriter
from ..console import PlainConsoleWriter
from ..context import MessageContext
from ..conversion import Conversion
from ..conversion import JSON
from ..conversion import user_converter
from ..decorators.deduplication import DeduplicatedMark
from ..decorators.pointcuts import EndpointMark
from ..definitions import AsynchronousMark
from ..definitions import DelayedRetryMark
from ..definitions import ErrorChannelMark
from ..definitions import HandlerMark
from ..definitions import HeaderMark
from ..definitions import InstantRetryMark
from ..definitions import Kind
from ..definitions import PriorityMark
from ..definitions import RemoveHeaderMark
from ..definitions import WithoutTransactionMark
from ..discovery import Catalogue
from ..discovery import Marked
from ..discovery.manifest import DeferredModule
from ..errors import ConfigurationError
from ..errors import DuplicateHandlerError
from ..errors import HandlerSignatureError
from ..handling.calls import late_bound
from ..handling.deduplication import IdempotentReceiver
from ..handling.evaluation import Resolution
from ..handling.evaluation import Variables
from ..handling.flows import direct_flow
from ..handling.flows import replying_flow
from ..handling.headers import header_changes
from ..handling.interceptors import Interception
from ..handling.interceptors import Interceptors
from ..handling.pointcuts import JoinPoint
from ..handling.writing import Writing
from ..message import Message
from ..modelling.aggregate import Aggregate
from ..modelling.handlers import Address
from ..modelling.handlers import AggregateHandler
from ..modelling.repositories import Repositories
from ..reflection import MISSING
from ..reflection import reflect
from ..reflection import Signature
from ..services import Services
from ..storage.protocols import Activation
from ..storage.protocols import Connections
from ..storage.protocols import Hook
from ..storage.protocols import ModelRepository
from ..storage.protocols import Notes
from ..storage.protocols import Transaction
from .asynchronous import Channels
from .asynchronous import check_abilities
from .asynchronous import check_asynchronous
from .asynchronous import check_deduplicated
from .asynchronous import Entrance
from .asynchronous import recovery_of
from .console import ConsoleCommands
from .deferred import Deferred
from .endpoint import Endpoint
from .endpoint import Flow
from .found import aggregate_of
from .found import endpoint_id
from .found import FoundHandler
from .found import grouped
from .pairing import compiled
from .schedules import compile_schedules
from .surroundings import in_context
from .surroundings import Observer
from .surroundings import retry_of
from .surroundings import Surroundings
from .system import MessagingSystem


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What a system is compiled with, besides what is marked."""

    services: Services
    variables: Variables
    logger: logging.Logger
    transaction: Transaction | None = None
    #: What was handled already, for ``@deduplicated``.
    notes: Notes | None = None
    models: Iterable[ModelRepository] = ()
    retry: InstantRetryMark | None = None
    #: What objects are written in for channels, unless their sender says it.
    media_type: str = JSON
    observer: Observer | None = None
    #: Told of every reply that goes to an output channel, by the channel's name.
    spy: Callable[[str, Message], None] | None = None
    provider: Callable[[], dict[str, t.Any]] | None = None
    tenancy: Activation | None = None
    connections: Connections | None = None
    #: Modules that are imported when they are first needed, what imports one and
    #: returns its handlers, and the ids of all endpoints in order: from a manifest.
    deferred: Iterable[DeferredModule] = ()
    load: Callable[[DeferredModule], Iterable[Marked[HandlerMark]]] = lambda module: ()
    order: Iterable[str] = ()
    #: The channels of asynchronous handlers; without any they run at once.
    channels: Channels | None = None
    #: What to say besides when nothing handles a message.
    hint: str = ""
    #: Where console commands write unless whoever runs them says otherwise.
    writer: ConsoleWriter | None = None
    #: Where the message being handled is kept.
    context: MessageContext | None = None


def compile_system(
    catalogue: Catalogue, configuration: Configuration
) -> MessagingSystem:
    """Compile what is marked to a messaging system.

    :raises ConfigurationError: Something can't work as it is marked.
    """
    return _Compiler(catalogue, configuration).compile()


class _Compiler:
    def __init__(self, catalogue: Catalogue, configuration: Configuration) -> None:
        self._catalogue = catalogue
        self._spy = configuration.spy
        services = configuration.services
        conversion = Conversion(
            [
                user_converter(m.function, m.owner, late_bound(m, services))
                for m in catalogue.converters
            ],
            [_late(services, cls) for cls in catalogue.media_type_converters],
        )
        self._writer = ConsoleOutput(configuration.writer or PlainConsoleWriter())
        if not services.is_registered(ConsoleWriter):
            services.provide_value(ConsoleWriter, self._writer)
        context = configuration.context or MessageContext()
        self._around = Surroundings(
            context,
            conversion,
            configuration.logger,
            configuration.transaction,
            configuration.retry,
            configuration.observer,
            configuration.provider,
            configuration.tenancy,
            configuration.channels.outbox if configuration.channels else None,
            configuration.notes,
        )
        self._channels = configuration.channels
        self._resolution = Resolution(
            conversion,
            services,
            configuration.variables,
            context.get,
            configuration.connections,
            lambda cls, identifier: self._system.fetch(cls, identifier),
        )
        repositories = Repositories(
            catalogue.repositories, configuration.models, services
        )
        aggregates = {cls: Aggregate(cls, repositories) for cls in catalogue.aggregates}
        self._interceptors = Interceptors(catalogue.interceptors, self._resolution)
        self._system = MessagingSystem(
            self._around,
            self._resolution,
            self._interceptors,
            aggregates,
            catalogue.named_events,
            Deferred(configuration.deferred, self._load, configuration.hint),
        )
        modules = [m.plain.__module__ for m in catalogue.handlers]
        modules += [module.name for module in configuration.deferred]
        self._writing = Writing(
            conversion, catalogue.named_events, modules, configuration.media_type
        )
        self._system.channels = configuration.channels
        self._system.writing = self._writing
        self._handlers_of = configuration.load
        self._numbers = {name: n for n, name in enumerate(configuration.order)}

    def compile(self) -> MessagingSystem:
        self._tenant_hooks()
        endpoints = self._endpoints(self._catalogue.handlers)
        self._system.connect(endpoints)
        self._check_ids(endpoints)
        for endpoint in endpoints:
            output = endpoint.marked.said.output_channel
            if output is not None:
                self._system.listener(output, endpoint.marked.where)
        self._system.console = self._console()
        self._system.schedules = compile_schedules(
            self._catalogue,
            self._system,
            self._around,
            self._resolution,
            self._interceptors,
            self._spy,
        )
        return self._system

    def _endpoints(self, handlers: Iterable[Marked[HandlerMark]]) -> list[Endpoint]:
        found = [FoundHandler(m, reflect(m.function, m.owner)) for m in handlers]
        endpoints = [self._endpoint(*group) for group in grouped(found, self._system)]
        for number, endpoint in enumerate(endpoints):
            endpoint.number = self._numbers.get(endpoint.id, number)
        return endpoints

    def _load(self, module: DeferredModule) -> None:
        """Connect the handlers of a module that is needed only now."""
        self._system.connect(self._endpoints(self._handlers_of(module)))

    def _console(self) -> ConsoleCommands:
        return ConsoleCommands(
            self._catalogue.console_commands,
            self._around,
            self._resolution,
            self._interceptors,
            self._writer,
        )

    def _tenant_hooks(self) -> None:
        hooks = self._catalogue.tenant_hooks
        tenancy = self._around.tenancy
        if not hooks or tenancy is None:
            return
        called: dict[bool, list[Hook]] = {True: [], False: []}
        for marked in hooks:
            signature = reflect(marked.function, marked.owner)
            handle = direct_flow(marked, signature, self._resolution)
            called[marked.said.on_activation].append(
                _hook(handle, self._around, tenancy.header)
            )
        tenancy.call_hooks(tuple(called[True]), tuple(called[False]))

    def _endpoint(
        self, found: FoundHandler, action: FoundHandler | None = None
    ) -> Endpoint:
        marked, signature = found.marked, found.signature
        aggregate = aggregate_of(found, self._system)
        said = marked.mark(AsynchronousMark)
        check_asynchronous(marked, said)
        if marked.said.kind is Kind.QUERY or self._channels is None:
            said = None
        name, execution = endpoint_id(marked), said.execution if said else ()
        apart = (marked.mark(WithoutTransactionMark), *execution)
        is_transactional = not any(isinstance(e, WithoutTransactionMark) for e in apart)
        receiver = self._receiver(name, marked, action)
        interception = self._interception(marked)
        sending, remaining = interception.split()
        if execution:
            _, remaining = self._interception(marked, execution).split()
        is_split = said is not None or receiver is not None
        if is_split:
            interception = remaining
        check: Address | None = None
        if aggregate is None:
            handle = self._service(marked, signature, interception)
        else:
            handle, check = self._aggregate(
                found, aggregate, interception, action, is_split
            )
            if said is None and not sending.is_watching:
                check = None
        if receiver is not None:
            returns = signature.returns if aggregate is None else MISSING
            handle = receiver.around(handle, is_unit=is_transactional, returns=returns)
            if said is None:
                handle = sending.before(handle)
        priority = marked.mark(PriorityMark)
        recovery = recovery_of(marked, execution)
        entrance = None
        if said is not None:
            entrance = self._entrance(name, marked, said, sending, recovery, check)
        return Endpoint(
            id=name,
            marked=marked,
            types=tuple(dict.fromkeys(found.types + (action.types if action else ()))),
            interceptors=interception.names,
            priority=priority.priority if priority else 1,
            is_aggregate=aggregate is not None,
            is_transactional=is_transactional,
            retry=retry_of(marked, said is not None),
            handle=entrance or handle,
            execute=handle if entrance else None,
            entrance=entrance,
            channels=(entrance.channel.name, *entrance.slip) if entrance else (),
            recovery=recovery,
            check=check,
        )

    def _receiver(
        self, name: str, marked: Marked[HandlerMark], action: FoundHandler | None
    ) -> IdempotentReceiver | None:
        said = marked.mark(DeduplicatedMark)
        check_deduplicated(marked, None if action is None else action.marked)
        if said is None or marked.said.kind is Kind.QUERY:
            return None
        return self._system.receiver(said, name, marked.where)

    def _entrance(
        self,
        name: str,
        marked: Marked[HandlerMark],
        said: AsynchronousMark,
        sending: Interception,
        recovery: DelayedRetryMark | ErrorChannelMark | None,
        check: Address | None,
    ) -> Entrance:
        channels = t.cast(Channels, self._channels)
        first, *slip = route = channels.route(said, name, marked.where)
        important = marked.mark(PriorityMark)
        passed = [channels.get(each) for each in route]
        return Entrance(
            name,
            channels.get(first),
            tuple(slip),
            sending,
            self._writing,
            channels.outbox,
            important.priority if important else 0,
            check_abilities(marked, recovery, passed),
            check=check,
        )

    def _service(
        self,
        marked: Marked[HandlerMark],
        signature: Signature,
        interception: Interception,
    ) -> Flow:
        said = marked.said
        if hasattr(marked.owner, "__mapper__") and not marked.is_on_class:
            raise HandlerSignatureError(
                f"{marked.where} is a method of a database model that is no aggregate,"
                " so that nothing would load or save it. Mark the class with"
                " @aggregate."
            )
        if said.identifier_mapping or said.identifier_metadata_mapping:
            raise ConfigurationError(
                f"{marked.where} maps identifiers, which say which aggregate a message"
                " is for, and it is no handler of an aggregate. Remove the mapping."
            )
        is_plain = interception.is_empty and not said.changing_headers
        if is_plain and said.output_channel is None:
            return direct_flow(marked, signature, self._resolution)
        reply = replying_flow(marked, signature, self._resolution, interception)
        output, passed_on = self._output(marked), self._system.passed_on
        return lambda message: passed_on(reply(message), output)

    def _aggregate(
        self,
        found: FoundHandler,
        aggregate: Aggregate,
        interception: Interception,
        action: FoundHandler | None,
        is_split: bool,
    ) -> tuple[Flow, Address]:
        handler = self._aggregate_handler(found, aggregate, interception)
        changing = None
        if action is not None:
            other = self._interception(action.marked)
            if is_split:
                other = other.split()[1]
            changing = self._aggregate_handler(action, aggregate, other)
        handle, address = compiled(found, handler, action, changing)
        output, finish = self._output(found.marked), self._system.finish
        return lambda message: finish(handle(message), output), address

    def _aggregate_handler(
        self, found: FoundHandler, aggregate: Aggregate, interception: Interception
    ) -> AggregateHandler:
        return AggregateHandler(
            aggregate,
            found.marked,
            found.signature,
            interception,
            self._resolution,
            self._system.aggregate_of,
        )

    def _interception(
        self, marked: Marked[HandlerMark], execution: Iterable[t.Any] = ()
    ) -> Interception:
        said = [*marked.marks(EndpointMark), *execution]
        markers = tuple(m.marker for m in said if isinstance(m, EndpointMark))
        point = JoinPoint(marked.function, marked.owner, marked.said.kind, markers)
        required = marked.said.required_interceptors
        headers = header_changes(
            marked.marks(HeaderMark),
            marked.marks(RemoveHeaderMark),
            marked.where,
            self._resolution,
        )
        return self._interceptors.of(point, required, headers)

    def _output(self, marked: Marked[HandlerMark]) -> Flow | None:
        name = marked.said.output_channel
        if name is None:
            return None
        system, where, spy = self._system, marked.where, self._spy
        if spy is None:
            # The endpoint may be compiled later than the one that sends to it.
            return lambda reply: system.channel(name, where).handle(reply)

        def spied(reply: Message) -> t.Any:
            spy(name, reply)
            return system.channel(name, where).handle(reply)

        return spied

    def _check_ids(self, endpoints: list[Endpoint]) -> None:
        seen: dict[str, Endpoint] = {}
        for endpoint in endpoints:
            other = seen.setdefault(endpoint.id, endpoint)
            if other is not endpoint:
                raise DuplicateHandlerError(
                    f"Two endpoints have the id {endpoint.id!r}: {other.marked.where}"
                    f" and {endpoint.marked.where}. Give one of them another."
                )


def _hook(handle: Flow, around: Surroundings, header: str) -> Hook:
    def hook(tenant: str, connection: t.Any) -> None:
        message = Message(connection, {header: tenant}, around.context.get())
        in_context(around.context, message, handle)

    return hook


def _late(services: Services, cls: type) -> Callable[[], t.Any]:
    return lambda: services.get(cls)
