"""Messages that nobody would send who means well."""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path

import pytest
import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import delayed_retry
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone.channels.protocols import Envelope
from flask_ecotone.consuming import Limits

from .shop import OrderWasPlaced
from .shop import Shop

_TYPE = f"{OrderWasPlaced.__module__}:{OrderWasPlaced.__qualname__}"
_HOSTILE: list[t.Any] = [
    "",
    "null",
    "[]",
    '"routingSlip"',
    "{",
    {"__TypeId__": 5},
    {"__TypeId__": ["x"]},
    {"__TypeId__": ""},
    {"__TypeId__": ":"},
    {"__TypeId__": "x" * 100_000},
    {"__TypeId__": "\0"},
    {"__TypeId__": "\ud800"},
    {"__TypeId__": "builtins:type"},
    {"__TypeId__": "builtins:exec"},
    {"__TypeId__": "subprocess:Popen"},
    {"__TypeId__": "x:y", "routingSlip": ["nowhere"]},
    {"__TypeId__": "x:y", "routingSlip": [["x"]]},
    {"__TypeId__": "x:y", "routingSlip": [5]},
    {"__TypeId__": "x:y", "routingSlip": {}},
    {"__TypeId__": "x:y", "routingSlip": "orders"},
    {"__TypeId__": "x:y", "ecotone_retry_number": 10**30},
    {"__TypeId__": "x:y", "ecotone_retry_number": -5},
    {"__TypeId__": "x:y", "ecotone_retry_number": True},
    {"__TypeId__": "x:y", "ecotone_retry_number": 2**31 - 1},
    {"__TypeId__": "x:y", "ecotone.first_failed_at": 10**30},
    {"__TypeId__": "x:y", "ecotone.dlq.message_replied": 10**30},
    {"__TypeId__": "x:y", "ecotone.dlq.message_replied": "\0"},
    {"__TypeId__": "x:y", "ecotone.bus": ["a"]},
    {"__TypeId__": "x:y", "id": 5, "correlationId": {}, "timestamp": "now"},
    {"__TypeId__": "x:y", "huge": "x" * 2_000_000},
    {"__TypeId__": "x:y", "\0": "\0"},
]


@pytest.fixture(params=["message", "batch"])
def shop(database_url: str, request: pytest.FixtureRequest) -> Shop:
    """A shop whose worker handles messages one by one, or several together."""
    return Shop(database_url, lease=30, transaction=request.param)


def send(shop: Shop, *headers: t.Any) -> None:
    """Put messages into the channel, and behind them one that is well."""
    written = [h if isinstance(h, str) else json.dumps(h) for h in headers]
    with shop.app.app_context():
        shop.messaging.channels.get("orders").send(
            [Envelope("mail", f"m{n}", b"{}", each) for n, each in enumerate(written)]
        )
        shop.db.session.commit()
        event_bus.publish(OrderWasPlaced(2))


def test_whatever_headers_say_the_worker_goes_on(shop: Shop) -> None:
    """Each of the messages is parked, or waits for a release that knows its channel."""
    send(shop, *_HOSTILE)
    outcome = shop.work()
    assert outcome.reason == "no messages"
    assert shop.effects() == [("mail", 2), ("pack", 2)]
    status = shop.source().status()
    assert (status.ready, status.in_flight) == (0, 0)
    letters = shop.messaging.dead_letters.list(100)
    assert len(letters) + status.delayed == len(_HOSTILE)
    assert status.delayed == 1  # on its way to a channel that isn't there


def test_a_message_has_no_module_imported_that_is_not_of_the_application(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading it runs no code; what its endpoint doesn't take is refused, too."""
    (tmp_path / "foreign_module.py").write_text("class Order:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    loaded = f"{Path.__module__}:PurePath"
    send(shop, {"__TypeId__": "foreign_module:Order"}, {"__TypeId__": loaded})
    shop.work()
    assert "foreign_module" not in sys.modules
    said = {each.error_message for each in shop.messaging.dead_letters.list()}
    assert len(said) == 2
    assert any("only modules of the application" in each for each in said)
    assert any("its endpoint takes OrderWasPlaced" in each for each in said)


def test_an_error_that_no_database_can_store_is_parked(shop: Shop) -> None:
    """What can't be stored of its text is replaced; it isn't tried for ever."""
    shop.errors["pack"] = ValueError("a\0b")
    send(shop)
    shop.work()
    (parked,) = shop.messaging.dead_letters.list()
    assert parked.error_message == "a\ufffdb"
    assert shop.source().status().in_flight == 0


def test_what_a_message_says_is_not_taken_for_an_outage(database_url: str) -> None:
    """Its value is part of the error of the database, and means nothing there."""
    app = Flask("guests")
    app.config["SQLALCHEMY_DATABASE_URI"] = database_url
    db = SQLAlchemy(app)

    class Guest(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
        name: sa_orm.Mapped[str] = sa_orm.mapped_column(
            sa.String(100), primary_key=True
        )

    @asynchronous("guests")
    @delayed_retry(0, max_attempts=1)
    @command_handler("greet", endpoint_id="greet")
    def greet(name: str) -> None:
        db.session.add(Guest(name=name))

    ecotone = Ecotone(packages=[], channels=[DatabaseChannel("guests")])
    ecotone.register(greet)
    ecotone.init_app(app)
    names = ["database is locked", "disk I/O error", "Got error 28 (database is full)"]
    with app.app_context():
        db.create_all()
        for name in [*names, *names]:
            command_bus.send_with_routing("greet", name)
    messaging = app.extensions["ecotone"].messaging
    limits = Limits(finishes_when_empty=True, execution_time=30)
    outcome = messaging.worker(["guests"], limits=limits).run()
    assert outcome.reason == "no messages"
    assert outcome.handled == len(names)
    letters = messaging.dead_letters.list()
    assert len(letters) == len(names)
    assert {each.error_class for each in letters} == {"sqlalchemy.exc.IntegrityError"}
