"""From the catalogue to a messaging system. All reflection happens here, once."""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass

from ..context import MessageContext
from ..conversion import compile_expression
from ..conversion import Conversion
from ..conversion import user_converter
from ..decorators.pointcuts import EndpointMark
from ..definitions import HandlerMark
from ..definitions import HeaderMark
from ..definitions import InstantRetryMark
from ..definitions import Kind
from ..definitions import PriorityMark
from ..definitions import RemoveHeaderMark
from ..definitions import WithoutTransactionMark
from ..discovery import Catalogue
from ..discovery import Marked
from ..errors import ConfigurationError
from ..errors import DuplicateHandlerError
from ..errors import HandlerSignatureError
from ..handling.arguments import payload_parameter
from ..handling.calls import late_bound
from ..handling.evaluation import evaluation
from ..handling.evaluation import Resolution
from ..handling.evaluation import Variables
from ..handling.flows import direct_flow
from ..handling.flows import replying_flow
from ..handling.interceptors import Interception
from ..handling.interceptors import Interceptors
from ..handling.pointcuts import JoinPoint
from ..message import Message
from ..modelling.aggregate import Aggregate
from ..modelling.handlers import AggregateHandler
from ..modelling.handlers import Handle
from ..modelling.repositories import Repositories
from ..reflection import members
from ..reflection import MISSING
from ..reflection import reflect
from ..reflection import Signature
from ..reflection import type_name
from ..services import Services
from ..storage.protocols import ModelRepository
from ..storage.protocols import Transaction
from .endpoint import Endpoint
from .endpoint import Flow
from .pipelines import Observer
from .pipelines import retrying
from .pipelines import Surroundings
from .system import MessagingSystem


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What a system is compiled with, besides what is marked."""

    services: Services
    variables: Variables
    logger: logging.Logger
    transaction: Transaction | None = None
    models: Iterable[ModelRepository] = ()
    retry: InstantRetryMark | None = None
    observer: Observer | None = None
    provider: Callable[[], dict[str, t.Any]] | None = None


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
        services = configuration.services
        conversion = Conversion(
            [
                user_converter(m.function, m.owner, late_bound(m, services))
                for m in catalogue.converters
            ],
            [_late(services, cls) for cls in catalogue.media_type_converters],
        )
        context = MessageContext()
        self._around = Surroundings(
            context,
            conversion,
            configuration.logger,
            configuration.transaction,
            configuration.retry,
            configuration.observer,
            configuration.provider,
        )
        self._resolution = Resolution(
            conversion,
            services,
            configuration.variables,
            context.get,
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
        )

    def compile(self) -> MessagingSystem:
        found = [
            _Found(m, reflect(m.function, m.owner)) for m in self._catalogue.handlers
        ]
        endpoints = [self._endpoint(*group) for group in _grouped(found, self._system)]
        self._check_ids(endpoints)
        self._system.connect(endpoints)
        for endpoint in endpoints:
            output = endpoint.marked.said.output_channel
            if output is not None:
                self._system.channel(output, endpoint.marked.where)
        return self._system

    def _endpoint(self, found: _Found, action: _Found | None = None) -> Endpoint:
        marked, signature = found.marked, found.signature
        aggregate = _aggregate_of(found, self._system)
        interception = self._interception(marked)
        if aggregate is None:
            handle = self._service(marked, signature, interception)
        else:
            handle = self._aggregate(found, aggregate, interception, action)
        retry = marked.mark(InstantRetryMark)
        if retry is not None and marked.said.kind is not Kind.COMMAND:
            handle = retrying(handle, retry, self._around)
        priority = marked.mark(PriorityMark)
        return Endpoint(
            id=_endpoint_id(marked),
            marked=marked,
            types=found.types,
            interceptors=interception.names,
            priority=priority.priority if priority else 1,
            is_aggregate=aggregate is not None,
            is_transactional=marked.mark(WithoutTransactionMark) is None,
            retry=retry,
            handle=handle,
        )

    def _service(
        self,
        marked: Marked[HandlerMark],
        signature: Signature,
        interception: Interception,
    ) -> Flow:
        said, headers = marked.said, self._headers(marked)
        is_plain = interception.is_empty and not said.changing_headers
        if is_plain and said.output_channel is None and headers is None:
            return direct_flow(marked, signature, self._resolution)
        reply = replying_flow(marked, signature, self._resolution, interception)
        output, passed_on = self._output(marked), self._system.passed_on
        return _with_headers(headers, lambda m: passed_on(reply(m), output))

    def _aggregate(
        self,
        found: _Found,
        aggregate: Aggregate,
        interception: Interception,
        action: _Found | None,
    ) -> Flow:
        marked = found.marked
        handler = self._aggregate_handler(found, aggregate, interception)
        handle: Handle
        if action is not None:
            other = self._interception(action.marked)
            handle = handler.create_or(
                self._aggregate_handler(action, aggregate, other)
            )
        elif marked.said.kind is Kind.QUERY:
            handle = handler.query()
        elif marked.is_on_class:
            handle = handler.factory()
        else:
            handle = handler.action()
        output, finish = self._output(marked), self._system.finish
        flow = _with_headers(
            self._headers(marked), lambda message: finish(handle(message), output)
        )
        return flow

    def _aggregate_handler(
        self, found: _Found, aggregate: Aggregate, interception: Interception
    ) -> AggregateHandler:
        return AggregateHandler(
            aggregate,
            found.marked,
            found.signature,
            interception,
            self._resolution,
            self._system.aggregate_of,
        )

    def _interception(self, marked: Marked[HandlerMark]) -> Interception:
        markers = tuple(said.marker for said in marked.marks(EndpointMark))
        point = JoinPoint(marked.function, marked.owner, marked.said.kind, markers)
        return self._interceptors.of(point, marked.said.required_interceptors)

    def _output(self, marked: Marked[HandlerMark]) -> Flow | None:
        name = marked.said.output_channel
        if name is None:
            return None
        # The endpoint may be compiled later than the one that sends to it.
        return lambda reply: self._system.channel(name, marked.where).handle(reply)

    def _headers(
        self, marked: Marked[HandlerMark]
    ) -> Callable[[Message], Message] | None:
        added: dict[str, HeaderMark] = {}
        for said in marked.marks(HeaderMark):
            added.setdefault(said.name, said)
        removed = {said.name: None for said in marked.marks(RemoveHeaderMark)}
        if not added and not removed:
            return None
        computed = {
            name: compile_expression(said.expression, f"{marked.where}, {name!r}")
            for name, said in added.items()
            if said.expression is not None
        }

        def change(message: Message) -> Message:
            values: dict[str, t.Any] = dict(removed)
            for name, said in added.items():
                if said.keep_existing and message.header(name) is not None:
                    continue
                expression = computed.get(name)
                values[name] = (
                    said.value
                    if expression is None
                    else expression(evaluation(message, self._resolution))
                )
            return message.with_headers(values)

        return change

    def _check_ids(self, endpoints: list[Endpoint]) -> None:
        seen: dict[str, Endpoint] = {}
        for endpoint in endpoints:
            other = seen.setdefault(endpoint.id, endpoint)
            if other is not endpoint:
                raise DuplicateHandlerError(
                    f"Two endpoints have the id {endpoint.id!r}: {other.marked.where}"
                    f" and {endpoint.marked.where}. Give one of them an endpoint_id."
                )


class _Found:
    """A handler with its signature and the classes it is routed by."""

    def __init__(self, marked: Marked[HandlerMark], signature: Signature) -> None:
        self.marked = marked
        self.signature = signature
        self.types = () if marked.said.name is not None else _routed_types(self)


def _routed_types(found: _Found) -> tuple[type, ...]:
    marked = found.marked
    kind = marked.said.kind.value
    payload = payload_parameter(found.signature)
    if payload is None:
        raise HandlerSignatureError(
            f"{marked.where} takes no message, so nothing says which {kind} it handles."
            f" Annotate the first parameter with the class of the {kind}, or give it a"
            f' name: @{kind}_handler("order.place").'
        )
    types = members(payload.type)
    for cls in types:
        is_class = isinstance(cls, type) and not t.get_args(cls)
        if cls is MISSING or not is_class or _is_never_routed(cls):
            raise HandlerSignatureError(
                f"{marked.where} takes {payload.name!r} ({type_name(payload.type)}),"
                f" which is no class that a {kind} can be routed by. Annotate it with"
                f" the class of the {kind}, a union of classes or 'object', or give it"
                f' a name: @{kind}_handler("order.place").'
            )
    return types


def _is_never_routed(cls: type) -> bool:
    is_protocol = getattr(cls, "_is_protocol", False)
    return (
        (cls.__module__ == "builtins" and cls is not object)
        or t.is_typeddict(cls)
        or (is_protocol and not getattr(cls, "_is_runtime_protocol", False))
    )


def _aggregate_of(found: _Found, system: MessagingSystem) -> Aggregate | None:
    owner, kind = found.marked.owner, found.marked.said.kind
    aggregate = None if owner is None else system.aggregate_of(owner)
    if aggregate is None:
        return None
    if kind is Kind.INTERNAL:
        raise ConfigurationError(
            f"{found.marked.where} is an internal handler on an aggregate. Make it a"
            " command handler with a routing key, which is a channel too."
        )
    if kind is Kind.QUERY and found.marked.is_on_class:
        return None  # it asks for no instance
    if kind is not Kind.EVENT and len(found.types) > 1:
        raise ConfigurationError(
            f"{found.marked.where} takes a union of {kind.value} classes. On an"
            " aggregate that is for events only: write one handler for each."
        )
    return aggregate


def _grouped(
    found: list[_Found], system: MessagingSystem
) -> Iterable[tuple[_Found, ...]]:
    """Pair the factory and the action of an aggregate that take the same message."""
    groups: dict[t.Any, list[_Found]] = {}
    alone: list[tuple[_Found, ...]] = []
    for each in found:
        if each.marked.said.kind is Kind.QUERY or _aggregate_of(each, system) is None:
            alone.append((each,))
            continue
        said = each.marked.said
        key = (each.marked.owner, said.kind, said.name or each.types)
        groups.setdefault(key, []).append(each)
    for group in groups.values():
        factories = [each for each in group if each.marked.is_on_class]
        actions = [each for each in group if not each.marked.is_on_class]
        if len(factories) == 1 and len(actions) == 1:
            alone.append((factories[0], actions[0]))
        elif factories and len(group) > 1:
            listed = ", ".join(each.marked.where for each in group)
            raise ConfigurationError(
                "One message can have a single factory method and a single action on"
                f" an aggregate, or several actions, and this one has {listed}. Merge"
                " them, or give them messages of their own."
            )
        else:
            alone += [(each,) for each in group]
    order = {id(each): number for number, each in enumerate(found)}
    return sorted(alone, key=lambda group: order[id(group[0])])


def _endpoint_id(marked: Marked[HandlerMark]) -> str:
    said = marked.said
    if said.endpoint_id:
        return said.endpoint_id
    if said.kind is Kind.COMMAND and said.name:
        return said.name
    several = len(marked.marks(HandlerMark)) > 1
    name = marked.qualified_name
    return f"{name}[{said.kind.value}:{said.name or ''}]" if several else name


def _with_headers(change: Callable[[Message], Message] | None, flow: Flow) -> Flow:
    return flow if change is None else lambda message: flow(change(message))


def _late(services: Services, cls: type) -> Callable[[], t.Any]:
    return lambda: services.get(cls)
