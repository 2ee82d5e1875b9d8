"""An application with tenants on databases of their own, seen from outside as well."""

from __future__ import annotations

import logging
import typing as t
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from sqlalchemy.pool import NullPool

from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_handler
from flask_ecotone.tenancy import ConnectionFactory

A = {"tenant": "tenant_a"}
B = {"tenant": "tenant_b"}
MAPPING = {"tenant_a": "bind_a", "tenant_b": "bind_b"}


@dataclass(frozen=True)
class Register:
    """Register a customer."""

    id: int
    name: str


class House:
    """An application whose tenants A and B have a database each.

    :param binds: Bind key → URL.
    :param default: The URL of ``SQLALCHEMY_DATABASE_URI``, if there is to be one.
    :param style: How handlers use the database: ``"orm"`` or ``"core"``.
    """

    def __init__(
        self,
        binds: dict[str, str],
        default: str | None = None,
        *,
        style: str = "orm",
        configuration: MultiTenantConfiguration | None = None,
        **config: t.Any,
    ) -> None:
        self.binds, self.default, self.style = binds, default, style
        self.db = SQLAlchemy()
        self._define()
        self.app = Flask("house")
        self.app.config["SQLALCHEMY_BINDS"] = dict(binds)
        if default is not None:
            self.app.config["SQLALCHEMY_DATABASE_URI"] = default
        self.app.config.update(config)
        self.db.init_app(self.app)
        extensions = [configuration or MultiTenantConfiguration("tenant", MAPPING)]
        if "ECOTONE_TENANTS" in config:
            extensions = []
        self.ecotone = Ecotone(self.app, packages=[], extensions=extensions)
        self.create(*binds.values(), *filter(None, [default]))
        self.handlers()

    def _define(self) -> None:
        db = self.db

        class Customer(db.Model):
            __tablename__ = "customers"

            id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
            name: Mapped[str] = mapped_column(sa.String(50), unique=True)
            orders: Mapped[list[Order]] = db.relationship(order_by="Order.id")

        class Order(db.Model):
            __tablename__ = "orders"

            id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
            customer_id: Mapped[int] = mapped_column(sa.ForeignKey("customers.id"))
            what: Mapped[str] = mapped_column(sa.String(50))

        globals()["Order"] = Order
        self.Customer, self.Order = Customer, Order
        self.customers = Customer.__table__

    def create(self, *urls: str) -> None:
        """Create the tables that follow the tenant, on connections of their own."""
        for url in urls:
            engine = sa.create_engine(url, poolclass=NullPool)
            self.db.metadatas[None].create_all(engine)

    def handlers(self) -> None:
        """Register a command that writes a customer, and a query for the names."""

        @command_handler
        def register(command: Register) -> None:
            self.write(command.id, command.name)
            if command.name == "bad":
                self.db.session.flush()
                raise ValueError("bad")

        @query_handler("names")
        def names() -> list[str]:
            return self.names()

        self.ecotone.register(register, names)

    def write(self, id: int, name: str) -> None:
        """Add a customer to the session of the current context."""
        session = self.db.session
        if self.style == "orm":
            session.add(self.Customer(id=id, name=name))
        else:
            session.execute(sa.insert(self.customers).values(id=id, name=name))

    def names(self) -> list[str]:
        """Return the names that the session of the current context sees."""
        if self.style == "orm":
            query = sa.select(self.Customer).order_by(self.Customer.id)
            return [customer.name for customer in self.db.session.scalars(query)]
        table = self.customers
        found = self.db.session.execute(sa.select(table.c.name).order_by(table.c.id))
        return list(found.scalars())

    def stored(self, where: str) -> list[tuple[int, str]]:
        """Return the committed customers, read on a connection of its own.

        :param where: A bind key, or ``"default"``.
        """
        url = self.default if where == "default" else self.binds[where]
        return stored(t.cast(str, url))

    @property
    def everything(self) -> dict[str, list[tuple[int, str]]]:
        """The committed customers of all databases."""
        places = [*self.binds, *(["default"] if self.default else [])]
        return {place: self.stored(place) for place in places}

    @property
    def connections(self) -> ConnectionFactory:
        """The connection factory of the application."""
        return self.ecotone.get(ConnectionFactory)

    @property
    def in_use(self) -> int:
        """How many connections are taken out of the pools."""
        with self.app.app_context():
            pools = [engine.pool for engine in self.db.engines.values()]
        return sum(t.cast(sa.pool.QueuePool, pool).checkedout() for pool in pools)

    @property
    def sessions(self) -> list[t.Any]:
        """The scopes that have a session."""
        return list(self.db.session.registry.registry)

    def check_clean(self) -> None:
        """See that nothing is left behind: no connection, no session."""
        assert self.in_use == 0
        assert self.sessions == []


def stored(url: str, table: str = "customers") -> list[tuple[int, str]]:
    """Return the committed rows of a table, read on a connection of its own."""
    engine = sa.create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        found = connection.execute(sa.text(f"SELECT id, name FROM {table} ORDER BY id"))
        return [(row.id, row.name) for row in found]


@contextmanager
def logged(name: str) -> Iterator[list[logging.LogRecord]]:
    """Collect what a logger is told, whatever the level."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger(name)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
