"""Short transactions of our own are done again when they lost a race."""

from __future__ import annotations

import typing as t

import pytest
import sqlalchemy as sa
from pymysql.err import OperationalError

from flask_ecotone.storage.apart import apart
from flask_ecotone.storage.tables import create
from flask_ecotone.storage.tables import handled

from .test_creation import new_engine


def note(connection: sa.Connection, key: str) -> None:
    values = {"digest": key.encode(), "key": key, "endpoint_id": "", "handled_at": 0}
    connection.execute(sa.insert(handled).values(values))


def lost_race(number: int) -> sa.exc.OperationalError:
    return sa.exc.OperationalError("", None, OperationalError(number, "Deadlock"))


def test_what_lost_a_race_is_done_again_from_the_start(database_url: str) -> None:
    """Nothing of the lost attempts is left."""
    engine = new_engine(database_url)
    create(engine)
    attempts: list[t.Any] = []

    def work(connection: sa.Connection) -> str:
        attempts.append(connection)
        note(connection, f"attempt {len(attempts)}")
        if len(attempts) < 3:
            raise lost_race(1213)
        return "done"

    assert apart(engine, work) == "done"
    with engine.connect() as connection:
        assert connection.scalars(sa.select(handled.c.key)).all() == ["attempt 3"]


def test_who_always_loses_gives_up(sqlite_url: str) -> None:
    """The error passes after five attempts."""
    attempts: list[int] = []

    def work(connection: sa.Connection) -> None:
        attempts.append(1)
        raise lost_race(1213)

    with pytest.raises(sa.exc.OperationalError, match="Deadlock"):
        apart(new_engine(sqlite_url), work)
    assert len(attempts) == 5


def test_other_errors_are_not_repeated(sqlite_url: str) -> None:
    """An access that is denied will be denied again."""
    attempts: list[int] = []

    def work(connection: sa.Connection) -> None:
        attempts.append(1)
        raise lost_race(1045)

    with pytest.raises(sa.exc.OperationalError):
        apart(new_engine(sqlite_url), work)
    assert len(attempts) == 1
