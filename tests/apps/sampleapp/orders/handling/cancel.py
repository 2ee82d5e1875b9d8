"""A handler three packages deep."""

from flask_ecotone import command_handler


@command_handler("order.cancel")
def cancel(order_id: str) -> str:
    """Cancel an order."""
    return f"{order_id} is cancelled"
