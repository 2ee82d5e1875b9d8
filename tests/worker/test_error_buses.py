"""A bus that waits for its handlers, and says what becomes of messages that failed."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from flask_ecotone import around
from flask_ecotone import asynchronous
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import DatabaseChannel
from flask_ecotone import deduplicated
from flask_ecotone import delayed_retry
from flask_ecotone import error_channel
from flask_ecotone import ErrorHandler
from flask_ecotone import FailedMessage
from flask_ecotone import InMemoryChannel
from flask_ecotone import instant_retry
from flask_ecotone import internal_handler
from flask_ecotone import Message
from flask_ecotone import MethodInvocation
from flask_ecotone import QueryBus
from flask_ecotone import RetryTemplate
from flask_ecotone import without_transaction
from flask_ecotone.channels import CombinedChannel
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import NoHandlerError
from flask_ecotone.errors import UnitOfWorkError
from flask_ecotone.errors import UnknownTenantError
from flask_ecotone.testing import flow_testing

from .book import Book
from .sabotage import Sabotage
from .town import Baptise
from .town import Town


@dataclass
class Write:
    text: str


@error_channel("dead_letter")
class Parking(CommandBus):
    """What fails becomes a dead letter."""


@error_channel("later")
class Later(CommandBus):
    """What fails is left to a worker."""


@delayed_retry(0, max_attempts=2)
@error_channel("later")
class Patient(CommandBus):
    """What fails is tried again by a worker, twice."""


@error_channel("complaints")
class Complaining(CommandBus):
    """What fails is told to a handler."""


@error_channel("letters")
class Letters(CommandBus):
    """What fails is left to the worker of a town."""


class Author:
    """The handler of a book, which can be made to fail."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.error: Exception | None = None
        self.seen: list[Message] = []

        @command_handler(endpoint_id="write")
        def write(command: Write, message: Message) -> str:
            self.seen.append(message)
            book.write(command.text)
            if self.error is not None:
                book.db.session.flush()
                raise self.error
            return "written"

        book.ecotone.register(write)

    def breaks(self) -> None:
        """From now on it fails."""
        self.error = ValueError("the pencil is broken")


def dead_letter(book: Book) -> t.Any:
    """Return the only dead letter."""
    (found,) = book.dead_letters()
    return found


def replay(book: Book, **options: t.Any) -> int:
    """Replay everything."""
    with book.app.app_context():
        found = book.app.extensions["ecotone"].messaging.dead_letters
        return t.cast(int, found.replay_all(**options))


def test_what_fails_becomes_a_dead_letter(book: Book) -> None:
    """Its transaction is rolled back, and the sender isn't told."""
    author = Author(book)
    book.ecotone.register(Parking)
    assert book.send(Parking, Write("a")) == "written"
    author.breaks()
    assert book.send(Parking, Write("b"), user="ann") is None
    assert book.stored() == ["a"]
    found = dead_letter(book)
    assert found.channel == f"{__name__}:Parking"
    assert (found.endpoint_id, found.attempts, found.replays) == ("write", 1, 0)
    assert (found.error_class, found.error_message) == (
        "ValueError",
        "the pencil is broken",
    )
    assert "raise self.error" in found.traceback
    assert found.body == b'{"text":"b"}'


def test_a_replay_handles_it_here_and_now(book: Book) -> None:
    """With its headers, once, and in one transaction with its removal."""
    author = Author(book)
    author.breaks()
    book.ecotone.register(Parking)
    book.send(Parking, Write("a"), user="ann")
    first = author.seen[0].headers
    author.error = None
    assert replay(book) == 1
    assert book.stored() == ["a"]
    assert book.dead_letters() == []
    again = author.seen[1].headers
    assert again["user"] == "ann"
    assert again.message_id == first.message_id
    assert replay(book) == 0
    assert book.stored() == ["a"]


