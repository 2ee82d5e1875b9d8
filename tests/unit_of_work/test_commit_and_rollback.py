"""The outermost command commits, and an exception rolls back."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import query_bus
from flask_ecotone import query_handler

from .notebook import Notebook


@dataclass
class NoteWasWritten:
    text: str


class Interrupted(BaseException):
    """Like ``KeyboardInterrupt`` or ``GreenletExit``: not an ``Exception``."""


def test_the_outermost_command_commits(notebook: Notebook) -> None:
    """What a handler adds is stored when the command is done, without a commit."""

    @command_handler("write")
    def write(text: str) -> str:
        notebook.write(text)
        return text.upper()

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        assert command_bus.send_with_routing("write", "milk") == "MILK"
        assert notebook.stored() == ["milk"]
        assert notebook.in_use == 0


@pytest.mark.parametrize("error", [ValueError, Interrupted, SystemExit])
def test_an_exception_rolls_back(
    notebook: Notebook, error: type[BaseException]
) -> None:
    """Whatever is raised, even what is no Exception, nothing of the command stays."""

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        notebook.db.session.flush()
        raise error("no more paper")

    @command_handler("write.well")
    def write_well(text: str) -> None:
        notebook.write(text)

    notebook.ecotone.register(write, write_well)
    with notebook.app.app_context():
        with pytest.raises(error, match="no more paper"):
            command_bus.send_with_routing("write", "milk")
        assert notebook.stored() == []
        assert notebook.in_use == 0

        command_bus.send_with_routing("write.well", "bread")
    assert notebook.stored() == ["bread"]


def test_nested_commands_join(notebook: Notebook) -> None:
    """A command sent by a handler is stored, or not, together with the outer one."""
    seen: list[object] = []

    @command_handler("outer")
    def outer(fail: bool) -> None:
        notebook.write("outer")
        command_bus.send_with_routing("inner")
        seen.append(notebook.stored())
        if fail:
            raise ValueError("outer failed")

    @command_handler("inner")
    def inner() -> None:
        notebook.write("inner")
        seen.append(notebook.db.session.connection())

    notebook.ecotone.register(outer, inner)
    with notebook.app.app_context():
        with pytest.raises(ValueError, match="outer failed"):
            command_bus.send_with_routing("outer", True)
        assert notebook.stored() == []

        with notebook.checkouts() as checkouts:
            command_bus.send_with_routing("outer", False)
        assert len(checkouts) == 1
    assert notebook.stored() == ["outer", "inner"]
    assert seen[1] == seen[3] == []


def test_a_failure_of_a_nested_command_reaches_the_outermost(
    notebook: Notebook,
) -> None:
    """A nested failure that nobody handles gives up the whole command."""

    @command_handler("outer")
    def outer() -> None:
        notebook.write("outer")
        command_bus.send_with_routing("inner")

    @command_handler("inner")
    def inner() -> None:
        raise LookupError("inner failed")

    notebook.ecotone.register(outer, inner)
    with notebook.app.app_context():
        with pytest.raises(LookupError, match="inner failed"):
            command_bus.send_with_routing("outer")
    assert notebook.stored() == []


def test_a_swallowed_nested_failure_keeps_what_was_written(notebook: Notebook) -> None:
    """A nested command has no transaction of its own: what it wrote stays."""

    @command_handler("outer")
    def outer() -> None:
        notebook.write("outer")
        with pytest.raises(ValueError, match="after writing"):
            command_bus.send_with_routing("inner")

    @command_handler("inner")
    def inner() -> None:
        notebook.write("inner")
        raise ValueError("after writing")

    notebook.ecotone.register(outer, inner)
    with notebook.app.app_context():
        command_bus.send_with_routing("outer")
    assert notebook.stored() == ["outer", "inner"]


def test_an_event_handler_that_fails_rolls_the_command_back(
    notebook: Notebook,
) -> None:
    """Events are handled inside the unit of work of the command that causes them."""

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        event_bus.publish(NoteWasWritten(text))

    @event_handler
    def copy(event: NoteWasWritten) -> None:
        notebook.write(f"copy of {event.text}")
        if event.text == "secret":
            raise PermissionError("not to be copied")

    notebook.ecotone.register(write, copy)
    with notebook.app.app_context():
        with pytest.raises(PermissionError, match="not to be copied"):
            command_bus.send_with_routing("write", "secret")
        assert notebook.stored() == []

        command_bus.send_with_routing("write", "milk")
    assert notebook.stored() == ["milk", "copy of milk"]


def test_a_query_inside_a_command_sees_what_is_not_committed(
    notebook: Notebook,
) -> None:
    """A query asked by a handler runs in the transaction of the command."""
    answers: list[int] = []

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        answers.append(query_bus.send_with_routing("count"))
        raise ValueError(text)

    @query_handler("count")
    def count() -> int:
        found = notebook.db.session.scalar(
            sa.select(sa.func.count()).select_from(notebook.Note)
        )
        assert isinstance(found, int)
        return found

    notebook.ecotone.register(write, count)
    with notebook.app.app_context():
        with pytest.raises(ValueError):
            command_bus.send_with_routing("write", "milk")
        assert answers == [1]
        assert query_bus.send_with_routing("count") == 0


def test_an_error_of_the_database_passes_through(notebook: Notebook) -> None:
    """A flush that fails at the end is the caller's exception, and rolls back."""

    @command_handler("write")
    def write(texts: list[str]) -> None:
        for text in texts:
            notebook.write(text)

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        with pytest.raises(sa.exc.IntegrityError):
            command_bus.send_with_routing("write", ["milk", "milk"])
        assert notebook.stored() == []

        command_bus.send_with_routing("write", ["milk"])
    assert notebook.stored() == ["milk"]


