"""A shop with asynchronous handlers, made anew for each test."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import delayed_retry
from flask_ecotone import Ecotone
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import Message
from flask_ecotone import without_transaction
from flask_ecotone.channels.protocols import Source
from flask_ecotone.consuming import Limits
from flask_ecotone.consuming import Outcome


@dataclass
class PlaceOrder:
    number: int
    fails: bool = False


@dataclass
class OrderWasPlaced:
    number: int


@dataclass
class Ring:
    text: str


class Shop:
    """An application whose handlers write what they did into a table."""

    def __init__(self, url: str, **options: t.Any) -> None:
        self.app = app = Flask("shop")
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.db = db = SQLAlchemy(app)
        #: What handlers are to raise, by the name of the handler.
        self.errors: dict[str, BaseException] = {}
        #: The messages that came, by the name of the handler.
        self.seen: list[tuple[str, Message]] = []

        class Effect(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
            name: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(50))
            number: sa_orm.Mapped[int]

        self.effect = Effect

        def act(name: str, number: int, message: Message) -> None:
            self.seen.append((name, message))
            db.session.add(Effect(name=name, number=number))
            db.session.flush()
            if name in self.errors:
                raise self.errors[name]

        @command_handler
        def place(command: PlaceOrder, bus: EventBus) -> None:
            db.session.add(Effect(name="order", number=command.number))
            bus.publish(OrderWasPlaced(command.number))
            if command.fails:
                raise ValueError("out of stock")

        @asynchronous("orders")
        @event_handler(endpoint_id="mail")
        def mail(event: OrderWasPlaced, message: Message) -> None:
            act("mail", event.number, message)

        @asynchronous("orders")
        @delayed_retry(0, max_attempts=2)
        @event_handler(endpoint_id="pack")
        def pack(event: OrderWasPlaced, message: Message) -> None:
            act("pack", event.number, message)

        @asynchronous("bell")
        @without_transaction
        @command_handler("ring", endpoint_id="ring")
        def ring(command: Ring, message: Message) -> None:
            self.seen.append((command.text, message))

        channels = [DatabaseChannel("orders", **options), DatabaseChannel("bell")]
        self.ecotone = Ecotone(packages=[], channels=channels)
        self.ecotone.register(place, mail, pack, ring)
        self.ecotone.init_app(app)
        with app.app_context():
            db.create_all()
            self.ecotone.compile()

    @property
    def messaging(self) -> t.Any:
        """The channels and workers of the application."""
        return self.app.extensions["ecotone"].messaging

    def source(self, channel: str = "orders") -> Source:
        """Where a worker takes messages from."""
        return t.cast(Source, self.messaging.channels.get(channel).sources()[0])

    def work(self, *names: str, **limits: t.Any) -> Outcome:
        """Let a worker empty channels."""
        worker = self.messaging.worker(
            names or ("orders",), limits=Limits(finishes_when_empty=True, **limits)
        )
        return t.cast(Outcome, worker.run())

    def effects(self) -> list[tuple[str, int]]:
        """What is in the table, read on a connection of its own."""
        with self.app.app_context(), self.db.engine.connect() as connection:
            rows = connection.execute(sa.select(self.effect.name, self.effect.number))
            return sorted((name, number) for name, number in rows)
