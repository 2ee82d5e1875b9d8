"""Custom buses and business interfaces."""

import abc
import typing as t
from dataclasses import dataclass

import pytest
from flask import Flask

from flask_ecotone import aggregate
from flask_ecotone import business_method
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import Ecotone
from flask_ecotone import EventBus
from flask_ecotone import Header
from flask_ecotone import Headers
from flask_ecotone import Identifier
from flask_ecotone import instant_retry
from flask_ecotone import internal_handler
from flask_ecotone import Message
from flask_ecotone import Payload
from flask_ecotone import query_handler
from flask_ecotone import QueryBus
from flask_ecotone import repository_method
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import ConversionError
from flask_ecotone.errors import DuplicateHandlerError
from flask_ecotone.errors import HandlerSignatureError
from flask_ecotone.errors import MessageDeliveryError
from flask_ecotone.errors import MessagingError
from flask_ecotone.errors import UnknownChannelError
from flask_ecotone.testing import flow_testing


@dataclass(frozen=True)
class Ticket:
    number: int


@aggregate
@dataclass
class Shelf:
    number: t.Annotated[int, Identifier()]


@internal_handler("show")
def show(message: Message) -> dict[str, t.Any]:
    """Return payload and headers of the user."""
    made = ("id", "timestamp", "correlationId")
    headers = {k: v for k, v in message.headers.items() if k not in made}
    return {"payload": message.payload, **headers}


@query_handler("echo")
def echo(payload: t.Any = None) -> t.Any:
    """Return the payload."""
    return payload


class Api(t.Protocol):
    @business_method("show")
    def payload(self, ticket: Ticket) -> dict[str, t.Any]: ...

    @business_method("show")
    def nothing(self) -> dict[str, t.Any]: ...

    @business_method("show")
    def with_headers(
        self,
        metadata: t.Annotated[dict[str, t.Any], Headers()],
        user: t.Annotated[str, Header("user")],
        ticket: t.Annotated[Ticket, Payload()],
    ) -> dict[str, t.Any]: ...

    @business_method("show")
    def plain_metadata(
        self, ticket: Ticket, metadata: dict[str, t.Any] | None = None
    ) -> dict[str, t.Any]: ...

    @business_method("show")
    def keywords(
        self,
        ticket: Ticket,
        *,
        user: t.Annotated[str, Header("user")] = "nobody",
        role: t.Annotated[str | None, Header("role")] = None,
    ) -> dict[str, t.Any]: ...

    @business_method("show")
    def identified(
        self, number: t.Annotated[int, Identifier()]
    ) -> dict[str, t.Any]: ...

    @business_method("show")
    def identified_by_two(
        self,
        number: t.Annotated[int, Identifier()],
        shop: t.Annotated[str, Identifier("shop_id")],
    ) -> dict[str, t.Any]: ...

    @business_method("show")
    def computed(
        self, number: t.Annotated[int, Payload(lambda value: Ticket(value * 2))]
    ) -> dict[str, t.Any]: ...

    @business_method("show")
    def computed_by_text(
        self, number: t.Annotated[int, Payload("value * 3")]
    ) -> dict[str, t.Any]: ...

    @business_method("show")
    def message(self, message: Message) -> dict[str, t.Any]: ...


@pytest.fixture
def api() -> Api:
    """The implementation of the interface."""
    return flow_testing([Api, show]).gateway(Api)


def test_arguments_become_payload_and_headers(api: Api) -> None:
    """The first is the payload, marked ones are headers."""
    ticket = Ticket(1)
    assert api.payload(ticket) == {"payload": ticket}
    assert api.payload(ticket=ticket) == {"payload": ticket}
    assert api.nothing() == {"payload": None}
    assert api.plain_metadata(ticket) == {"payload": ticket}
    assert api.plain_metadata(ticket, {"a": 1}) == {"payload": ticket, "a": 1}


