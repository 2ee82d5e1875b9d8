"""Dead letters of a bus that waits for its handlers, replayed where much goes wrong."""

from __future__ import annotations

import threading
import typing as t

import pytest
import sqlalchemy as sa

from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import error_channel
from flask_ecotone.errors import MessagingError
from flask_ecotone.errors import UnitOfWorkError

from .book import Book


@error_channel("dead_letter")
class Parking(CommandBus):
    """What fails becomes a dead letter."""


class Shelf:
    """A book whose handler fails until it is mended.

    :param acts: Text → what its handler does besides, once it is mended.
    """

    def __init__(self, book: Book) -> None:
        self.book = book
        self.is_broken = True
        self.acts: dict[str, t.Callable[[], object]] = {}

        @command_handler("write", endpoint_id="write")
        def write(text: str) -> None:
            if self.is_broken:
                raise ValueError("the pencil is broken")
            book.write(text)
            book.db.session.flush()
            self.acts.get(text, int)()

        book.ecotone.register(Parking, write)

    def park(self, *texts: str) -> list[int]:
        """Have texts fail, and return the dead letters, in their order."""
        with self.book.app.app_context():
            for text in texts:
                self.book.ecotone.get(Parking).send_with_routing("write", text)
        self.is_broken = False
        return sorted(each.id for each in self.book.dead_letters())

    def replay(self, *ids: int) -> int:
        """Replay some dead letters, or all."""
        letters = self.book.app.extensions["ecotone"].messaging.dead_letters
        with self.book.app.app_context():
            found = letters.replay(ids) if ids else letters.replay_all()
            return t.cast(int, found)


@pytest.fixture
def shelf(database_url: str) -> Shelf:
    """A shelf on each database."""
    return Shelf(Book(database_url))


def test_one_of_two_operators_handles_a_dead_letter(shelf: Shelf) -> None:
    """The other one waits for it, and is told."""
    (id,) = shelf.park("a")
    begun, is_waited_for = threading.Event(), threading.Event()
    replies: list[object] = []

    def act() -> None:
        begun.set()
        is_waited_for.wait(0.3)

    def operate() -> None:
        try:
            replies.append(shelf.replay(id))
        except MessagingError as error:
            replies.append(str(error))
        is_waited_for.set()

    shelf.acts["a"] = act
    first = threading.Thread(target=operate)
    first.start()
    begun.wait()
    second = threading.Thread(target=operate)
    second.start()
    first.join()
    second.join()
    assert shelf.book.stored() == ["a"]
    number, told = sorted(replies, key=str)
    assert number == 1
    assert "There is no dead letter 1" in str(told)


def roll_back(book: Book) -> t.Callable[[], object]:
    """Return what gives up the transaction, and ends as if all were well."""
    return lambda: book.db.session.rollback()


def swallow(book: Book) -> t.Callable[[], object]:
    """Return what meets an error of the database, and tells nobody."""

    def act() -> None:
        try:
            book.db.session.execute(sa.text("SELECT nothing FROM nowhere"))
        except sa.exc.DBAPIError:
            pass

    return act


def test_what_fails_when_its_handler_is_done_is_noted(shelf: Shelf) -> None:
    """As any other failure is: those that follow are handled."""
    book = shelf.book
    ids = shelf.park("a", "b", "c")
    shelf.acts["b"] = roll_back(book)
    assert shelf.replay() == 2
    assert book.stored() == ["a", "c"]
    (left,) = book.dead_letters()
    assert (left.id, left.attempts, left.replays) == (ids[1], 2, 1)
    assert "db.session.rollback() was called inside a command" in left.error_message
    with pytest.raises(UnitOfWorkError, match=r"db.session.rollback\(\) was called"):
        shelf.replay(ids[1])
    (left,) = book.dead_letters()
    assert (left.attempts, left.replays) == (3, 2)


def test_an_error_that_a_handler_swallows_is_noted(shelf: Shelf) -> None:
    """Where it ended the transaction."""
    book = shelf.book
    ids = shelf.park("a", "b", "c")
    shelf.acts["b"] = swallow(book)
    if book.engine.dialect.name != "postgresql":
        assert shelf.replay() == 3
        return
    assert shelf.replay() == 2
    assert book.stored() == ["a", "c"]
    (left,) = book.dead_letters()
    assert (left.id, left.attempts, left.replays) == (ids[1], 2, 1)
    assert "A handler swallowed an error of the database" in left.error_message


def test_an_error_of_the_commit_is_noted(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends the replay of one of several, and of none of the others."""
    book = shelf.book
    if book.engine.dialect.name != "postgresql":
        pytest.skip("only PostgreSQL checks constraints at the commit")
    with book.app.app_context():
        for statement in (
            "CREATE TABLE shelves (id integer PRIMARY KEY)",
            "CREATE TABLE books (shelf integer REFERENCES shelves DEFERRABLE"
            " INITIALLY DEFERRED)",
        ):
            book.db.session.execute(sa.text(statement))
        book.db.session.commit()
    insertion = sa.text("INSERT INTO books VALUES (7)")
    ids = shelf.park("a", "b", "c")
    shelf.acts["b"] = lambda: book.db.session.execute(insertion)
    assert shelf.replay() == 2
    assert book.stored() == ["a", "c"]
    (left,) = book.dead_letters()
    assert (left.id, left.attempts, left.replays) == (ids[1], 2, 1)
    assert "IntegrityError" in left.error_class
    (said,) = [each for each in caplog.messages if "failed again" in each]
    assert f"(channel {__name__}:Parking) failed again: IntegrityError" in said


def test_a_message_may_fail_in_several_places_at_once(shelf: Shelf) -> None:
    """It becomes one dead letter, and no sender is told."""
    book, count = shelf.book, 6
    together, replies = threading.Barrier(count), list[object]()
    same = {"id": "same"}

    def send() -> None:
        with book.app.app_context():
            bus = book.ecotone.get(Parking)
            together.wait()
            try:
                replies.append(bus.send_with_routing("write", "a", metadata=same))
            except ValueError as error:
                replies.append(error)

    senders = [threading.Thread(target=send) for _ in range(count)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert replies == [None] * count
    (found,) = book.dead_letters()
    assert found.attempts == count
