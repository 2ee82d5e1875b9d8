"""An application for worker processes: each message is one row.

The environment says what it is like: its database, and how letters are handled.
"""

from __future__ import annotations

import builtins
import os
import signal
import sys
import time
from dataclasses import dataclass

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import DatabaseChannel
from flask_ecotone import delayed_retry
from flask_ecotone import Ecotone
from flask_ecotone import event_handler
from flask_ecotone.storage.tables import now_ms


def setting(name: str, default: str = "") -> str:
    return os.environ.get(f"MAILROOM_{name}") or default


if setting("CLOCK"):
    # The clock of this process is wrong by so many seconds.
    is_right = time.time
    time.time = lambda: is_right() + float(setting("CLOCK"))
    print("the clock is wrong", file=sys.stderr)

app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = setting("DATABASE")
app.config["ECOTONE_CACHE_CONFIGURATION"] = False
if setting("POOL") == "none":
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"poolclass": sa.NullPool}
elif setting("PATIENCE"):
    # Seconds that SQLite waits for a lock.
    arguments = {"timeout": float(setting("PATIENCE"))}
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": arguments}
db = SQLAlchemy(app)


class Letter(db.Model):
    id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
    number: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.Integer)
    text: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.Text)
    #: By the clock of the database.
    sorted_at: sa_orm.Mapped[int] = sa_orm.mapped_column(
        sa.BigInteger, default=now_ms()
    )


@dataclass
class LetterCame:
    number: int
    kills: bool = False
    #: The exit code of its worker.
    exits: int | None = None
    #: How many megabytes its worker keeps.
    hoards: int = 0
    waits_for: str = ""
    raises: str = ""
    says: str = "a paper jam"
    text: str = ""
    #: How many characters to store.
    length: int = 0


hoard: list[bytes] = []


@asynchronous("letters")
@delayed_retry(20, max_attempts=2)
@event_handler(endpoint_id="sort")
def sort(event: LetterCame) -> None:
    text = event.text or "x" * event.length
    db.session.add(Letter(number=event.number, text=text))
    db.session.flush()
    if event.kills:
        os.kill(os.getpid(), signal.SIGKILL)
    if event.exits is not None:
        os._exit(event.exits)
    hoard.append(b"x" * (event.hoards << 20))
    if event.waits_for:
        # Whoever made the pipe decides how long a message takes.
        with open(event.waits_for, "rb") as pipe:
            pipe.read()
    if event.raises:
        raise getattr(builtins, event.raises)(event.says)


letters = DatabaseChannel(
    "letters",
    lease=1,
    max_deliveries=int(setting("MAX_DELIVERIES", "4")),
    batch=10,
    transaction="batch" if setting("BATCH") else "message",
)
ecotone = Ecotone(app, channels=[letters])
