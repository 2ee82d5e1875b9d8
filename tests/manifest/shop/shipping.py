"""Handlers of one event; it also makes a class fragile, which others feel."""

from flask_ecotone import event_handler
from flask_ecotone import priority

from .journal import Fragile
from .journal import lines
from .messages import Shipped
from .messages import StockEmptied

Fragile.register(Shipped)


@event_handler
def pack(event: Shipped) -> None:
    lines.append("packed")


@priority(5)
@event_handler
def reserve(event: Shipped) -> None:
    lines.append("reserved")


@event_handler
def reorder(event: StockEmptied) -> None:
    lines.append(f"reordered {event.product}")


@event_handler("stock.emptied")
def warn() -> None:
    lines.append("warned")
