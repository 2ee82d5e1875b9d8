"""A handler beside something that the rest of the application feels."""

from sqlalchemy import event

from flask_ecotone import command_handler

from .journal import lines
from .models import Basket


@event.listens_for(Basket, "before_insert")
def inserted(mapper, connection, target) -> None:
    lines.append("inserted")


@command_handler("listening")
def listening() -> None: ...
