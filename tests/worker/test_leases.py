"""Claims are extended while a worker lives."""

from __future__ import annotations

import logging
import threading
import typing as t
from collections.abc import Callable
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone.channels.protocols import ChannelStatus
from flask_ecotone.channels.protocols import Delivery
from flask_ecotone.channels.protocols import Envelope
from flask_ecotone.channels.protocols import Source
from flask_ecotone.consuming import Limits
from flask_ecotone.consuming.leases import Leases

from ..processes import until
from .sabotage import Sabotage


class Recorder:
    """A source that notes when its leases are extended."""

    channel = "letters"

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self.extended = threading.Event()

    def extend(self, deliveries: Sequence[Delivery]) -> None:
        self.extended.set()


def hold(leases: Leases, source: Recorder) -> None:
    delivery = Delivery(Envelope("e", "m", b"", "{}"), 1, "token", 1)
    leases.hold(t.cast(Source, source), [delivery])


def test_the_shortest_lease_counts() -> None:
    """Also if a longer one was held before, when its extension is far away."""
    long, short = Recorder(3600), Recorder(0.03)
    with Leases(logging.getLogger(__name__)) as leases:
        hold(leases, long)
        hold(leases, short)
        assert short.extended.wait(60)


class Slow:
    """A worker whose first message takes as long as the test wants."""

    def __init__(self, url: str, transaction: t.Literal["message", "batch"]) -> None:
        self.sabotage = Sabotage(url)
        self.app = app = Flask("slow")
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = self.sabotage.engine_options
        self.db = db = SQLAlchemy(app)
        self.is_enough: Callable[[], bool] = lambda: True

        class Row(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
            number: sa_orm.Mapped[int]

        self.row = Row

        @asynchronous("slow")
        @command_handler("write", endpoint_id="write")
        def write(number: int) -> None:
            db.session.add(Row(number=number))
            db.session.flush()
            if number == 1:
                until(self.is_enough)

        channel = DatabaseChannel("slow", lease=1, transaction=transaction)
        ecotone = Ecotone(packages=[], channels=[channel])
        ecotone.register(write)
        ecotone.init_app(app)
        with app.app_context():
            db.create_all()
            ecotone.compile()
            self.sabotage.watch(db.engine)
            for number in (1, 2, 3):
                command_bus.send_with_routing("write", number)

    def extensions(self) -> list[str]:
        """What was said to extend leases."""
        return [each for each in self.sabotage.said if is_extension(each)]


def is_extension(statement: str) -> bool:
    """Whether a statement extends leases, and does nothing else."""
    return "UPDATE ecotone_message SET due_at" in statement


@pytest.mark.parametrize("transaction", ["message", "batch"])
@pytest.mark.parametrize("server", ["postgres_url", "mariadb_url"])
def test_a_connection_that_is_lost_while_leases_are_extended_costs_nothing(
    server: str,
    transaction: t.Literal["message", "batch"],
    request: pytest.FixtureRequest,
) -> None:
    """They are extended the next time, and each message is handled once."""
    slow = Slow(request.getfixturevalue(server), transaction)
    sabotage = slow.sabotage
    slow.is_enough = lambda: len(sabotage.struck) == 2 and len(slow.extensions()) > 4

    def strikes(number: int) -> bool:
        return len(sabotage.struck) < 2 and is_extension(sabotage.said[number - 1])

    messaging = slow.app.extensions["ecotone"].messaging
    limits = Limits(finishes_when_empty=True)
    with sabotage.striking(strikes):
        messaging.worker(["slow"], limits=limits).run()
    with slow.app.app_context():
        numbers = slow.db.session.scalars(sa.select(slow.row.number)).all()
    assert sorted(numbers) == [1, 2, 3]
    assert messaging.dead_letters.count() == 0
    assert messaging.channels.get("slow").sources()[0].status() == ChannelStatus()
