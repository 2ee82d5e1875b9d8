"""The order aggregate: place, confirm, cancel."""

from datetime import datetime
from datetime import UTC
from typing import Annotated
from typing import Any
from typing import Self

from sqlalchemy import CheckConstraint
from sqlalchemy import ForeignKey
from sqlalchemy import String
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from sqlalchemy.orm import relationship

from flask_ecotone import aggregate
from flask_ecotone import around
from flask_ecotone import command_handler
from flask_ecotone import event_handler
from flask_ecotone import Header
from flask_ecotone import instant_retry
from flask_ecotone import MethodInvocation
from flask_ecotone import query_handler
from flask_ecotone import QueryBus
from flask_ecotone import WithEvents
from flask_ecotone.errors import ConcurrencyError

from ..catalogue.messages import FindProducts
from ..catalogue.messages import StockWasReserved
from ..extensions import db
from .messages import Customer
from .messages import GetOrder
from .messages import Item
from .messages import LineDetails
from .messages import NotYourOrder
from .messages import OrderDetails
from .messages import OrderRefused
from .messages import OrderWasCancelled
from .messages import OrderWasPlaced
from .messages import PlaceOrder

# Somebody changed the same rows first. The next attempt sees what they did.
LOST_RACE = (ConcurrencyError, DBAPIError)


def now() -> datetime:
    """Return the current UTC time, naive because SQLite keeps no time zone."""
    return datetime.now(UTC).replace(tzinfo=None)


class OrderLine(db.Model):
    """One product of an order, at the price of that day."""

    __tablename__ = "order_lines"

    order_id: Mapped[str] = mapped_column(
        ForeignKey("orders.order_id"), primary_key=True
    )
    product_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    quantity: Mapped[int] = mapped_column(CheckConstraint("quantity > 0"))
    unit_price: Mapped[int]


@aggregate
class Order(WithEvents, db.Model):
    """What a shopper bought. Every change of it is one of the methods below."""

    __tablename__ = "orders"

    order_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    shopper: Mapped[str] = mapped_column(String(32), index=True)
    status: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(String(80))
    email: Mapped[str] = mapped_column(String(80))
    street: Mapped[str] = mapped_column(String(80))
    postcode: Mapped[str] = mapped_column(String(80))
    city: Mapped[str] = mapped_column(String(80))
    placed_at: Mapped[datetime]
    confirmed_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]
    lines: Mapped[list[OrderLine]] = relationship(
        lazy="selectin", order_by=OrderLine.name
    )

    @command_handler
    @instant_retry(3, exceptions=LOST_RACE)
    @classmethod
    def place(
        cls,
        command: PlaceOrder,
        query_bus: QueryBus,
        shopper: Annotated[str, Header("shopper")],
    ) -> Self:
        """Create the order with the catalogue's names and prices."""
        found = query_bus.send(
            FindProducts(tuple(item.product_id for item in command.items))
        )
        lines = [
            OrderLine(
                product_id=item.product_id,
                name=found[item.product_id].name,
                quantity=item.quantity,
                unit_price=found[item.product_id].price,
            )
            for item in command.items
        ]
        if not lines:
            raise OrderRefused("There is nothing in your cart.")
        if sum(line.quantity * line.unit_price for line in lines) != command.total:
            raise OrderRefused("A price has changed. Please check the total again.")

        order = cls(
            order_id=command.order_id,
            shopper=shopper,
            status="placed",
            placed_at=now(),
            lines=lines,
            **vars(command.customer),
        )
        order.record_that(OrderWasPlaced(command.order_id, command.items))
        return order

    @command_handler
    def place_again(self, command: PlaceOrder) -> str:
        """Meet the same command a second time: the order exists, all is well."""
        return self.order_id

    @event_handler
    def confirm(self, event: StockWasReserved) -> None:
        """Promise delivery, now that the catalogue has set the items aside."""
        self.status = "confirmed"
        self.confirmed_at = now()

    @command_handler("order.cancel")
    @instant_retry(3, exceptions=LOST_RACE)
    def cancel(self) -> None:
        """Call the order off, once."""
        if self.status == "cancelled":
            return
        self.status = "cancelled"
        self.cancelled_at = now()
        self.record_that(OrderWasCancelled(self.order_id, self.items))

    @query_handler
    def details(self, query: GetOrder) -> OrderDetails:
        """Answer the order page."""
        return self.describe()

    @property
    def items(self) -> tuple[Item, ...]:
        """What has to come off the shelf, or back on it."""
        return tuple(Item(line.product_id, line.quantity) for line in self.lines)

    def describe(self) -> OrderDetails:
        """Copy the order into the plain object that pages get."""
        return OrderDetails(
            order_id=self.order_id,
            status=self.status,
            customer=Customer(
                self.name, self.email, self.street, self.postcode, self.city
            ),
            lines=tuple(
                LineDetails(line.product_id, line.name, line.quantity, line.unit_price)
                for line in self.lines
            ),
            placed_at=self.placed_at,
            confirmed_at=self.confirmed_at,
            cancelled_at=self.cancelled_at,
        )


@around(pointcut=Order)
def only_for_its_shopper(
    invocation: MethodInvocation,
    order: Order | None,
    shopper: Annotated[str | None, Header("shopper")] = None,
) -> Any:
    """Stand before every handler of an existing order: others see nothing."""
    if order is not None and order.shopper != shopper:
        raise NotYourOrder(order.order_id)
    return invocation.proceed()
