"""A message that is sent over the wrong bus."""

from dataclasses import dataclass

import pytest

from flask_ecotone import command_handler
from flask_ecotone import event_handler
from flask_ecotone import query_handler
from flask_ecotone.errors import NoHandlerError
from flask_ecotone.testing import flow_testing


@dataclass(frozen=True)
class PlaceOrder:
    number: int = 1


@dataclass(frozen=True)
class PlaceExpressOrder(PlaceOrder):
    pass


@dataclass(frozen=True)
class GetOrder:
    number: int = 1


@dataclass(frozen=True)
class OrderWasPlaced:
    number: int = 1


@command_handler
def place(command: PlaceOrder) -> None: ...


@command_handler("order.cancel")
def cancel() -> None: ...


@query_handler
def get_order(query: GetOrder) -> int:
    return query.number


@query_handler("order.list")
def list_orders() -> None: ...


@event_handler
def note(event: OrderWasPlaced) -> None: ...


@event_handler("order.was_*")
def note_any() -> None: ...


HANDLERS = [place, cancel, get_order, list_orders, note, note_any]


@pytest.mark.parametrize("message", [GetOrder(), "order.list"])
def test_query_on_the_command_bus(message: object) -> None:
    """The error says that there is a query handler, and which bus reaches it."""
    flow = flow_testing(HANDLERS)
    expected = "handled as a query. Use the query bus"
    with pytest.raises(NoHandlerError, match=expected) as caught:
        if isinstance(message, str):
            flow.command_bus.send_with_routing(message)
        else:
            flow.command_bus.send(message)
    assert "@command_handler" not in str(caught.value)


@pytest.mark.parametrize("message", [PlaceOrder(), PlaceExpressOrder()])
def test_command_on_the_query_bus(message: object) -> None:
    """Also when the handler takes a base class."""
    flow = flow_testing(HANDLERS)
    with pytest.raises(NoHandlerError, match="as a command. Use the command bus"):
        flow.query_bus.send(message)
    with pytest.raises(NoHandlerError, match="as a command. Use the command bus"):
        flow.query_bus.send_with_routing("order.cancel")


def test_event_on_a_bus_for_one_handler() -> None:
    """An event is published; its class, its name and a glob are recognised."""
    flow = flow_testing(HANDLERS)
    with pytest.raises(NoHandlerError, match="as an event. Use the event bus"):
        flow.command_bus.send(OrderWasPlaced())
    with pytest.raises(NoHandlerError, match="as an event. Use the event bus"):
        flow.query_bus.send_with_routing("order.was_paid")


def test_message_that_nobody_handles() -> None:
    """Without a handler elsewhere the error says how to write one."""
    flow = flow_testing([get_order])
    with pytest.raises(NoHandlerError, match="@command_handler"):
        flow.command_bus.send(PlaceOrder())
