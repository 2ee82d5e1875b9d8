"""A town whose parishes are tenants, with asynchronous handlers."""

from __future__ import annotations

import json
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.pool import NullPool

from flask_ecotone import asynchronous
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import delayed_retry
from flask_ecotone import Ecotone
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import Header
from flask_ecotone import InMemoryChannel
from flask_ecotone import Message
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import on_tenant_activation
from flask_ecotone import on_tenant_deactivation
from flask_ecotone import TenantConnection
from flask_ecotone.channels import CombinedChannel
from flask_ecotone.channels.protocols import Envelope
from flask_ecotone.consuming import Limits
from flask_ecotone.consuming import Outcome
from flask_ecotone.consuming import Stopping

from .. import processes

A, B = {"tenant": "a"}, {"tenant": "b"}
BINDS = {"a": "bind_a", "b": "bind_b"}
until = partial(processes.until, patience=60.0)


@dataclass
class Baptise:
    name: str
    fails: bool = False


@dataclass
class WasBaptised:
    name: str


@dataclass
class BellRang:
    name: str


@dataclass
class Send:
    name: str


def envelope(id: str, **headers: str) -> Envelope:
    """Return a message for a letter to Ann, as it lies in a channel."""
    kind = f"{WasBaptised.__module__}:{WasBaptised.__qualname__}"
    text = json.dumps({"id": id, "__TypeId__": kind, **headers})
    return Envelope("write", id, b'{"name": "Ann"}', text)


