"""A failed command is tried again in a fresh unit of work."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import aggregate
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import event_handler
from flask_ecotone import Headers
from flask_ecotone import instant_retry
from flask_ecotone import query_handler
from flask_ecotone import WithEvents
from flask_ecotone.errors import ConfigurationError

from .notebook import Notebook


class Attempts:
    """Fails the first few times."""

    def __init__(self, failures: int, error: type[Exception] = ConnectionError) -> None:
        self.failures = failures
        self.error = error
        self.count = 0

    def fail(self) -> None:
        """Count an attempt, and raise unless there were enough."""
        self.count += 1
        if self.count <= self.failures:
            raise self.error(f"attempt {self.count}")


@pytest.fixture
def retrying(database_url: str) -> t.Iterator[Notebook]:
    """A notebook whose commands are tried again twice."""
    notebook = Notebook(database_url, ECOTONE_INSTANT_RETRIES=2)
    yield notebook
    assert notebook.in_use == 0
    assert notebook.sessions == 0


def writing(notebook: Notebook, attempts: Attempts) -> t.Any:
    """Return a handler that writes, and then may fail."""

    def write(text: str) -> int:
        notebook.write(text)
        notebook.db.session.flush()
        attempts.fail()
        return attempts.count

    return write


def test_every_command_is_tried_again(retrying: Notebook) -> None:
    """ECOTONE_INSTANT_RETRIES concerns each command; only the last try is stored."""
    attempts = Attempts(2)
    retrying.ecotone.register(command_handler("write")(writing(retrying, attempts)))
    with retrying.app.app_context():
        assert command_bus.send_with_routing("write", "milk") == 3
    assert retrying.stored() == ["milk"]


def test_exhausted_retries_raise_the_last_error(retrying: Notebook) -> None:
    """After the last try its exception reaches the caller; nothing is stored."""
    attempts = Attempts(9)
    retrying.ecotone.register(command_handler("write")(writing(retrying, attempts)))
    with retrying.app.app_context():
        with pytest.raises(ConnectionError, match="attempt 3"):
            command_bus.send_with_routing("write", "milk")
        assert retrying.stored() == []
        assert not retrying.db.session().in_transaction()
    assert attempts.count == 3


def test_one_handler_is_tried_again(notebook: Notebook) -> None:
    """``@instant_retry`` concerns its handler, and no other one."""
    tried, untried = Attempts(1), Attempts(1)
    once = instant_retry(1)(command_handler("once")(writing(notebook, tried)))
    never = command_handler("never")(writing(notebook, untried))
    notebook.ecotone.register(once, never)
    with notebook.app.app_context():
        assert command_bus.send_with_routing("once", "milk") == 2
        with pytest.raises(ConnectionError):
            command_bus.send_with_routing("never", "bread")
    assert untried.count == 1
    assert notebook.stored() == ["milk"]


def test_the_handler_says_more_than_the_configuration(retrying: Notebook) -> None:
    """``@instant_retry`` on a handler wins over ECOTONE_INSTANT_RETRIES."""
    attempts = Attempts(9)
    write = instant_retry(4)(command_handler("write")(writing(retrying, attempts)))
    retrying.ecotone.register(write)
    with retrying.app.app_context():
        with pytest.raises(ConnectionError, match="attempt 5"):
            command_bus.send_with_routing("write", "milk")


def test_a_bus_of_its_own_tries_again(notebook: Notebook) -> None:
    """``@instant_retry`` on a bus class concerns what is sent through that bus."""

    @instant_retry(1)
    class PatientBus(CommandBus):
        pass

    attempts = Attempts(1)
    notebook.ecotone.register(
        PatientBus, command_handler("write")(writing(notebook, attempts))
    )
    with notebook.app.app_context():
        with pytest.raises(ConnectionError):
            command_bus.send_with_routing("write", "milk")
        attempts.count = 0
        bus = notebook.ecotone.get(PatientBus)
        assert bus.send_with_routing("write", "milk") == 2
    assert notebook.stored() == ["milk"]


def test_only_listed_exceptions_are_worth_a_retry(notebook: Notebook) -> None:
    """``exceptions=`` filters; the others reach the caller at once."""
    attempts = Attempts(1, KeyError)
    write = command_handler("write")(writing(notebook, attempts))
    notebook.ecotone.register(instant_retry(3, exceptions=OSError)(write))
    with notebook.app.app_context():
        with pytest.raises(KeyError):
            command_bus.send_with_routing("write", "milk")
    assert attempts.count == 1


def test_each_attempt_has_a_fresh_session(retrying: Notebook) -> None:
    """A new try begins with another session and an empty identity map."""
    attempts = Attempts(2)
    sessions: list[t.Any] = []
    known: list[int] = []

    @command_handler("read")
    def read() -> None:
        session = retrying.db.session()
        sessions.append(session)
        known.append(len(session.identity_map))
        session.scalars(sa.select(retrying.Note)).all()
        session.info["attempt"] = attempts.count
        attempts.fail()

    retrying.ecotone.register(read)
    with retrying.app.app_context():
        retrying.write("milk")
        retrying.db.session.commit()
        mine = retrying.db.session()
        command_bus.send_with_routing("read")
        assert retrying.db.session() is mine
    assert len(set(map(id, sessions))) == 3
    assert sessions[0] is mine
    assert known[1:] == [0, 0]


def test_a_retry_sees_what_others_committed_meanwhile(retrying: Notebook) -> None:
    """The second try decides on what is stored now, not on what it loaded before."""
    seen: list[list[str]] = []
    attempts = Attempts(1)

    @command_handler("read")
    def read() -> None:
        session = retrying.db.session
        seen.append([note.text for note in session.scalars(sa.select(retrying.Note))])
        session.commit()
        attempts.fail()

    def rename(error: t.Any) -> None:
        with retrying.engine.begin() as other:
            other.execute(sa.text("UPDATE notes SET text = 'bread'"))

    retrying.ecotone.register(read)
    with retrying.app.app_context():
        retrying.write("milk")
        retrying.db.session.commit()
        sa.event.listen(retrying.db.session(), "after_soft_rollback", _ignore(rename))
        command_bus.send_with_routing("read")
    assert seen == [["milk"], ["bread"]]


def _ignore(function: t.Callable[[t.Any], None]) -> t.Any:
    return lambda session, previous: function(None) if previous.parent is None else None


def test_the_session_of_the_caller_is_usable_after_a_retry(retrying: Notebook) -> None:
    """Its objects are still loaded, and show what the last try has stored."""
    attempts = Attempts(1)

    @command_handler("shout")
    def shout(note_id: int) -> None:
        note = retrying.db.session.get(retrying.Note, note_id)
        assert note is not None
        note.text = f"{note.text}!"
        retrying.db.session.flush()
        attempts.fail()

    retrying.ecotone.register(shout)
    with retrying.app.app_context():
        note = retrying.Note(text="milk")
        retrying.db.session.add(note)
        retrying.db.session.commit()
        command_bus.send_with_routing("shout", note.id)
        assert note in retrying.db.session
        assert note.text == "milk!"
        note.text = "by the view"
        retrying.db.session.commit()
    assert retrying.stored() == ["by the view"]


def test_no_retry_inside_a_unit_of_work(retrying: Notebook) -> None:
    """A nested command has no transaction to try again; the outermost one has."""
    outer, inner = Attempts(0), Attempts(1)

    @command_handler("outer")
    def send() -> None:
        outer.fail()
        command_bus.send_with_routing("inner", "milk")

    write = instant_retry(5)(command_handler("inner")(writing(retrying, inner)))
    retrying.ecotone.register(send, write)
    with retrying.app.app_context():
        command_bus.send_with_routing("outer")
    assert (outer.count, inner.count) == (2, 2)
    assert retrying.stored() == ["milk"]


def test_the_headers_of_a_message_are_the_same_in_each_attempt(
    retrying: Notebook,
) -> None:
    """It is one message that is handled again, not another one."""
    attempts = Attempts(2)
    seen: list[object] = []

    @command_handler("write")
    def write(headers: t.Annotated[dict[str, t.Any], Headers()]) -> None:
        seen.append((headers["id"], headers["user"]))
        attempts.fail()

    retrying.ecotone.register(write)
    with retrying.app.app_context():
        command_bus.send_with_routing("write", metadata={"user": "ada"})
    assert len(seen) == 3
    assert len(set(seen)) == 1


@dataclass
class TitleWasChanged:
    title: str


@dataclass
class ChangeTitle:
    title: str


def test_recorded_events_are_not_doubled(retrying: Notebook) -> None:
    """What an aggregate recorded in a failed attempt isn't published by the next."""
    db = retrying.db
    published: list[str] = []
    attempts = Attempts(2)

    @aggregate
    class Book(WithEvents, db.Model):
        __tablename__ = "books"

        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(sa.String(50))

        @command_handler
        def change(self, command: ChangeTitle) -> None:
            self.title = command.title
            self.record_that(TitleWasChanged(command.title))
            attempts.fail()

    @event_handler
    def note(event: TitleWasChanged) -> None:
        published.append(event.title)

    @event_handler
    def copy(event: TitleWasChanged) -> None:
        retrying.write(event.title)

    retrying.ecotone.register(Book, note, copy)
    with retrying.app.app_context():
        db.create_all()
        db.session.add(book := Book(title="Emma"))
        db.session.commit()
        command_bus.send(ChangeTitle("Persuasion"), {"aggregate.id": book.id})
        assert book.title == "Persuasion"
    assert published == ["Persuasion"]
    assert retrying.stored() == ["Persuasion"]


