"""The same identifier in two databases is two aggregates.

Run it with ``python -m example_app.quickstarts.tenant_aggregate``.
"""

from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Self

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import aggregate
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import event_handler
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import WithEvents
from flask_ecotone.errors import AggregateNotFoundError

db = SQLAlchemy()
ecotone = Ecotone(
    packages=["example_app.quickstarts.tenant_aggregate"],
    extensions=[
        MultiTenantConfiguration("tenant", {"tenant_a": "first", "tenant_b": "second"})
    ],
)


@dataclass(frozen=True)
class OpenAccount:
    """Begin with nothing."""

    number: int
    owner: str


@dataclass(frozen=True)
class Deposit:
    """Pay something in."""

    number: int
    amount: int


@dataclass(frozen=True)
class MoneyWasDeposited:
    """Something was paid in."""

    number: int
    amount: int


@dataclass(frozen=True)
class GetBalance:
    """Ask how much there is."""

    number: int


@aggregate
class Account(WithEvents, db.Model):
    """Some money of somebody. There is nothing about tenants here."""

    number: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    balance: Mapped[int] = mapped_column(default=0)

    @command_handler
    @classmethod
    def open(cls, command: OpenAccount) -> Self:
        """Create the account."""
        return cls(number=command.number, owner=command.owner)

    @command_handler
    def deposit(self, command: Deposit) -> None:
        """Add to it."""
        self.balance += command.amount
        self.record_that(MoneyWasDeposited(self.number, command.amount))

    @query_handler
    def describe(self, query: GetBalance) -> str:
        """Say whose it is and how much."""
        return f"{self.owner}: {self.balance}"


class Entry(db.Model):
    """One line of the journal."""

    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[int]
    amount: Mapped[int]


@event_handler
def note(event: MoneyWasDeposited) -> None:
    """Keep the journal."""
    db.session.add(Entry(number=event.number, amount=event.amount))


@query_handler("journal")
def read_journal() -> list[int]:
    """List what was paid in."""
    return [entry.amount for entry in db.session.query(Entry).order_by(Entry.id)]


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

        print("1. Both tenants open account number 1")
        assert command_bus.send(OpenAccount(1, "Alice"), tenant_a) == 1
        assert command_bus.send(OpenAccount(1, "Bob"), tenant_b) == 1

        print("2. Pay into it: each command loads the account of its tenant")
        command_bus.send(Deposit(1, 100), tenant_a)
        command_bus.send(Deposit(1, 30), tenant_b)
        command_bus.send(Deposit(1, 5), tenant_a)

        print("3. Each tenant has its own balance and its own journal")
        assert query_bus.send(GetBalance(1), tenant_a) == "Alice: 105"
        assert query_bus.send(GetBalance(1), tenant_b) == "Bob: 30"
        assert query_bus.send_with_routing("journal", metadata=tenant_a) == [100, 5]
        assert query_bus.send_with_routing("journal", metadata=tenant_b) == [30]

        print("4. An account that only one tenant has is not there for the other")
        command_bus.send(OpenAccount(2, "Carol"), tenant_b)
        try:
            command_bus.send(Deposit(2, 1), tenant_a)
        except AggregateNotFoundError as error:
            print(f"   {error}")
        else:
            raise AssertionError("paid into an account of somebody else")

    print("== Example completed successfully ==")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(temporary)
