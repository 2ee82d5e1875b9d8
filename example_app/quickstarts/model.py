"""A model is an aggregate: commands change it, queries ask it.

Run it with ``python -m example_app.quickstarts.model``.
"""

from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Protocol
from typing import Self

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import aggregate
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import repository_method
from flask_ecotone import sql_query

db = SQLAlchemy()
ecotone = Ecotone(packages=["example_app.quickstarts.model"])


@dataclass(frozen=True)
class RegisterProduct:
    """Offer something new."""

    name: str
    price: int


@aggregate
class Product(db.Model):
    """Something to sell."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[int]

    @command_handler
    @classmethod
    def register(cls, command: RegisterProduct) -> Self:
        """Create the product; the bus answers with its identifier."""
        return cls(name=command.name, price=command.price)

    @command_handler("product.change_price")
    def change_price(self, price: int) -> None:
        """Ask for another price from now on."""
        self.price = price

    @query_handler("product.get_price")
    def get_price(self) -> int:
        """Say what it costs."""
        return self.price


class Products(Protocol):
    """Loads and saves products. The annotations say which of the two."""

    @repository_method
    def get_by(self, id: int) -> Product: ...

    @repository_method
    def find_by(self, id: int) -> Product | None: ...

    @repository_method
    def save(self, product: Product) -> None: ...


@dataclass(frozen=True)
class Row:
    """One line of the price list."""

    id: int
    name: str
    price: int


class PriceList(Protocol):
    """SQL without an implementation."""

    @sql_query("SELECT id, name, price FROM product ORDER BY id")
    def all(self) -> list[Row]: ...


def main(folder: str) -> None:
    """Run the example on a database in *folder*."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{folder}/products.db"
    db.init_app(app)
    ecotone.init_app(app)

    with app.app_context():
        db.create_all()

        print("1. Register a product: the database gives it an identifier")
        milk = command_bus.send(RegisterProduct("Milk", 100))
        assert isinstance(milk, int)
        this = {"aggregate.id": milk}

        print("2. Change its price: the bus loads it, calls it and saves it")
        command_bus.send_with_routing("product.change_price", 200, metadata=this)

        print("3. Ask for the price")
        assert query_bus.send_with_routing("product.get_price", metadata=this) == 200

        print("4. Load it with a repository, and look for one that is not there")
        products = ecotone.get(Products)
        product = products.get_by(milk)
        assert product.name == "Milk"
        assert products.find_by(999_999) is None

        print("5. Change it by hand and save it, and a new one too")
        product.price = 250
        products.save(product)
        products.save(Product(name="Honey", price=700))
        db.session.commit()

        print("6. List all products with SQL")
        assert ecotone.get(PriceList).all() == [
            Row(milk, "Milk", 250),
            Row(milk + 1, "Honey", 700),
        ]

    print("== Example completed successfully ==")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(temporary)
