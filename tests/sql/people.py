"""An application with one table, and what its interfaces return."""

from __future__ import annotations

import datetime
import enum
import typing as t
import uuid
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa
import sqlalchemy.dialects.mysql
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import Ecotone
from flask_ecotone import sql_query
from flask_ecotone import sql_write


class Role(enum.Enum):
    ADMIN = "admin"
    GUEST = "guest"


@dataclass(frozen=True)
class Person:
    id: int
    name: str


class People(t.Protocol):
    @sql_write("INSERT INTO person (id, name) VALUES (:id, :name)")
    def add(self, id: int, name: str) -> None: ...

    @sql_query("SELECT id, name FROM person ORDER BY id")
    def all(self) -> list[Person]: ...

    @sql_query("SELECT name FROM person ORDER BY id")
    def names(self) -> list[str]: ...

    @sql_query("SELECT COUNT(*) FROM person")
    def count(self) -> int: ...


ADA_TOKEN = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
ADA_SEEN = datetime.datetime(2024, 2, 29, 12, 30, 15, 250000)
ADA_BORN = datetime.date(1815, 12, 10)
ADA_BALANCE = Decimal("12.50")


class Application:
    """A Flask application with a table of people."""

    def __init__(
        self,
        url: str,
        *registered: t.Any,
        binds: dict[str, str] | None = None,
        services: dict[t.Any, t.Any] | None = None,
        extensions: t.Iterable[t.Any] = (),
    ) -> None:
        self.app = Flask("tests.sql.people")
        self.app.config["SQLALCHEMY_DATABASE_URI"] = url
        self.app.config["SQLALCHEMY_BINDS"] = binds or {}
        self.db = SQLAlchemy()
        self.table = self._table(None)
        for key in binds or {}:
            self._table(key)
        self.db.init_app(self.app)
        self.ecotone = Ecotone(packages=[], services=services, extensions=extensions)
        self.ecotone.register(*registered)
        self.ecotone.init_app(self.app)

    def _table(self, bind: str | None) -> sa.Table:
        return self.db.Table(
            "person",
            sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("name", sa.String(200)),
            sa.Column("role", sa.String(20)),
            sa.Column("is_active", sa.Boolean),
            sa.Column("born", sa.Date),
            sa.Column("seen", sa.DateTime().with_variant(_MYSQL_DATETIME, "mysql")),
            sa.Column("balance", sa.Numeric(12, 2)),
            sa.Column("score", sa.Float),
            sa.Column("token", sa.Uuid),
            sa.Column("tags", sa.JSON),
            bind_key=bind,
        )

    def fill(self, **ada: t.Any) -> None:
        """Store Ada, with every column, and two others."""
        first = dict(
            id=1,
            name="Ada",
            role="admin",
            is_active=True,
            born=ADA_BORN,
            seen=ADA_SEEN,
            balance=ADA_BALANCE,
            score=1.5,
            token=ADA_TOKEN,
            tags=["maths", "poetry"],
        )
        insert = sa.insert(self.table)
        with self.db.engine.begin() as connection:
            connection.execute(insert, {**first, **ada})
            connection.execute(insert, [{"id": 2, "name": "Bob"}])
            connection.execute(insert, [{"id": 3, "name": "Cy"}])

    @property
    def in_use(self) -> int:
        """How many connections are taken out of the pools."""
        pools = [engine.pool for engine in self.db.engines.values()]
        return sum(t.cast(sa.pool.QueuePool, pool).checkedout() for pool in pools)

    def rows(self, bind: str | None = None) -> list[tuple[t.Any, ...]]:
        """Return id and name of all people, read on a connection of its own."""
        select = sa.text("SELECT id, name FROM person ORDER BY id")
        with self.db.engines[bind].connect() as connection:
            return [tuple(row) for row in connection.execute(select)]


_MYSQL_DATETIME = sa.dialects.mysql.DATETIME(fsp=6)
