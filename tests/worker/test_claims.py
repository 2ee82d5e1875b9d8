"""How PostgreSQL finds the messages that a worker claims."""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import InMemoryChannel
from flask_ecotone.channels import CombinedChannel
from flask_ecotone.consuming import Limits
from flask_ecotone.storage import plans
from flask_ecotone.storage.tables import messages

from ..processes import until

ROWS = 5_000


@dataclass
class WasOrdered:
    number: int


@dataclass
class WasSent:
    number: int


def test_a_claim_does_not_sort_a_channel_taken_for_empty(postgres_url: str) -> None:
    """Messages that came after the last ANALYZE are claimed in the index's order."""
    app = Flask("claims")
    app.config["SQLALCHEMY_DATABASE_URI"] = postgres_url
    db = SQLAlchemy(app)

    @asynchronous("orders")
    @event_handler(endpoint_id="order")
    def order(event: WasOrdered) -> None:
        pass

    @asynchronous("mails")
    @event_handler(endpoint_id="mail")
    def mail(event: WasSent) -> None:
        pass

    channels = [DatabaseChannel("orders"), DatabaseChannel("mails")]
    ecotone = Ecotone(packages=[], channels=channels)
    ecotone.register(order, mail)
    ecotone.init_app(app)
    with app.app_context():
        db.create_all()
        ecotone.compile()
        _publish(db, WasSent, 60_000)
        db.session.execute(sa.text(f"ANALYZE {messages.name}"))
        db.session.commit()
        _publish(db, WasOrdered, 1_000)
        found = _explained(db.engine)

    worker = app.extensions["ecotone"].messaging.worker
    assert worker(["orders"], limits=Limits(handled=1)).run().handled == 1

    ready = [plan for plan in found if "ecotone_message_next" in plan]
    assert ready
    assert not [plan for plan in found if "Sort" in plan]


def test_plans_that_were_made_for_an_empty_queue_are_not_kept(
    postgres_url: str,
) -> None:
    """PostgreSQL plans each claim anew; the statements of others stay prepared."""
    app = Flask("claims")
    app.config["SQLALCHEMY_DATABASE_URI"] = postgres_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": 1, "max_overflow": 0}
    db = SQLAlchemy(app)
    ecotone = Ecotone(app, packages=[], channels=[DatabaseChannel("orders")])
    with app.app_context():
        db.create_all()
        ecotone.compile()
        channel = app.extensions["ecotone"].messaging.channels.get("orders")
        (source,) = channel.sources()
        for _ in range(10):
            source.recover()
            source.claim(5)
        with db.engine.connect() as connection:
            for _ in range(10):
                connection.execute(sa.text("SELECT 'of others'"))
            prepared = connection.scalars(
                sa.text("SELECT statement FROM pg_prepared_statements")
            ).all()
    assert any("of others" in statement for statement in prepared)
    assert not any(messages.name in statement for statement in prepared)


def test_what_is_only_inserted_stays_prepared(postgres_url: str) -> None:
    """There is one plan for it, whatever the table is like."""
    app = Flask("claims")
    app.config["SQLALCHEMY_DATABASE_URI"] = postgres_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"pool_size": 1, "max_overflow": 0}
    db = SQLAlchemy(app)

    @asynchronous("orders")
    @event_handler(endpoint_id="order")
    def order(event: WasOrdered) -> None:
        pass

    ecotone = Ecotone(packages=[], channels=[DatabaseChannel("orders")])
    ecotone.register(order)
    ecotone.init_app(app)
    with app.app_context():
        for number in range(10):
            event_bus.publish(WasOrdered(number))
        with db.engine.connect() as connection:
            prepared = connection.scalars(
                sa.text("SELECT statement FROM pg_prepared_statements")
            ).all()
    assert any(f"INSERT INTO {messages.name}" in each for each in prepared)


@pytest.mark.parametrize("how", ["message", "batch", "relay"])
def test_a_message_is_removed_without_a_look_at_the_others(
    postgres_url: str, how: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the statement was prepared when the queue was empty."""
    app = Flask("claims")
    app.config["SQLALCHEMY_DATABASE_URI"] = postgres_url
    db = SQLAlchemy(app)

    @asynchronous("relayed" if how == "relay" else "orders")
    @event_handler(endpoint_id="order")
    def order(event: WasOrdered) -> None:
        pass

    ecotone = Ecotone(
        packages=[],
        channels=[
            DatabaseChannel(
                "orders", batch=5, transaction="batch" if how == "batch" else "message"
            ),
            InMemoryChannel("mails"),
            CombinedChannel("relayed", ["orders", "mails"]),
        ],
    )
    ecotone.register(order)
    ecotone.init_app(app)
    with app.app_context():
        db.create_all()
        ecotone.compile()
        engine = db.engine
    worker = app.extensions["ecotone"].messaging.worker
    # As if the queue had been empty for a while, and got full within a second.
    _execute(engine, f"ALTER TABLE {messages.name} SET (autovacuum_enabled = false)")
    _execute(engine, f"VACUUM ANALYZE {messages.name}")
    for _ in range(20):
        with app.app_context():
            for number in range(5):
                event_bus.publish(WasOrdered(number))
        assert worker(["orders"], limits=Limits(handled=5)).run().handled == 5
    with app.app_context():
        _publish(db, WasOrdered, ROWS)
    _execute(engine, f"UPDATE {messages.name} SET message_id = id::text")
    monkeypatch.setattr(plans, "monotonic", lambda: time.monotonic() + 1)
    assert worker(["orders"], limits=Limits(handled=20)).run().handled == 20
    # The update of the test has read them once.
    assert _rows_read(engine) < 2 * ROWS


def _execute(engine: sa.Engine, statement: str) -> None:
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.exec_driver_sql(statement)


def _rows_read(engine: sa.Engine) -> int:
    """Return how many rows of the queue were read without an index."""
    # Its connections tell that when they end.
    engine.dispose()
    others = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    found = sa.text(
        "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = :name"
    )
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        until(lambda: connection.exec_driver_sql(others).scalar() == 0)
        return int(connection.scalar(found, {"name": messages.name}) or 0)


def _publish(db: SQLAlchemy, event: type, count: int) -> None:
    """Publish an event, and have many copies of the message."""
    event_bus.publish(event(0))
    copied = [each for each in messages.c if each.name != "id"]
    numbers = sa.func.generate_series(2, count).table_valued("number")
    newest = sa.select(sa.func.max(messages.c.id)).scalar_subquery()
    copies = sa.select(*copied).select_from(messages.join(numbers, sa.true()))
    db.session.execute(
        sa.insert(messages).from_select(copied, copies.where(messages.c.id == newest))
    )
    db.session.commit()


def _explained(engine: sa.Engine) -> list[str]:
    """Return a list that gets the plan of each claim from now on."""
    found: list[str] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def explain(
        connection: t.Any,
        cursor: t.Any,
        statement: str,
        parameters: t.Any,
        context: t.Any,
        many: bool,
    ) -> None:
        if "SKIP LOCKED" in statement and "RETURNING" in statement:
            cursor.execute(f"EXPLAIN {statement}", parameters)
            found.append("\n".join(line for (line,) in cursor.fetchall()))

    return found
