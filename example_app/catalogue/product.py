"""The product aggregate, the only place that changes stock."""

from typing import Self

from sqlalchemy import CheckConstraint
from sqlalchemy import String
from sqlalchemy import Text
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import aggregate
from flask_ecotone import command_handler
from flask_ecotone import query_handler

from ..extensions import db
from .messages import AddProduct
from .messages import GetProduct
from .messages import OutOfStock
from .messages import ProductDetails
from .messages import ReserveStock
from .messages import Restock


@aggregate
class Product(db.Model):
    """Something to sell. Its version number lets one of two racing buyers win."""

    product_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    kind: Mapped[str] = mapped_column(String(80))
    summary: Mapped[str] = mapped_column(String(160))
    description: Mapped[str] = mapped_column(Text)
    picture: Mapped[str] = mapped_column(String(20))
    price: Mapped[int]
    stock: Mapped[int] = mapped_column(CheckConstraint("stock >= 0"))
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}

    @command_handler
    @classmethod
    def add(cls, command: AddProduct) -> Self:
        """Create the product; the command bus answers with its identifier."""
        return cls(
            product_id=command.product_id,
            name=command.name,
            kind=command.kind,
            summary=command.summary,
            description=command.description,
            picture=command.picture,
            price=command.price,
            stock=command.stock,
        )

    @command_handler
    def reserve(self, command: ReserveStock) -> None:
        """Set some aside. The exception undoes the whole command behind it."""
        if command.quantity > self.stock:
            raise OutOfStock(self.name, self.stock)
        self.stock -= command.quantity

    @command_handler
    def restock(self, command: Restock) -> None:
        """Put some on the shelf."""
        self.stock += command.quantity

    @query_handler
    def details(self, query: GetProduct) -> ProductDetails:
        """Describe the product; a model never leaves its context."""
        return self.describe()

    def describe(self) -> ProductDetails:
        """Copy the product into the plain object that pages and messages get."""
        return ProductDetails(
            product_id=self.product_id,
            name=self.name,
            kind=self.kind,
            summary=self.summary,
            description=self.description,
            picture=self.picture,
            price=self.price,
            stock=self.stock,
        )
