"""What the session's own methods do inside a command."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
import sqlalchemy.orm as sa_orm

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone.errors import UnitOfWorkError

from .notebook import Notebook


def test_commit_inside_a_handler_flushes(notebook: Notebook) -> None:
    """``db.session.commit()`` writes, and the command commits at its end."""
    seen: list[list[str]] = []

    @command_handler("write")
    def write(text: str) -> int:
        note = notebook.Note(text=text)
        notebook.db.session.add(note)
        notebook.db.session.commit()
        seen.append(notebook.stored())
        return int(note.id)

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        assert command_bus.send_with_routing("write", "milk") == 1
    assert seen == [[]]
    assert notebook.stored() == ["milk"]


def test_an_exception_after_commit_leaves_no_rows(notebook: Notebook) -> None:
    """A commit in a handler isn't final: what is raised after it takes it back."""

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        notebook.db.session.commit()
        raise ValueError("too late?")

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        with pytest.raises(ValueError, match="too late"):
            command_bus.send_with_routing("write", "milk")
    assert notebook.stored() == []


def test_commit_inside_a_handler_can_be_forbidden(database_url: str) -> None:
    """With ECOTONE_HANDLER_COMMIT = 'raise' the error says what to do instead."""
    notebook = Notebook(database_url, ECOTONE_HANDLER_COMMIT="raise")

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        notebook.db.session.commit()

    @command_handler("write.well")
    def write_well(text: str) -> None:
        notebook.write(text)
        notebook.db.session.flush()

    notebook.ecotone.register(write, write_well)
    with notebook.app.app_context():
        with pytest.raises(UnitOfWorkError, match=r"use db\.session\.flush\(\)"):
            command_bus.send_with_routing("write", "milk")
        assert notebook.stored() == []

        command_bus.send_with_routing("write.well", "bread")
        assert notebook.stored() == ["bread"]

        # Outside of a command it is the application's own affair.
        notebook.write("butter")
        notebook.db.session.commit()
    assert notebook.stored() == ["bread", "butter"]


def test_rollback_inside_a_handler_fails_the_command(notebook: Notebook) -> None:
    """Half a command is never stored: a swallowed rollback is an error."""

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write("before")
        notebook.db.session.flush()
        notebook.db.session.rollback()
        notebook.write(text)

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        with pytest.raises(UnitOfWorkError, match="Nothing was stored.*begin_nested"):
            command_bus.send_with_routing("write", "after")
        assert notebook.stored() == []
        assert not notebook.db.session().in_transaction()


def test_rollback_inside_a_nested_command_fails_the_whole(notebook: Notebook) -> None:
    """A nested command can't roll back without its outer one noticing."""

    @command_handler("outer")
    def outer() -> None:
        notebook.write("outer")
        command_bus.send_with_routing("inner")

    @command_handler("inner")
    def inner() -> None:
        notebook.db.session.rollback()

    notebook.ecotone.register(outer, inner)
    with notebook.app.app_context():
        with pytest.raises(UnitOfWorkError):
            command_bus.send_with_routing("outer")
    assert notebook.stored() == []


def test_the_exception_after_a_rollback_passes_unwrapped(notebook: Notebook) -> None:
    """Rolling back and raising is a plain failure, with the handler's exception."""

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        notebook.db.session.rollback()
        raise ValueError("out of ink")

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        with pytest.raises(ValueError, match="out of ink") as caught:
            command_bus.send_with_routing("write", "milk")
    assert type(caught.value) is ValueError
    assert notebook.stored() == []


@pytest.mark.parametrize("swallow", [True, False])
def test_a_savepoint_gives_up_a_part(notebook: Notebook, swallow: bool) -> None:
    """``begin_nested`` commits or rolls back a part, and the command the rest."""

    @command_handler("write")
    def write() -> None:
        notebook.write("one")
        with notebook.db.session.begin_nested():
            notebook.write("two")
        try:
            with notebook.db.session.begin_nested():
                notebook.write("three")
                notebook.db.session.flush()
                raise ValueError("not three")
        except ValueError:
            if not swallow:
                raise
        notebook.write("four")

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        if swallow:
            command_bus.send_with_routing("write")
        else:
            with pytest.raises(ValueError, match="not three"):
                command_bus.send_with_routing("write")
    assert sorted(notebook.stored()) == (["four", "one", "two"] if swallow else [])


