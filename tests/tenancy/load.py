"""Many tenants at once: a program that mixes what an application does with them.

Workers send commands, queries, failing commands, nested messages and use nested app
contexts, for one tenant after the other. Every handler looks for what doesn't belong
to its tenant: rows, objects of the session, headers.
"""

from __future__ import annotations

import logging
import random
import threading
import typing as t
from contextlib import AbstractContextManager
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from sqlalchemy.pool import NullPool

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import current_message
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import Header
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import query_handler

TENANTS = 20
WORKERS = 8

Tenant = t.Annotated[str, Header("tenant")]
Marker = t.Annotated[str, Header("marker")]


@dataclass(frozen=True)
class Add:
    name: str
    fails: bool = False
    depth: int = 0


@dataclass(frozen=True)
class Added:
    name: str


class Lines(logging.Handler):
    """Keeps the lines about tenants, for each thread or greenlet."""

    def __init__(self) -> None:
        super().__init__()
        self.by_worker: dict[int, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        if "activating tenant" in line.lower():
            self.by_worker.setdefault(threading.get_ident(), []).append(line)


class Load:
    """An application with twenty tenants, and the workers that use them.

    :param folder: Where the databases are.
    :param dispatches: How many messages are sent in all.
    :param pause: Called inside of handlers, where another worker may come in.
    :param alone: Makes what one writer of a tenant at a time may hold, where waiting
        for a database would stop all workers.
    """

    def __init__(
        self,
        folder: Path,
        dispatches: int,
        pause: t.Callable[[], t.Any],
        alone: t.Callable[[], AbstractContextManager[t.Any]],
    ) -> None:
        self.trap = folder / "trap.sqlite"
        self.urls = {
            f"tenant-{n}": f"sqlite:///{folder / f'tenant-{n}.sqlite'}"
            for n in range(TENANTS)
        }
        self.count = dispatches // WORKERS
        self.pause = pause
        self.alone = {name: alone() for name in self.urls}
        self.expected: dict[str, set[str]] = {name: set() for name in self.urls}
        self.sent: dict[int, list[str]] = {}
        self.dispatched = 0
        self.failures: list[BaseException] = []
        self._lock = threading.Lock()
        self.db = SQLAlchemy()
        self.app = Flask("load")
        self.app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{self.trap}"
        self.app.config["SQLALCHEMY_BINDS"] = {
            # A file that nobody needs after a crash; and patience.
            name: {"url": url, "connect_args": {"timeout": 60}}
            for name, url in self.urls.items()
        }
        self.db.init_app(self.app)
        tenants = MultiTenantConfiguration("tenant", {n: n for n in self.urls})
        self.ecotone = Ecotone(self.app, packages=[], extensions=[tenants])
        self._define()
        with self.app.app_context():
            for name in self.urls:
                engine = self.db.engines[name]
                sa.event.listen(engine, "connect", _hasten)
                self.db.metadatas[None].create_all(engine)
            self.ecotone.compile()

    def _define(self) -> None:
        db, load = self.db, self

        class Note(db.Model):
            id: Mapped[int] = mapped_column(primary_key=True)
            tenant: Mapped[str]
            name: Mapped[str]

        def look(tenant: str, marker: str) -> None:
            header = current_message.header
            assert (header("tenant"), header("marker")) == (tenant, marker)
            for note in db.session.identity_map.values():
                assert note.tenant == tenant

        @command_handler
        def add(command: Add, tenant: Tenant, marker: Marker) -> None:
            look(tenant, marker)
            # The same key in each database, and so in each session.
            first = db.session.get(Note, 1)
            assert first is None or first.tenant == tenant
            db.session.add(Note(tenant=tenant, name=command.name))
            db.session.flush()
            load.pause()
            look(tenant, marker)
            if command.depth:
                with load.app.app_context():
                    assert not db.session.identity_map.values()
                    load.send(Add(f"{command.name}'", depth=command.depth - 1))
                load.query(tenant)
            event_bus.publish(Added(command.name))
            if command.fails:
                raise ValueError(command.name)

        @event_handler
        def on(event: Added, tenant: Tenant, marker: Marker) -> None:
            look(tenant, marker)
            load.pause()

        @query_handler("names")
        def names(tenant: Tenant, marker: Marker) -> list[tuple[str, str]]:
            look(tenant, marker)
            last = sa.select(Note).order_by(Note.id.desc()).limit(20)
            found = db.session.scalars(last).all()
            load.pause()
            table = Note.__table__
            text = sa.text("SELECT DISTINCT tenant FROM note")
            assert set(db.session.scalars(text)) <= {tenant}
            assert set(db.session.scalars(sa.select(table.c.tenant))) <= {tenant}
            look(tenant, marker)
            return [(note.tenant, note.name) for note in found]

        self.ecotone.register(add, on, names)

    def send(self, command: Add, metadata: dict[str, t.Any] | None = None) -> None:
        """Send a command, and count it."""
        self.dispatched += 1
        command_bus.send(command, metadata)

    def query(self, tenant: str, metadata: dict[str, t.Any] | None = None) -> None:
        """Ask for names, which must be those of the tenant."""
        self.dispatched += 1
        found = query_bus.send_with_routing("names", metadata=metadata)
        assert {each for each, _ in found} <= {tenant}

    def work(self, worker: int) -> None:
        """Be one of the workers."""
        try:
            chosen = random.Random(worker)
            sent = self.sent.setdefault(threading.get_ident(), [])
            turn = dispatches = 0
            while dispatches < self.count:
                turn += 1
                tenant = f"tenant-{chosen.randrange(TENANTS)}"
                kind = chosen.choice(["add", "add", "query", "query", "fail", "nest"])
                metadata = {"tenant": tenant, "marker": f"{worker}-{turn}"}
                name = f"{tenant}/{worker}-{turn}"
                sent.append(tenant)
                with self.app.app_context():
                    dispatches += self._turn(kind, tenant, name, metadata)
        except BaseException as error:
            self.failures.append(error)

    def _turn(
        self, kind: str, tenant: str, name: str, metadata: dict[str, t.Any]
    ) -> int:
        if kind == "query":
            self.query(tenant, metadata)
            return 1
        if kind == "fail":
            try:
                with self.alone[tenant]:
                    self.send(Add(name, fails=True, depth=1), metadata)
            except ValueError as error:
                assert str(error) == name
            return 3
        with self.alone[tenant]:
            self.send(Add(name, depth=2 if kind == "nest" else 0), metadata)
        written = [name, f"{name}'", f"{name}''"] if kind == "nest" else [name]
        with self._lock:
            self.expected[tenant].update(written)
        return 5 if kind == "nest" else 1

    def check(self, lines: Lines) -> None:
        """See that nothing crossed and nothing is left."""
        assert self.failures == []
        assert set(lines.by_worker) == set(self.sent)
        for worker, tenants in self.sent.items():
            assert lines.by_worker[worker] == [
                f"{verb} tenant `{tenant}` on connection `{tenant}`"
                for tenant in tenants
                for verb in ("Activating", "Deactivating")
            ]
        for tenant, url in self.urls.items():
            engine = sa.create_engine(url, poolclass=NullPool)
            with engine.connect() as connection:
                rows = connection.execute(sa.text("SELECT tenant, name FROM note"))
                found = [tuple(row) for row in rows]
            assert sorted(found) == sorted((tenant, n) for n in self.expected[tenant])
        assert self.db.session.registry.registry == {}
        with self.app.app_context():
            for engine in self.db.engines.values():
                assert t.cast(sa.QueuePool, engine.pool).checkedout() == 0
                engine.dispose()
        # It was never even opened.
        assert not self.trap.exists()


def _hasten(connection: t.Any, record: t.Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def run(
    folder: Path,
    dispatches: int,
    together: t.Callable[[list[t.Callable[[], None]]], t.Any],
    pause: t.Callable[[], t.Any] = lambda: None,
    alone: t.Callable[[], AbstractContextManager[t.Any]] = nullcontext,
) -> int:
    """Run the workers and return how many messages they sent."""
    load, lines = Load(folder, dispatches, pause, alone), Lines()
    logger = logging.getLogger("load.ecotone")
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        together([partial(load.work, number) for number in range(WORKERS)])
    finally:
        logger.removeHandler(lines)
    load.check(lines)
    return load.dispatched
