"""Messages, and no handlers."""

from dataclasses import dataclass
from decimal import Decimal

from flask_ecotone import named_event


@dataclass
class Order:
    product: str


@dataclass
class UrgentOrder(Order):
    pass


@dataclass
class Price:
    amount: Decimal


@dataclass
class Shipped:
    product: str


@named_event("stock.emptied")
@dataclass
class StockEmptied:
    product: str
