"""What becomes of several messages that fail in one claim."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from flask_ecotone.storage.tables import dead_letters
from flask_ecotone.storage.tables import messages

from .test_batches import Works


@pytest.fixture(params=["message", "batch"])
def works(database_url: str, request: pytest.FixtureRequest) -> Works:
    """An application whose second, fourth and fifth message of each claim fail."""
    works = Works(database_url, request.param)

    def act(number: int) -> None:
        if number % 5 in (0, 2, 4):
            raise ValueError(f"no {number}")

    works.act = act
    return works


def parked(works: Works) -> list[str]:
    return sorted(each.error_message for each in works.messaging.dead_letters.list())


def on_parking(works: Works, act: Callable[[sa.Connection], None]) -> None:
    """Do something before each statement that makes a dead letter."""

    @event.listens_for(works.engine, "before_cursor_execute")
    def see(
        connection: sa.Connection, cursor: t.Any, statement: str, *rest: t.Any
    ) -> None:
        if f"INSERT INTO {dead_letters.name}" in statement:
            act(connection)


def test_each_is_handled_once_and_parked(works: Works) -> None:
    """Those between them are handled, whether they share a transaction or not."""
    works.send(*range(1, 11))
    outcome = works.work()
    assert (outcome.handled, outcome.failed) == (4, 6)
    assert works.began == [*range(1, 11)]
    assert sorted(works.rows()) == [1, 3, 6, 8]
    assert parked(works) == ["no 10", "no 2", "no 4", "no 5", "no 7", "no 9"]
    assert works.left() == 0


def test_they_are_parked_in_one_transaction(works: Works) -> None:
    """So that poison costs its neighbours little."""
    works.send(*range(1, 6))
    parking: set[sa.Connection] = set()
    commits: list[sa.Connection] = []

    on_parking(works, parking.add)

    @event.listens_for(works.engine, "commit")
    def count(connection: sa.Connection) -> None:
        if connection in parking:
            commits.append(connection)

    works.work()
    assert len(parked(works)) == 3
    assert len(commits) == 1


def test_when_that_fails_they_are_parked_one_by_one(works: Works) -> None:
    """Nothing is lost, and nothing is handled again."""
    works.send(*range(1, 6))
    stored: list[sa.Connection] = []

    def store(connection: sa.Connection) -> None:
        stored.append(connection)
        if len(stored) == 2:
            raise RuntimeError("the second one, once")

    on_parking(works, store)
    works.work()
    assert parked(works) == ["no 2", "no 4", "no 5"]
    assert len(stored) == 5
    assert works.began == [1, 2, 3, 4, 5]
    assert works.left() == 0


@pytest.mark.parametrize("transaction", ["message", "batch"])
def test_one_that_is_lost_does_not_keep_the_others(
    postgres_url: str, transaction: t.Any
) -> None:
    """Who has it now decides what becomes of it."""
    works = Works(postgres_url, transaction)
    works.send(1, 2, 3)

    def act(number: int) -> None:
        if number == 3:
            # Somebody else takes one that failed before.
            change = sa.update(messages).where(messages.c.body == b"2")
            with works.engine.begin() as other:
                other.execute(change.values(token="somebody else"))
        raise ValueError(f"no {number}")

    works.act = act
    works.work()
    assert parked(works) == ["no 1", "no 3"]
    assert works.left() == 1
