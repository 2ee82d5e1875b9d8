"""How the aggregate that a message is for is found."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass
from dataclasses import field

import pytest

from flask_ecotone import aggregate
from flask_ecotone import before
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import Headers
from flask_ecotone import Identifier
from flask_ecotone import Payload
from flask_ecotone import query_handler
from flask_ecotone import TargetIdentifier
from flask_ecotone import WithEvents
from flask_ecotone.errors import AggregateNotFoundError
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import ConversionError
from flask_ecotone.errors import IdentifierMissingError
from flask_ecotone.testing import flow_testing


@dataclass
class SameName:
    """A command whose attribute has the identifier's name."""

    order_id: t.Any = None


@dataclass
class OtherName:
    """A command whose attribute says which identifier it is."""

    number: t.Annotated[int, TargetIdentifier("order_id")]


@dataclass
class Marked:
    """A command with a decoy of the identifier's name."""

    number: t.Annotated[str, TargetIdentifier("order_id")]
    order_id: str = "decoy"


@dataclass
class Stranger:
    """An event that knows nothing of orders."""

    reference: str


@aggregate
@dataclass
class Order:
    """An aggregate with handlers for every way to be found."""

    order_id: t.Annotated[t.Any, Identifier()]
    log: list[str] = field(default_factory=list)

    @command_handler
    def same_name(self, command: SameName) -> str:
        return f"same {self.order_id}"

    @command_handler
    def other_name(self, command: OtherName) -> str:
        return f"other {self.order_id}"

    @command_handler
    def marked(self, command: Marked) -> str:
        return f"marked {self.order_id}"

    @command_handler("order.touch")
    def touch(self) -> str:
        return f"touched {self.order_id}"

    @command_handler("order.json")
    def take(self, command: OtherName) -> str:
        return f"took {command.number} at {self.order_id}"

    @command_handler("order.part")
    def part(self, amount: t.Annotated[int, Payload("payload.amount")]) -> str:
        return f"{amount} at {self.order_id}"

    @command_handler(
        "order.by_callable",
        identifier_mapping={"order_id": lambda payload: payload["code"]},
    )
    def by_callable(self, payload: dict[str, t.Any]) -> str:
        return f"callable {self.order_id}"

    @command_handler(
        "order.by_text", identifier_mapping={"order_id": "headers['number']"}
    )
    def by_text(self) -> str:
        return f"text {self.order_id}"

    @command_handler(
        "order.by_typed", identifier_mapping={"order_id": "payload.number"}
    )
    def by_typed(self, command: OtherName) -> str:
        return f"typed {self.order_id}"

    @command_handler(
        "order.by_header", identifier_metadata_mapping={"order_id": "order"}
    )
    def by_header(self, command: SameName) -> str:
        return f"header {self.order_id}"

    @event_handler(identifier_mapping={"order_id": "payload.reference"})
    def when(self, event: Stranger) -> None:
        self.log.append(event.reference)

    @query_handler("order.id")
    def get(self, query: SameName | None = None) -> t.Any:
        return self.order_id


def orders(*others: t.Any) -> t.Any:
    """Return a flow with the orders 1, 2 and 'decoy' in store."""
    flow = flow_testing([Order, *others])
    return flow.with_state_for(Order(1), Order(2), Order("decoy"))


def test_an_attribute_of_the_same_name_identifies() -> None:
    """No declaration is needed when the names agree."""
    assert orders().command_bus.send(SameName(1)) == "same 1"


def test_a_target_identifier_names_the_identifier_it_is() -> None:
    """It wins over an attribute that happens to have the identifier's name."""
    flow = orders().with_state_for(Order("x"))
    assert flow.command_bus.send(OtherName(2)) == "other 2"
    assert flow.command_bus.send(Marked("x")) == "marked x"


def test_the_header_wins_over_everything() -> None:
    """aggregate.id beats mappings, target identifiers and names."""
    bus = orders().command_bus
    at = {"aggregate.id": 2, "order": 1, "number": 1}
    assert bus.send(SameName(1), at) == "same 2"
    assert bus.send(OtherName(1), at) == "other 2"
    for key, said in {
        "order.by_callable": "callable 2",
        "order.by_text": "text 2",
        "order.by_header": "header 2",
    }.items():
        payload = {"code": 1, "order_id": 1}
        assert bus.send_with_routing(key, payload, metadata=at) == said


def test_the_header_is_one_value_or_a_dict() -> None:
    """Both forms address the one identifier, whatever the command's attributes are.

    Upstream loses a scalar when the command has no attribute of the identifier's name.
    """
    bus = orders().command_bus
    for given in (1, {"order_id": 1}):
        sent = bus.send_with_routing(
            "order.touch", "no identifiers here", metadata={"aggregate.id": given}
        )
        assert sent == "touched 1"


@pytest.mark.parametrize(
    "given", [{"id": 1}, {"order_id": 1, "tenant": 2}, {}, {"order_id": None}]
)
def test_a_header_with_wrong_keys_is_refused(given: t.Any) -> None:
    """The error says which identifiers there are."""
    with pytest.raises(IdentifierMissingError, match="identified by order_id, and got"):
        orders().send_command_with_routing(
            "order.touch", metadata={"aggregate.id": given}
        )


