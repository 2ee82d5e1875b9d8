"""What was handled already is known, once per key and endpoint, for a while."""

from __future__ import annotations

import threading
import typing as t
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from flask_ecotone.errors import MessagingError
from flask_ecotone.storage import tables
from flask_ecotone.storage.deduplication import Handled
from flask_ecotone.storage.deduplication import remove_expired

HOUR = timedelta(hours=1)


@pytest.fixture
def engine(database_url: str) -> sa.Engine:
    """The engine of a database with our tables."""
    engine = sa.create_engine(database_url, poolclass=NullPool)
    tables.create(engine)
    return engine


def note(engine: sa.Engine, key: str, endpoint_id: str = "mail") -> bool:
    """Note a key in a transaction of its own."""
    with engine.begin() as connection:
        return Handled().note(connection, key, endpoint_id)


def age(engine: sa.Engine, by: timedelta, *keys: str, endpoint: str = "mail") -> None:
    """Make rows older than they are."""
    by_ms = by // timedelta(milliseconds=1)
    h = tables.handled.c
    with engine.begin() as connection:
        connection.execute(
            sa.update(tables.handled)
            .where(h.key.in_(keys), h.endpoint_id == endpoint)
            .values(handled_at=h.handled_at - by_ms)
        )


def noted(engine: sa.Engine) -> set[tuple[str, str]]:
    """Return the keys and endpoints that are noted."""
    with engine.connect() as connection:
        rows = connection.execute(
            sa.select(tables.handled.c.key, tables.handled.c.endpoint_id)
        )
        return {(row.key, row.endpoint_id) for row in rows}


def test_a_key_is_new_once_for_each_endpoint(engine: sa.Engine) -> None:
    """Another endpoint, or another scope, is another matter."""
    assert note(engine, "a")
    assert not note(engine, "a")
    assert note(engine, "a", "report")
    assert note(engine, "b")
    with engine.begin() as connection:
        assert Handled("orders").note(connection, "a", "mail")
        assert not Handled("orders").note(connection, "a", "mail")


def test_a_transaction_goes_on_after_a_duplicate(engine: sa.Engine) -> None:
    """What it writes besides is committed; after a rollback the key is new again."""
    note(engine, "a")
    handled = Handled()
    with engine.begin() as connection:
        assert handled.note(connection, "b", "mail")
        assert not handled.note(connection, "a", "mail")
        assert not handled.note(connection, "b", "mail")
        assert handled.note(connection, "c", "mail")
    assert noted(engine) == {(key, "mail") for key in "abc"}
    with engine.connect() as connection:
        assert handled.note(connection, "d", "mail")
        connection.rollback()
    assert note(engine, "d")


@pytest.mark.parametrize(
    "key", ["", "k" * 5000, "ключ \N{GRINNING FACE}" * 60, "a\0b", "\ud800", "A'\"\\"]
)
def test_keys_are_any_text(engine: sa.Engine, key: str) -> None:
    """However long, and whatever is in it; what differs at the end differs."""
    endpoint = "e" * 1000
    assert note(engine, key, endpoint)
    assert not note(engine, key, endpoint)
    assert note(engine, f"{key}.", endpoint)
    assert note(engine, key, f"{endpoint}.")


def test_case_and_spaces_make_a_difference(engine: sa.Engine) -> None:
    """Whatever the collation of the database."""
    assert all(note(engine, key) for key in ("a", "A", "a ", "á"))


