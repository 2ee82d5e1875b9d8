"""An application for worker processes: each message is one row."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone import event_handler

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["MAILROOM_DATABASE"]
app.config["ECOTONE_CACHE_CONFIGURATION"] = False
db = SQLAlchemy(app)
transaction = os.environ.get("MAILROOM_TRANSACTION", "message")


class Letter(db.Model):
    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    number: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.Integer)


@dataclass
class LetterCame:
    number: int
    kills: bool = False
    waits_for: str = ""


@asynchronous("letters")
@event_handler(endpoint_id="sort")
def sort(event: LetterCame) -> None:
    db.session.add(Letter(number=event.number))
    db.session.flush()
    if event.kills:
        os.kill(os.getpid(), signal.SIGKILL)
    if event.waits_for:
        # Whoever made the pipe decides how long a message takes.
        with open(event.waits_for, "rb") as pipe:
            pipe.read()


letters = DatabaseChannel(
    "letters",
    lease=1,
    max_deliveries=int(os.environ.get("MAILROOM_DELIVERIES", "4")),
    batch=10,
    transaction="batch" if transaction == "batch" else "message",
)
ecotone = Ecotone(app, channels=[letters])
