"""Plain aggregates: what their factories and actions return, load and save."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from dataclasses import field

import pytest

from flask_ecotone import aggregate
from flask_ecotone import command_handler
from flask_ecotone import Event
from flask_ecotone import event_handler
from flask_ecotone import Header
from flask_ecotone import Identifier
from flask_ecotone import identifier_method
from flask_ecotone import internal_handler
from flask_ecotone import Message
from flask_ecotone import query_handler
from flask_ecotone import repository
from flask_ecotone import WithEvents
from flask_ecotone.errors import AggregateNotFoundError
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import HandlerSignatureError
from flask_ecotone.errors import IdentifierMissingError
from flask_ecotone.errors import ModellingError
from flask_ecotone.testing import flow_testing


@dataclass
class OpenTicket:
    """A command that makes a ticket."""

    ticket_id: t.Any
    title: str = "Printer on fire"


@dataclass
class CloseTicket:
    """A command for one ticket."""

    ticket_id: t.Any


@dataclass
class TicketClosed:
    """An event of a ticket."""

    ticket_id: t.Any


class Clock:
    """A service that handlers get as a parameter."""

    def today(self) -> str:
        return "monday"


@aggregate
@dataclass
class Ticket(WithEvents):
    """A plain aggregate without a database."""

    ticket_id: t.Annotated[t.Any, Identifier()]
    title: str
    opened: str = ""
    status: str = "open"

    @command_handler
    @classmethod
    def open(cls, command: OpenTicket, clock: Clock) -> t.Self:
        return cls(command.ticket_id, command.title, clock.today())

    @command_handler
    def close(self, command: CloseTicket) -> str:
        self.status = "closed"
        self.record_that(TicketClosed(self.ticket_id))
        return "bye"

    @command_handler("ticket.reopen")
    def reopen(self) -> None:
        self.status = "open"

    @command_handler("ticket.rename")
    def rename(
        self, title: str, user: t.Annotated[str, Header("user")], clock: Clock
    ) -> None:
        self.title = f"{title} by {user} on {clock.today()}"

    @query_handler("ticket.status")
    def get_status(self) -> str:
        return self.status

    @query_handler("ticket.assignee")
    def assignee(self) -> str | None:
        return None

    @query_handler("ticket.statuses")
    @classmethod
    def statuses(cls) -> list[str]:
        return ["open", "closed"]


def test_a_factory_stores_what_it_returns_and_the_bus_returns_its_identifier() -> None:
    """The reply of a factory is the identifier, and the services are injected."""
    flow = flow_testing([Ticket])
    assert flow.command_bus.send(OpenTicket("t-1", "Leak")) == "t-1"
    assert flow.aggregate(Ticket, "t-1") == Ticket("t-1", "Leak", "monday")


@pytest.mark.parametrize("identifier", [0, "", False])
def test_falsy_identifiers_are_identifiers(identifier: t.Any) -> None:
    """0 and '' identify an aggregate; upstream takes them for missing ones."""
    flow = flow_testing([Ticket])
    assert flow.command_bus.send(OpenTicket(identifier)) == identifier
    flow.send_command(CloseTicket(identifier))
    assert flow.aggregate(Ticket, identifier).status == "closed"
    status = flow.send_query_with_routing(
        "ticket.status", metadata={"aggregate.id": identifier}
    )
    assert status == "closed"


def test_an_aggregate_without_identifier_after_the_save_is_refused() -> None:
    """The error names the aggregate and the identifier that has no value."""
    flow = flow_testing([Ticket])
    with pytest.raises(IdentifierMissingError, match=r"Ticket.*has no ticket_id yet"):
        flow.send_command(OpenTicket(None))


def test_the_identifier_is_read_from_the_instance_not_from_the_command() -> None:
    """A factory may choose another identifier than the command names."""

    @aggregate
    @dataclass
    class Parcel:
        ticket_id: t.Annotated[str, Identifier()]

        @command_handler
        @classmethod
        def send(cls, command: OpenTicket) -> t.Self:
            return cls(f"parcel-{command.ticket_id}")

    flow = flow_testing([Parcel])
    assert flow.command_bus.send(OpenTicket(7)) == "parcel-7"
    assert flow.aggregate(Parcel, "parcel-7").ticket_id == "parcel-7"


def test_a_factory_that_returns_none_stores_nothing() -> None:
    """The bus returns None and no event is published."""

    @aggregate
    @dataclass
    class Maybe:
        name: t.Annotated[str, Identifier()]

        @command_handler("maybe.make")
        @classmethod
        def make(cls, name: str) -> t.Self | None:
            return cls(name) if name else None

    flow = flow_testing([Maybe])
    assert flow.command_bus.send_with_routing("maybe.make", "") is None
    assert flow.command_bus.send_with_routing("maybe.make", "yes") == "yes"
    with pytest.raises(AggregateNotFoundError):
        flow.aggregate(Maybe, "")


def test_a_factory_that_returns_something_else_is_told_so() -> None:
    """A returned value that is no aggregate is an error that names the factory."""

    @aggregate
    @dataclass
    class Lying:
        name: t.Annotated[str, Identifier()]

        @command_handler("lying.make")
        @classmethod
        def make(cls, name: str) -> t.Any:
            return name

    flow = flow_testing([Lying])
    with pytest.raises(ModellingError, match=r"Lying\.make .*returned str"):
        flow.send_command_with_routing("lying.make", "x")


def test_a_factory_annotated_to_return_nothing_does_not_compile() -> None:
    """The signature already shows that nothing could be stored."""

    @aggregate
    @dataclass
    class Void:
        name: t.Annotated[str, Identifier()]

        @command_handler("void.make")
        @classmethod
        def make(cls, name: str) -> None: ...

    with pytest.raises(HandlerSignatureError, match=r"Void\.make .*'-> None'.*Self"):
        flow_testing([Void])


def test_a_static_method_can_be_a_factory() -> None:
    """A static method is called without the class."""

    @aggregate
    @dataclass
    class Static:
        name: t.Annotated[str, Identifier()]

        @staticmethod
        @command_handler("static.make")
        def make(name: str) -> t.Any:
            return Static(name)

    flow = flow_testing([Static])
    assert flow.command_bus.send_with_routing("static.make", "a") == "a"


@pytest.mark.parametrize("outermost", [classmethod, command_handler("made.make")])
def test_a_class_method_is_marked_from_inside_and_from_outside(
    outermost: t.Any,
) -> None:
    """The order of @classmethod and the marker makes no difference."""

    def make(cls: t.Any, name: str) -> t.Any:
        return cls(name)

    innermost = command_handler("made.make") if outermost is classmethod else None
    function = outermost(innermost(make) if innermost else classmethod(make))

    @aggregate
    @dataclass
    class Made:
        name: t.Annotated[str, Identifier()]

    Made.make = function  # type: ignore[attr-defined]
    assert flow_testing([Made]).command_bus.send_with_routing("made.make", "a") == "a"


def test_an_event_makes_an_aggregate() -> None:
    """A factory can handle an event."""

    @aggregate
    @dataclass
    class Survey:
        ticket_id: t.Annotated[str, Identifier()]

        @event_handler
        @classmethod
        def start(cls, event: TicketClosed) -> t.Self:
            return cls(event.ticket_id)

    flow = flow_testing([Ticket, Survey])
    flow.send_command(OpenTicket("t-1")).send_command(CloseTicket("t-1"))
    assert flow.aggregate(Survey, "t-1") == Survey("t-1")


def test_an_action_returns_its_value_and_is_saved() -> None:
    """What an action returns is what the bus returns."""
    flow = flow_testing([Ticket])
    flow.send_command(OpenTicket("t-1"))
    assert flow.command_bus.send(CloseTicket("t-1")) == "bye"
    assert flow.aggregate(Ticket, "t-1").status == "closed"
    returned = flow.command_bus.send_with_routing(
        "ticket.reopen", metadata={"aggregate.id": "t-1"}
    )
    assert returned is None
    assert flow.aggregate(Ticket, "t-1").status == "open"


def test_an_action_gets_headers_and_services_like_any_handler() -> None:
    """Payload, header and service parameters work on aggregates."""
    flow = flow_testing([Ticket])
    flow.send_command(OpenTicket("t-1")).send_command_with_routing(
        "ticket.rename", "Flood", metadata={"aggregate.id": "t-1", "user": "ann"}
    )
    assert flow.aggregate(Ticket, "t-1").title == "Flood by ann on monday"


def test_an_action_is_saved_even_if_nothing_changed() -> None:
    """The repository's save is called for every action."""

    @repository
    class Counting:
        def __init__(self) -> None:
            self.ticket = Ticket("t-1", "x")
            self.saves = 0

        def can_handle(self, aggregate_class: type) -> bool:
            return aggregate_class is Ticket

        def find_by(self, aggregate_class: type, identifiers: t.Any) -> t.Any:
            return self.ticket

        def save(self, identifiers: t.Any, *rest: t.Any) -> None:
            self.saves += 1

    counting = Counting()
    flow = flow_testing([Ticket, Counting], services=[counting])
    flow.send_command_with_routing("ticket.reopen", metadata={"aggregate.id": "t-1"})
    assert counting.saves == 1


