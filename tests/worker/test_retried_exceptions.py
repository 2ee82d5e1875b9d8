"""Which exceptions are tried again, and which never are."""

from __future__ import annotations

import typing as t
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import DatabaseChannel
from flask_ecotone import delayed_retry
from flask_ecotone import DelayedRetry
from flask_ecotone import ErrorHandler
from flask_ecotone import FailedMessage
from flask_ecotone import instant_retry
from flask_ecotone import internal_handler
from flask_ecotone import RetryTemplate
from flask_ecotone.consuming import Limits
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import UnitOfWorkError
from flask_ecotone.storage.tables import messages

from ..unit_of_work.notebook import Notebook

Raise = Callable[[], None]


class Desk:
    """An application with a handler that does what a test says, counted."""

    def __init__(
        self,
        url: str,
        *marks: t.Any,
        transaction: t.Literal["message", "batch"] = "message",
        more: t.Sequence[t.Any] = (),
        handler: ErrorHandler | None = None,
    ) -> None:
        channel = DatabaseChannel("desk", transaction=transaction)
        extensions = [] if handler is None else [handler]
        self.book = Notebook(url, channels=[channel], extensions=extensions)
        self.attempts: list[str] = []
        self.act: Raise = lambda: None

        def write(text: str) -> None:
            self.attempts.append(text)
            self.book.write(text)
            if text == "bad":
                self.act()

        decorated: t.Any = command_handler("write", endpoint_id="write")(write)
        for mark in marks:
            decorated = mark(decorated)
        self.book.ecotone.register(decorated, *more)

    @property
    def messaging(self) -> t.Any:
        """The channels and workers."""
        return self.book.app.extensions["ecotone"].messaging

    def send(self, *texts: str, bus: t.Any = CommandBus) -> None:
        """Send messages in one transaction."""
        with self.book.app.app_context():
            self.book.db.session.execute(sa.text("SELECT 1"))
            for text in texts:
                self.book.ecotone.get(bus).send_with_routing("write", text)
            self.book.db.session.commit()

    def work(self) -> None:
        """Let a worker empty the channel."""
        limits = Limits(finishes_when_empty=True)
        self.messaging.worker(["desk"], limits=limits).run()

    def parked(self) -> list[tuple[str, int]]:
        """Return the error and the attempts of each dead letter."""
        letters = self.messaging.dead_letters.list()
        return [(letter.error_class, letter.attempts) for letter in letters]


def raising(error: BaseException) -> Raise:
    """Return what raises an error."""

    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("transaction", ["message", "batch"])
@pytest.mark.parametrize(
    ("said", "error", "attempts"),
    [
        ({"exceptions": ConnectionError}, ConnectionResetError("gone"), 3),
        ({"exceptions": ConnectionError}, ValueError("no"), 1),
        ({"exceptions": (OSError, KeyError)}, KeyError("x"), 3),
        ({"except_for": ValueError}, UnicodeError("no"), 1),
        ({"except_for": ValueError}, KeyError("x"), 3),
        ({"exceptions": OSError, "except_for": PermissionError}, OSError("x"), 3),
        ({"exceptions": OSError, "except_for": PermissionError}, PermissionError(), 1),
        ({"except_for": (SystemExit,)}, SystemExit(1), 1),
        ({}, SystemExit(1), 3),
    ],
)
def test_what_is_not_worth_a_retry_is_parked_at_once(
    sqlite_url: str,
    said: dict[str, t.Any],
    error: BaseException,
    attempts: int,
    transaction: t.Literal["message", "batch"],
) -> None:
    """A class stands for those that derive from it; the neighbours are handled."""
    retry = delayed_retry(0, max_attempts=2, **said)
    desk = Desk(sqlite_url, retry, asynchronous("desk"), transaction=transaction)
    desk.act = raising(error)
    desk.send("a", "bad", "b")
    desk.work()
    assert desk.attempts.count("bad") == attempts
    assert desk.parked() == [(type(error).__qualname__, attempts)]
    assert desk.book.stored() == ["a", "b"]


def test_it_is_the_same_on_every_database(database_url: str) -> None:
    """What can't be mended doesn't wait."""
    retry = delayed_retry(60_000, except_for=ValueError)
    desk = Desk(database_url, retry, asynchronous("desk"))
    desk.act = raising(ValueError("no"))
    desk.send("bad")
    desk.work()
    assert desk.parked() == [("ValueError", 1)]


