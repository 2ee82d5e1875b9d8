"""Commands: one handler, found by class or by routing key."""

import abc
import typing as t
from dataclasses import dataclass

import pytest
from flask import Flask

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import internal_handler
from flask_ecotone import Message
from flask_ecotone import query_handler
from flask_ecotone.errors import DuplicateHandlerError
from flask_ecotone.errors import MessagingError
from flask_ecotone.errors import NoHandlerError
from flask_ecotone.errors import UnknownChannelError
from flask_ecotone.testing import flow_testing


@dataclass(frozen=True)
class PlaceOrder:
    number: int = 1


@dataclass(frozen=True)
class PlaceExpressOrder(PlaceOrder):
    pass


@dataclass(frozen=True)
class CancelOrder:
    number: int = 1


def test_command_reaches_the_handler_of_its_class_and_returns_its_result() -> None:
    """The bus returns what the handler returns, None included."""

    @command_handler
    def place(command: PlaceOrder) -> int:
        return command.number

    @command_handler
    def cancel(command: CancelOrder) -> None: ...

    bus = flow_testing([place, cancel]).command_bus
    assert bus.send(PlaceOrder(7)) == 7
    assert bus.send(CancelOrder()) is None


def test_falsy_result_is_returned_as_it_is() -> None:
    """A result of 0, an empty string or False isn't taken for none."""

    @command_handler("echo")
    def echo(payload: t.Any) -> t.Any:
        return payload

    bus = flow_testing([echo]).command_bus
    for value in (0, "", False, [], {}):
        assert bus.send_with_routing("echo", value) == value


def test_methods_of_one_class_handle_several_commands_on_one_object() -> None:
    """The method is the handler; its object is made once and keeps its state."""

    class Orders:
        made: t.ClassVar[int] = 0

        def __init__(self) -> None:
            type(self).made += 1
            self.placed: list[int] = []

        @command_handler
        def place(self, command: PlaceOrder) -> None:
            self.placed.append(command.number)

        @command_handler("orders.count")
        def count(self) -> int:
            return len(self.placed)

    bus = flow_testing([Orders]).command_bus
    bus.send(PlaceOrder(1))
    bus.send(PlaceOrder(2))
    assert bus.send_with_routing("orders.count") == 2
    assert Orders.made == 1


def test_handler_can_be_a_class_method_or_static_method_in_any_order() -> None:
    """@classmethod and @staticmethod may stand above or below the marker."""

    class Orders:
        @command_handler("a")
        @classmethod
        def above(cls) -> str:
            return cls.__name__

        @classmethod
        @command_handler("b")
        def below(cls) -> str:
            return cls.__name__

        @command_handler("c")
        @staticmethod
        def static_above(payload: int) -> int:
            return payload

        @staticmethod
        @command_handler("d")
        def static_below(payload: int) -> int:
            return payload

    bus = flow_testing([Orders]).command_bus
    assert bus.send_with_routing("a") == "Orders"
    assert bus.send_with_routing("b") == "Orders"
    assert bus.send_with_routing("c", 3) == 3
    assert bus.send_with_routing("d", 4) == 4


def test_markers_return_the_very_same_object() -> None:
    """A marked function can still be called, and is the one that was defined."""

    def place(command: PlaceOrder) -> int:
        return command.number

    assert command_handler(place) is place
    assert command_handler("place")(place) is place
    assert place(PlaceOrder(3)) == 3


def test_marks_are_stacked() -> None:
    """One function handles a class and several routing keys."""

    @command_handler("order.place")
    @command_handler("order.create")
    @command_handler
    def place(command: PlaceOrder, message: Message) -> tuple[int, str | None]:
        return command.number, message.routing_key

    bus = flow_testing([place]).command_bus
    assert bus.send(PlaceOrder(1)) == (1, None)
    assert bus.send_with_routing("order.place", PlaceOrder(2)) == (2, "order.place")
    assert bus.send_with_routing("order.create", {"number": 3}) == (3, "order.create")


def test_handler_with_a_routing_key_does_not_take_the_class() -> None:
    """With a routing key the annotated class is what the payload becomes, no route."""

    @command_handler("order.place")
    def place(command: PlaceOrder) -> None: ...

    with pytest.raises(NoHandlerError, match="PlaceOrder"):
        flow_testing([place]).command_bus.send(PlaceOrder())


def test_handler_without_parameters_is_sent_to_by_name_alone() -> None:
    """A payload may be left out, and given to a handler that takes none."""

    @command_handler("tick")
    def tick() -> str:
        return "tock"

    bus = flow_testing([tick]).command_bus
    assert bus.send_with_routing("tick") == "tock"
    assert bus.send_with_routing("tick", {"ignored": True}) == "tock"


