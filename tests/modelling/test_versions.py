"""Versions of aggregates, and what happens when two change one at once."""

from __future__ import annotations

import json
import threading
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import aggregate
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Identifier
from flask_ecotone import TargetVersion
from flask_ecotone import Version
from flask_ecotone.errors import ConcurrencyError
from flask_ecotone.errors import ModellingError
from flask_ecotone.testing import flow_testing

from .apps import application

db = SQLAlchemy()


@dataclass
class Deposit:
    """A command that names the version it was decided on."""

    account_id: t.Any
    amount: int
    expected: t.Annotated[int | None, TargetVersion()] = None


@aggregate
@dataclass
class Wallet:
    """A plain aggregate with a version."""

    account_id: t.Annotated[str, Identifier()]
    amount: int = 0
    version: t.Annotated[int, Version()] = 0

    @command_handler("wallet.open")
    @classmethod
    def open(cls, name: str) -> t.Self:
        return cls(name)

    @command_handler
    def deposit(self, command: Deposit) -> int:
        self.amount += command.amount
        return self.amount

    @command_handler("wallet.deposit")
    def deposit_named(self, command: Deposit) -> int:
        return self.deposit(command)


@aggregate
@dataclass
class Purse:
    """A plain aggregate that counts for itself."""

    name: t.Annotated[str, Identifier()]
    version: t.Annotated[int, Version(auto_increase=False)] = 10

    @command_handler("purse.open")
    @classmethod
    def open(cls, name: str) -> t.Self:
        return cls(name)

    @command_handler("purse.use")
    def use(self) -> None:
        self.version += 10


def test_a_new_aggregate_has_version_one_and_each_action_counts_up() -> None:
    """The version is part of the aggregate's state."""
    flow = flow_testing([Wallet])
    flow.send_command_with_routing("wallet.open", "w")
    assert flow.aggregate(Wallet, "w").version == 1
    flow.send_command(Deposit("w", 5)).send_command(Deposit("w", 5))
    assert flow.aggregate(Wallet, "w").version == 3


def test_the_expected_version_of_a_command_is_compared() -> None:
    """A command decided on an older version is refused, None asks for nothing."""
    flow = flow_testing([Wallet]).with_state_for(Wallet("w", 0, 4))
    flow.send_command(Deposit("w", 1, expected=4)).send_command(Deposit("w", 1))
    with pytest.raises(ConcurrencyError, match="expected version 4 of Wallet, .* at 6"):
        flow.send_command(Deposit("w", 1, expected=4))
    assert flow.aggregate(Wallet, "w").amount == 2


@pytest.mark.parametrize("media_type", [None, "application/json"])
def test_the_expected_version_counts_in_every_form_of_payload(
    media_type: str | None,
) -> None:
    """Dicts and JSON become the command, whose marker applies."""
    flow = flow_testing([Wallet]).with_state_for(Wallet("w", 0, 4))
    payload: t.Any = {"account_id": "w", "amount": 1, "expected": 3}
    if media_type is not None:
        payload = json.dumps(payload)
    with pytest.raises(ConcurrencyError, match="expected version 3"):
        flow.send_command_with_routing("wallet.deposit", payload, media_type=media_type)


def test_an_expected_version_of_an_aggregate_without_one_is_an_error() -> None:
    """Nothing could be compared, so it isn't ignored."""

    @aggregate
    @dataclass
    class Jar:
        account_id: t.Annotated[str, Identifier()]

        @command_handler
        def deposit(self, command: Deposit) -> None: ...

    flow = flow_testing([Jar]).with_state_for(Jar("j"))
    flow.send_command(Deposit("j", 1))
    with pytest.raises(ModellingError, match=r"Jar, which has no version.*Version\(\)"):
        flow.send_command(Deposit("j", 1, expected=1))


def test_an_aggregate_may_count_for_itself() -> None:
    """With auto_increase=False the version is what the aggregate makes of it."""
    flow = flow_testing([Purse])
    flow.send_command_with_routing("purse.open", "p")
    assert flow.aggregate(Purse, "p").version == 10
    flow.send_command_with_routing("purse.use", metadata={"aggregate.id": "p"})
    assert flow.aggregate(Purse, "p").version == 20


def test_a_stale_plain_aggregate_is_refused_in_memory() -> None:
    """A command inside a command changed it first."""

    @aggregate
    @dataclass
    class Nested:
        account_id: t.Annotated[str, Identifier()]
        version: t.Annotated[int, Version()] = 0

        @command_handler("nested.outer")
        def outer(self) -> None:
            flow.send_command_with_routing(
                "nested.inner", metadata={"aggregate.id": "n"}
            )

        @command_handler("nested.inner")
        def inner(self) -> None: ...

    flow = flow_testing([Nested]).with_state_for(Nested("n", 3))
    with pytest.raises(ConcurrencyError, match="at version 4, not 3"):
        flow.send_command_with_routing("nested.outer", metadata={"aggregate.id": "n"})


class Money:
    """What the models below share."""

    amount: Mapped[int] = mapped_column(default=0)

    def add(self, command: Deposit) -> int:
        self.amount += command.amount
        return self.amount


@aggregate
class Account(Money, db.Model):
    """A model whose version Ecotone counts."""

    id: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[t.Annotated[int, Version()]] = mapped_column(default=0)

    @command_handler("account.open")
    @classmethod
    def open(cls, amount: int) -> t.Self:
        return cls(amount=amount)

    @command_handler("account.deposit", identifier_mapping={"id": "payload.account_id"})
    def deposit(self, command: Deposit) -> int:
        return self.add(command)

    @command_handler("account.persist")
    @classmethod
    def persist(cls, amount: int) -> t.Self:
        account = cls(amount=amount)
        db.session.add(account)
        db.session.flush()
        return account

    @command_handler("account.first")
    @classmethod
    def first(cls, amount: int) -> t.Self:
        account = db.session.scalars(sa.select(cls)).one()
        account.amount = amount
        return account


