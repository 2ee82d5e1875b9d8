"""A handler that sends to another module, and answers of two kinds."""

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import event_bus
from flask_ecotone import query_handler

from .journal import lines
from .messages import Order
from .messages import Shipped


@command_handler
def order(command: Order) -> str:
    bill = command_bus.send_with_routing("bill", {"amount": "2.50"})
    event_bus.publish(Shipped(command.product))
    lines.append("ordered")
    return f"{type(command).__name__} {command.product}: {bill}"


@query_handler("order.count")
def count() -> int:
    return len(lines)