def test_defaults_and_keywords_work_as_in_the_signature(api: Api) -> None:
    """A default of None is no header."""
    ticket = Ticket(1)
    assert api.keywords(ticket) == {"payload": ticket, "user": "nobody"}
    both = api.keywords(user="mia", role="admin", ticket=ticket)
    assert both == {"payload": ticket, "user": "mia", "role": "admin"}


def test_header_parameter_wins_over_all_headers(api: Api) -> None:
    """Whatever the order of the parameters; a routing slip is dropped."""
    given = {"user": "dict", "role": "admin", "routingSlip": "a"}
    got = api.with_headers(given, "parameter", Ticket(1))
    assert got == {"payload": Ticket(1), "user": "parameter", "role": "admin"}


def test_identifier_becomes_the_address_of_an_aggregate(api: Api) -> None:
    """One value, or a dict when there are several."""
    assert api.identified(5) == {"payload": None, "aggregate.id": 5}
    address = {"number": 5, "shop_id": "x"}
    assert api.identified_by_two(5, "x") == {"payload": None, "aggregate.id": address}


def test_payload_expression_computes_the_payload(api: Api) -> None:
    """From the argument, by a callable or a string."""
    assert api.computed(4) == {"payload": Ticket(8)}
    assert api.computed_by_text(4) == {"payload": 12}


def test_message_is_sent_as_it_is(api: Api) -> None:
    """Its payload is the payload and its headers are the headers."""
    got = api.message(Message(Ticket(1), {"user": "mia"}))
    assert got == {"payload": Ticket(1), "user": "mia"}


@pytest.mark.parametrize(
    "arguments", [(), (Ticket(1), {}, 3), (Ticket(1), 5), (Ticket(1), [1])]
)
def test_wrong_call_is_an_error(api: Api, arguments: tuple[t.Any, ...]) -> None:
    """As for any function; metadata must be a dict."""
    with pytest.raises((TypeError, MessagingError)):
        api.plain_metadata(*arguments)


def test_aggregate_is_addressed_through_an_interface() -> None:
    """One and several identifiers reach the instance that is meant."""

    @aggregate
    class Seat:
        row: t.Annotated[int, Identifier()]
        place: t.Annotated[int, Identifier()]

        @command_handler("seat.make")
        @classmethod
        def make(cls, payload: dict[str, int]) -> t.Self:
            seat = cls()
            seat.row, seat.place = payload["row"], payload["place"]
            return seat

        @query_handler("seat.name")
        def name(self) -> str:
            return f"{self.row}-{self.place}"

    class Seats(t.Protocol):
        @business_method("seat.make")
        def make(self, seat: dict[str, int]) -> dict[str, int]: ...

        @business_method("seat.name")
        def name(
            self,
            row: t.Annotated[int, Identifier()],
            place: t.Annotated[int, Identifier()],
        ) -> str: ...

    seats = flow_testing([Seat, Seats]).gateway(Seats)
    assert seats.make({"row": 1, "place": 2}) == {"row": 1, "place": 2}
    seats.make({"row": 2, "place": 1})
    assert seats.name(1, 2) == "1-2"
    assert seats.name(2, 1) == "2-1"


def returning(annotation: t.Any, reply: t.Any, media_type: str | None = None) -> t.Any:
    """Return what an interface with a return annotation makes of a reply."""

    class Asking(t.Protocol):
        @business_method("echo", reply_media_type=media_type)
        def ask(self, payload: t.Any) -> annotation: ...  # type: ignore[valid-type]

    return flow_testing([Asking, echo]).gateway(Asking).ask(reply)


@pytest.mark.parametrize(
    ("annotation", "reply", "expected"),
    [
        (Ticket, {"number": 1}, Ticket(1)),
        (Ticket, Ticket(1), Ticket(1)),
        (list[Ticket], [{"number": 1}], [Ticket(1)]),
        (Ticket | None, {"number": 1}, Ticket(1)),
        (Ticket | None, None, None),
        (int, "5", 5),
        (t.Any, {"number": 1}, {"number": 1}),
        (t.Any, None, None),
        (None, Ticket(1), None),
    ],
)
def test_reply_becomes_the_return_annotation(
    annotation: t.Any, reply: t.Any, expected: t.Any
) -> None:
    """Converted as needed; -> None returns nothing."""
    assert returning(annotation, reply) == expected