@aggregate
class Counted(Money, db.Model):
    """A model whose version SQLAlchemy counts."""

    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column()
    __mapper_args__: t.ClassVar[t.Any] = {"version_id_col": version_id}

    @command_handler("counted.open")
    @classmethod
    def open(cls, amount: int) -> t.Self:
        return cls(amount=amount)

    @command_handler("counted.deposit", identifier_mapping={"id": "payload.account_id"})
    def deposit(self, command: Deposit) -> int:
        return self.add(command)


@aggregate
class Ledger(Money, db.Model):
    """A model that counts for itself."""

    id: Mapped[int] = mapped_column(primary_key=True)
    edition: Mapped[t.Annotated[int, Version(auto_increase=False)]] = mapped_column(
        default=1
    )

    @command_handler("ledger.open")
    @classmethod
    def open(cls, amount: int) -> t.Self:
        return cls(amount=amount)

    @command_handler("ledger.deposit", identifier_mapping={"id": "payload.account_id"})
    def deposit(self, command: Deposit) -> int:
        self.edition += 5
        if command.amount < 0:
            db.session.scalars(sa.select(Ledger)).all()
        return self.add(command)


MODELS: t.Final = [Account, Counted, Ledger]
CASES: t.Final = pytest.mark.parametrize(
    ("model", "name"), [(Account, "account"), (Counted, "counted"), (Ledger, "ledger")]
)


def version_of(model: t.Any, key: t.Any) -> int:
    """Read the stored version with nothing in the identity map."""
    db.session.expunge_all()
    stored = db.session.get(model, key)
    for name in ("version", "version_id", "edition"):
        if hasattr(stored, name):
            return t.cast(int, getattr(stored, name))
    raise LookupError(model)


@CASES
def test_the_version_of_a_model_counts_up(
    database_url: str, model: t.Any, name: str
) -> None:
    """Whoever counts: each change is a new version, and the expected one counts."""
    app, _ = application(database_url, db, MODELS)
    send = command_bus.send_with_routing
    with app.app_context():
        key = send(f"{name}.open", 10)
        first = version_of(model, key)
        assert send(f"{name}.deposit", Deposit(key, 5, expected=first)) == 15
        second = version_of(model, key)
        assert second > first
        with pytest.raises(ConcurrencyError, match=f"expected version {first}"):
            send(f"{name}.deposit", Deposit(key, 5, expected=first))
        assert version_of(model, key) == second


@CASES
def test_of_two_sessions_the_second_to_change_an_aggregate_loses(
    database_url: str, model: t.Any, name: str
) -> None:
    """Both loaded the same version; one is told, and nothing of it is stored."""
    app, _ = application(database_url, db, MODELS)
    loaded = threading.Barrier(2, timeout=20)
    with app.app_context():
        key = command_bus.send_with_routing(f"{name}.open", 10)

    def deposit(amount: int) -> t.Any:
        with app.app_context():
            seen = db.session.get(model, key)
            assert seen.amount == 10
            loaded.wait()
            try:
                return command_bus.send_with_routing(
                    f"{name}.deposit", Deposit(key, amount)
                )
            except ConcurrencyError as error:
                return str(error)

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(deposit, (1, 2)))
    [lost] = [result for result in results if isinstance(result, str)]
    [won] = [result for result in results if isinstance(result, int)]
    assert "changed by somebody else" in lost
    with app.app_context():
        assert db.session.get(model, key).amount == won


def test_the_first_change_of_a_row_at_version_zero_is_checked_too(
    database_url: str,
) -> None:
    """Rows that Ecotone didn't make start at 0."""
    app, _ = application(database_url, db, MODELS)
    with app.app_context():
        db.session.add(Account(amount=10, version=0))
        db.session.commit()
        stale = db.session.scalars(sa.select(Account)).one()
        key = stale.id
        with db.engine.connect() as other:
            other.execute(sa.update(Account).values(version=1, amount=99))
            other.commit()
        with pytest.raises(ConcurrencyError):
            command_bus.send_with_routing("account.deposit", Deposit(key, 1))
        db.session.expunge_all()
        fresh = db.session.get(Account, key)
        assert fresh is not None and fresh.amount == 99


def test_a_factory_may_persist_its_model_itself(database_url: str) -> None:
    """add() and flush() inside the factory do no harm."""
    app, _ = application(database_url, db, MODELS)
    with app.app_context():
        key = command_bus.send_with_routing("account.persist", 3)
        assert version_of(Account, key) == 1


def test_a_factory_that_returns_a_stored_model_goes_on_counting(
    database_url: str,
) -> None:
    """The version never goes back to 1."""
    app, _ = application(database_url, db, MODELS)
    send = command_bus.send_with_routing
    with app.app_context():
        key = send("account.open", 1)
        send("account.deposit", Deposit(key, 1))
        assert version_of(Account, key) == 2
        assert send("account.first", 7) == key
        assert version_of(Account, key) == 3


def test_a_version_that_a_query_wrote_unchecked_is_an_error(database_url: str) -> None:
    """Autoflush wrote the aggregate's own version before it could be compared."""
    app, _ = application(database_url, db, MODELS)
    send = command_bus.send_with_routing
    with app.app_context():
        key = send("ledger.open", 1)
        with pytest.raises(ModellingError, match="no_autoflush"):
            send("ledger.deposit", Deposit(key, -1))
        assert version_of(Ledger, key) == 1
