"""The language of ordering: what others may send, ask, hear and get wrong."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Customer:
    """Who ordered and where the parcel goes."""

    name: str
    email: str
    street: str
    postcode: str
    city: str


@dataclass(frozen=True)
class Item:
    """How many of which product."""

    product_id: str
    quantity: int


@dataclass(frozen=True)
class PlaceOrder:
    """Order what is in the cart, for the total that the shopper saw."""

    order_id: str
    customer: Customer
    items: tuple[Item, ...]
    total: int


@dataclass(frozen=True)
class OrderWasPlaced:
    """An order came in."""

    order_id: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class OrderWasCancelled:
    """The shopper changed their mind."""

    order_id: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class GetOrder:
    """Ask for one order."""

    order_id: str


@dataclass(frozen=True)
class ListOrders:
    """Ask for the orders of the current shopper, newest first."""


@dataclass(frozen=True)
class LineDetails:
    """One line of an order, with name and price as they were that day."""

    product_id: str
    name: str
    quantity: int
    unit_price: int

    @property
    def total(self) -> int:
        """What the line costs."""
        return self.quantity * self.unit_price


@dataclass(frozen=True)
class OrderDetails:
    """The answer to the queries above."""

    order_id: str
    status: str
    customer: Customer
    lines: tuple[LineDetails, ...]
    placed_at: datetime
    confirmed_at: datetime | None
    cancelled_at: datetime | None

    @property
    def number(self) -> str:
        """The part of the id that one can read out on the phone."""
        return self.order_id[:8].upper()

    @property
    def total(self) -> int:
        """What the order costs."""
        return sum(line.total for line in self.lines)


class OrderRefused(Exception):
    """The order cannot be placed or changed; the text is for the shopper."""


class NotYourOrder(Exception):
    """The order belongs to another shopper."""