def test_command_is_routed_by_its_base_class() -> None:
    """An instance of a subclass reaches the handler of the base."""

    @command_handler
    def place(command: PlaceOrder) -> type:
        return type(command)

    bus = flow_testing([place]).command_bus
    assert bus.send(PlaceExpressOrder()) is PlaceExpressOrder


def test_command_is_routed_by_abstract_base_and_virtual_subclass() -> None:
    """An ABC answers for its subclasses and for classes registered with it."""

    class Order(abc.ABC): ...  # noqa: B024

    class Derived(Order): ...

    @Order.register
    class Registered: ...

    @command_handler
    def handle(command: Order) -> type:
        return type(command)

    bus = flow_testing([handle]).command_bus
    assert bus.send(Derived()) is Derived
    assert bus.send(Registered()) is Registered


def test_command_is_routed_by_runtime_protocol() -> None:
    """A runtime-checkable Protocol answers for every class with its methods."""

    @t.runtime_checkable
    class Numbered(t.Protocol):
        def number(self) -> int: ...

    class Ticket:
        def number(self) -> int:
            return 5

    @command_handler
    def handle(command: Numbered) -> int:
        return command.number()

    assert flow_testing([handle]).command_bus.send(Ticket()) == 5


def test_command_is_routed_by_each_member_of_a_union() -> None:
    """A handler of a union takes the commands of all of its classes."""

    @command_handler
    def handle(command: PlaceOrder | CancelOrder) -> str:
        return type(command).__name__

    bus = flow_testing([handle]).command_bus
    assert bus.send(PlaceOrder()) == "PlaceOrder"
    assert bus.send(CancelOrder()) == "CancelOrder"


def test_handler_of_object_takes_every_command() -> None:
    """'object' is the catch-all for commands sent by class."""

    @command_handler
    def handle(command: object) -> str:
        return type(command).__name__

    bus = flow_testing([handle]).command_bus
    assert bus.send(PlaceOrder()) == "PlaceOrder"
    with pytest.raises(NoHandlerError):
        bus.send_with_routing("anything", PlaceOrder())


def test_two_handlers_that_match_a_known_class_are_refused_at_compile_time() -> None:
    """A handler of the base beside one of the subclass is ambiguous."""

    @command_handler
    def place(command: PlaceOrder) -> None: ...

    @command_handler
    def express(command: PlaceExpressOrder) -> None: ...

    with pytest.raises(DuplicateHandlerError, match="PlaceExpressOrder.*2 handlers"):
        flow_testing([place, express])


def test_two_handlers_that_match_an_unknown_class_are_refused_when_it_is_sent() -> None:
    """Two bases that only a later class joins: the command is not delivered."""

    class First: ...

    class Second: ...

    class Both(First, Second): ...

    called: list[str] = []

    @command_handler
    def first(command: First) -> None:
        called.append("first")

    @command_handler
    def second(command: Second) -> None:
        called.append("second")

    bus = flow_testing([first, second]).command_bus
    for _ in range(2):
        with pytest.raises(MessagingError, match="2 handlers"):
            bus.send(Both())
    assert called == []
    bus.send(First())
    assert called == ["first"]


def test_command_and_query_may_share_a_routing_key() -> None:
    """Each bus has routes of its own."""

    @command_handler("order")
    def write() -> str:
        return "written"

    @query_handler("order")
    def read() -> str:
        return "read"

    flow = flow_testing([write, read])
    assert flow.command_bus.send_with_routing("order") == "written"
    assert flow.query_bus.send_with_routing("order") == "read"


def test_result_goes_to_the_output_channel_with_the_headers_of_the_request() -> None:
    """A chain of handlers passes payload and headers on; the last one answers."""

    @command_handler("order.place", output_channel="order.price")
    def place(command: PlaceOrder) -> int:
        return command.number

    @internal_handler("order.price", output_channel="order.show")
    def price(number: int, message: Message) -> str:
        return f"{number * 10} for {message.headers['user']}"

    @internal_handler("order.show")
    def show(text: str, message: Message) -> tuple[str, str]:
        return text, message.headers.message_id

    bus = flow_testing([place, price, show]).command_bus
    sent = {"user": "mia", "id": "the-id"}
    result = bus.send_with_routing("order.place", PlaceOrder(2), metadata=sent)
    assert result == ("20 for mia", "the-id")


