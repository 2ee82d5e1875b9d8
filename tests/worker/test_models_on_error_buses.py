"""Models as aggregates behind a command bus that says what becomes of failures."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import aggregate
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone import error_channel
from flask_ecotone.consuming import Limits


@dataclass
class OpenAccount:
    id: int


@dataclass
class Deposit:
    id: int
    amount: int


@error_channel("dead_letter")
class Parking(CommandBus):
    """What fails becomes a dead letter."""


@error_channel("later")
class Later(CommandBus):
    """What fails is left to a worker."""


class Bank:
    """An application with accounts, which can be closed."""

    def __init__(self, url: str) -> None:
        self.is_closed = False
        self.app = app = Flask("bank")
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.db = db = SQLAlchemy(app)
        bank = self

        @aggregate
        class Account(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
            balance: sa_orm.Mapped[int]

            @classmethod
            @command_handler(endpoint_id="open")
            def open(cls, command: OpenAccount) -> Account:
                return cls(id=command.id, balance=0)

            @command_handler(endpoint_id="deposit")
            def deposit(self, command: Deposit) -> None:
                self.balance += command.amount
                if bank.is_closed:
                    raise ValueError("closed")

        self.account = Account
        self.ecotone = Ecotone(packages=[], channels=[DatabaseChannel("later")])
        self.ecotone.register(Account, Parking, Later)
        self.ecotone.init_app(app)
        with app.app_context():
            db.create_all()
            self.ecotone.compile()

    def send(self, bus: t.Any, command: t.Any) -> t.Any:
        """Send a command in a context of its own."""
        with self.app.app_context():
            return self.ecotone.get(bus).send(command)

    @property
    def messaging(self) -> t.Any:
        """The channels and workers of the application."""
        return self.app.extensions["ecotone"].messaging

    def balance(self) -> int:
        """What the first account has."""
        with self.app.app_context():
            return t.cast(int, self.db.session.get(self.account, 1).balance)


def test_what_failed_is_done_to_the_model_as_it_is_then(database_url: str) -> None:
    """It is loaded anew, and what can't work stays a dead letter."""
    bank = Bank(database_url)
    assert bank.send(Parking, OpenAccount(1)) == 1
    assert bank.send(Parking, OpenAccount(1)) is None
    bank.is_closed = True
    assert bank.send(Parking, Deposit(1, 5)) is None
    assert bank.send(Later, Deposit(1, 7)) is None
    assert bank.send(Parking, Deposit(99, 1)) is None
    assert bank.balance() == 0
    bank.is_closed = False
    letters = bank.messaging.dead_letters
    with bank.app.app_context():
        assert letters.replay_all() == 1
        left = {(each.endpoint_id, each.attempts) for each in letters.list()}
    assert left == {("open", 2), ("deposit", 2)}
    assert bank.balance() == 5
    limits = Limits(finishes_when_empty=True)
    bank.messaging.worker(["later"], limits=limits).run()
    assert bank.balance() == 12


def test_a_bus_of_two_applications_keeps_them_apart(tmp_path: Path) -> None:
    """What failed in one is a dead letter of that one, and is handled there."""
    banks = [Bank(f"sqlite:///{tmp_path / name}.sqlite") for name in "ab"]
    for bank in banks:
        bank.send(Parking, OpenAccount(1))
    first, second = banks
    second.is_closed = True
    for bank in banks:
        bank.send(Parking, Deposit(1, 5))
    assert [bank.messaging.dead_letters.count() for bank in banks] == [0, 1]
    second.is_closed = False
    with first.app.app_context():
        assert second.messaging.dead_letters.replay_all() == 1
    assert [bank.balance() for bank in banks] == [5, 5]
