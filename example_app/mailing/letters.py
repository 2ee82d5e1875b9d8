"""What is written to shoppers, by a worker and not while they wait.

The event is the one that also reserves the stock. These handlers get copies of their
own from the channel, once the order is stored. The copies carry the headers of the
request that placed it: the shop it was in, and who was shopping.
"""

from datetime import timedelta
from typing import Annotated

from flask_ecotone import asynchronous
from flask_ecotone import delayed
from flask_ecotone import delayed_retry
from flask_ecotone import event_handler
from flask_ecotone import Header
from flask_ecotone import QueryBus

from ..extensions import NOTIFICATIONS
from ..ordering.messages import GetOrder
from ..ordering.messages import OrderDetails
from ..ordering.messages import OrderWasPlaced
from ..pages import money
from .mailbox import Mail
from .mailbox import put

CONFIRMATION = """\
Dear {name},

thank you for your order. We are packing:

{lines}

Together that is {total}. It goes to {street}, {postcode} {city}.
"""

REVIEW_REQUEST = """\
Dear {name},

a week ago you ordered from us:

{lines}

How do you like it? A line or two would help others to choose.
"""


# Two retries, half a second and a second later: soon enough to watch them fail.
@asynchronous(NOTIFICATIONS)
@delayed_retry(500, multiplier=2, max_attempts=2)
@event_handler(endpoint_id="mailing.confirm_order")
def confirm_order(
    event: OrderWasPlaced,
    query_bus: QueryBus,
    shopper: Annotated[str, Header("shopper")],
) -> None:
    """Say that the order has come in."""
    order = query_bus.send(GetOrder(event.order_id))
    put(letter(f"Your order {order.number}", CONFIRMATION, order, shopper))


@asynchronous(NOTIFICATIONS)
@delayed(timedelta(days=7))
@delayed_retry(500, multiplier=2, max_attempts=2)
@event_handler(endpoint_id="mailing.ask_for_review")
def ask_for_review(
    event: OrderWasPlaced,
    query_bus: QueryBus,
    shopper: Annotated[str, Header("shopper")],
) -> None:
    """Ask how it was, a week later, unless the order was called off meanwhile."""
    order = query_bus.send(GetOrder(event.order_id))
    if order.status != "cancelled":
        put(letter("How do you like it?", REVIEW_REQUEST, order, shopper))


def letter(subject: str, template: str, order: OrderDetails, shopper: str) -> Mail:
    """Fill in a template."""
    customer = order.customer
    text = template.format(
        **vars(customer),
        lines="\n".join(f"  {line.quantity} × {line.name}" for line in order.lines),
        total=money(order.total),
    )
    return Mail(
        shopper=shopper,
        order_id=order.order_id,
        recipient=customer.email,
        subject=subject,
        text=text,
    )