def test_a_query_asks_an_instance_and_saves_nothing() -> None:
    """A change made while a query is answered is not stored."""

    @aggregate
    @dataclass
    class Counter:
        name: t.Annotated[str, Identifier()]
        asked: int = 0

        @query_handler("counter.ask")
        def ask(self) -> int:
            self.asked += 1
            return self.asked

    flow = flow_testing([Counter]).with_state_for(Counter("a"))
    for _ in range(2):
        asked = flow.send_query_with_routing(
            "counter.ask", metadata={"aggregate.id": "a"}
        )
        assert asked == 1


def test_a_query_may_answer_none_and_a_missing_aggregate_is_an_error() -> None:
    """None is an answer; an unknown identifier raises and names the query handler."""
    flow = flow_testing([Ticket]).with_state_for(Ticket("t-1", "x"))
    answer = flow.send_query_with_routing(
        "ticket.assignee", metadata={"aggregate.id": "t-1"}
    )
    assert answer is None
    with pytest.raises(AggregateNotFoundError, match=r"Ticket\.assignee .*'t-2'"):
        flow.send_query_with_routing(
            "ticket.assignee", metadata={"aggregate.id": "t-2"}
        )


def test_a_query_on_the_class_needs_no_identifier() -> None:
    """A class method answers without loading anything."""
    flow = flow_testing([Ticket])
    assert flow.send_query_with_routing("ticket.statuses") == ["open", "closed"]


