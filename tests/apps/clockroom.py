"""An application for worker processes: each tick of its schedule is one row."""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import Ecotone
from flask_ecotone import Message
from flask_ecotone import scheduled
from flask_ecotone.message import DUE_AT

if "CLOCKROOM_CLOCK" in os.environ:
    # The clock of this process is wrong by so many seconds.
    is_right = time.time
    time.time = lambda: is_right() + float(os.environ["CLOCKROOM_CLOCK"])
    print("the clock is wrong", file=sys.stderr)

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["CLOCKROOM_DATABASE"]
app.config["ECOTONE_CACHE_CONFIGURATION"] = False
db = SQLAlchemy(app)

#: While it is there, a firing writes its process into ``…/fired_by`` and waits for it.
PIPE = Path(os.environ["CLOCKROOM_DIRECTORY"], "pipe")


class Stroke(db.Model):
    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    second: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.BigInteger)


@scheduled(every=timedelta(seconds=1), endpoint_id="strike", misfire="all")
def strike(message: Message) -> None:
    second = int(message.headers[DUE_AT].timestamp())
    db.session.add(Stroke(second=second))
    db.session.flush()
    if "CLOCKROOM_BROKEN" in os.environ:
        raise ValueError("no hammer")
    if PIPE.exists():
        PIPE.with_name("fired_by").write_text(f"{os.getpid()} {second}")
        with open(PIPE, "rb") as pipe:
            pipe.read()


ecotone = Ecotone(app, packages=[])
ecotone.register(strike)