def test_a_swallowed_error_of_the_database_stores_nothing(notebook: Notebook) -> None:
    """A failed flush has lost the transaction; hiding it can't store one half."""

    @command_handler("write")
    def write() -> None:
        notebook.write("milk")
        notebook.db.session.flush()
        notebook.write("milk")
        with pytest.raises(sa.exc.IntegrityError):
            notebook.db.session.flush()

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        with pytest.raises(sa.exc.PendingRollbackError):
            command_bus.send_with_routing("write")
    assert notebook.stored() == []


def test_a_commit_that_fails_rolls_back(postgres_url: str) -> None:
    """A deferred constraint fails at the commit; the session is usable after it."""
    notebook = Notebook(postgres_url)
    session = notebook.db.session
    with notebook.app.app_context():
        session.execute(
            sa.text(
                "ALTER TABLE notes ADD parent integer REFERENCES notes (id)"
                " DEFERRABLE INITIALLY DEFERRED"
            )
        )
        session.commit()

    @command_handler("write")
    def write(parent: int | None) -> None:
        notebook.write("milk")
        session.flush()
        session.execute(sa.text("UPDATE notes SET parent = :p"), {"p": parent})

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        with pytest.raises(sa.exc.IntegrityError):
            command_bus.send_with_routing("write", 4711)
        assert notebook.stored() == []
        assert session.scalars(sa.select(notebook.Note)).all() == []
        command_bus.send_with_routing("write", None)
    assert notebook.stored() == ["milk"]
    assert notebook.in_use == 0


def test_the_session_of_the_caller_is_the_one_that_commits(notebook: Notebook) -> None:
    """The handler works on the very session of the view, and objects stay loaded."""
    seen: list[object] = []

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        seen.append(notebook.db.session())

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        mine = notebook.db.session()
        command_bus.send_with_routing("write", "milk")
        assert seen == [mine]
        assert not mine.in_transaction()
        assert notebook.db.session() is mine


def test_a_command_without_statements_takes_no_connection(notebook: Notebook) -> None:
    """A handler that leaves the database alone costs no connection."""

    @command_handler("think")
    def think() -> str:
        return "hm"

    notebook.ecotone.register(think)
    with notebook.app.app_context():
        with notebook.checkouts() as checkouts:
            assert command_bus.send_with_routing("think") == "hm"
    assert checkouts == []
