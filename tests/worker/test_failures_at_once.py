"""What becomes of several messages that fail in one claim."""

from __future__ import annotations

import hashlib
import typing as t
from collections.abc import Callable

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from flask_ecotone.consuming import worker
from flask_ecotone.storage.tables import dead_letters
from flask_ecotone.storage.tables import messages

from .test_batches import Works


@pytest.fixture(params=["message", "batch"])
def works(
    database_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Works:
    """An application whose second, fourth and fifth message of each claim fail."""
    monkeypatch.setattr(worker, "_PATIENCE", 60.0)  # the machine may be slow
    works = Works(database_url, request.param)

    def act(number: int) -> None:
        if number % 5 in (0, 2, 4):
            raise ValueError(f"no {number}")

    works.act = act
    return works


def parked(works: Works) -> list[str]:
    return sorted(each.error_message for each in works.messaging.dead_letters.list())


def on_statement(
    works: Works, start: str, act: Callable[[sa.Connection, str], None]
) -> None:
    """Do something with the values of each statement that begins in a way."""

    @event.listens_for(works.engine, "before_cursor_execute")
    def see(
        connection: sa.Connection,
        cursor: t.Any,
        statement: str,
        parameters: t.Any,
        *rest: t.Any,
    ) -> None:
        if statement.lstrip().startswith(start):
            act(connection, repr(parameters))


_PARKS = f"INSERT INTO {dead_letters.name}"


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
    parking: list[sa.Connection] = []
    removed: list[sa.Connection] = []
    commits: list[sa.Connection] = []

    on_statement(works, _PARKS, lambda connection, _: parking.append(connection))
    on_statement(
        works,
        f"DELETE FROM {messages.name}",
        lambda connection, _: removed.append(connection),
    )

    @event.listens_for(works.engine, "commit")
    def count(connection: sa.Connection) -> None:
        if connection in parking:
            commits.append(connection)

    works.work()
    assert len(parked(works)) == 3
    assert len(parking) == 1
    assert removed.count(parking[0]) == 1
    assert len(commits) == 1


def test_each_is_parked_whole(works: Works) -> None:
    """With its own error, traceback and payload."""
    works.send(*range(1, 6))
    works.work()
    letters = sorted(works.messaging.dead_letters.list(), key=lambda each: each.body)
    assert [each.body for each in letters] == [b"2", b"4", b"5"]
    assert len({each.message_id for each in letters}) == 3
    for each in letters:
        assert each.error_class == "ValueError"
        assert each.error_message == f"no {each.body.decode()}"
        assert each.traceback.startswith("Traceback (most recent call last):\n")
        assert each.traceback.endswith(f"\nValueError: {each.error_message}\n")
        assert (each.endpoint_id, each.channel) == ("write", "rows")
        assert (each.attempts, each.replays) == (1, 0)
        assert 0 < each.first_failed_at <= each.last_failed_at
    works.messaging.dead_letters.replay_all()
    works.act = lambda number: None
    works.work()
    assert sorted(works.rows()) == [1, 2, 3, 4, 5]


def test_some_of_them_failed_before(works: Works) -> None:
    """Those are noted beside the new ones, and nothing is parked twice."""
    works.send(2, 4)
    works.work()
    works.messaging.dead_letters.replay_all()
    with works.engine.begin() as connection:
        # The dead letters come back as well, for example from a backup.
        rows = connection.execute(sa.select(messages)).all()
        for row in rows:
            key = f"{row.message_id}\0{row.endpoint_id}".encode()
            values = {name: "" for name in _TEXTS}
            values |= {"message_id": row.message_id, "endpoint_id": row.endpoint_id}
            connection.execute(
                sa.insert(dead_letters).values(
                    digest=hashlib.sha256(key).digest(),
                    attempts=2,
                    replays=0,
                    first_failed_at=7,
                    last_failed_at=7,
                    body=b"",
                    **values,
                )
            )
    works.send(5, 7)
    works.work()
    letters = sorted(works.messaging.dead_letters.list(), key=lambda each: each.body)
    assert [each.body for each in letters] == [b"2", b"4", b"5", b"7"]
    assert [each.attempts for each in letters] == [3, 3, 1, 1]
    assert [each.first_failed_at == 7 for each in letters] == [True, True, False, False]
    assert all(each.last_failed_at > 7 for each in letters)


_TEXTS = (
    "channel",
    "message_type",
    "error_class",
    "error_message",
    "traceback",
    "headers",
)


def test_they_are_put_back_at_once(works: Works) -> None:
    """Each knows how often it failed, and fails for good on its own."""
    inserts: list[sa.Connection] = []
    works.send(*range(1, 6), to="write.later")
    on_statement(
        works,
        f"INSERT INTO {messages.name}",
        lambda connection, _: inserts.append(connection),
    )
    works.work()
    assert len(inserts) == 1
    assert sorted(works.rows()) == [1, 3]
    assert works.left() == 3
    assert parked(works) == []
    with works.engine.begin() as connection:
        connection.execute(sa.update(messages).values(due_at=0))
    works.work()
    assert works.left() == 0
    letters = works.messaging.dead_letters.list()
    assert sorted(each.error_message for each in letters) == ["no 2", "no 4", "no 5"]
    assert [each.attempts for each in letters] == [2, 2, 2]
    assert all(each.first_failed_at < each.last_failed_at for each in letters)


def test_when_that_fails_they_are_parked_one_by_one(
    works: Works, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is lost, nothing is handled again, and nothing is told twice."""
    works.send(*range(1, 6))
    stored: list[str] = []

    def store(connection: sa.Connection, values: str) -> None:
        stored.append(values)
        if len(stored) == 1:
            raise RuntimeError("all of them, once")

    on_statement(works, _PARKS, store)
    works.work()
    assert parked(works) == ["no 2", "no 4", "no 5"]
    assert len(stored) == 4
    assert works.began == [1, 2, 3, 4, 5]
    assert works.left() == 0
    said = [each.getMessage() for each in caplog.records]
    assert sum("was parked" in each for each in said) == 3


def test_one_that_cannot_be_parked_does_not_keep_the_others(
    works: Works, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes back when its lease is over, which the log says."""
    works.send(*range(1, 6))

    def store(connection: sa.Connection, values: str) -> None:
        if "no 4" in values:
            raise RuntimeError("the fourth one, always")

    on_statement(works, _PARKS, store)
    works.work()
    assert parked(works) == ["no 2", "no 5"]
    assert works.left() == 1
    said = [each.getMessage() for each in caplog.records]
    assert sum("was parked" in each for each in said) == 2
    assert sum("is not known yet" in each for each in said) == 1


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


def test_a_failure_leaves_statements_prepared(postgres_url: str) -> None:
    """So that poison doesn't slow down what its neighbours do in the database."""
    works = Works(postgres_url, "message")
    prepared: dict[int, set[t.Any]] = {}
    query = sa.text(
        "SELECT pg_backend_pid(), prepare_time FROM pg_prepared_statements"
        " WHERE statement LIKE 'WITH gone AS%'"
    )

    def act(number: int) -> None:
        for server, moment in works.db.session.execute(query):
            prepared.setdefault(server, set()).add(moment)
        if number % 2:
            raise ValueError(f"no {number}")

    works.act = act
    works.send(*range(1, 41))
    outcome = works.work()
    assert (outcome.handled, outcome.failed) == (20, 20)
    assert prepared
    assert all(len(moments) == 1 for moments in prepared.values())


def test_tables_of_a_failure_may_be_made_again(postgres_url: str) -> None:
    """Statements that were prepared for those that are gone are planned anew."""
    works = Works(postgres_url, "message")
    found: list[int] = []

    def act(number: int) -> None:
        execute = works.db.session.execute
        execute(sa.text("CREATE TABLE passing (number INTEGER)"))
        for _ in range(8):
            execute(sa.text("INSERT INTO passing VALUES (1)"))
            execute(sa.text("SELECT number FROM passing")).all()
        if number < 3:
            raise ValueError(f"no {number}")
        query = sa.text("SELECT sum(number) FROM passing")
        found.append(works.db.session.scalar(query))

    works.act = act
    works.send(1, 2, 3)
    outcome = works.work()
    assert (outcome.handled, outcome.failed) == (1, 2)
    assert found == [8]


def test_tables_of_a_failure_may_be_made_again_with_other_types(
    postgres_url: str,
) -> None:
    """Statements that were prepared for those that are gone are prepared anew."""
    works = Works(postgres_url, "message")

    def act(number: int) -> None:
        execute = works.db.session.execute
        kind = "INTEGER" if number < 4 else "TEXT"
        execute(sa.text(f"CREATE TABLE passing (number {kind})"))
        for _ in range(8):
            execute(sa.text("SELECT number FROM passing")).all()
        raise ValueError(f"no {number}")

    works.act = act
    works.send(*range(1, 7))  # whichever connection of the pool each of them gets
    assert works.work().failed == 6
    assert parked(works) == [f"no {number}" for number in range(1, 7)]
