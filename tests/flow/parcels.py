"""A module to scan: handlers of parcels, and nothing that runs on import."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from flask_ecotone import aggregate
from flask_ecotone import command_handler
from flask_ecotone import ConfigVariable
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import Identifier
from flask_ecotone import internal_handler
from flask_ecotone import query_handler
from flask_ecotone import Reference
from flask_ecotone import WithEvents


@dataclass
class SendParcel:
    """A command."""

    parcel_id: str
    weight: int = 1


@dataclass
class ParcelSent:
    """An event."""

    parcel_id: str


@dataclass
class CountParcels:
    """A query."""


@dataclass
class Unhandled:
    """A message without handler."""


class Scale(t.Protocol):
    """A service that a test replaces."""

    def price(self, weight: int) -> int: ...


class FixedScale:
    """A test double."""

    def __init__(self, rate: int = 2) -> None:
        self.rate = rate

    def price(self, weight: int) -> int:
        return weight * self.rate


@aggregate
@dataclass
class Parcel(WithEvents):
    """A plain aggregate."""

    parcel_id: t.Annotated[str, Identifier()]
    price: int = 0

    @command_handler
    @classmethod
    def send(cls, command: SendParcel, scale: Scale) -> t.Self:
        parcel = cls(command.parcel_id, scale.price(command.weight))
        parcel.record_that(ParcelSent(command.parcel_id))
        return parcel

    @command_handler("parcel.return")
    def give_back(self, reason: str) -> str:
        self.record_that(ParcelSent(f"{self.parcel_id} returned: {reason}"))
        return "returned"


class Office:
    """A service with handlers."""

    def __init__(self) -> None:
        self.count = 0

    @event_handler
    def on_sent(self, event: ParcelSent) -> None:
        self.count += 1

    @query_handler
    def how_many(self, query: CountParcels) -> int:
        return self.count

    @query_handler("office.limit")
    def limit(self, maximum: t.Annotated[int, ConfigVariable("LIMIT")]) -> int:
        return maximum

    @query_handler("office.named")
    def named(self, scale: t.Annotated[t.Any, Reference("fine scale")]) -> int:
        return t.cast(int, scale.price(1))

    @command_handler("office.announce")
    def announce(self, text: str, bus: EventBus) -> None:
        bus.publish_with_routing("office.announced", text)

    @query_handler("office.echo")
    def echo(self, payload: dict[str, t.Any]) -> dict[str, t.Any]:
        return payload


@internal_handler("weighing")
def weigh(weight: int, scale: Scale) -> int:
    """A step that no bus reaches."""
    return scale.price(weight)
