"""A warehouse whose messages lie in a database of their own."""

from __future__ import annotations

import json
import os
import signal
import typing as t
from collections.abc import Callable
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
from flask_ecotone import without_transaction
from flask_ecotone.channels import CombinedChannel
from flask_ecotone.channels import DynamicChannel
from flask_ecotone.consuming import Limits
from flask_ecotone.consuming import Outcome
from flask_ecotone.storage.tables import messages
from flask_ecotone.storage.tables import WAITING


@dataclass
class Order:
    item: str


@dataclass
class WasOrdered:
    item: str


@dataclass
class WasPacked:
    item: str


@dataclass
class Pack:
    item: str


@dataclass
class Count:
    item: str


@dataclass
class Return:
    item: str


@dataclass
class Ship:
    item: str


class Warehouse:
    """An application that writes into one database and queues in another.

    :param url: The database of the application.
    :param queues: That of its channel ``parcels``, by the bind ``queues``.
    :param binds: Further binds.
    """

    def __init__(
        self, url: str | None, queues: str, *, extensions: t.Any = (), **binds: str
    ) -> None:
        self.app = app = Flask("warehouse")
        if url is not None:
            app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["SQLALCHEMY_BINDS"] = {"queues": queues, **binds}
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.db = SQLAlchemy(app)
        #: What handlers do besides writing.
        self.act: Callable[[], object] = lambda: None
        self._define()
        self.ecotone = Ecotone(
            packages=[],
            channels=[
                DatabaseChannel("parcels", bind="queues", lease=1),
                DatabaseChannel("near", lease=1),
                DatabaseChannel("batched", transaction="batch", lease=1),
                CombinedChannel("far", ["near", "parcels"]),
                CombinedChannel("back", ["parcels", "near"]),
                DynamicChannel.round_robin("either", ["near", "parcels"]),
            ],
            extensions=extensions,
        )
        self.ecotone.register(*self._handlers())
        self.ecotone.init_app(app)
        with app.app_context():
            self.engines = dict(self.db.engines)
            self.ecotone.compile()
            if url is not None:
                self.db.create_all()

    def _define(self) -> None:
        db = self.db

        class Entry(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
            text: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(99))

        self.entry = Entry

    def write(self, text: str) -> None:
        """Write an entry, as handlers do."""
        self.db.session.add(self.entry(text=text))
        self.db.session.flush()

    def _handlers(self) -> list[t.Any]:
        @command_handler
        def order(command: Order, bus: EventBus) -> None:
            self.write(f"order {command.item}")
            bus.publish(WasOrdered(command.item))
            self.act()

        @asynchronous("parcels")
        @delayed_retry(0, max_attempts=1)
        @event_handler(endpoint_id="pick")
        def pick(event: WasOrdered) -> None:
            self.write(f"pick {event.item}")
            self.act()

        @asynchronous("batched")
        @command_handler(endpoint_id="pack")
        def pack(command: Pack, bus: EventBus) -> None:
            self.write(f"pack {command.item}")
            bus.publish(WasOrdered(command.item))

        @asynchronous("parcels")
        @without_transaction
        @command_handler(endpoint_id="count")
        def count(command: Count) -> None:
            self.write(f"count {command.item}")
            self.db.session.commit()

        @asynchronous("far")
        @command_handler(endpoint_id="ship")
        def ship(command: Ship) -> None:
            self.write(f"ship {command.item}")

        @asynchronous("back")
        @command_handler(endpoint_id="return")
        def take_back(command: Return) -> None:
            self.write(f"return {command.item}")

        @asynchronous("either")
        @event_handler(endpoint_id="label")
        def label(event: WasPacked) -> None:
            self.write(f"label {event.item}")

        return [order, pick, pack, count, ship, take_back, label]

    @property
    def messaging(self) -> t.Any:
        """The channels and workers of the application."""
        return self.app.extensions["ecotone"].messaging

    def send(self, *commands: t.Any, **headers: t.Any) -> None:
        """Send commands."""
        with self.app.app_context():
            for command in commands:
                self.ecotone.command_bus.send(command, headers)

    def work(self, *names: str) -> Outcome:
        """Let a worker empty channels."""
        limits = Limits(finishes_when_empty=True)
        worker = self.messaging.worker(names or ("parcels",), limits=limits)
        return t.cast(Outcome, worker.run())

    def command(self, *arguments: str) -> str:
        """Run a command of ``flask ecotone``."""
        result = self.app.test_cli_runner().invoke(args=["ecotone", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    def parked(self, *arguments: str) -> list[dict[str, t.Any]]:
        """The dead letters, as the command lists them."""
        text = self.command("deadletter", "list", "--json", *arguments)
        return t.cast("list[dict[str, t.Any]]", json.loads(text))

    def die_at(self, bind: str | None, words: str) -> Callable[[], None]:
        """Have the process die at a statement with some words; return the end of it."""

        def strike(connection: t.Any, cursor: t.Any, text: str, *_: t.Any) -> None:
            if words in text:
                os.kill(os.getpid(), signal.SIGKILL)

        engine = self.engines[bind]
        sa.event.listen(engine, "before_cursor_execute", strike)
        return lambda: sa.event.remove(engine, "before_cursor_execute", strike)

    def work_and_die(self, bind: str | None, words: str) -> None:
        """Let a worker in a process of its own die at a statement."""
        for engine in self.engines.values():
            engine.dispose()
        child = os.fork()
        if not child:
            try:
                self.die_at(bind, words)
                self.work("parcels", "near")
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL

    def let_time_pass(self) -> None:
        """Make everything due that waits, for whatever reason."""
        for engine in self.engines.values():
            with engine.begin() as connection:
                waiting = sa.update(messages).where(messages.c.state == WAITING)
                connection.execute(waiting.values(due_at=0))

    def book(self, bind: str | None = None) -> list[str]:
        """What is written in a database."""
        return self._column(bind, sa.select(self.entry.text).order_by(self.entry.id))

    def queued(self, bind: str | None = "queues") -> list[str]:
        """The endpoints of the messages that lie in a database."""
        return self._column(
            bind, sa.select(messages.c.endpoint_id).order_by(messages.c.id)
        )

    def _column(self, bind: str | None, query: t.Any) -> list[str]:
        with self.engines[bind].connect() as connection:
            return list(connection.scalars(query))