def test_a_callable_maps_the_payload_and_text_maps_headers() -> None:
    """identifier_mapping takes both kinds of expressions."""
    bus = orders().command_bus
    assert bus.send_with_routing("order.by_callable", {"code": 2}) == "callable 2"
    sent = bus.send_with_routing("order.by_text", metadata={"number": 1})
    assert sent == "text 1"


def test_a_mapping_beats_an_attribute_of_the_same_name() -> None:
    """The header wins while it is there; without it the attribute is used."""
    bus = orders().command_bus
    send = bus.send_with_routing
    assert send("order.by_header", SameName(1), metadata={"order": 2}) == "header 2"
    assert send("order.by_header", SameName(1)) == "header 1"


def test_events_are_mapped_too() -> None:
    """An event needs to know nothing of the aggregates that react to it."""
    flow = orders().with_state_for(Order("r-1"))
    flow.publish_event(Stranger("r-1"))
    assert flow.aggregate(Order, "r-1").log == ["r-1"]


def test_json_and_dicts_identify_like_the_command_they_become() -> None:
    """Target identifiers of the handler's class apply, with its types."""
    send = orders().command_bus.send_with_routing
    text = json.dumps({"number": 2})
    sent = send("order.json", text, media_type="application/json")
    assert sent == "took 2 at 2"
    assert send("order.json", {"number": "1"}) == "took 1 at 1"


def test_callables_get_the_command_that_json_becomes() -> None:
    """An expression reads attributes, whatever the payload was sent as."""
    send = orders().command_bus.send_with_routing
    assert send("order.by_typed", {"number": "2"}) == "typed 2"
    text = '{"number": 2}'
    assert send("order.by_typed", text, media_type="application/json") == "typed 2"
    assert send("order.by_typed", OtherName(1)) == "typed 1"


def test_a_payload_expression_does_not_hide_the_identifier() -> None:
    """The identifier is read from the whole payload, not from the part."""
    flow = orders()
    payload = {"order_id": 1, "amount": 3}
    assert flow.command_bus.send_with_routing("order.part", payload) == "3 at 1"


def test_a_payload_that_can_not_become_the_command_fails_before_loading() -> None:
    """Bad input is a conversion error, not an aggregate that isn't found."""
    with pytest.raises(ConversionError, match="OtherName"):
        orders().send_command_with_routing("order.json", {"nonsense": 1})


def test_typed_dicts_identify_by_their_markers() -> None:
    """A typed dict is a dict at run time, and its annotations still count."""

    class Move(t.TypedDict):
        target: t.Annotated[str, TargetIdentifier("name")]

    @aggregate
    @dataclass
    class Piece:
        name: t.Annotated[str, Identifier()]

        @command_handler("piece.move")
        def move(self, command: Move) -> str:
            return self.name

    Piece.move.__annotations__["command"] = Move
    flow = flow_testing([Piece]).with_state_for(Piece("king"))
    sent = flow.command_bus.send_with_routing("piece.move", {"target": "king"})
    assert sent == "king"


def test_queries_are_addressed_by_header_and_by_payload() -> None:
    """A query handler has the same automatic mapping."""
    flow = orders()
    ask = flow.send_query_with_routing
    assert ask("order.id", metadata={"aggregate.id": 2}) == 2
    assert ask("order.id", SameName(1)) == 1


def test_text_finds_a_number_in_memory_as_in_a_database() -> None:
    """Identifiers arrive from URLs as text."""
    flow = orders()
    sent = flow.command_bus.send_with_routing(
        "order.touch", metadata={"aggregate.id": "2"}
    )
    assert sent == "touched 2"


@aggregate
@dataclass
class Seat:
    """An aggregate with three identifiers."""

    hall: t.Annotated[str, Identifier()]
    row: t.Annotated[int, Identifier()]
    number: t.Annotated[int, Identifier()]
    guest: str = ""

    @command_handler("seat.make")
    @classmethod
    def make(cls, payload: dict[str, t.Any]) -> t.Self:
        return cls(**payload)

    @command_handler(
        "seat.take",
        identifier_metadata_mapping={"hall": "hall"},
        drop_message_on_not_found=True,
    )
    def take(self, payload: dict[str, t.Any]) -> t.Any:
        self.guest = payload["guest"]
        return (self.hall, self.row, self.number)

    @command_handler("seat.empty")
    def empty(self) -> None:
        self.guest = ""


def test_a_composite_identifier_is_a_dict_and_comes_from_several_places() -> None:
    """Each identifier is found for itself: header mapping here, names there."""
    flow = flow_testing([Seat])
    key = {"hall": "A", "row": 1, "number": 7}
    assert flow.command_bus.send_with_routing("seat.make", key) == key
    taken = flow.command_bus.send_with_routing(
        "seat.take",
        {"row": 1, "number": 7, "guest": "ann"},
        metadata={"hall": "A"},
    )
    assert taken == ("A", 1, 7)
    assert flow.aggregate(Seat, key).guest == "ann"
    shuffled = {"number": 7, "hall": "A", "row": 1}
    flow.send_command_with_routing("seat.empty", metadata={"aggregate.id": shuffled})
    assert flow.aggregate(Seat, shuffled).guest == ""


