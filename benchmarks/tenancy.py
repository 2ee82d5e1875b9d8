"""What it costs that a command is for a tenant.

The command of :mod:`benchmarks.model_command`, on the same row of the same database:
in an application that has one database, and in one where a header names the tenant. In
both the bind is the only one that is used, and an app context is made for each command.
"""

from __future__ import annotations

import typing as t
from collections.abc import Callable

import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import aggregate
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration

from .measuring import calling
from .measuring import compare
from .measuring import Subject
from .measuring import verdict
from .model_command import create_ecotone_app
from .model_command import create_plain_app
from .model_command import on_postgresql
from .model_command import sqlite

_WITHOUT = "command on a model"
_WITH = "command of a tenant"


def create_tenant_app(url: str) -> tuple[Flask, Callable[[], None]]:
    """Return an application with a tenant, the same aggregate and the work in it."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_BINDS"] = {"bind_a": url}
    db = SQLAlchemy()
    db.init_app(app)

    @aggregate
    class Account(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
        __tablename__ = "account"
        id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
        owner: sa_orm.Mapped[str]
        balance: sa_orm.Mapped[int]

        @command_handler("account.deposit")
        def deposit(self) -> None:
            """Change the row."""
            self.balance += 1

    tenants = MultiTenantConfiguration("tenant", {"tenant_a": "bind_a"})
    ecotone = Ecotone(packages=[], extensions=[tenants])
    ecotone.register(Account)
    ecotone.init_app(app)

    def work() -> None:
        with app.app_context():
            command_bus.send_with_routing(
                "account.deposit", metadata={"aggregate.id": 1, "tenant": "tenant_a"}
            )

    return app, work


def main() -> None:
    """Print the figures."""
    with sqlite() as url:
        _report("SQLite", url)
    on_postgresql(lambda url: _report("PostgreSQL", url))


def _report(title: str, url: str) -> None:
    plain, _ = create_plain_app(url)  # makes the table and its row
    without, without_work = create_ecotone_app(url)
    with_tenant, with_work = create_tenant_app(url)
    works = {_WITHOUT: without_work, _WITH: with_work}
    subjects: dict[str, Subject] = {name: calling(work) for name, work in works.items()}
    for subject in subjects.values():
        subject(200)
    found = compare(subjects, _WITHOUT, rounds=1500, count=3)
    for app in (plain, without, with_tenant):
        _dispose(app)
    found.show(f"A command on a row, {title}")
    print()
    verdict(f"{_WITH}, {title}", (found.ratio(_WITH) - 1) * 100, 3, "% over none")


def _dispose(app: Flask) -> None:
    with app.app_context():
        for engine in t.cast(SQLAlchemy, app.extensions["sqlalchemy"]).engines.values():
            engine.dispose()


if __name__ == "__main__":
    main()
