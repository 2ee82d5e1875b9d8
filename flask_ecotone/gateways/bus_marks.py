"""What markers on a bus class say besides interceptors."""

from __future__ import annotations

import typing as t
from functools import partial

from ..decorators.deduplication import DeduplicatedMark
from ..decorators.pointcuts import EndpointMark
from ..definitions import AsynchronousMark
from ..definitions import DelayedRetryMark
from ..definitions import ErrorChannelMark
from ..definitions import inherited_mark_of
from ..definitions import InstantRetryMark
from ..definitions import Kind
from ..definitions import Mark
from ..definitions import marks_of
from ..definitions import PriorityMark
from ..definitions import WithoutTransactionMark
from ..discovery import Gateway
from ..discovery.manifest import reference
from ..errors import ConfigurationError
from ..handling.deduplication import IdempotentReceiver
from ..reflection import location
from ..system import MessagingSystem
from ..system.asynchronous import Channels
from ..system.asynchronous import nearest_recovery
from ..system.outgoing import AsynchronousBus
from ..system.outgoing import BusReception
from ..system.outgoing import ErrorRoute
from ..system.pipelines import BusPlan

M = t.TypeVar("M", bound=Mark)


def marks_along(cls: type, kind: type[M]) -> list[M]:
    """Return the marks of a kind on a class, then those on its bases."""
    return [said for base in cls.__mro__ for said in marks_of(base, kind)]


def asynchronous_bus(
    system: MessagingSystem, bus_type: t.Any
) -> AsynchronousBus | None:
    """Return how a bus sends over channels, if it does.

    :raises ConfigurationError: It can't, or something is said that has no effect.
    """
    said = inherited_mark_of(bus_type, AsynchronousMark)
    if said is None:
        return None
    where = _where(bus_type)
    if bus_type.__ecotone_bus__ is Kind.QUERY:
        raise ConfigurationError(
            f"{where} has @asynchronous, and a query is answered at once. Remove the"
            " marker, or send commands."
        )
    if any(isinstance(each, EndpointMark) for each in said.execution):
        raise ConfigurationError(
            f"{where} has an EndpointMarker as an attribute of execution, and its"
            " messages have interceptors of their handlers only. Put it there, or on"
            " the bus itself for interceptors that run where it sends."
        )
    own: tuple[Mark, ...] = (
        *marks_of(bus_type, DelayedRetryMark),
        *marks_of(bus_type, ErrorChannelMark),
    )
    inherited: tuple[Mark, ...] = (
        *marks_along(bus_type, DelayedRetryMark),
        *marks_along(bus_type, ErrorChannelMark),
    )
    recovery = nearest_recovery(where, said.execution, own, inherited)
    channels = system.channels
    if channels is None:
        return None
    name = reference(bus_type)
    system.bus_receptions[name] = BusReception(
        name,
        where,
        recovery,
        inherited_mark_of(bus_type, InstantRetryMark),
        not any(isinstance(each, WithoutTransactionMark) for each in said.execution),
    )
    return _outgoing(system, channels, bus_type, said)


def error_route(
    system: MessagingSystem, bus_type: t.Any, plan: BusPlan
) -> ErrorRoute | None:
    """Return where a bus that waits for its handlers sends what failed.

    :param plan: What is known of the bus besides.
    :raises ConfigurationError: It can't.
    """
    said = inherited_mark_of(bus_type, ErrorChannelMark)
    retry = inherited_mark_of(bus_type, DelayedRetryMark)
    if plan.outgoing is not None or (said is None and retry is None):
        return None
    where = _where(bus_type)
    if plan.kind is not Kind.COMMAND:
        raise ConfigurationError(
            f"{where} has @error_channel or @delayed_retry, and it is not asynchronous:"
            " its caller gets the error. Only a command bus has a unit of work that"
            " could be handled later as a whole. Add @asynchronous, or remove the"
            " marker."
        )
    if said is None:
        raise ConfigurationError(
            f"{where} has @delayed_retry, and nothing says where messages that failed"
            " wait for their retry. Name a channel that a worker takes from, for"
            " example @error_channel('retries') with"
            " channels=[DatabaseChannel('retries')], or add @asynchronous."
        )
    name, outgoing, channels = reference(bus_type), None, system.channels
    if channels is not None and channels.is_known(said.name):
        over = AsynchronousMark(channels=(said.name,))
        outgoing = _outgoing(system, channels, bus_type, over)
    reception = system.bus_receptions[name] = BusReception(
        name,
        where,
        retry,
        plan.retry,
        plan.is_transactional,
        partial(plan.surround, is_unit=plan.is_transactional),
    )
    route = ErrorRoute(said.name, retry, outgoing, reception)
    system.error_routes[name] = route
    return route


def _outgoing(
    system: MessagingSystem,
    channels: Channels,
    bus_type: t.Any,
    said: AsynchronousMark,
) -> AsynchronousBus:
    name = reference(bus_type)
    first, *slip = channels.route(said, name, _where(bus_type))
    important = inherited_mark_of(bus_type, PriorityMark)
    return AsynchronousBus(
        name,
        channels.get(first),
        tuple(slip),
        channels,
        system.writing,
        important.priority if important else 0,
    )


def receiver_of(system: MessagingSystem, bus_type: t.Any) -> IdempotentReceiver | None:
    """Return what lets a bus send messages once, if it is marked so.

    :raises ConfigurationError: It can't.
    """
    said = inherited_mark_of(bus_type, DeduplicatedMark)
    if said is None:
        return None
    where, kind = _where(bus_type), bus_type.__ecotone_bus__
    if kind is Kind.QUERY:
        raise ConfigurationError(
            f"{where} has @deduplicated, and a query changes nothing: ask it as often"
            " as you like. Remove the marker."
        )
    is_asynchronous = bool(marks_along(bus_type, AsynchronousMark))
    if said.on_duplicate == "return_cached" and (kind is Kind.EVENT or is_asynchronous):
        raise ConfigurationError(
            f"{where} has @deduplicated(on_duplicate='return_cached'), and what it"
            " sends returns nothing. Use 'skip'."
        )
    return system.receiver(said, reference(bus_type), where)


def check_interface(gateway: Gateway) -> None:
    """Refuse markers on a business interface that only buses have.

    :raises ConfigurationError: There is one.
    """
    for target in (*gateway.cls.__mro__, *(each.function for each in gateway.methods)):
        for kind, name in (
            (AsynchronousMark, "asynchronous"),
            (DeduplicatedMark, "deduplicated"),
        ):
            if marks_of(target, kind):
                raise ConfigurationError(
                    f"The business interface {gateway.cls.__qualname__}"
                    f" ({location(gateway.cls)}) has @{name}. Mark the handler that it"
                    " sends to, or a bus."
                )


def _where(bus_type: t.Any) -> str:
    return f"The bus {bus_type.__qualname__} ({location(bus_type)})"