def test_one_error_names_every_missing_identifier() -> None:
    """Upstream gives up at the first one, and reports a partial mapping."""
    flow = flow_testing([Seat])
    with pytest.raises(IdentifierMissingError) as caught:
        flow.send_command_with_routing("seat.take", {"row": 1})
    assert "no value for 'hall', 'number'" in str(caught.value)
    assert "'row'" not in str(caught.value)
    assert "Seat.take" in str(caught.value)


def test_one_value_does_not_address_several_identifiers() -> None:
    """A scalar header is refused for a composite identifier."""
    flow = flow_testing([Seat])
    with pytest.raises(IdentifierMissingError, match="hall, row, number, and got 'A'"):
        flow.send_command_with_routing("seat.empty", metadata={"aggregate.id": "A"})
    with pytest.raises(IdentifierMissingError, match="hall, row, number"):
        flow.aggregate(Seat, 1)


def test_the_error_without_any_identifier_says_what_to_do() -> None:
    """It names the handler, the aggregate, the payload and the ways to address."""
    with pytest.raises(IdentifierMissingError) as caught:
        orders().send_command(SameName(None))
    for part in ("Order.same_name", "SameName", "'order_id'", "aggregate.id"):
        assert part in str(caught.value)


def test_a_mapping_of_an_unknown_identifier_does_not_compile() -> None:
    """The error offers the identifier that was meant."""
    for option in (
        {"identifier_mapping": {"nmae": "payload"}},
        {"identifier_metadata_mapping": {"nmae": "name"}},
    ):

        @aggregate
        @dataclass
        class Wrong:
            name: t.Annotated[str, Identifier()]

            @command_handler("wrong.do", **option)
            def do(self) -> None: ...

        with pytest.raises(ConfigurationError, match="'nmae'.*Did you mean 'name'"):
            flow_testing([Wrong])


def test_both_mappings_on_one_handler_do_not_compile() -> None:
    """Which one would win is nothing to guess."""

    @aggregate
    @dataclass
    class Both:
        name: t.Annotated[str, Identifier()]

        @command_handler(
            "both.do",
            identifier_mapping={"name": "payload"},
            identifier_metadata_mapping={"name": "name"},
        )
        def do(self) -> None: ...

    with pytest.raises(ConfigurationError, match="Use one of them"):
        flow_testing([Both])


@pytest.mark.parametrize("pointcut", [CommandBus, Order.by_header, Order])
def test_an_interceptor_adds_the_header_that_identifies(pointcut: t.Any) -> None:
    """Headers of before interceptors count, on the bus and on the handler (#456)."""

    @before(pointcut=pointcut, change_headers=True)
    def tell(command: SameName) -> dict[str, t.Any]:
        return {"order": 2}

    flow = orders(tell)
    sent = flow.command_bus.send_with_routing("order.by_header", SameName())
    assert sent == "header 2"


def test_the_header_is_never_handed_to_the_messages_that_follow() -> None:
    """Neither commands, events nor recorded events inherit aggregate.id (#474)."""
    seen: list[dict[str, t.Any]] = []

    @aggregate
    @dataclass
    class Account(WithEvents):
        name: t.Annotated[str, Identifier()]

        @command_handler("account.close")
        def close(self) -> None:
            self.record_that(Stranger("1"))

    @event_handler
    def follow(
        event: Stranger,
        headers: t.Annotated[dict[str, t.Any], Headers()],
        commands: CommandBus,
        events: EventBus,
    ) -> None:
        seen.append(headers)
        commands.send_with_routing("note")
        events.publish_with_routing("noted")

    @command_handler("note")
    def note(headers: t.Annotated[dict[str, t.Any], Headers()]) -> None:
        seen.append(headers)

    @event_handler("noted")
    def noted(headers: t.Annotated[dict[str, t.Any], Headers()]) -> None:
        seen.append(headers)

    flow = flow_testing([Account, follow, note, noted]).with_state_for(Account("a"))
    flow.send_command_with_routing(
        "account.close", metadata={"aggregate.id": "a", "user": "ann"}
    )
    assert len(seen) == 3
    for headers in seen:
        assert headers["user"] == "ann"
        assert "aggregate.id" not in headers


def test_a_union_typed_identifier_works() -> None:
    """An identifier may be an int or text (#683)."""

    @aggregate
    @dataclass
    class Mixed:
        key: t.Annotated[int | str, Identifier()]

        @command_handler("mixed.get")
        def get(self) -> t.Any:
            return self.key

    flow = flow_testing([Mixed]).with_state_for(Mixed(1), Mixed("one"))
    for key in (1, "one"):
        at = {"aggregate.id": key}
        assert flow.command_bus.send_with_routing("mixed.get", metadata=at) == key
    with pytest.raises(AggregateNotFoundError):
        flow.send_command_with_routing("mixed.get", metadata={"aggregate.id": "two"})
