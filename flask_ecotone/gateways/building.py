"""From gateway types to the objects behind them, registered as services by type."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ..decorators.pointcuts import EndpointMark
from ..definitions import HeaderMark
from ..definitions import inherited_mark_of
from ..definitions import InstantRetryMark
from ..definitions import Kind
from ..definitions import PropagateHeadersMark
from ..definitions import RemoveHeaderMark
from ..definitions import WithoutTransactionMark
from ..discovery import Catalogue
from ..errors import ConfigurationError
from ..handling.pointcuts import JoinPoint
from ..reflection import location
from ..storage.protocols import Statements
from ..system import MessagingSystem
from ..system.pipelines import BusPlan
from .bus_marks import asynchronous_bus
from .bus_marks import check_interface
from .bus_marks import error_route
from .bus_marks import marks_along
from .bus_marks import receiver_of
from .buses import CommandBus
from .buses import EventBus
from .buses import QueryBus
from .interfaces import implement

_PRIVATE = (
    "_send",
    "_send_named",
    "_publish",
    "_publish_named",
    "_encoded",
    "__init__",
)


def build_gateways(
    system: MessagingSystem,
    catalogue: Catalogue,
    statements: Statements | None = None,
) -> None:
    """Make every bus and business interface and provide it as a service.

    An interface that the application provides by itself, as a test does, is left.

    :param statements: Prepares SQL, if the application has a database.
    :raises ConfigurationError: One of them can't work as it is written.
    """
    for bus_type in dict.fromkeys((CommandBus, QueryBus, EventBus, *catalogue.buses)):
        system.services.provide_value(bus_type, _bus(system, bus_type))
    for gateway in catalogue.gateways:
        check_interface(gateway)
        if not system.services.is_registered(gateway.cls):
            made = implement(gateway, system, statements)
            system.services.provide_value(gateway.cls, made)


def _bus(system: MessagingSystem, bus_type: t.Any) -> t.Any:
    kind: Kind = bus_type.__ecotone_bus__
    base = {Kind.COMMAND: CommandBus, Kind.QUERY: QueryBus, Kind.EVENT: EventBus}[kind]
    if bus_type is not base:
        _check_names(bus_type, base)
    outgoing = asynchronous_bus(system, bus_type)
    method = bus_type.publish if kind is Kind.EVENT else bus_type.send
    markers = tuple(said.marker for said in marks_along(bus_type, EndpointMark))
    retry = inherited_mark_of(bus_type, InstantRetryMark)
    if kind is not Kind.COMMAND and retry is not None and outgoing is None:
        raise ConfigurationError(
            f"The bus {bus_type.__qualname__} ({location(bus_type)}) has"
            " @instant_retry, which repeats a whole unit of work, and only command"
            " buses have one."
        )
    propagating = inherited_mark_of(bus_type, PropagateHeadersMark)
    plan = BusPlan(
        kind,
        system.interception(
            JoinPoint(method, bus_type, None, markers),
            headers=(
                marks_along(bus_type, HeaderMark),
                marks_along(bus_type, RemoveHeaderMark),
            ),
        ),
        None if outgoing else retry,
        not marks_along(bus_type, WithoutTransactionMark),
        propagating is None or propagating.propagate,
        receiver_of(system, bus_type),
        outgoing,
    )
    plan = replace(plan, errors=error_route(system, bus_type, plan))
    if kind is not Kind.EVENT:
        return bus_type(system.unique_pipeline(plan))
    pipeline = system.event_pipeline(plan)
    if bus_type is EventBus:
        system.publish_recorded_through(pipeline)
    return bus_type(pipeline)


def _check_names(bus_type: type, base: type) -> None:
    for cls in bus_type.__mro__:
        if cls is base:
            return
        for name in _PRIVATE:
            if name in vars(cls):
                raise ConfigurationError(
                    f"The bus {cls.__qualname__} ({location(cls)}) defines {name!r},"
                    f" which {base.__name__} uses itself. Rename it; a bus is made by"
                    " Ecotone and takes no arguments of its own."
                )
