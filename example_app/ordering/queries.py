"""Questions about many orders at once."""

from typing import Annotated

from sqlalchemy import select

from flask_ecotone import Header
from flask_ecotone import query_handler

from ..extensions import db
from .messages import ListOrders
from .messages import OrderDetails
from .order import Order


@query_handler
def list_orders(
    query: ListOrders, shopper: Annotated[str, Header("shopper")]
) -> list[OrderDetails]:
    """List what the shopper has ordered; the header says who that is."""
    orders = db.session.scalars(
        select(Order).where(Order.shopper == shopper).order_by(Order.placed_at.desc())
    )
    return [order.describe() for order in orders]
