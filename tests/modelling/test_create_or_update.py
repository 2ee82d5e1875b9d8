"""A factory and an action that take the same message."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from dataclasses import field

import pytest

from flask_ecotone import after
from flask_ecotone import aggregate
from flask_ecotone import around
from flask_ecotone import before
from flask_ecotone import command_handler
from flask_ecotone import event_handler
from flask_ecotone import Identifier
from flask_ecotone import MethodInvocation
from flask_ecotone import WithEvents
from flask_ecotone.errors import AggregateNotFoundError
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import IdentifierMissingError
from flask_ecotone.testing import flow_testing


@dataclass
class PutItem:
    """A command that makes a shelf or fills it."""

    name: str | None
    item: str = "book"


@dataclass
class ItemPut:
    """What a shelf records."""

    name: str


@dataclass
class Delivered:
    """An event that makes a shelf or fills it."""

    name: str
    item: str = "parcel"


@dataclass
class DeliveredLate(Delivered):
    """A special delivery."""


@aggregate
@dataclass
class Shelf(WithEvents):
    """An aggregate that is made when first used."""

    name: t.Annotated[str, Identifier()]
    items: list[str] = field(default_factory=list)

    @command_handler
    @classmethod
    def start(cls, command: PutItem) -> t.Self:
        assert command.name is not None
        shelf = cls(command.name, [f"first {command.item}"])
        shelf.record_that(ItemPut("made"))
        return shelf

    @command_handler
    def put(self, command: PutItem) -> int:
        self.items.append(command.item)
        self.record_that(ItemPut("filled"))
        return len(self.items)

    @event_handler
    @classmethod
    def begin(cls, event: Delivered) -> t.Self:
        return cls(event.name, [f"first {event.item}"])

    @event_handler
    def deliver(self, event: Delivered) -> None:
        self.items.append(event.item)

    @command_handler(
        "shelf.named", identifier_mapping={"name": lambda payload: payload["shelf"]}
    )
    @classmethod
    def start_named(cls, payload: dict[str, str]) -> t.Self:
        return cls(payload["shelf"])

    @command_handler("shelf.named")
    def put_named(self, payload: dict[str, str]) -> str:
        self.items.append(payload["item"])
        return "put"


def test_the_first_message_makes_the_aggregate_and_later_ones_change_it() -> None:
    """The factory replies the identifier, the action its own value."""
    flow = flow_testing([Shelf])
    assert flow.command_bus.send(PutItem("a")) == "a"
    assert flow.command_bus.send(PutItem("a", "pen")) == 2
    assert flow.command_bus.send(PutItem("b")) == "b"
    assert flow.aggregate(Shelf, "a").items == ["first book", "pen"]
    assert [event.name for event in flow.recorded_events()] == [
        "made",
        "filled",
        "made",
    ]


def test_events_make_or_change_an_aggregate() -> None:
    """An event runs one of the two, never both; subclasses of it too."""
    flow = flow_testing([Shelf])
    flow.publish_event(Delivered("a")).publish_event(DeliveredLate("a", "late"))
    assert flow.aggregate(Shelf, "a").items == ["first parcel", "late"]


def test_the_mapping_of_the_factory_addresses_both() -> None:
    """The action needs no mapping of its own."""
    flow = flow_testing([Shelf])
    send = flow.command_bus.send_with_routing
    assert send("shelf.named", {"shelf": "a", "item": "x"}) == "a"
    assert send("shelf.named", {"shelf": "a", "item": "y"}) == "put"
    assert flow.aggregate(Shelf, "a").items == ["y"]


def test_without_identifier_nothing_is_made() -> None:
    """Making it blindly could make it twice."""
    with pytest.raises(IdentifierMissingError, match="'name'"):
        flow_testing([Shelf]).send_command(PutItem(None))


def test_interceptors_run_once_for_either_of_the_two() -> None:
    """Upstream runs those before and after twice."""
    ran: list[str] = []

    @before(pointcut=Shelf)
    def enter() -> None:
        ran.append("before")

    @around(pointcut=Shelf)
    def surround(invocation: MethodInvocation) -> t.Any:
        ran.append(f"around {invocation.name.rpartition('.')[2]}")
        return invocation.proceed()

    @after(pointcut=Shelf)
    def leave() -> None:
        ran.append("after")

    flow = flow_testing([Shelf, enter, surround, leave])
    flow.send_command(PutItem("a"))
    assert ran == ["before", "around start", "after"]
    ran.clear()
    flow.send_command(PutItem("a"))
    assert ran == ["before", "around put", "after"]


def test_interceptors_of_the_action_alone_run_for_the_action_alone() -> None:
    """Each half keeps the interceptors that point at it."""
    ran: list[str] = []

    @before(pointcut=Shelf.start)
    def starting() -> None:
        ran.append("start")

    @before(pointcut=Shelf.put)
    def putting() -> None:
        ran.append("put")

    flow = flow_testing([Shelf, starting, putting])
    flow.send_command(PutItem("a"))
    assert ran == ["start"]
    flow.send_command(PutItem("a"))
    assert ran == ["start", "start", "put"]


def test_one_factory_and_several_actions_do_not_compile() -> None:
    """The error lists all of them with their lines."""

    @aggregate
    @dataclass
    class Crowded:
        name: t.Annotated[str, Identifier()]

        @event_handler
        @classmethod
        def make(cls, event: ItemPut) -> t.Self:
            return cls(event.name)

        @event_handler
        def one(self, event: ItemPut) -> None: ...

        @event_handler
        def two(self, event: ItemPut) -> None: ...

    with pytest.raises(ConfigurationError) as caught:
        flow_testing([Crowded])
    for name in ("Crowded.make", "Crowded.one", "Crowded.two"):
        assert name in str(caught.value)


def test_several_factories_and_an_action_do_not_compile() -> None:
    """Which one would make the aggregate is nothing to guess."""

    @aggregate
    @dataclass
    class Doubled:
        name: t.Annotated[str, Identifier()]

        @event_handler
        @classmethod
        def make(cls, event: ItemPut) -> t.Self:
            return cls(event.name)

        @event_handler
        @classmethod
        def make_too(cls, event: ItemPut) -> t.Self:
            return cls(event.name)

        @event_handler
        def change(self, event: ItemPut) -> None: ...

    with pytest.raises(ConfigurationError, match="single factory .* single action"):
        flow_testing([Doubled])


def test_a_subclass_adds_the_action_to_the_factory_of_its_base() -> None:
    """The pair may be spread over a hierarchy."""

    @aggregate
    @dataclass
    class Base:
        name: t.Annotated[str, Identifier()]
        items: list[str] = field(default_factory=list)

        @event_handler
        def change(self, event: Delivered) -> None:
            self.items.append(event.item)

    @aggregate
    @dataclass
    class Crate(Base):
        @command_handler
        @classmethod
        def make(cls, command: PutItem) -> t.Self:
            return cls(command.name or "")

        @command_handler
        def put(self, command: PutItem) -> None:
            self.items.append(command.item)

    flow = flow_testing([Base, Crate])
    flow.send_command(PutItem("c")).send_command(PutItem("c", "pen"))
    flow.publish_event(Delivered("c", "parcel"))
    assert flow.aggregate(Crate, "c").items == ["pen", "parcel"]
    assert type(flow.aggregate(Base, "c")) is Crate


def test_a_factory_and_an_action_may_overlap_by_inheritance() -> None:
    """What both take makes or changes; what one takes is for that one alone."""

    @aggregate
    @dataclass
    class Depot:
        name: t.Annotated[str, Identifier()]
        items: list[str] = field(default_factory=list)

        @event_handler
        @classmethod
        def make(cls, event: DeliveredLate | ItemPut) -> t.Self:
            return cls(event.name)

        @event_handler
        def change(self, event: Delivered) -> None:
            self.items.append(event.item)

    flow = flow_testing([Depot])
    flow.publish_event(DeliveredLate("a", "1")).publish_event(DeliveredLate("a", "2"))
    flow.publish_event(Delivered("a", "3")).publish_event(ItemPut("b"))
    assert flow.aggregate(Depot, "a").items == ["2", "3"]
    assert flow.aggregate(Depot, "b").items == []
    with pytest.raises(AggregateNotFoundError):
        flow.publish_event(Delivered("c"))


def test_several_actions_on_one_event_all_run_without_a_factory() -> None:
    """Each of them loads and saves by itself."""

    @aggregate
    @dataclass
    class Log:
        name: t.Annotated[str, Identifier()]
        items: list[str] = field(default_factory=list)

        @event_handler
        def one(self, event: Delivered) -> None:
            self.items.append("one")

        @event_handler
        def two(self, event: Delivered) -> None:
            self.items.append("two")

    flow = flow_testing([Log]).with_state_for(Log("a")).publish_event(Delivered("a"))
    assert flow.aggregate(Log, "a").items == ["one", "two"]
