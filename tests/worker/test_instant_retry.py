"""What failed in passing is tried again at once by a worker."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
import sqlalchemy.orm as sa_orm
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import aggregate
from flask_ecotone import asynchronous
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone import instant_retry
from flask_ecotone import without_transaction
from flask_ecotone.consuming import Limits
from flask_ecotone.consuming import Outcome
from flask_ecotone.errors import ConcurrencyError
from flask_ecotone.errors import UnitOfWorkError

Mode = t.Literal["message", "batch"]


@dataclass
class Deposit:
    id: int
    amount: int


class Bank:
    """An account whose balance somebody else changes meanwhile, a number of times."""

    def __init__(
        self, url: str, *marks: t.Any, mode: Mode = "message", **config: t.Any
    ) -> None:
        self.app = app = Flask("bank")
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        app.config.update(config)
        self.db = db = SQLAlchemy(app)
        #: How often the handler ran, and how many more times it loses a race.
        self.attempts = self.races = 0
        self.error: Exception | None = None

        @aggregate
        class Account(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
            id: sa_orm.Mapped[int] = sa_orm.mapped_column(primary_key=True)
            balance: sa_orm.Mapped[int]
            version: sa_orm.Mapped[int] = sa_orm.mapped_column(sa.Integer)
            __mapper_args__ = {"version_id_col": version}

        self.account = Account

        def deposit(command: Deposit) -> None:
            self.attempts += 1
            account = db.session.get(Account, command.id)
            assert account is not None
            account.balance += command.amount
            if self.races:
                self.races -= 1
                self._interfere()
            if self.error is not None:
                raise self.error

        for mark in (*marks, asynchronous("deposits")):
            deposit = mark(deposit)
        deposit = command_handler(endpoint_id="deposit")(deposit)
        channel = DatabaseChannel("deposits", transaction=mode)
        self.ecotone = Ecotone(packages=[], channels=[channel])
        self.ecotone.register(Account, deposit)
        self.ecotone.init_app(app)
        with app.app_context():
            db.create_all()
            db.session.add(Account(id=1, balance=0, version=1))
            db.session.commit()
        self.send()

    def _interfere(self) -> None:
        # What another worker would have committed before this one writes.
        account = self.account
        connection = self.db.session.connection()
        connection.execute(sa.update(account).values(version=account.version + 1))

    def send(self) -> None:
        with self.app.app_context():
            self.ecotone.command_bus.send(Deposit(1, 10))

    def work(self, count: int = 1) -> Outcome:
        messaging = self.app.extensions["ecotone"].messaging
        limits = Limits(handled=count)
        return t.cast(Outcome, messaging.worker(["deposits"], limits=limits).run())

    @property
    def balance(self) -> int:
        with self.app.app_context(), self.db.engine.connect() as connection:
            return connection.scalars(sa.select(self.account.balance)).one()


def test_a_lost_race_is_run_again(database_url: str) -> None:
    """The aggregate is loaded anew, and the message counts as handled."""
    bank = Bank(database_url)
    bank.races = 3
    outcome = bank.work()
    assert (outcome.handled, outcome.failed) == (1, 0)
    assert (bank.attempts, bank.balance) == (4, 10)


def test_a_lost_race_in_a_batch_is_run_again_alone(database_url: str) -> None:
    """Outside of the batch, where the row is read anew; the others are handled."""
    bank = Bank(database_url, mode="batch")
    for _ in range(2):
        bank.send()
    bank.races = 3
    outcome = bank.work(3)
    assert (outcome.handled, outcome.failed) == (3, 0)
    assert bank.balance == 30


def test_a_race_that_is_lost_again_and_again_is_a_failure(sqlite_url: str) -> None:
    """After three more attempts it is left to the delayed retry."""
    bank = Bank(sqlite_url)
    bank.races = 99
    assert bank.work().failed == 1
    assert (bank.attempts, bank.balance) == (4, 0)


@pytest.mark.parametrize(
    ("mark", "attempts"),
    [
        (instant_retry(1), 2),
        (instant_retry(5), 6),
        (instant_retry(5, exceptions=ConcurrencyError), 6),
        (instant_retry(5, exceptions=KeyError), 4),
        (instant_retry(5, except_for=ConcurrencyError), 1),
        (instant_retry(5, except_for=KeyError), 6),
    ],
)
def test_the_handler_has_the_last_word(
    sqlite_url: str, mark: t.Any, attempts: int
) -> None:
    """What its marker is about is tried as often as that says, and not more."""
    bank = Bank(sqlite_url, mark)
    bank.races = 99
    assert bank.work().failed == 1
    assert bank.attempts == attempts


def test_the_application_says_how_often(sqlite_url: str) -> None:
    """ECOTONE_INSTANT_RETRIES concerns every error, this one included."""
    bank = Bank(sqlite_url, ECOTONE_INSTANT_RETRIES=1)
    bank.races = 99
    assert bank.work().failed == 1
    assert bank.attempts == 2


def test_other_errors_are_no_matter_of_luck(sqlite_url: str) -> None:
    """What a second attempt meets again isn't tried again at once."""
    bank = Bank(sqlite_url)
    bank.error = ValueError("no money")
    assert bank.work().failed == 1
    assert bank.attempts == 1


def test_a_lost_race_that_was_swallowed_is_run_again(sqlite_url: str) -> None:
    """The unit of work finds out, and names the race as the cause."""
    bank = Bank(sqlite_url)
    bank.error = UnitOfWorkError("nothing was stored")
    bank.error.__cause__ = ConcurrencyError("changed")
    assert bank.work().failed == 1
    assert bank.attempts == 4


def test_a_handler_without_transaction_gets_a_new_session(sqlite_url: str) -> None:
    """What the failed attempt left in its session is gone."""
    bank = Bank(sqlite_url, without_transaction)
    bank.error = ConcurrencyError("changed")
    assert bank.work().failed == 1
    assert (bank.attempts, bank.balance) == (4, 0)