def test_a_replay_that_fails_changes_nothing_but_the_dead_letter(book: Book) -> None:
    """Whoever replays one gets the error; a replay of all goes on with the others."""
    author = Author(book)
    author.breaks()
    book.ecotone.register(Parking)
    for text in "a", "b", "c":
        book.send(Parking, Write(text))
    ids = sorted(each.id for each in book.dead_letters())
    author.error = KeyError("no paper")
    letters = book.app.extensions["ecotone"].messaging.dead_letters
    with book.app.app_context():
        with pytest.raises(KeyError, match="no paper"):
            letters.replay(ids[0])
        found = letters.show(ids[0])
    assert (found.attempts, found.replays, found.error_class) == (2, 1, "KeyError")
    assert "no paper" in found.traceback
    assert book.stored() == []

    author.error = None
    send = author.book.write

    def write(text: str) -> None:
        if text == "b":
            raise ValueError("not this one")
        send(text)

    book.write = write  # type: ignore[method-assign]
    with book.app.app_context(), pytest.raises(ValueError, match="not this one"):
        letters.replay(ids)
    assert book.stored() == []
    assert len(book.dead_letters()) == 3
    failed: dict[int, Exception] = {}
    assert replay(book, on_failure=failed.__setitem__) == 2
    assert list(failed) == [ids[1]]
    assert str(failed[ids[1]]) == "not this one"
    assert sorted(book.stored()) == ["a", "c"]
    left = dead_letter(book)
    assert (left.id, left.attempts, left.replays) == (ids[1], 3, 2)


def test_a_limited_replay_takes_the_oldest_of_either_kind(book: Book) -> None:
    """Those of channels go back, those of buses are handled."""

    @error_channel("dead_letter")
    @asynchronous("outbox")
    class Outbox(CommandBus):
        pass

    author = Author(book)
    author.breaks()
    book.ecotone.register(Parking, Outbox)
    for number, bus in enumerate((Parking, Outbox, Parking, Outbox)):
        book.send(bus, Write(str(number)))
        book.work()
    author.error = None
    assert replay(book, limit=0) == 0
    assert replay(book, limit=3) == 3
    assert sorted(book.stored()) == ["0", "2"]
    book.work()
    assert sorted(book.stored()) == ["0", "1", "2"]
    assert replay(book, limit=3) == 1
    assert replay(book, limit=3) == 0
    book.work()
    assert sorted(book.stored()) == ["0", "1", "2", "3"]


def test_a_replay_in_a_command_is_part_of_it(book: Book) -> None:
    """It is undone with the command."""
    author = Author(book)
    author.breaks()
    letters: t.Any = None

    @command_handler("replay")
    def again(fails: bool) -> None:
        assert letters.replay_all() == 1
        if fails:
            raise ValueError("not now")

    book.ecotone.register(Parking, again)
    book.send(Parking, Write("a"))
    author.error = None
    letters = book.app.extensions["ecotone"].messaging.dead_letters
    with book.app.app_context():
        bus = book.ecotone.get(CommandBus)
        with pytest.raises(ValueError, match="not now"):
            bus.send_with_routing("replay", True)
        assert book.stored() == []
        assert len(book.dead_letters()) == 1
        bus.send_with_routing("replay", False)
    assert book.stored() == ["a"]
    assert book.dead_letters() == []


def test_what_fails_is_left_to_a_worker(book: Book) -> None:
    """Over the channel, with the same id and headers."""
    author = Author(book)
    author.breaks()
    book.ecotone.register(Later)
    assert book.send(Later, Write("a"), user="ann") is None
    assert book.stored() == []
    assert book.waiting("later") == (1, 0)
    author.error = None
    assert book.work("later").handled == 1
    assert book.stored() == ["a"]
    first, second = author.seen
    assert first.headers.message_id == second.headers.message_id
    assert second.headers["user"] == "ann"
    assert book.dead_letters() == []


def test_retries_count_the_first_attempt(book: Book) -> None:
    """What failed at last went wrong on the bus, and twice in the worker."""
    author = Author(book)
    author.breaks()
    book.ecotone.register(Patient)
    book.send(Patient, Write("a"))
    assert book.work("later").failed == 2
    assert len(author.seen) == 3
    found = dead_letter(book)
    assert (found.channel, found.attempts) == ("later", 3)
    author.error = None
    assert replay(book) == 1
    assert book.stored() == []
    book.work("later")
    assert book.stored() == ["a"]


def test_the_first_retry_waits(paper: Book) -> None:
    """As long as the marker says."""

    @delayed_retry(60_000)
    @error_channel("later")
    class Slow(CommandBus):
        pass

    Author(paper).breaks()
    paper.ecotone.register(Slow)
    paper.send(Slow, Write("a"))
    assert paper.waiting("later") == (0, 1)