class Town:
    """An application whose handlers write into the book of the parish.

    :param urls: Bind key → URL; ``None`` → that of the default database.
    :param registered: More that is marked.
    """

    def __init__(
        self,
        urls: dict[str | None, str],
        configuration: MultiTenantConfiguration | None = None,
        *,
        creates: bool = True,
        registered: Sequence[t.Any] = (),
        **options: t.Any,
    ) -> None:
        self.urls = urls
        self.app = app = Flask("town")
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        app.config["SQLALCHEMY_BINDS"] = {k: url for k, url in urls.items() if k}
        if None in urls:
            app.config["SQLALCHEMY_DATABASE_URI"] = urls[None]
        self.db = SQLAlchemy(app)
        #: What handlers do besides writing, by the name in the message.
        self.acts: dict[str, Callable[[], object]] = {}
        #: What happened, in its order.
        self.seen: list[tuple[str, str | None, str]] = []
        self._define()
        channels = [
            DatabaseChannel("bells", **options),
            DatabaseChannel("letters", **options),
            DatabaseChannel("outbox", **options),
            InMemoryChannel("carrier"),
            CombinedChannel("parcels", ["outbox", "carrier"]),
        ]
        configuration = configuration or MultiTenantConfiguration("tenant", BINDS)
        self.ecotone = Ecotone(
            packages=[], channels=channels, extensions=[configuration]
        )
        self.ecotone.register(*self._handlers(), *registered)
        self.ecotone.init_app(app)
        with app.app_context():
            self.ecotone.compile()
        if creates:
            self.create(*urls)

    def _define(self) -> None:
        db = self.db

        class Entry(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
            text: sa_orm.Mapped[str] = sa_orm.mapped_column(sa.String(99))

        self.entry = Entry

    def _handlers(self) -> list[t.Any]:
        db, entry = self.db, self.entry

        def write(kind: str, name: str, message: Message) -> None:
            self.seen.append((kind, message.headers.get("tenant"), name))
            db.session.add(entry(text=f"{kind} {name}"))
            db.session.flush()
            if name in self.acts:
                self.acts[name]()

        @command_handler
        def baptise(command: Baptise, bus: EventBus) -> None:
            db.session.add(entry(text=f"baptism {command.name}"))
            bus.publish(WasBaptised(command.name))
            if command.fails:
                raise ValueError("no water")

        @asynchronous("letters")
        @delayed_retry(0, max_attempts=1)
        @event_handler(endpoint_id="write")
        def congratulate(
            event: WasBaptised,
            message: Message,
            bus: EventBus,
            connection: t.Annotated[sa.Connection, TenantConnection()],
        ) -> None:
            assert connection is db.session.connection()
            write("letter", event.name, message)
            if event.name.startswith("loud"):
                bus.publish(BellRang(event.name))

        @asynchronous("bells")
        @event_handler(endpoint_id="ring")
        def ring(event: BellRang, message: Message) -> None:
            write("bell", event.name, message)

        @asynchronous("parcels")
        @command_handler(endpoint_id="send")
        def send(command: Send, message: Message) -> None:
            write("parcel", command.name, message)

        @on_tenant_activation
        def begin(tenant: t.Annotated[str, Header("tenant")]) -> None:
            self.seen.append(("begin", tenant, ""))

        @on_tenant_deactivation
        def end(tenant: t.Annotated[str, Header("tenant")]) -> None:
            self.seen.append(("end", tenant, ""))

        return [baptise, congratulate, ring, send, begin, end]

    def create(self, *binds: str | None) -> None:
        """Create the tables, on connections of their own."""
        for bind in binds:
            engine = sa.create_engine(self.urls[bind], poolclass=NullPool)
            self.db.metadatas[None].create_all(engine)

    @property
    def messaging(self) -> t.Any:
        """The channels and workers of the application."""
        return self.app.extensions["ecotone"].messaging

    def baptise(self, tenant: str | None, *names: str, fails: bool = False) -> None:
        """Send a command for each name."""
        headers = {} if tenant is None else {"tenant": tenant}
        with self.app.app_context():
            for name in names:
                self.ecotone.command_bus.send(Baptise(name, fails), headers)

    def flood(self, tenant: str, count: int, endpoint: str = "write") -> None:
        """Put a lot of messages into the channel of an endpoint."""
        event = WasBaptised if endpoint == "write" else BellRang
        kind = f"{event.__module__}:{event.__qualname__}"
        envelopes = []
        for number in range(count):
            headers = {"id": f"{tenant}-{number}", "__TypeId__": kind, "tenant": tenant}
            body = json.dumps({"name": str(number)}).encode()
            text = json.dumps(headers)
            envelopes.append(Envelope(endpoint, headers["id"], body, text))
        channel = "letters" if endpoint == "write" else "bells"
        self.insert(tenant, channel, *envelopes)

    def insert(self, tenant: str, channel: str, *envelopes: Envelope) -> None:
        """Put messages into a channel as they are."""
        engine = self.messaging._databases.engine(tenant)
        with engine.begin() as connection:
            self.messaging.channels.get(channel).insert(connection, envelopes)

    def worker(self, *names: str, **options: t.Any) -> t.Any:
        """Return a worker of channels, of both if none is named."""
        return self.messaging.worker(names or ("bells", "letters"), **options)

    def work(self, *names: str, **limits: t.Any) -> Outcome:
        """Let a worker empty channels, within limits."""
        limits.setdefault("finishes_when_empty", True)
        return t.cast(Outcome, self.worker(*names, limits=Limits(**limits)).run())

    @contextmanager
    def working(self, *names: str, threads: int = 1) -> Iterator[None]:
        """Let workers run in threads meanwhile."""
        stopping, failures = Stopping(), list[BaseException]()

        def run() -> None:
            try:
                self.worker(*names, stopping=stopping, poll_interval=0.02).run()
            except BaseException as error:
                failures.append(error)

        running = [threading.Thread(target=run) for _ in range(threads)]
        for thread in running:
            thread.start()
        try:
            yield
        finally:
            stopping.request()
            for thread in running:
                thread.join()
            if failures:
                raise failures[0]

    def book(self, bind: str | None) -> list[str]:
        """What is written in a database, read on a connection of its own."""
        return [
            text for (text,) in self.rows(bind, "SELECT text FROM entry ORDER BY id")
        ]

    def queued(self, bind: str | None) -> list[str]:
        """The endpoints of the messages that lie in a database."""
        query = "SELECT endpoint_id FROM ecotone_message ORDER BY id"
        return [endpoint for (endpoint,) in self.rows(bind, query)]

    def rows(self, bind: str | None, query: str) -> list[tuple[t.Any, ...]]:
        """The rows of a query, on a connection of its own."""
        engine = sa.create_engine(self.urls[bind], poolclass=NullPool)
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(sa.text(query))]

    def handled(self, kind: str = "letter") -> list[tuple[str | None, str]]:
        """Tenant and name of what handlers were called with, in their order."""
        return [(tenant, name) for what, tenant, name in self.seen if what == kind]
