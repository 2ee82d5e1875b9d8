"""How the catalogue reacts to what happens in ordering."""

from flask_ecotone import CommandBus
from flask_ecotone import event_handler
from flask_ecotone import EventBus

from ..ordering.messages import OrderWasCancelled
from ..ordering.messages import OrderWasPlaced
from .messages import ReserveStock
from .messages import Restock
from .messages import StockWasReserved


@event_handler
def reserve_stock(
    event: OrderWasPlaced, command_bus: CommandBus, event_bus: EventBus
) -> None:
    """Set aside every item of a new order, or fail and take the order along.

    This runs inside the transaction that stores the order. Items are taken in
    a fixed order, so that two orders never wait for each other in a circle.
    """
    for item in sorted(event.items, key=lambda item: item.product_id):
        command_bus.send(ReserveStock(item.product_id, item.quantity))
    event_bus.publish(StockWasReserved(event.order_id))


@event_handler
def return_stock(event: OrderWasCancelled, command_bus: CommandBus) -> None:
    """Put every item of a cancelled order back on the shelf."""
    for item in sorted(event.items, key=lambda item: item.product_id):
        command_bus.send(Restock(item.product_id, item.quantity))
