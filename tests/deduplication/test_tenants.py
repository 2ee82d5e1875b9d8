"""Each tenant has keys of its own, in a table of its own."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import deduplicated
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone.consuming import Limits


@dataclass
class Pay:
    number: str


@dataclass
class Paid:
    number: str


class House:
    """An application with two tenants that remembers who paid what."""

    def __init__(self, path: Path, channels: t.Sequence[t.Any] = ()) -> None:
        self.app = Flask("house")
        self.names = ("a", "b")
        files = {name: f"sqlite:///{path / name}.sqlite" for name in self.names}
        self.app.config.update(
            SQLALCHEMY_DATABASE_URI="sqlite://", SQLALCHEMY_BINDS=files
        )
        self.db = SQLAlchemy(self.app)
        self.paid: list[tuple[str, str]] = []
        tenants = MultiTenantConfiguration("tenant", {"a": "a", "b": "b"})
        self.ecotone = Ecotone(packages=[], extensions=[tenants], channels=channels)
        self.ecotone.init_app(self.app)

    def keys(self, name: str) -> list[str]:
        """Return the keys that are noted in a database."""
        with self.app.app_context(), self.db.engines[name].connect() as connection:
            rows = connection.execute(sa.text("SELECT key FROM ecotone_handled"))
            return sorted(key for (key,) in rows)


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A house without channels."""
    return House(tmp_path)


def test_a_key_is_new_once_for_each_tenant(house: House) -> None:
    """The note lies beside what the handler writes."""

    @deduplicated(key="payload.number", on_duplicate="return_cached")
    @command_handler
    def pay(command: Pay, headers: dict[str, t.Any]) -> str:
        house.paid.append((headers["tenant"], command.number))
        return f"{headers['tenant']} paid"

    house.ecotone.register(pay)
    with house.app.app_context():
        answers = [
            command_bus.send(Pay("1"), {"tenant": tenant}) for tenant in ("a", "b") * 2
        ]
        command_bus.send(Pay("2"), {"tenant": "b"})
    assert answers == ["a paid", "b paid"] * 2
    assert house.paid == [("a", "1"), ("b", "1"), ("b", "2")]
    assert (house.keys("a"), house.keys("b")) == (["1"], ["1", "2"])


def test_a_worker_looks_at_the_keys_of_the_tenant(tmp_path: Path) -> None:
    """Of each message that it takes."""
    house = House(tmp_path, [DatabaseChannel("receipts")])

    @asynchronous("receipts")
    @deduplicated(key="payload.number")
    @event_handler(endpoint_id="print")
    def receipt(event: Paid, headers: dict[str, t.Any]) -> None:
        house.paid.append((headers["tenant"], event.number))

    house.ecotone.register(receipt)
    with house.app.app_context():
        for tenant in ("a", "b", "a"):
            event_bus.publish(Paid("1"), {"tenant": tenant})
    messaging = house.app.extensions["ecotone"].messaging
    limits = Limits(finishes_when_empty=True)
    outcome = messaging.worker(["receipts"], limits=limits).run()
    assert (outcome.handled, outcome.failed) == (3, 0)
    assert sorted(house.paid) == [("a", "1"), ("b", "1")]
