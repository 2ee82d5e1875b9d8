"""One command bus, a database for each tenant, and no tenant in any handler.

Run it with ``python -m example_app.quickstarts.tenant_message_bus``. The variables
``TENANT_A_DATABASE_URL`` and ``TENANT_B_DATABASE_URL`` choose other databases, which
should be empty.
"""

import os
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Annotated

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Connection
from sqlalchemy import select
from sqlalchemy import String
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import TenantConnection
from flask_ecotone.errors import MissingTenantError

db = SQLAlchemy()
ecotone = Ecotone(
    packages=["example_app.quickstarts.tenant_message_bus"],
    # The header "tenant" of a message chooses the bind.
    extensions=[
        MultiTenantConfiguration("tenant", {"tenant_a": "first", "tenant_b": "second"})
    ],
)


class Customer(db.Model):
    """Each tenant has customers of its own, whatever their number."""

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(80))


@dataclass(frozen=True)
class RegisterCustomer:
    """Welcome somebody."""

    number: int
    name: str


@command_handler
def register(command: RegisterCustomer) -> None:
    """Store the customer, wherever ``db.session`` leads."""
    db.session.add(Customer(number=command.number, name=command.name))


@query_handler("customer.list")
def list_customers() -> list[str]:
    """List the names, by number."""
    return list(db.session.scalars(select(Customer.name).order_by(Customer.number)))


@query_handler("customer.database")
def name_database(connection: Annotated[Connection, TenantConnection()]) -> str:
    """Name the database, as the connection knows it."""
    url = connection.engine.url
    return f"{url.get_backend_name()}: {os.path.basename(url.database or '')}"


def main(folder: str) -> None:
    """Run the example on two databases, by default in *folder*."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_BINDS"] = binds = {
        "first": os.environ.get("TENANT_A_DATABASE_URL", f"sqlite:///{folder}/a.db"),
        "second": os.environ.get("TENANT_B_DATABASE_URL", f"sqlite:///{folder}/b.db"),
    }
    db.init_app(app)
    ecotone.init_app(app)
    tenant_a, tenant_b = {"tenant": "tenant_a"}, {"tenant": "tenant_b"}

    with app.app_context():
        for bind in binds:
            db.metadata.create_all(db.engines[bind])

        print("1. Register Alice and Bob at tenant_a, Carol at tenant_b")
        command_bus.send(RegisterCustomer(1, "Alice"), tenant_a)
        command_bus.send(RegisterCustomer(2, "Bob"), tenant_a)
        command_bus.send(RegisterCustomer(1, "Carol"), tenant_b)

        print("2. Each tenant lists its own customers")
        listed = query_bus.send_with_routing("customer.list", metadata=tenant_a)
        assert listed == ["Alice", "Bob"]
        listed = query_bus.send_with_routing("customer.list", metadata=tenant_b)
        assert listed == ["Carol"]

        print("3. Each tenant works on a database of its own")
        first = query_bus.send_with_routing("customer.database", metadata=tenant_a)
        second = query_bus.send_with_routing("customer.database", metadata=tenant_b)
        print(f"   tenant_a on {first}")
        print(f"   tenant_b on {second}")
        assert first != second

        print("4. A message that names no tenant is refused")
        try:
            command_bus.send(RegisterCustomer(3, "Nobody"))
        except MissingTenantError as error:
            print(f"   {error}")
        else:
            raise AssertionError("stored for nobody")

        print("5. What is stored is seen by other connections, too")
        for bind, expected in ("first", ["Alice", "Bob"]), ("second", ["Carol"]):
            with db.engines[bind].connect() as connection:
                names = select(Customer.name).order_by(Customer.number)
                assert list(connection.scalars(names)) == expected

    print("== Example completed successfully ==")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(temporary)