def test_what_fails_passes_all_hops(sqlite_url: str) -> None:
    """A combined channel is a message channel as well."""

    @error_channel("both")
    class Far(CommandBus):
        pass

    hops = ["outbox", "later"]
    book = Book(sqlite_url, CombinedChannel("both", hops), *map(DatabaseChannel, hops))
    author = Author(book)
    author.breaks()
    book.ecotone.register(Far)
    book.send(Far, Write("a"))
    author.error = None
    assert book.waiting() == (1, 0)
    book.work()
    assert (book.stored(), book.waiting("later")) == ([], (1, 0))
    book.work("later")
    assert book.stored() == ["a"]


def test_a_handler_is_told(paper: Book) -> None:
    """In a transaction of its own; if it fails as well, the message is parked."""
    told: list[FailedMessage] = []
    author = Author(paper)
    author.breaks()
    deaf: list[Exception] = []

    @internal_handler("complaints")
    def complain(failed: FailedMessage) -> None:
        told.append(failed)
        paper.write(failed.error_message)
        if deaf:
            raise deaf[0]

    paper.ecotone.register(Complaining, complain)
    assert paper.send(Complaining, Write("a"), user="ann") is None
    assert paper.stored() == ["the pencil is broken"]
    (failed,) = told
    assert (failed.endpoint_id, failed.attempts) == ("write", 1)
    assert failed.channel == f"{__name__}:Complaining"
    assert (failed.headers["user"], failed.body) == ("ann", b'{"text":"a"}')
    deaf.append(ValueError("deaf"))
    assert paper.send(Complaining, Write("b")) is None
    assert paper.stored() == ["the pencil is broken"]
    assert dead_letter(paper).body == b'{"text":"b"}'