def test_reply_is_encoded_in_a_media_type() -> None:
    """reply_media_type wins over the annotation."""
    assert returning(str, Ticket(1), "application/json") == '{"number":1}'


def test_missing_reply_is_an_error_unless_the_annotation_accepts_none() -> None:
    """The error names the method and the way to write it."""
    with pytest.raises(MessageDeliveryError, match=r"-> Ticket \| None") as caught:
        returning(Ticket, None)
    assert "Asking.ask" in str(caught.value)


def test_reply_that_can_not_be_converted_is_an_error() -> None:
    """As for a payload."""
    with pytest.raises(ConversionError, match="to Ticket"):
        returning(Ticket, {"number": "x"})


def test_exception_of_the_handler_passes_through_a_gateway() -> None:
    """Unwrapped, the very one."""
    raised = LookupError("gone")

    @internal_handler("fail")
    def fail() -> None:
        raise raised

    class Failing(t.Protocol):
        @business_method("fail")
        def fail(self) -> None: ...

    with pytest.raises(LookupError) as caught:
        flow_testing([fail, Failing]).gateway(Failing).fail()
    assert caught.value is raised


def test_interface_may_be_an_abstract_class() -> None:
    """Its own methods stay, and isinstance holds."""

    class Tickets(abc.ABC):
        @business_method("echo")
        @abc.abstractmethod
        def get(self, number: int) -> int: ...

        def get_next(self, number: int) -> int:
            """Return the next one."""
            return self.get(number + 1)

    tickets = flow_testing([Tickets, echo]).gateway(Tickets)
    assert isinstance(tickets, Tickets)
    assert tickets.get_next(4) == 5


def test_isinstance_holds_for_a_runtime_protocol() -> None:
    """The generated object is an instance of its interface, and keeps its docs."""

    @t.runtime_checkable
    class Tickets(t.Protocol):
        @business_method("echo")
        def get(self, number: int) -> int:
            """Return the number."""
            ...

    tickets = flow_testing([Tickets, echo]).gateway(Tickets)
    assert isinstance(tickets, Tickets)
    assert type(tickets).get.__doc__ == "Return the number."
    assert type(tickets).__name__ == "Tickets"


def test_interface_is_injected_by_its_type() -> None:
    """Into constructors and parameters, without a marker."""

    class Tickets(t.Protocol):
        @business_method("echo")
        def get(self, number: int) -> int: ...

    class Office:
        def __init__(self, tickets: Tickets) -> None:
            self.tickets = tickets

        @command_handler("both")
        def both(self, number: int, tickets: Tickets) -> list[int]:
            return [self.tickets.get(number), tickets.get(number + 1)]

    flow = flow_testing([Tickets, Office, echo])
    assert flow.command_bus.send_with_routing("both", 1) == [1, 2]


class Untyped(t.Protocol):
    @business_method("echo")
    def get(self, number: int): ...  # type: ignore[no-untyped-def]


class Unmarked(t.Protocol):
    @business_method("echo")
    def get(self, number: int) -> int: ...

    def other(self) -> int: ...


class UnmarkedBase(t.Protocol):
    def other(self) -> int: ...


class InheritsUnmarked(UnmarkedBase, t.Protocol):
    @business_method("echo")
    def get(self, number: int) -> int: ...


class AbstractUnmarked(abc.ABC):
    @business_method("echo")
    @abc.abstractmethod
    def get(self, number: int) -> int: ...

    @abc.abstractmethod
    def other(self) -> int: ...


class TwoPayloads(t.Protocol):
    @business_method("echo")
    def get(
        self, a: t.Annotated[int, Payload()], b: t.Annotated[int, Payload()]
    ) -> int: ...


