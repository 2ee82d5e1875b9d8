"""What markers on a bus class say besides interceptors."""

from __future__ import annotations

import typing as t

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
from ..system.asynchronous import nearest_recovery
from ..system.outgoing import AsynchronousBus

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
    where = _where(bus_type)
    own: tuple[Mark, ...] = (
        *marks_of(bus_type, DelayedRetryMark),
        *marks_of(bus_type, ErrorChannelMark),
    )
    inherited: tuple[Mark, ...] = (
        *marks_along(bus_type, DelayedRetryMark),
        *marks_along(bus_type, ErrorChannelMark),
    )
    if said is None:
        if inherited:
            raise ConfigurationError(
                f"{where} has @error_channel or @delayed_retry, which is about messages"
                " that a worker handles, and it is not asynchronous: its caller gets"
                " the error. Add @asynchronous, or remove the marker."
            )
        return None
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
    recovery = nearest_recovery(where, said.execution, own, inherited)
    channels = system.channels
    if channels is None:
        return None
    name = reference(bus_type)
    first, *slip = channels.route(said, name, where)
    important = inherited_mark_of(bus_type, PriorityMark)
    made = system.asynchronous_buses[name] = AsynchronousBus(
        name,
        where,
        channels.get(first),
        tuple(slip),
        channels,
        system.writing,
        important.priority if important else 0,
        recovery,
        inherited_mark_of(bus_type, InstantRetryMark),
        not any(isinstance(each, WithoutTransactionMark) for each in said.execution),
    )
    return made


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
