"""An aggregate, with a relationship to a model that only the scan imports."""

from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from sqlalchemy.orm import relationship

from flask_ecotone import aggregate
from flask_ecotone import command_handler
from flask_ecotone import query_handler

from . import db


@aggregate
class Basket(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    items: Mapped[list["Item"]] = relationship()  # noqa: F821

    @command_handler("basket.take")
    @classmethod
    def take(cls, owner: str) -> "Basket":
        return cls(owner=owner)

    @query_handler("basket.owner")
    def whose(self) -> str:
        return f"{self.owner}: {len(self.items)} items"
