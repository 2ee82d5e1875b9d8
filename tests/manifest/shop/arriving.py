"""Found before the others by its name; it hears of the same events."""

from flask_ecotone import event_handler

from .journal import lines
from .messages import Shipped
from .messages import StockEmptied


@event_handler
def arrive(event: Shipped) -> None:
    lines.append("arrived")


@event_handler
def refill(event: StockEmptied) -> None:
    lines.append("refilled")
