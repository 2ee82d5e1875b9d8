"""An application with two tenants for worker processes: each message is one row."""

from __future__ import annotations

import os
from dataclasses import dataclass

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone import event_handler
from flask_ecotone import MultiTenantConfiguration

app = Flask(__name__)
app.config["SQLALCHEMY_BINDS"] = {
    "bind_a": os.environ["PARISH_A"],
    "bind_b": os.environ["PARISH_B"],
}
app.config["ECOTONE_CACHE_CONFIGURATION"] = False
db = SQLAlchemy(app)


class Letter(db.Model):
    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    number: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.Integer)


@dataclass
class LetterCame:
    number: int


@asynchronous("letters")
@event_handler(endpoint_id="sort")
def sort(event: LetterCame) -> None:
    db.session.add(Letter(number=event.number))


ecotone = Ecotone(
    app,
    channels=[DatabaseChannel("letters", lease=1, batch=10)],
    extensions=[MultiTenantConfiguration("tenant", {"a": "bind_a", "b": "bind_b"})],
)