def test_the_error_of_a_missing_aggregate_names_the_handler_that_was_called() -> None:
    """Not the first public method of the class, as upstream once did (#505)."""
    flow = flow_testing([Ticket])
    with pytest.raises(AggregateNotFoundError) as caught:
        flow.send_command(CloseTicket("t-9"))
    assert "Ticket.close" in str(caught.value)
    assert "'ticket_id': 't-9'" in str(caught.value)
    assert "test_factories_and_actions.py:" in str(caught.value)


def test_a_dropped_message_replies_none_and_an_unidentified_one_still_fails() -> None:
    """drop_message_on_not_found covers absent aggregates, not missing identifiers."""

    @aggregate
    @dataclass
    class Silent:
        ticket_id: t.Annotated[str, Identifier()]
        heard: int = 0

        @command_handler("silent.hear", drop_message_on_not_found=True)
        def hear(self) -> str:
            self.heard += 1
            return "heard"

        @event_handler(drop_message_on_not_found=True)
        def when(self, event: TicketClosed) -> None:
            self.heard += 1

    flow = flow_testing([Silent]).with_state_for(Silent("a"))
    send = flow.command_bus.send_with_routing
    assert send("silent.hear", metadata={"aggregate.id": "b"}) is None
    assert send("silent.hear", metadata={"aggregate.id": "a"}) == "heard"
    flow.publish_event(TicketClosed("b")).publish_event(TicketClosed("a"))
    assert flow.aggregate(Silent, "a").heard == 2
    with pytest.raises(IdentifierMissingError, match="'ticket_id'"):
        send("silent.hear")


def test_an_action_can_return_an_aggregate_of_another_class() -> None:
    """Both are saved, the called one first, and publish their events in this order."""

    @aggregate
    @dataclass
    class Invoice(WithEvents):
        number: t.Annotated[str, Identifier()]
        paid: bool = False

    @aggregate
    @dataclass
    class Basket(WithEvents):
        basket_id: t.Annotated[str, Identifier()]

        @command_handler("basket.check_out")
        def check_out(self) -> Invoice:
            invoice = Invoice(f"i-{self.basket_id}")
            invoice.record_that(TicketClosed("second"))
            self.record_that(TicketClosed("first"))
            return invoice

    seen: list[str] = []

    @event_handler
    def note(event: TicketClosed) -> None:
        stored = flow.aggregate(Invoice, "i-b").number
        seen.append(f"{event.ticket_id} {stored}")

    flow = flow_testing([Invoice, Basket, note]).with_state_for(Basket("b"))
    flow.send_command_with_routing("basket.check_out", metadata={"aggregate.id": "b"})
    assert seen == ["first i-b", "second i-b"]