def test_other_errors_are_not_taken_for_duplicates(engine: sa.Engine) -> None:
    """A note that the database refuses is an error: the message isn't handled yet."""
    if engine.dialect.name == "sqlite":
        refusal = (
            "CREATE TRIGGER refusing BEFORE INSERT ON ecotone_handled"
            " BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    else:
        refusal = (
            "ALTER TABLE ecotone_handled ADD CONSTRAINT refused"
            " CHECK (endpoint_id <> 'mail')"
        )
    with engine.begin() as connection:
        connection.exec_driver_sql(refusal)
    with pytest.raises(sa.exc.DBAPIError, match=r"refus|CONSTRAINT"):
        note(engine, "a")
    assert noted(engine) == set()


def test_who_comes_at_the_same_time_waits(engine: sa.Engine) -> None:
    """Two transactions with one key: the second learns how the first one ended."""
    for ends_well in (True, False):
        key = f"ends well: {ends_well}"
        answers: list[bool] = []
        with engine.connect() as first:
            assert Handled().note(first, key, "mail")
            second = threading.Thread(
                target=lambda key=key, answers=answers: answers.append(
                    note(engine, key)
                )
            )
            second.start()
            second.join(0.2)
            assert answers == []
            if ends_well:
                first.commit()
            else:
                first.rollback()
        second.join(30)
        assert answers == [not ends_well]


def test_a_reply_is_kept(engine: sa.Engine) -> None:
    """It is the answer to whoever comes with the key again."""
    handled = Handled()
    with engine.begin() as connection:
        assert handled.answer(connection, "a", "mail") is None
        handled.note(connection, "a", "mail")
        assert handled.answer(connection, "a", "mail") is None
        handled.keep_reply(connection, "a", "mail", '{"number": 1}')
    with engine.begin() as connection:
        assert not handled.note(connection, "a", "mail")
        assert handled.answer(connection, "a", "mail") == '{"number": 1}'
        assert handled.answer(connection, "a", "report") is None
        with pytest.raises(MessagingError, match=r"Call 'note\(\)' first"):
            handled.keep_reply(connection, "b", "mail", "1")


def test_a_reply_that_came_meanwhile_is_seen(engine: sa.Engine) -> None:
    """Also by a transaction that began to read before it was there."""
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    handled = Handled()
    with engine.begin() as second:
        second.execute(sa.select(tables.handled)).all()
        with engine.begin() as first:
            handled.note(first, "a", "mail")
            handled.keep_reply(first, "a", "mail", "1")
        assert not handled.note(second, "a", "mail")
        assert handled.answer(second, "a", "mail") == "1"


def test_only_what_is_expired_is_removed(engine: sa.Engine) -> None:
    """A key that is old for one endpoint stays for another that noted it later."""
    for key in "abc":
        note(engine, key)
        note(engine, key, "report")
    age(engine, 2 * HOUR, "a", "b")
    assert remove_expired(engine, HOUR) == 2
    assert noted(engine) == {
        ("c", "mail"),
        ("a", "report"),
        ("b", "report"),
        ("c", "report"),
    }
    assert note(engine, "a")
    assert not note(engine, "a", "report")
    assert remove_expired(engine, HOUR) == 0


def test_one_endpoint_can_be_cleaned_up(engine: sa.Engine) -> None:
    """With a retention of its own."""
    for endpoint in ("mail", "report"):
        note(engine, "a", endpoint)
        age(engine, 2 * HOUR, "a", endpoint=endpoint)
    assert remove_expired(engine, HOUR, "report") == 1
    assert noted(engine) == {("a", "mail")}


def test_each_batch_is_committed(engine: sa.Engine) -> None:
    """Whoever is interrupted has removed what was done by then."""
    for number in range(7):
        note(engine, f"{number}")
    age(engine, 2 * HOUR, *map(str, range(7)))
    removals = 0

    def interrupt(connection: t.Any, cursor: t.Any, text: str, *_: t.Any) -> None:
        nonlocal removals
        removals += text.startswith("DELETE")
        if removals == 3:
            raise KeyboardInterrupt

    sa.event.listen(engine, "before_cursor_execute", interrupt)
    with pytest.raises(KeyboardInterrupt):
        remove_expired(engine, HOUR, batch=3)
    sa.event.remove(engine, "before_cursor_execute", interrupt)
    assert len(noted(engine)) == 1
    assert remove_expired(engine, HOUR) == 1


def test_what_is_noted_meanwhile_is_not_waited_for(engine: sa.Engine) -> None:
    """Transactions that go on neither hold up the cleanup nor are held up."""
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    for key in ("a", "b"):
        note(engine, key)
    age(engine, 2 * HOUR, "a", "b")
    with engine.begin() as connection:
        Handled().note(connection, "c", "mail")
        Handled().keep_reply(connection, "a", "mail", "1")
        assert remove_expired(engine, HOUR) == 1
        Handled().note(connection, "d", "mail")
    assert noted(engine) == {(key, "mail") for key in "acd"}


def test_cleanups_at_the_same_time_share_the_work(engine: sa.Engine) -> None:
    """Each row is removed, and counted, by one of them."""
    for number in range(40):
        note(engine, f"{number}")
    age(engine, 2 * HOUR, *map(str, range(40)))
    counts: list[t.Any] = []
    threads = [
        threading.Thread(
            target=lambda: counts.append(remove_expired(engine, HOUR, batch=5))
        )
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(counts) == 3
    # One that finds everything locked by others leaves it to them.
    assert sum(counts) + remove_expired(engine, HOUR) == 40
    assert noted(engine) == set()
