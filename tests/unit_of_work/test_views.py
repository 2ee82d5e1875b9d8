"""Commands, queries and events sent by a view that uses the session itself."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone.errors import UnitOfWorkError

from .notebook import Notebook


@dataclass
class NoteWasRead:
    text: str


@pytest.fixture
def notebook(notebook: Notebook) -> Notebook:
    """A notebook with handlers."""

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        if text == "bad":
            raise ValueError(text)

    @query_handler("texts")
    def texts() -> list[str]:
        return list(notebook.db.session.scalars(sa.select(notebook.Note.text)))

    @query_handler("peek")
    def peek() -> None:
        notebook.write("written by a query")
        notebook.db.session.flush()

    @event_handler
    def on_read(event: NoteWasRead) -> None:
        notebook.write(f"{event.text} was read")

    notebook.ecotone.register(write, texts, peek, on_read)
    return notebook


def test_no_second_connection_for_a_view_that_queried(notebook: Notebook) -> None:
    """The command goes on with the connection that the view has taken out."""

    @notebook.app.post("/")
    def view() -> str:
        notebook.db.session.scalars(sa.select(notebook.Note)).all()
        command_bus.send_with_routing("write", "milk")
        return ",".join(query_bus.send_with_routing("texts"))

    with notebook.checkouts() as checkouts:
        assert notebook.app.test_client().post("/").text == "milk"

    # One for the command, and one for the query after its commit.
    assert len(checkouts) == 2
    assert notebook.stored() == ["milk"]


def test_a_view_that_queried_holds_one_connection(database_url: str) -> None:
    """With a pool of a single connection nothing waits for a second one."""
    pool = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 1}
    notebook = Notebook(database_url, SQLALCHEMY_ENGINE_OPTIONS=pool)

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        with notebook.app.app_context():
            notebook.write(f"{text} again")

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        notebook.db.session.scalars(sa.select(notebook.Note)).all()
        command_bus.send_with_routing("write", "milk")
    assert sorted(notebook.stored()) == ["milk", "milk again"]


@pytest.mark.parametrize("flushed", [False, True])
def test_pending_changes_of_a_view_are_committed_with_the_command(
    notebook: Notebook, flushed: bool
) -> None:
    """View and handler share a session, so the command commits both."""
    with notebook.app.app_context():
        notebook.write("by the view")
        if flushed:
            notebook.db.session.flush()
        command_bus.send_with_routing("write", "by the handler")
    assert sorted(notebook.stored()) == ["by the handler", "by the view"]


@pytest.mark.parametrize("flushed", [False, True])
def test_pending_changes_of_a_view_are_rolled_back_with_the_command(
    notebook: Notebook, flushed: bool
) -> None:
    """A command that fails takes the changes of its view with it."""
    with notebook.app.app_context():
        notebook.write("by the view")
        if flushed:
            notebook.db.session.flush()
        with pytest.raises(ValueError, match="bad"):
            command_bus.send_with_routing("write", "bad")
        notebook.db.session.commit()
        assert notebook.stored() == []

        notebook.write("after it")
        notebook.db.session.commit()
    assert notebook.stored() == ["after it"]


def test_objects_of_a_view_can_be_used_after_a_command(notebook: Notebook) -> None:
    """What the view loaded stays in its session, whatever became of the command."""
    with notebook.app.app_context():
        command_bus.send_with_routing("write", "milk")
        note = notebook.db.session.scalars(sa.select(notebook.Note)).one()
        command_bus.send_with_routing("write", "bread")
        assert note.text == "milk"
        with pytest.raises(ValueError):
            command_bus.send_with_routing("write", "bad")
        assert note.text == "milk"


def test_queries_never_commit(notebook: Notebook) -> None:
    """A query leaves the transaction of its view open, and its changes pending."""
    with notebook.app.app_context():
        session = notebook.db.session()
        notebook.write("by the view")
        assert query_bus.send_with_routing("texts") == ["by the view"]
        query_bus.send_with_routing("peek")
        assert session.in_transaction()
        assert notebook.stored() == []
        session.rollback()
    assert notebook.stored() == []


def test_what_a_query_writes_is_gone_with_its_context(notebook: Notebook) -> None:
    """Nobody committed: writing in a query handler has no effect by itself."""
    with notebook.app.app_context():
        query_bus.send_with_routing("peek")
    assert notebook.stored() == []


def test_events_published_by_a_view_do_not_commit(notebook: Notebook) -> None:
    """Events belong to the transaction of the publisher; here that is the view's."""
    with notebook.app.app_context():
        event_bus.publish(NoteWasRead("milk"))
        assert notebook.stored() == []
        notebook.db.session.rollback()
        event_bus.publish(NoteWasRead("bread"))
        notebook.db.session.commit()
    assert notebook.stored() == ["bread was read"]


def blocks(notebook: Notebook) -> dict[str, t.Any]:
    """Blocks of the session that commit by themselves."""
    session = notebook.db.session
    return {"begin": session.begin, "begin_nested": session.begin_nested}


@pytest.mark.parametrize("name", ["begin", "begin_nested"])
def test_a_command_inside_a_block_of_the_session_is_refused(
    notebook: Notebook, name: str
) -> None:
    """The bus would commit half of the block; the error leaves the session usable."""
    with notebook.app.app_context():
        with pytest.raises(UnitOfWorkError, match="send the command outside of it"):
            with blocks(notebook)[name]():
                notebook.write("by the view")
                command_bus.send_with_routing("write", "by the handler")
        notebook.db.session.rollback()
        assert notebook.stored() == []

        command_bus.send_with_routing("write", "later")
    assert notebook.stored() == ["later"]


@pytest.mark.parametrize("name", ["begin", "begin_nested"])
def test_the_refused_command_can_be_handled_inside_the_block(
    notebook: Notebook, name: str
) -> None:
    """A refusal did nothing: the block goes on, and commits what is its own."""
    with notebook.app.app_context():
        with blocks(notebook)[name]():
            notebook.write("by the view")
            with pytest.raises(UnitOfWorkError):
                command_bus.send_with_routing("write", "by the handler")
        notebook.db.session.commit()
    assert notebook.stored() == ["by the view"]


def test_queries_and_events_work_inside_a_block(notebook: Notebook) -> None:
    """They don't commit, so a block of the session may send them."""
    with notebook.app.app_context():
        with notebook.db.session.begin():
            event_bus.publish(NoteWasRead("milk"))
            assert query_bus.send_with_routing("texts") == ["milk was read"]
    assert notebook.stored() == ["milk was read"]


def test_a_view_that_fails_leaves_nothing_behind(notebook: Notebook) -> None:
    """After an error in a command the next request begins with a clean session."""

    @notebook.app.post("/<text>")
    def view(text: str) -> str:
        before = notebook.db.session().in_transaction()
        command_bus.send_with_routing("write", text)
        return str(before)

    client = notebook.app.test_client()
    assert client.post("/bad").status_code == 500
    assert notebook.sessions == 0
    assert notebook.in_use == 0
    assert client.post("/good").text == "False"
    assert notebook.stored() == ["good"]


def test_two_commands_of_a_view_are_two_transactions(notebook: Notebook) -> None:
    """Each outermost command is stored by itself."""
    with notebook.app.app_context():
        command_bus.send_with_routing("write", "milk")
        with pytest.raises(ValueError):
            command_bus.send_with_routing("write", "bad")
        command_bus.send_with_routing("write", "bread")
    assert notebook.stored() == ["milk", "bread"]