class Unsaid(t.Protocol):
    @business_method("echo")
    def get(self, a: int, b: int) -> int: ...


class HeaderExpression(t.Protocol):
    @business_method("echo")
    def get(self, a: t.Annotated[int, Header("a", "value + 1")]) -> int: ...


class Variadic(t.Protocol):
    @business_method("echo")
    def get(self, *numbers: int) -> int: ...


class OneHeaderTwice(t.Protocol):
    @business_method("echo")
    def get(
        self,
        number: int,
        a: t.Annotated[str, Header("user")],
        b: t.Annotated[str | None, Header("user")] = None,
    ) -> int: ...


class AllHeadersTwice(t.Protocol):
    @business_method("echo")
    def get(
        self,
        number: int,
        a: t.Annotated[dict[str, str], Headers()],
        b: dict[str, str],
    ) -> int: ...


class OneIdentifierTwice(t.Protocol):
    @business_method("echo")
    def get(
        self,
        a: t.Annotated[int, Identifier("id")],
        b: t.Annotated[int, Identifier("id")],
    ) -> int: ...


class IdentifierAsHeader(t.Protocol):
    @business_method("echo")
    def get(
        self,
        a: t.Annotated[int, Identifier()],
        b: t.Annotated[int, Header("aggregate.id")],
    ) -> int: ...


class IdentifiersAsHeader(t.Protocol):
    @business_method("echo")
    def get(
        self,
        b: t.Annotated[int, Identifier("id")],
        a: t.Annotated[int, Header("aggregate.id")],
    ) -> int: ...


class HandlersMarker(t.Protocol):
    @instant_retry(2)
    @business_method("echo")
    def get(self, number: int) -> int: ...


class SavesTwoThings(t.Protocol):
    @repository_method
    def get(self, a: Shelf, b: str) -> None: ...


class LoadsByHeader(t.Protocol):
    @repository_method
    def get(self, tenant: t.Annotated[str, Header("tenant")]) -> Shelf: ...


class OneHeaderOfARepositoryTwice(t.Protocol):
    @repository_method
    def get(
        self,
        number: int,
        a: t.Annotated[str, Header("tenant")],
        b: t.Annotated[str, Header("tenant")],
    ) -> Shelf: ...


@pytest.mark.parametrize(
    ("interface", "said"),
    [
        (Untyped, "doesn't say what it returns"),
        (Unmarked, "nothing implements: other"),
        (InheritsUnmarked, "nothing implements: other"),
        (AbstractUnmarked, "nothing implements: other"),
        (TwoPayloads, "2 payloads: a, b"),
        (Unsaid, "'b'"),
        (HeaderExpression, "can't have an expression"),
        (Variadic, r"\*numbers"),
        (OneHeaderTwice, r"\.py:\d+\).*'a' and 'b' both set the header 'user'"),
        (AllHeadersTwice, r"\.py:\d+\).*'a' and 'b' both set all headers"),
        (OneIdentifierTwice, "'a' and 'b' both set the identifier 'id'"),
        (IdentifierAsHeader, "'(a|b)' and '(a|b)' both set the header 'aggregate.id'"),
        (IdentifiersAsHeader, "'a' and 'b' both set the header 'aggregate.id'"),
        (OneHeaderOfARepositoryTwice, "'a' and 'b' both set the header 'tenant'"),
        (HandlersMarker, r"\.py:\d+\) has a marker for handlers \(InstantRetry\)"),
        (SavesTwoThings, "nothing says what 'b' is for"),
        (LoadsByHeader, "takes nothing to load or save"),
    ],
)
def test_interface_that_can_not_be_implemented_is_refused(
    interface: t.Any, said: str
) -> None:
    """At compile time, with the name of the interface, the same each time."""
    errors = []
    for _ in range(2):
        with pytest.raises(HandlerSignatureError, match=said) as caught:
            flow_testing([interface, echo, Shelf])
        errors.append(str(caught.value))
    assert errors[0] == errors[1]
    assert interface.__name__ in errors[0]


