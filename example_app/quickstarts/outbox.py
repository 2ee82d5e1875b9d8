"""Background work is stored together with what a request changes, or not at all.

Run it with ``python -m example_app.quickstarts.outbox``.
"""

import logging
from dataclasses import dataclass
from datetime import timedelta
from tempfile import TemporaryDirectory

from flask import Flask
from flask import request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import func
from sqlalchemy import select
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import asynchronous
from flask_ecotone import DatabaseChannel
from flask_ecotone import delayed
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import scheduled

db = SQLAlchemy()
ecotone = Ecotone(
    packages=["example_app.quickstarts.outbox"],
    channels=[DatabaseChannel("mails")],
)
app = Flask(__name__)


class Order(db.Model):
    """An order."""

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]


class Mail(db.Model):
    """A mail that was sent."""

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


@dataclass(frozen=True)
class OrderWasPlaced:
    """Somebody ordered something."""

    item: str


@app.post("/orders")
def place_order() -> str:
    """Store an order and tell about it, as any view does: no bus, no handler."""
    item = request.form["item"]
    db.session.add(Order(item=item))
    event_bus.publish(OrderWasPlaced(item))
    if item == "unicorn":
        db.session.rollback()
        return "We are out of unicorns.\n"
    db.session.commit()
    return "Thank you.\n"


@asynchronous("mails")
@event_handler(endpoint_id="confirm")
def confirm(event: OrderWasPlaced) -> None:
    """Send a mail. It has a copy of the message that is its own."""
    db.session.add(Mail(text=f"{event.item} is on its way"))


@asynchronous("mails")
@delayed(timedelta(days=7))
@event_handler(endpoint_id="ask_for_review")
def ask_for_review(event: OrderWasPlaced) -> None:
    """Send another one, a week later."""
    db.session.add(Mail(text=f"Do you like your {event.item}?"))


@scheduled(every=timedelta(milliseconds=100), endpoint_id="report")
def report() -> None:
    """Count the orders, once for each tick however many workers there are."""
    count = db.session.scalar(select(func.count()).select_from(Order))
    db.session.add(Mail(text=f"{count} order so far"))


def mails() -> list[str]:
    """Read what was sent."""
    with app.app_context():
        return list(db.session.scalars(select(Mail.text).order_by(Mail.id)))


def flask(*arguments: str) -> str:
    """Run a command as typed at the terminal, ``flask ecotone …``."""
    result = app.test_cli_runner().invoke(args=["ecotone", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def main(folder: str) -> None:
    """Run the example on a database in *folder*."""
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{folder}/shop.db"
    db.init_app(app)
    ecotone.init_app(app)
    logging.getLogger(f"{app.name}.ecotone").setLevel(logging.ERROR)
    with app.app_context():
        ecotone.setup_database()
    browser = app.test_client()
    run = ("run", "mails", "--finish-when-no-messages")

    print("1. A request that is rolled back leaves no message")
    assert b"out of unicorns" in browser.post("/orders", data={"item": "unicorn"}).data
    flask(*run)
    assert mails() == []

    print("2. One that commits has stored a message for each handler")
    assert b"Thank you" in browser.post("/orders", data={"item": "tea"}).data
    assert mails() == []
    flask(*run)
    assert mails() == ["tea is on its way"]

    print("3. The second one waits in the database for a week")
    listed = flask("list", "--channels").splitlines()
    (row,) = [line.split() for line in listed if line.startswith("mails")]
    assert row[:5] == ["mails", "-", "0", "0", "1"], listed

    print("4. A schedule is run by a worker as well")
    flask("run", "report", "--handled-message-limit", "1")
    assert mails() == ["tea is on its way", "1 order so far"]

    print("== Example completed successfully ==")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(temporary)
