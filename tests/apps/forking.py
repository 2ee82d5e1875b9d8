"""A program that uses its database, and is forked then.

Each process sends messages and handles some. It says what was handled in the end.
"""

from __future__ import annotations

import os
import sys

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone.consuming import Limits

_CHILDREN = 3
_SHARE = 20

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = sys.argv[1]
app.config["ECOTONE_CACHE_CONFIGURATION"] = False
db = SQLAlchemy(app)


class Row(db.Model):
    number: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)


@asynchronous("rows")
@command_handler("write", endpoint_id="write")
def write(number: int) -> None:
    db.session.add(Row(number=number))


ecotone = Ecotone(app, packages=[], channels=[DatabaseChannel("rows", batch=5)])
ecotone.register(write)


def send(share: int) -> None:
    """Send the messages of one process."""
    with app.app_context():
        for number in range(share * _SHARE + 1, (share + 1) * _SHARE + 1):
            command_bus.send_with_routing("write", number)


def work() -> None:
    """Handle what there is."""
    messaging = app.extensions["ecotone"].messaging
    messaging.worker(["rows"], limits=Limits(finishes_when_empty=True)).run()


with app.app_context():
    db.create_all()
send(0)
children = []
for share in range(1, _CHILDREN + 1):
    child = os.fork()
    if not child:
        send(share)
        work()
        os._exit(0)
    children.append(child)
codes = [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in children]
work()
with app.app_context():
    numbers = sorted(db.session.scalars(sa.select(Row.number)))
print(codes, numbers == list(range(1, (_CHILDREN + 1) * _SHARE + 1)))