def test_what_fails_can_be_given_up(
    paper: Book, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged."""

    @error_channel("nullChannel")
    class Careless(CommandBus):
        pass

    Author(paper).breaks()
    paper.ecotone.register(Careless)
    assert paper.send(Careless, Write("a")) is None
    assert paper.dead_letters() == []
    assert "failed and was given up: ValueError: the pencil is broken" in caplog.text


def test_an_application_without_channels_is_told(sqlite_url: str) -> None:
    """A handler needs no channel."""
    nothing = ErrorHandler("unused", RetryTemplate(max_attempts=0), "nullChannel")
    book, told = Book(sqlite_url, nothing), list[str]()

    @internal_handler("complaints")
    def complain(failed: FailedMessage) -> None:
        told.append(failed.error_message)

    Author(book).breaks()
    book.ecotone.register(Complaining, complain)
    assert book.send(Complaining, Write("a")) is None
    assert told == ["the pencil is broken"]


def test_instant_retries_come_first(paper: Book) -> None:
    """Only what fails then is taken over."""

    @instant_retry(2)
    @error_channel("dead_letter")
    class Stubborn(CommandBus):
        pass

    author = Author(paper)
    author.breaks()
    paper.ecotone.register(Stubborn)
    paper.send(Stubborn, Write("a"))
    assert len(author.seen) == 3
    assert len(paper.dead_letters()) == 1


def test_inside_of_a_command_the_sender_gets_the_error(paper: Book) -> None:
    """The whole command is lost, and its bus says what becomes of it."""
    author = Author(paper)
    author.breaks()

    @command_handler("outer", endpoint_id="outer")
    def outer(text: str, bus: Later) -> None:
        bus.send(Write(text))

    paper.ecotone.register(Parking, Later, outer)
    with paper.app.app_context():
        with pytest.raises(ValueError, match="pencil"):
            paper.ecotone.get(CommandBus).send_with_routing("outer", "a")
        paper.ecotone.get(Parking).send_with_routing("outer", "b")
    assert paper.waiting("later") == (0, 0)
    assert dead_letter(paper).endpoint_id == "outer"


def test_unsaved_changes_of_the_sender_are_not_lost_unnoticed(paper: Book) -> None:
    """They are rolled back with the command, so that the sender gets the error."""
    Author(paper).breaks()
    paper.ecotone.register(Parking)
    with paper.app.app_context():
        bus = paper.ecotone.get(Parking)
        paper.write("draft")
        with pytest.raises(ValueError, match="pencil"):
            bus.send(Write("a"))
        paper.db.session.rollback()
        assert bus.send(Write("b")) is None
    assert dead_letter(paper).body == b'{"text":"b"}'


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO notes (text) VALUES ('draft')",
        " with words AS (SELECT 'draft' AS word)\n insert INTO notes (text)"
        " SELECT word FROM words",
    ],
)
def test_changes_of_the_sender_may_be_written_as_text(
    paper: Book, statement: str
) -> None:
    """They are changes as all others; what only reads is not."""
    Author(paper).breaks()
    paper.ecotone.register(Parking)
    with paper.app.app_context():
        bus, session = paper.ecotone.get(Parking), paper.db.session
        session.execute(sa.text(statement))
        with pytest.raises(ValueError, match="pencil"):
            bus.send(Write("a"))
        session.rollback()
        session.execute(sa.text("WITH words AS (SELECT 1) SELECT * FROM words"))
        session.execute(sa.text("SELECT 'INSERT'"))
        assert bus.send(Write("b")) is None
    assert dead_letter(paper).body == b'{"text":"b"}'


def test_nothing_is_left_behind_by_a_handler_without_a_unit_of_work(
    book: Book,
) -> None:
    """Its sender isn't told, and would commit what is done once more later."""
    fails = [True]

    @without_transaction
    @command_handler(endpoint_id="write")
    def write(command: Write) -> None:
        book.write(command.text)
        if command.text == "flushed":
            book.db.session.flush()
        if fails:
            raise ValueError("blunt")
        book.db.session.commit()

    book.ecotone.register(Parking, Later, write)
    with book.app.app_context():
        for text in "pending", "flushed":
            assert book.ecotone.get(Parking).send(Write(text)) is None
            assert book.ecotone.get(Later).send(Write(f"{text} later")) is None
        book.db.session.commit()
    assert book.stored() == []
    fails.clear()
    assert replay(book) == 2
    book.work("later")
    assert sorted(book.stored()) == [
        "flushed",
        "flushed later",
        "pending",
        "pending later",
    ]


def test_a_lost_connection_does_not_hide_what_happened(postgres_url: str) -> None:
    """It is given up, and what failed is parked over another one."""
    book = Book(postgres_url)

    @without_transaction
    @command_handler(endpoint_id="write")
    def write(command: Write) -> None:
        server = book.db.session.scalar(sa.text("SELECT pg_backend_pid()"))
        with book.db.engine.connect() as other:
            other.execute(sa.text(f"SELECT pg_terminate_backend({server}, 5000)"))
        raise ValueError("blunt")

    book.ecotone.register(Parking, write)
    with book.app.app_context():
        assert book.ecotone.get(Parking).send(Write("a")) is None
        assert book.db.session.scalar(sa.text("SELECT 1")) == 1
    assert dead_letter(book).error_message == "blunt"


def test_a_block_of_the_sender_is_told_of(paper: Book) -> None:
    """A command bus can't commit there, which is a mistake of the sender."""
    author = Author(paper)
    paper.ecotone.register(Parking)
    with paper.app.app_context():
        bus = paper.ecotone.get(Parking)
        with pytest.raises(UnitOfWorkError, match="was sent inside"):
            with paper.db.session.begin():
                bus.send(Write("a"))
    assert author.seen == []
    assert paper.dead_letters() == []


def test_nobody_handles_what_has_no_handler(paper: Book) -> None:
    """That is a mistake of the sender."""
    Author(paper)
    paper.ecotone.register(Parking)
    with pytest.raises(NoHandlerError):
        paper.send(Parking, "text")
    assert paper.dead_letters() == []


def test_what_can_not_be_written_is_told(
    paper: Book, caplog: pytest.LogCaptureFixture
) -> None:
    """The sender gets the error of its handler, with a note."""
    Author(paper).breaks()
    paper.ecotone.register(Parking)
    with pytest.raises(ValueError, match="pencil") as caught:
        paper.send(Parking, Write("a"), thing=object())
    assert "'thing' can't travel" in caught.value.__notes__[0]
    assert "The error channel of the bus" in caplog.text
    assert paper.dead_letters() == []


def test_a_commit_of_which_nobody_knows_is_told(database_url: str) -> None:
    """The sender gets the error: handled later, it might be handled twice."""
    sabotage = Sabotage(database_url)
    options = sabotage.engine_options
    book = Book(database_url, SQLALCHEMY_ENGINE_OPTIONS=options)
    sabotage.watch(book.engine)
    book.engine.dispose()  # what was connected before isn't watched
    Author(book)
    book.ecotone.register(Parking, Later)
    book.send(Parking, Write("first"))
    for bus in Parking, Later:
        with sabotage.striking(lambda _: sabotage.said[-1] == "(committed)"):
            with pytest.raises(sa.exc.OperationalError):
                book.send(bus, Write(bus.__name__))
        assert sabotage.struck == ["(committed)"]
    assert book.stored() == ["first", "Parking", "Later"]
    assert (book.dead_letters(), book.waiting("later")) == ([], (0, 0))


def test_what_ends_the_program_is_no_failure(paper: Book) -> None:
    """It passes."""
    author = Author(paper)
    paper.ecotone.register(Parking)
    author.error = SystemExit(3)  # type: ignore[assignment]
    with pytest.raises(SystemExit):
        paper.send(Parking, Write("a"))
    assert paper.dead_letters() == []


def test_a_key_is_handled_once_whoever_handles_it(book: Book) -> None:
    """What failed, and succeeded when it was sent again, isn't handled twice."""

    @deduplicated(key="payload.text")
    @error_channel("later")
    class Once(CommandBus):
        pass

    @deduplicated(key="payload.text")
    @error_channel("dead_letter")
    class OnceParking(CommandBus):
        pass

    author = Author(book)
    book.ecotone.register(Once, OnceParking)
    for bus in Once, OnceParking:
        text = bus.__name__
        author.breaks()
        assert book.send(bus, Write(text)) is None
        author.error = None
        assert book.send(bus, Write(text)) == "written"
    book.work("later")
    assert replay(book) == 1
    assert book.stored() == ["Once", "OnceParking"]
    assert (book.waiting("later"), book.dead_letters()) == ((0, 0), [])


def test_interceptors_of_the_bus_run_again_with_its_handler(paper: Book) -> None:
    """Those inside of the transaction; the message is as those before it left it."""
    calls: list[str] = []

    @around(precedence=0, pointcut=Later)
    def watch(invocation: MethodInvocation) -> t.Any:
        calls.append("inside")
        return invocation.proceed()

    @around(precedence=-3000, pointcut=Later)
    def watch_outside(invocation: MethodInvocation) -> t.Any:
        calls.append("outside")
        return invocation.proceed()

    author = Author(paper)
    author.breaks()
    paper.ecotone.register(Later, watch, watch_outside)
    paper.send(Later, Write("a"))
    assert calls == ["outside", "inside"]
    author.error = None
    paper.work("later")
    assert calls == ["outside", "inside", "inside"]
    assert paper.stored() == ["a"]


def test_an_asynchronous_handler_is_left_to_its_worker(paper: Book) -> None:
    """The bus sends the message, and does nothing with what fails in the worker."""

    @asynchronous("outbox")
    @command_handler(endpoint_id="scribble")
    def scribble(command: Write) -> None:
        raise ValueError("blunt")

    paper.ecotone.register(Later, scribble)
    paper.send(Later, Write("a"))
    assert paper.waiting() == (1, 0)
    paper.work(handled=1)
    assert paper.waiting("later") == (0, 0)


def test_what_fails_stays_with_its_tenant(urls: dict[str | None, str]) -> None:
    """Dead letters and messages lie in the tenant's database, and are handled there."""
    town = Town(urls, registered=[Parking, Letters])
    for bus, name in (Parking, "Ann"), (Letters, "Bea"):
        with town.app.app_context():
            sent = Baptise(name, fails=True)
            assert town.ecotone.get(bus).send(sent, {"tenant": "b"}) is None
    letters = town.messaging.dead_letters
    assert letters.count(tenant="a") == 0
    (found,) = letters.list(tenant="b")
    assert json.loads(found.body)["name"] == "Ann"
    assert town.queued("bind_b") == [found.endpoint_id]
    assert town.book("bind_b") == []
    letters.edit(found.id, body=b'{"name": "Ann", "fails": false}', tenant="b")
    run = town.app.test_cli_runner().invoke
    replay = ["ecotone", "deadletter", "replay", str(found.id)]
    assert run(args=[*replay, "--tenant", "b"]).exit_code == 0
    assert town.book("bind_b") == ["baptism Ann"]
    assert (town.book("bind_a"), letters.count(tenant="b")) == ([], 0)
    assert ("begin", "b", "") in town.seen


@pytest.mark.parametrize("bus", [Parking, Letters])
def test_a_tenant_that_is_not_there_keeps_nothing(
    bus: type[CommandBus],
    urls: dict[str | None, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The sender is told that, and nothing else."""
    town = Town(urls, registered=[bus])
    with town.app.app_context(), pytest.raises(UnknownTenantError) as caught:
        town.ecotone.get(bus).send(Baptise("Ann"), {"tenant": "nowhere"})
    assert "nowhere" in str(caught.value)
    assert not hasattr(caught.value, "__notes__")
    assert "error channel" not in caplog.text


def test_the_command_line_tells_why_a_replay_fails(paper: Book) -> None:
    """As it does of any other error of a handler, and the dead letter stays."""
    author = Author(paper)
    author.breaks()
    paper.ecotone.register(Parking)
    paper.send(Parking, Write("a"))
    id = str(dead_letter(paper).id)
    run = paper.app.test_cli_runner().invoke
    shown = run(args=["ecotone", "deadletter", "show", id])
    assert f"{__name__}:Parking" in shown.output
    result = run(args=["ecotone", "deadletter", "replay", id])
    assert isinstance(result.exception, ValueError)
    result = run(args=["ecotone", "deadletter", "replay-all"])
    assert result.exit_code == 1
    assert "0 put back, 1 failed again.\n" in result.output
    assert dead_letter(paper).attempts == 3
    author.error = None
    result = run(args=["ecotone", "deadletter", "replay-all"])
    assert (result.exit_code, result.output) == (0, "1 put back.\n")
    assert paper.stored() == ["a"]


def test_dead_letters_are_found_by_their_bus(paper: Book) -> None:
    """Also while there are none, as a job that cleans up must not fail then."""
    author = Author(paper)
    paper.ecotone.register(Parking)
    run = paper.app.test_cli_runner().invoke
    name = f"{__name__}:Parking"
    replay_all = ["ecotone", "deadletter", "replay-all", "--channel"]
    found = run(args=[*replay_all, name])
    assert (found.exit_code, found.output) == (0, "0 put back.\n")
    author.breaks()
    paper.send(Parking, Write("a"))
    author.error = None
    assert run(args=[*replay_all, name]).output == "1 put back.\n"
    found = run(args=[*replay_all, f"{name}s"])
    assert f"Did you mean {name!r}?" in found.output


def test_flow_tests_get_the_error() -> None:
    """Nothing takes it over there."""

    @command_handler
    def write(command: Write) -> None:
        raise ValueError("no pencil")

    flow = flow_testing([write, Parking, Patient])
    for bus in Parking, Patient:
        with pytest.raises(ValueError, match="no pencil"):
            flow.gateway(bus).send(Write("a"))


def test_what_can_not_work_does_not_compile(sqlite_url: str) -> None:
    """Each with the reason and what to do."""

    @error_channel("dead_letter")
    class Questions(QueryBus):
        pass

    @delayed_retry(5)
    class Nowhere(CommandBus):
        pass

    @delayed_retry(5)
    @error_channel("latr")
    class Misspelt(CommandBus):
        pass

    @delayed_retry(5)
    @error_channel("dead_letter")
    class Waiting(CommandBus):
        pass

    @error_channel("nobody")
    class Unheard(CommandBus):
        pass

    @error_channel("latre")
    class Mistyped(CommandBus):
        pass

    @error_channel("handled")
    class Repeating(CommandBus):
        pass

    for marked, message in (
        (Questions, "Only a command bus has a unit of work"),
        (Nowhere, "nothing says where messages that failed wait"),
        (Misspelt, "'latr' isn't. Did you mean 'later'"),
        (Waiting, r"'dead_letter' isn't\. Say @error_channel\('retries'\)"),
        (Unheard, "names the error channel 'nobody', .* It is a message channel, that"),
        (Mistyped, "names the error channel 'latre', .* Did you mean 'later'"),
        (Repeating, "ErrorHandler tries messages again .* nothing says where"),
    ):
        handler = ErrorHandler("handled", RetryTemplate(1000), "dead_letter")
        book = Book(sqlite_url, handler, DatabaseChannel("later"))
        book.ecotone.register(marked)
        with book.app.app_context():
            with pytest.raises(ConfigurationError, match=message):
                book.ecotone.compile()


def test_dead_letters_need_a_database(sqlite_url: str) -> None:
    """An application whose channels forget can't keep them."""
    book = Book(sqlite_url)
    book.app.extensions["ecotone"].declarations.channels = (InMemoryChannel("later"),)
    book.ecotone.register(Parking)
    with (
        book.app.app_context(),
        pytest.raises(ConfigurationError, match="nothing keeps"),
    ):
        book.ecotone.compile()
