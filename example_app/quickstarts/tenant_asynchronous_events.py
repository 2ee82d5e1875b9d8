"""One worker handles the events of all tenants, each in its tenant's database.

Run it with ``python -m example_app.quickstarts.tenant_asynchronous_events``. The
variables ``TENANT_A_DATABASE_URL`` and ``TENANT_B_DATABASE_URL`` choose other
databases, which should be empty.
"""

import os
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Annotated
from typing import Any

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import func
from sqlalchemy import select
from sqlalchemy import String
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import Header
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import query_handler

db = SQLAlchemy()
ecotone = Ecotone(
    packages=["example_app.quickstarts.tenant_asynchronous_events"],
    # A table in the database of each tenant.
    channels=[DatabaseChannel("notifications")],
    extensions=[
        MultiTenantConfiguration("tenant", {"tenant_a": "first", "tenant_b": "second"})
    ],
)


class Customer(db.Model):
    """Somebody who was registered."""

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(80))


class Greeting(db.Model):
    """A letter that was written."""

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(200))


@dataclass(frozen=True)
class RegisterCustomer:
    """Welcome somebody."""

    number: int
    name: str


@dataclass(frozen=True)
class CustomerWasRegistered:
    """Somebody is a customer now."""

    number: int


@command_handler
def register(
    command: RegisterCustomer,
    event_bus: EventBus,
    fails: Annotated[bool, Header("fails")] = False,
) -> None:
    """Store the customer and the message: both are committed, or none of them."""
    db.session.add(Customer(number=command.number, name=command.name))
    event_bus.publish(CustomerWasRegistered(command.number))
    if fails:
        raise ValueError("no more customers, please")


@asynchronous("notifications")
@event_handler(endpoint_id="greet")
def greet(
    event: CustomerWasRegistered, tenant: Annotated[str, Header("tenant")]
) -> None:
    """Write a letter, later, in the database that the message came from."""
    named = select(Customer.name).where(Customer.number == event.number)
    name = db.session.scalar(named)
    db.session.add(Greeting(text=f"{tenant} welcomes {name}"))


@query_handler("greeting.list")
def list_greetings() -> list[str]:
    """List the letters."""
    return list(db.session.scalars(select(Greeting.text).order_by(Greeting.id)))


@query_handler("customer.count")
def count_customers() -> int:
    """Count the customers."""
    return db.session.scalar(select(func.count()).select_from(Customer)) or 0


def main(folder: str) -> None:
    """Run the example on two databases."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_BINDS"] = {
        bind: os.environ.get(variable) or f"sqlite:///{folder}/{bind}.db"
        for bind, variable in (
            ("first", "TENANT_A_DATABASE_URL"),
            ("second", "TENANT_B_DATABASE_URL"),
        )
    }
    db.init_app(app)
    ecotone.init_app(app)
    tenant_a, tenant_b = {"tenant": "tenant_a"}, {"tenant": "tenant_b"}

    def greetings(tenant: dict[str, str]) -> Any:
        return query_bus.send_with_routing("greeting.list", metadata=tenant)

    def run_worker() -> str:
        # As typed at the terminal: flask ecotone run notifications …
        result = app.test_cli_runner().invoke(
            args=["ecotone", "run", "notifications"]
            + ["--stop-on-failure", "--finish-when-no-messages"]
        )
        assert result.exit_code == 0, result.output
        return result.output.splitlines()[-1]

    with app.app_context():
        ecotone.setup_database()

        print("1. Register two customers at tenant_a; nothing is written yet")
        command_bus.send(RegisterCustomer(1, "Alice"), tenant_a)
        command_bus.send(RegisterCustomer(2, "Bob"), tenant_a)
        assert greetings(tenant_a) == []

        print("2. A worker writes the letters")
        print(f"   {run_worker()}")
        letters = ["tenant_a welcomes Alice", "tenant_a welcomes Bob"]
        assert greetings(tenant_a) == letters

        print("3. A customer of tenant_b waits for the next run of the worker")
        command_bus.send(RegisterCustomer(1, "Carol"), tenant_b)
        assert greetings(tenant_b) == []
        print(f"   {run_worker()}")
        assert greetings(tenant_a) == letters
        assert greetings(tenant_b) == ["tenant_b welcomes Carol"]

        print("4. A command that fails leaves neither a customer nor a message")
        try:
            command_bus.send(RegisterCustomer(3, "Dave"), {**tenant_a, "fails": True})
        except ValueError as error:
            print(f"   {error}")
        assert query_bus.send_with_routing("customer.count", metadata=tenant_a) == 2
        said = run_worker()
        assert "0 messages handled" in said, said

        print("5. One worker takes turns among the tenants")
        command_bus.send(RegisterCustomer(3, "Erin"), tenant_a)
        command_bus.send(RegisterCustomer(2, "Frank"), tenant_b)
        assert "2 messages handled" in run_worker()
        assert greetings(tenant_a)[2:] == ["tenant_a welcomes Erin"]
        assert greetings(tenant_b)[1:] == ["tenant_b welcomes Frank"]

    print("== Example completed successfully ==")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(temporary)
