"""An event is handled in the database of the command that caused it.

Run it with ``python -m example_app.quickstarts.tenant_events``.
"""

from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Annotated

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import func
from sqlalchemy import select
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import Header
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import query_handler

db = SQLAlchemy()
ecotone = Ecotone(
    packages=["example_app.quickstarts.tenant_events"],
    extensions=[
        MultiTenantConfiguration("tenant", {"tenant_a": "first", "tenant_b": "second"})
    ],
)


class Customer(db.Model):
    """Somebody who was registered."""

    number: Mapped[int] = mapped_column(primary_key=True)


class Greeting(db.Model):
    """A letter that was written."""

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@dataclass(frozen=True)
class RegisterCustomer:
    """Welcome somebody."""

    number: int


@dataclass(frozen=True)
class CustomerWasRegistered:
    """Somebody is a customer now."""

    number: int


@command_handler
def register(command: RegisterCustomer, event_bus: EventBus) -> None:
    """Store the customer and tell everybody."""
    db.session.add(Customer(number=command.number))
    event_bus.publish(CustomerWasRegistered(command.number))


@event_handler
def greet(
    event: CustomerWasRegistered, tenant: Annotated[str, Header("tenant")]
) -> None:
    """Write a letter, in the transaction of the command.

    The header came along with the event. The handler needs it for the letterhead
    only: ``db.session`` leads to the right database without it.
    """
    db.session.add(Greeting(text=f"{tenant} welcomes number {event.number}"))


@query_handler("greeting.list")
def list_greetings() -> list[str]:
    """List the letters."""
    return list(db.session.scalars(select(Greeting.text).order_by(Greeting.id)))


@query_handler("customer.count")
def count_customers() -> int:
    """Count the customers."""
    return db.session.scalar(select(func.count()).select_from(Customer)) or 0


def main(folder: str) -> None:
    """Run the example on two databases in *folder*."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_BINDS"] = binds = {
        "first": f"sqlite:///{folder}/a.db",
        "second": f"sqlite:///{folder}/b.db",
    }
    db.init_app(app)
    ecotone.init_app(app)
    tenant_a, tenant_b = {"tenant": "tenant_a"}, {"tenant": "tenant_b"}

    with app.app_context():
        for bind in binds:
            db.metadata.create_all(db.engines[bind])

        print("1. Register two customers at tenant_a, one at tenant_b")
        command_bus.send(RegisterCustomer(1), tenant_a)
        command_bus.send(RegisterCustomer(2), tenant_a)
        command_bus.send(RegisterCustomer(2), tenant_b)

        print("2. Each tenant has its own customers")
        assert query_bus.send_with_routing("customer.count", metadata=tenant_a) == 2
        assert query_bus.send_with_routing("customer.count", metadata=tenant_b) == 1

        print("3. The event handlers knew the tenant, and wrote into its database")
        assert query_bus.send_with_routing("greeting.list", metadata=tenant_a) == [
            "tenant_a welcomes number 1",
            "tenant_a welcomes number 2",
        ]
        assert query_bus.send_with_routing("greeting.list", metadata=tenant_b) == [
            "tenant_b welcomes number 2",
        ]

    print("== Example completed successfully ==")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(temporary)