def test_an_action_can_return_another_instance_of_its_class() -> None:
    """A new one and a stored one are saved; the same instance only once."""

    @aggregate
    @dataclass
    class Node(WithEvents):
        name: t.Annotated[str, Identifier()]
        weight: int = 1

        @command_handler("node.split")
        def split(self) -> t.Self:
            other = type(self)(f"{self.name}-2")
            other.record_that(TicketClosed("new"))
            self.weight = 5
            self.record_that(TicketClosed("old"))
            return other

        @command_handler("node.same")
        def same(self) -> t.Self:
            self.weight = 7
            self.record_that(TicketClosed("same"))
            return self

        @command_handler("node.merge")
        def merge(self, other: str) -> t.Any:
            found = flow.aggregate(Node, other)
            found.weight += self.weight
            return found

    flow = flow_testing([Node]).with_state_for(Node("a"))
    at = {"aggregate.id": "a"}
    flow.send_command_with_routing("node.split", metadata=at)
    assert [e.ticket_id for e in flow.recorded_events()] == ["old", "new"]
    assert flow.aggregate(Node, "a").weight == 5
    assert flow.aggregate(Node, "a-2").weight == 1
    flow.send_command_with_routing("node.merge", "a-2", metadata=at)
    assert flow.aggregate(Node, "a-2").weight == 6
    flow.send_command_with_routing("node.same", metadata=at)
    assert [e.ticket_id for e in flow.recorded_events()] == ["same"]
    assert flow.aggregate(Node, "a").weight == 7


def test_events_of_a_new_child_recorded_in_its_constructor_are_published() -> None:
    """Upstream once lost them (#432)."""

    @aggregate
    class Child(WithEvents):
        name: t.Annotated[str, Identifier()]

        def __init__(self, name: str) -> None:
            self.name = name
            self.record_that(TicketClosed(name))

    @aggregate
    @dataclass
    class Parent:
        name: t.Annotated[str, Identifier()]

        @command_handler("parent.bear")
        def bear(self, name: str) -> Child:
            return Child(name)

    flow = flow_testing([Child, Parent]).with_state_for(Parent("p"))
    flow.send_command_with_routing("parent.bear", "c", metadata={"aggregate.id": "p"})
    assert flow.recorded_events() == [TicketClosed("c")]


def test_the_result_of_an_action_goes_to_the_output_channel_without_the_id() -> None:
    """The next step doesn't inherit the address of this one."""
    seen: list[Message] = []

    @aggregate
    @dataclass
    class Source:
        name: t.Annotated[str, Identifier()]

        @command_handler("source.drain", output_channel="drained")
        def drain(self) -> str:
            return f"{self.name} drained"

    @internal_handler("drained")
    def drained(text: str, message: Message) -> str:
        seen.append(message)
        return text.upper()

    flow = flow_testing([Source, drained]).with_state_for(Source("s"))
    result = flow.command_bus.send_with_routing(
        "source.drain", metadata={"aggregate.id": "s", "user": "ann"}
    )
    assert result == "S DRAINED"
    assert "aggregate.id" not in seen[0].headers
    assert seen[0].headers["user"] == "ann"


def test_an_aggregate_without_identifier_does_not_compile() -> None:
    """The error says where the class is and how to identify it."""

    @aggregate
    class Nobody:
        @command_handler("nobody.call")
        def call(self) -> None: ...

    with pytest.raises(ConfigurationError, match=r"Nobody.*has no identifier.*Annot"):
        flow_testing([Nobody])