def test_chain_stops_where_a_step_returns_nothing() -> None:
    """A result of None isn't passed on, and the sender gets None."""
    called: list[str] = []

    @command_handler("first", output_channel="second")
    def first() -> None:
        called.append("first")

    @internal_handler("second")
    def second(payload: t.Any) -> str:
        called.append("second")
        return "never"

    assert flow_testing([first, second]).command_bus.send_with_routing("first") is None
    assert called == ["first"]


def test_output_channel_may_be_the_routing_key_of_another_handler() -> None:
    """A routing key is a channel that other handlers can send to."""

    @command_handler("first", output_channel="second")
    def first() -> int:
        return 1

    @command_handler("second")
    def second(number: int) -> int:
        return number + 1

    assert flow_testing([first, second]).command_bus.send_with_routing("first") == 2


def test_unknown_output_channel_is_refused_at_compile_time() -> None:
    """A typo in an output channel is found before the first message."""

    @command_handler("first", output_channel="order.shw")
    def first() -> int:
        return 1

    @internal_handler("order.show")
    def show(number: int) -> None: ...

    with pytest.raises(UnknownChannelError, match="Did you mean 'order.show'"):
        flow_testing([first, show])


def test_handler_that_changes_headers_passes_the_payload_on() -> None:
    """With changing_headers the dict is merged into the headers, None removes one."""

    @command_handler("enrich", output_channel="show", changing_headers=True)
    def enrich(payload: t.Any) -> dict[str, t.Any]:
        return {"role": "admin", "token": None}

    @internal_handler("show")
    def show(payload: t.Any, message: Message) -> t.Any:
        return payload, message.headers["role"], message.headers.get("token")

    bus = flow_testing([enrich, show]).command_bus
    sent = bus.send_with_routing("enrich", 5, metadata={"token": "secret"})
    assert sent == (5, "admin", None)


def test_returned_message_replaces_payload_and_headers() -> None:
    """A handler may return a whole message to the next step."""

    @command_handler("first", output_channel="second")
    def first(message: Message) -> Message:
        return message.with_payload("new", {"role": "admin"})

    @internal_handler("second")
    def second(payload: str, message: Message) -> tuple[str, str]:
        return payload, message.headers["role"]

    bus = flow_testing([first, second]).command_bus
    assert bus.send_with_routing("first", "old") == ("new", "admin")


def test_exception_of_a_handler_reaches_the_sender_unwrapped() -> None:
    """The very exception that was raised arrives, without a cause added."""
    raised = ValueError("no stock")

    @command_handler
    def place(command: PlaceOrder) -> None:
        raise raised

    with pytest.raises(ValueError) as caught:
        flow_testing([place]).command_bus.send(PlaceOrder())
    assert caught.value is raised
    assert caught.value.__cause__ is None


def test_command_sent_while_another_is_handled_returns_to_it() -> None:
    """Dispatch is re-entrant."""

    @command_handler("factorial")
    def factorial(number: int) -> int:
        if number == 0:
            return 1
        rest = t.cast(int, command_bus.send_with_routing("factorial", number - 1))
        return number * rest

    app = Flask(__name__)
    ecotone = Ecotone(packages=[])
    ecotone.register(factorial)
    ecotone.init_app(app)
    with app.app_context():
        assert command_bus.send_with_routing("factorial", 10) == 3628800


def test_keyword_only_and_positional_only_parameters_are_filled() -> None:
    """How a parameter may be passed doesn't matter to Ecotone."""

    @command_handler
    def place(command: PlaceOrder, /, *, message: Message) -> bool:
        return message.payload is command

    assert flow_testing([place]).command_bus.send(PlaceOrder()) is True


def test_derived_class_inherits_handlers_and_the_base_steps_back() -> None:
    """Registered together, the handlers of a base are those of the class derived."""

    class Base:
        @command_handler("who")
        def who(self) -> str:
            return type(self).__name__

    class Derived(Base): ...

    assert flow_testing([Derived]).command_bus.send_with_routing("who") == "Derived"
    both = flow_testing([Base, Derived])
    assert both.command_bus.send_with_routing("who") == "Derived"


def test_abstract_class_registers_no_handlers() -> None:
    """Handlers of a class that can't be made belong to its subclasses."""

    class Base(abc.ABC):
        @command_handler("who")
        def who(self) -> str:
            return self.name()

        @abc.abstractmethod
        def name(self) -> str: ...

    class Derived(Base):
        def name(self) -> str:
            return "derived"

    with pytest.raises(NoHandlerError):
        flow_testing([Base]).command_bus.send_with_routing("who")
    assert flow_testing([Derived]).command_bus.send_with_routing("who") == "derived"