def test_unknown_channel_is_refused_at_compile_time() -> None:
    """With a guess, and where it was written."""

    class Tickets(t.Protocol):
        @business_method("ehco")
        def get(self, number: int) -> int: ...

    with pytest.raises(UnknownChannelError, match="Did you mean 'echo'") as caught:
        flow_testing([Tickets, echo])
    assert "test_gateways.py:" in str(caught.value)


def test_channel_of_two_handlers_is_refused() -> None:
    """A command and a query of one name: which is meant?"""

    @command_handler("echo")
    def other() -> None: ...

    class Tickets(t.Protocol):
        @business_method("echo")
        def get(self, number: int) -> int: ...

    with pytest.raises(DuplicateHandlerError, match="'echo'"):
        flow_testing([Tickets, echo, other])


def test_every_bus_can_be_subclassed() -> None:
    """The subclass is all it takes; it is injected by its type and can be extended."""

    class MyCommands(CommandBus):
        def send_twice(self, command: t.Any) -> list[t.Any]:
            """Send a command again."""
            return [self.send(command), self.send(command)]

    class MyQueries(QueryBus): ...

    class MyEvents(EventBus): ...

    @command_handler
    def handle(
        ticket: Ticket, commands: MyCommands, queries: MyQueries, events: MyEvents
    ) -> tuple[str, ...]:
        return tuple(type(bus).__name__ for bus in (commands, queries, events))

    flow = flow_testing([MyCommands, MyQueries, MyEvents, handle])
    names = ("MyCommands", "MyQueries", "MyEvents")
    assert flow.gateway(MyCommands).send_twice(Ticket(1)) == [names, names]
    assert isinstance(flow.gateway(MyCommands), CommandBus)
    assert type(flow.command_bus) is CommandBus


def test_custom_bus_may_override_its_methods() -> None:
    """super() reaches the bus."""

    class Doubling(CommandBus):
        def send(self, command: t.Any, metadata: t.Any = None) -> t.Any:
            """Send and double the result."""
            return super().send(command, metadata) * 2

    @command_handler
    def handle(ticket: Ticket) -> int:
        return ticket.number

    assert flow_testing([Doubling, handle]).gateway(Doubling).send(Ticket(4)) == 8


class ClashingMethod(CommandBus):
    def _send(self) -> None: ...


class ClashingConstructor(CommandBus):
    def __init__(self) -> None: ...


class ClashingAttribute(EventBus):
    _publish = 5  # type: ignore[assignment]


class InheritedClash(ClashingMethod): ...


@pytest.mark.parametrize(
    ("bus", "name"),
    [
        (ClashingMethod, "_send"),
        (ClashingConstructor, "__init__"),
        (ClashingAttribute, "_publish"),
        (InheritedClash, "_send"),
    ],
)
def test_custom_bus_that_hides_what_buses_use_is_refused(bus: t.Any, name: str) -> None:
    """A private name that happens to be the base's is found at compile time."""
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=f"'{name}'") as caught:
            flow_testing([bus])
        assert "test_gateways.py:" in str(caught.value)


def test_gateways_and_buses_of_an_application() -> None:
    """ecotone.get returns each of them, the same each time."""

    class MyCommands(CommandBus): ...

    class Tickets(t.Protocol):
        @business_method("echo")
        def get(self, number: int) -> int: ...

    app = Flask(__name__)
    ecotone = Ecotone(packages=[])
    ecotone.register(MyCommands, Tickets, echo)
    ecotone.init_app(app)
    with app.app_context():
        assert ecotone.get(Tickets).get(3) == 3
        assert ecotone.get(MyCommands) is ecotone.get(MyCommands)
        assert ecotone.get(CommandBus) is ecotone.command_bus
        assert ecotone.get(QueryBus) is ecotone.query_bus
        assert ecotone.get(EventBus) is ecotone.event_bus