def test_the_attempt_is_logged(
    retrying: Notebook, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody who reads the log can see that a command was tried again."""
    attempts = Attempts(1)
    retrying.ecotone.register(command_handler("write")(writing(retrying, attempts)))
    caplog.set_level("INFO")
    with retrying.app.app_context():
        command_bus.send_with_routing("write", "milk")
    assert "Instant retry 1 of 2 after ConnectionError." in caplog.messages


@pytest.mark.parametrize("flushes", [False, True])
def test_unsaved_changes_of_the_view_are_never_left_behind(
    retrying: Notebook, flushes: bool
) -> None:
    """A retry that would commit without what the view had pending isn't made."""
    attempts = Attempts(1)
    retrying.ecotone.register(command_handler("write")(writing(retrying, attempts)))
    with retrying.app.app_context():
        retrying.write("of the view")
        if flushes:
            retrying.db.session.flush()
        with pytest.raises(ConnectionError):
            command_bus.send_with_routing("write", "milk")
    assert retrying.stored() == []
    assert attempts.count == 1


@pytest.mark.parametrize("marker", [event_handler, query_handler])
def test_only_commands_can_be_tried_again(retrying: Notebook, marker: t.Any) -> None:
    """A handler without a unit of work of its own can't carry the decorator."""

    @instant_retry(2)
    @marker("any.name")
    def handle() -> None: ...

    retrying.ecotone.register(handle)
    with retrying.app.app_context():
        with pytest.raises(ConfigurationError, match="only commands have one"):
            retrying.ecotone.compile()