def test_identifiers_can_be_named_and_come_from_methods_and_properties() -> None:
    """An identifier method may even have the name of the identifier."""

    @aggregate
    class Hidden:
        def __init__(self, key: str) -> None:
            self._key = key

        @identifier_method("key")
        def key(self) -> str:
            return self._key

        @command_handler("hidden.make")
        @classmethod
        def make(cls, key: str) -> t.Self:
            return cls(key)

        @query_handler("hidden.key")
        def get(self) -> str:
            return self._key

    @aggregate
    class Computed:
        def __init__(self, first: str, second: str) -> None:
            self.first, self.second = first, second

        @identifier_method("name")
        @property
        def full_name(self) -> str:
            return f"{self.first} {self.second}"

        @query_handler("computed.second")
        def get(self) -> str:
            return self.second

    @aggregate(identifiers=["sku"])
    class Named:
        sku = "n-1"

        @query_handler("named.sku")
        def get(self) -> str:
            return self.sku

    flow = flow_testing([Hidden, Computed, Named])
    assert flow.command_bus.send_with_routing("hidden.make", "k") == "k"
    flow.with_state_for(Computed("Ada", "Lovelace"), Named())
    ask = flow.send_query_with_routing
    assert ask("hidden.key", metadata={"aggregate.id": "k"}) == "k"
    assert ask("computed.second", metadata={"aggregate.id": "Ada Lovelace"}) == (
        "Lovelace"
    )
    assert ask("named.sku", metadata={"aggregate.id": "n-1"}) == "n-1"


def test_an_identifier_method_with_parameters_does_not_compile() -> None:
    """It is called without any, so the mistake shows at compile time."""

    @aggregate
    class Asking:
        @identifier_method("key")
        def key(self, which: int) -> str:
            return str(which)

        @query_handler("asking.key")
        def get(self) -> None: ...

    with pytest.raises(HandlerSignatureError, match=r"Asking.*\.key has parameters"):
        flow_testing([Asking])


def test_a_command_union_on_an_aggregate_does_not_compile_and_an_event_one_does() -> (
    None
):
    """A command addresses one aggregate in one way; events may be many."""

    @aggregate
    @dataclass
    class Commanded:
        ticket_id: t.Annotated[str, Identifier()]

        @command_handler
        def on(self, command: OpenTicket | CloseTicket) -> None: ...

    with pytest.raises(ConfigurationError, match=r"Commanded\.on .*union of command"):
        flow_testing([Commanded])

    @aggregate
    @dataclass
    class Listening:
        ticket_id: t.Annotated[str, Identifier()]
        heard: int = 0

        @event_handler
        def on(self, event: OpenTicket | TicketClosed) -> None:
            self.heard += 1

    flow = flow_testing([Listening]).with_state_for(Listening("a"))
    flow.publish_event(OpenTicket("a")).publish_event(TicketClosed("a"))
    assert flow.aggregate(Listening, "a").heard == 2


def test_an_internal_handler_on_an_aggregate_does_not_compile() -> None:
    """The error says what to write instead."""

    @aggregate
    @dataclass
    class Inner:
        name: t.Annotated[str, Identifier()]

        @internal_handler("inner.step")
        def step(self) -> None: ...

    with pytest.raises(ConfigurationError, match="internal handler on an aggregate"):
        flow_testing([Inner])


def test_an_event_reaches_one_instance_per_handler() -> None:
    """Several handlers of one event each load and save by themselves."""

    @aggregate
    @dataclass
    class Board:
        ticket_id: t.Annotated[str, Identifier()]
        log: list[str] = field(default_factory=list)

        @event_handler
        def first(self, event: TicketClosed) -> None:
            self.log.append("first")

        @event_handler
        def second(self, event: TicketClosed) -> None:
            self.log.append("second")

    flow = flow_testing([Board]).with_state_for(Board("a"), Board("b"))
    flow.publish_event(TicketClosed("a"))
    assert flow.aggregate(Board, "a").log == ["first", "second"]
    assert flow.aggregate(Board, "b").log == []


def test_record_that_refuses_values_that_are_no_events() -> None:
    """Text and numbers can't be routed by class."""

    @aggregate
    @dataclass
    class Noisy(WithEvents):
        name: t.Annotated[str, Identifier()]

        @command_handler("noisy.say")
        def say(self, what: t.Any) -> None:
            self.record_that(what)

    flow = flow_testing([Noisy]).with_state_for(Noisy("n"))
    for what in ("text", 3, b"bytes", Event("wrapped")):
        with pytest.raises(ModellingError, match=r"Noisy.*Events are objects"):
            flow.send_command_with_routing(
                "noisy.say", what, metadata={"aggregate.id": "n"}
            )