def test_a_savepoint_can_be_rolled_back_by_hand(notebook: Notebook) -> None:
    """The savepoint object commits and rolls back without failing the command."""

    @command_handler("write")
    def write() -> None:
        kept = notebook.db.session.begin_nested()
        notebook.write("kept")
        kept.commit()
        lost = notebook.db.session.begin_nested()
        notebook.write("lost")
        notebook.db.session.flush()
        lost.rollback()

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        command_bus.send_with_routing("write")
    assert notebook.stored() == ["kept"]


def test_a_savepoint_around_a_nested_command(notebook: Notebook) -> None:
    """A handler gives up a nested command, and only it, with a savepoint."""

    @command_handler("outer")
    def outer() -> None:
        notebook.write("outer")
        with pytest.raises(sa.exc.IntegrityError):
            with notebook.db.session.begin_nested():
                command_bus.send_with_routing("inner", "outer")
        with notebook.db.session.begin_nested():
            command_bus.send_with_routing("inner", "inner")

    @command_handler("inner")
    def inner(text: str) -> None:
        notebook.write(text)
        with notebook.db.session.begin_nested():
            notebook.write(f"{text} detail")

    notebook.ecotone.register(outer, inner)
    with notebook.app.app_context():
        command_bus.send_with_routing("outer")
    assert sorted(notebook.stored()) == ["inner", "inner detail", "outer"]


def test_begin_inside_a_handler_is_refused(notebook: Notebook) -> None:
    """``with db.session.begin()`` would commit by itself: the error says so."""

    @command_handler("write")
    def write(text: str) -> None:
        with notebook.db.session.begin():
            notebook.write(text)
        raise AssertionError("not reached")

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        with pytest.raises(UnitOfWorkError, match="begin_nested"):
            command_bus.send_with_routing("write", "milk")
    assert notebook.stored() == []


_HAS_RESET = hasattr(sa_orm.scoped_session, "reset")
_reset = pytest.param(
    "reset", marks=pytest.mark.skipif(not _HAS_RESET, reason="needs SQLAlchemy 2.0.22")
)


@pytest.mark.parametrize("call", ["remove", "close", _reset, "dispose"])
@pytest.mark.parametrize("fail", [False, True])
def test_what_was_written_survives_on_its_connection(
    notebook: Notebook, call: str, fail: bool
) -> None:
    """Dropping the session or the pool mid-handler neither loses nor leaks writes."""
    session = notebook.db.session
    connections: list[object] = []

    def remember() -> None:
        connection = session.connection().connection
        connections.append(connection.driver_connection)

    @command_handler("write")
    def write() -> None:
        notebook.write("before")
        remember()
        owner = notebook.db.engine if call == "dispose" else session
        getattr(owner, call)()
        notebook.write("after")
        session.flush()
        remember()
        if fail:
            raise ValueError(call)

    notebook.ecotone.register(write)
    pool = notebook.engine.pool
    with notebook.app.app_context():
        if fail:
            with pytest.raises(ValueError, match=call):
                command_bus.send_with_routing("write")
        else:
            command_bus.send_with_routing("write")
        assert connections[0] is connections[1]
        assert notebook.stored() == ([] if fail else ["before", "after"])
        assert notebook.in_use == 0

        # The view goes on with a session that works.
        found = session.scalars(sa.select(notebook.Note.text)).all()
        assert sorted(found) == sorted(notebook.stored())
    pool.dispose()


def test_the_session_after_remove_is_flushed_at_the_end(notebook: Notebook) -> None:
    """What is still pending on the session made after remove() is stored, too."""

    @command_handler("write")
    def write() -> None:
        notebook.db.session.remove()
        notebook.write("pending")

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        command_bus.send_with_routing("write")
        assert notebook.stored() == ["pending"]
        assert not notebook.db.session().in_transaction()


def test_rollback_after_remove_fails_the_command(notebook: Notebook) -> None:
    """The session made after remove() can't roll back behind the command's back."""

    @command_handler("write")
    def write() -> None:
        notebook.write("before")
        notebook.db.session.remove()
        notebook.write("after")
        notebook.db.session.flush()
        notebook.db.session.rollback()

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        with pytest.raises(UnitOfWorkError):
            command_bus.send_with_routing("write")
        assert notebook.stored() == []
        notebook.write("later")
        notebook.db.session.commit()
    assert notebook.stored() == ["later"]