def test_an_error_that_was_swallowed_counts_as_what_it_was(postgres_url: str) -> None:
    """The unit of work finds it out, and raises an error of its own."""
    notebook = Notebook(postgres_url)
    attempts: list[str] = []

    @instant_retry(2, except_for=sa.exc.ProgrammingError)
    @command_handler("write")
    def write(text: str) -> None:
        attempts.append(text)
        try:
            notebook.db.session.execute(sa.text("SELECT * FROM nothing_of_that_name"))
        except sa.exc.DBAPIError:
            pass

    notebook.ecotone.register(write)
    with notebook.app.app_context(), pytest.raises(UnitOfWorkError):
        command_bus.send_with_routing("write", "milk")
    assert attempts == ["milk"]


def test_a_handler_of_failures_is_told_at_once(sqlite_url: str) -> None:
    """The application, or a bus, says it with a template."""
    told: list[tuple[str, int]] = []

    @internal_handler("failures")
    def failures(failed: FailedMessage) -> None:
        told.append((failed.error_class, failed.attempts))

    retry = RetryTemplate(0, except_for=(ValueError,))
    handler = ErrorHandler("errors", retry=retry, dead_letter="failures")
    desk = Desk(sqlite_url, asynchronous("desk"), more=[failures], handler=handler)
    desk.act = raising(ValueError("no"))
    desk.send("bad")
    desk.work()
    assert told == [("ValueError", 1)]


def test_a_bus_says_it_for_what_it_sends(sqlite_url: str) -> None:
    """Its handlers say nothing themselves."""

    @asynchronous(
        "desk", execution=[DelayedRetry(RetryTemplate(0, exceptions=ConnectionError))]
    )
    class DeskBus(CommandBus): ...

    desk = Desk(sqlite_url, more=[DeskBus])
    desk.act = raising(ValueError("no"))
    desk.send("bad", bus=DeskBus)
    desk.work()
    assert desk.parked() == [("ValueError", 1)]


def test_a_message_for_a_newer_release_waits_all_the_same(sqlite_url: str) -> None:
    """No handler raised that: what is worth a retry isn't asked."""
    handler = ErrorHandler(retry=RetryTemplate(60_000, exceptions=ConnectionError))
    desk = Desk(sqlite_url, asynchronous("desk"), handler=handler)
    desk.send("a")
    with desk.book.app.app_context(), desk.book.engine.begin() as connection:
        connection.execute(sa.update(messages).values(endpoint_id="gone"))
    desk.work()
    assert desk.parked() == []
    source = desk.messaging.channels.get("desk").sources()[0]
    assert source.status().delayed == 1


def test_what_is_never_repeated_at_once_is_not(sqlite_url: str) -> None:
    """It may be repeated later."""
    marks = [
        instant_retry(3, except_for=(ConnectionError,)),
        delayed_retry(0, max_attempts=1),
        asynchronous("desk"),
    ]
    desk = Desk(sqlite_url, *marks)
    desk.act = raising(ConnectionResetError())
    desk.send("bad")
    desk.work()
    assert len(desk.attempts) == 2
    desk.act = raising(KeyError("x"))
    desk.send("bad")
    desk.work()
    assert len(desk.attempts) == 2 + 2 * 4


def test_a_command_is_not_repeated_for_what_is_excepted(sqlite_url: str) -> None:
    """The caller gets the error of the first attempt."""
    notebook = Notebook(sqlite_url)
    attempts: list[str] = []

    @instant_retry(2, exceptions=OSError, except_for=PermissionError)
    @command_handler("write")
    def write(text: str) -> None:
        attempts.append(text)
        raise PermissionError if text == "no" else OSError

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        with pytest.raises(PermissionError):
            command_bus.send_with_routing("write", "no")
        with pytest.raises(OSError):
            command_bus.send_with_routing("write", "yes")
    assert attempts == ["no", "yes", "yes", "yes"]


@pytest.mark.parametrize("name", ["exceptions", "except_for"])
@pytest.mark.parametrize(
    "mark",
    [
        lambda **said: delayed_retry(0, **said),
        lambda **said: instant_retry(1, **said),
        lambda **said: RetryTemplate(0, **said),
    ],
)
def test_what_is_no_exception_is_refused(mark: t.Any, name: str) -> None:
    """The error has an example."""
    for wrong in ("ValueError", ValueError("x"), (ValueError, int)):
        with pytest.raises(ConfigurationError, match=f"{name} of .*ConnectionError"):
            mark(**{name: wrong})
