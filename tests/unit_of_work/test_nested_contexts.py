"""``with app.app_context()`` inside a handler takes part in the command."""

from __future__ import annotations

import typing as t

import pytest
import sqlalchemy as sa

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone.errors import UnitOfWorkError

from .notebook import Notebook

ENDINGS = ["commit", "flush", "nothing"]


def finish(notebook: Notebook, ending: str) -> None:
    """Do what code written without Ecotone does at the end of its own context."""
    if ending == "commit":
        notebook.db.session.commit()
    elif ending == "flush":
        notebook.db.session.flush()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("fail", [False, True])
def test_a_nested_context_joins_the_transaction(
    notebook: Notebook, ending: str, fail: bool
) -> None:
    """It sees what the handler wrote, and is stored or not with the command."""
    seen: list[list[str]] = []

    @command_handler("write")
    def write() -> None:
        notebook.write("outer")
        notebook.db.session.flush()
        with notebook.app.app_context():
            found = notebook.db.session.scalars(sa.select(notebook.Note.text))
            seen.append(list(found))
            notebook.write("inner")
            finish(notebook, ending)
        seen.append(notebook.stored())
        texts = notebook.db.session.scalars(sa.select(notebook.Note.text)).all()
        seen.append(sorted(texts))
        if fail:
            raise ValueError(ending)

    notebook.ecotone.register(write)
    with notebook.app.app_context(), notebook.checkouts() as checkouts:
        if fail:
            with pytest.raises(ValueError, match=ending):
                command_bus.send_with_routing("write")
        else:
            command_bus.send_with_routing("write")
    assert seen == [["outer"], [], ["inner", "outer"]]
    assert notebook.stored() == ([] if fail else ["outer", "inner"])
    assert len(checkouts) == 1


@pytest.mark.parametrize("ending", ENDINGS)
def test_contexts_nested_twice(notebook: Notebook, ending: str) -> None:
    """A context inside a nested context takes part as well."""

    @command_handler("write")
    def write() -> None:
        with notebook.app.app_context():
            notebook.write("inner")
            finish(notebook, ending)
            with notebook.app.app_context():
                notebook.write("innermost")
                finish(notebook, ending)
            notebook.write("inner again")
            finish(notebook, ending)
        notebook.write("outer")

    notebook.ecotone.register(write)
    with notebook.app.app_context(), notebook.checkouts() as checkouts:
        command_bus.send_with_routing("write")
    expected = ["inner", "inner again", "innermost", "outer"]
    assert sorted(notebook.stored()) == expected
    assert len(checkouts) == 1


@pytest.mark.parametrize("flushed", [False, True])
def test_an_exception_drops_what_a_nested_context_did_not_commit(
    notebook: Notebook, flushed: bool
) -> None:
    """As without Ecotone: leaving a context by an exception gives up its changes."""

    @command_handler("write")
    def write() -> None:
        notebook.write("outer")
        with pytest.raises(ValueError, match="given up"):
            with notebook.app.app_context():
                notebook.write("committed")
                notebook.db.session.commit()
                notebook.write("pending")
                if flushed:
                    notebook.db.session.flush()
                raise ValueError("given up")
        notebook.write("afterwards")

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        command_bus.send_with_routing("write")
    assert sorted(notebook.stored()) == ["afterwards", "committed", "outer"]


def test_a_database_error_in_a_nested_context_can_be_handled(
    notebook: Notebook,
) -> None:
    """A nested context works in a savepoint: its failure doesn't spoil the rest."""

    @command_handler("write")
    def write() -> None:
        notebook.write("milk")
        notebook.db.session.flush()
        with pytest.raises(sa.exc.IntegrityError):
            with notebook.app.app_context():
                notebook.write("milk")
                notebook.db.session.flush()
        notebook.write("bread")

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        command_bus.send_with_routing("write")
    assert notebook.stored() == ["milk", "bread"]


def test_what_a_nested_context_leaves_pending_may_fail(notebook: Notebook) -> None:
    """A flush at the end of a nested context raises there, and can be handled."""

    @command_handler("write")
    def write() -> None:
        notebook.write("milk")
        notebook.db.session.flush()
        with pytest.raises(sa.exc.IntegrityError):
            with notebook.app.app_context():
                notebook.write("milk")
        notebook.write("bread")

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        command_bus.send_with_routing("write")
    assert notebook.stored() == ["milk", "bread"]


@pytest.mark.parametrize("depth", [1, 2])
def test_a_rollback_in_a_nested_context_fails_the_whole(
    notebook: Notebook, depth: int
) -> None:
    """A nested context can't roll back without the command noticing."""

    def inside(level: int) -> None:
        with notebook.app.app_context():
            notebook.write(f"level {level}")
            notebook.db.session.flush()
            if level == depth:
                notebook.db.session.rollback()
            else:
                inside(level + 1)

    @command_handler("write")
    def write() -> None:
        notebook.write("outer")
        inside(1)
        notebook.write("afterwards")

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        with pytest.raises(UnitOfWorkError, match="Nothing was stored"):
            command_bus.send_with_routing("write")
        assert notebook.stored() == []
        notebook.write("later")
        notebook.db.session.commit()
    assert notebook.stored() == ["later"]


def test_a_savepoint_in_a_nested_context(notebook: Notebook) -> None:
    """Savepoints work in a nested context, too."""

    @command_handler("write")
    def write() -> None:
        with notebook.app.app_context():
            notebook.write("kept")
            with pytest.raises(sa.exc.IntegrityError):
                with notebook.db.session.begin_nested():
                    notebook.write("kept")
            with notebook.db.session.begin_nested():
                notebook.write("also kept")

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        command_bus.send_with_routing("write")
    assert notebook.stored() == ["kept", "also kept"]


def test_commit_in_a_nested_context_can_be_forbidden(database_url: str) -> None:
    """ECOTONE_HANDLER_COMMIT = 'raise' concerns nested contexts, too."""
    notebook = Notebook(database_url, ECOTONE_HANDLER_COMMIT="raise")

    @command_handler("write")
    def write() -> None:
        with notebook.app.app_context():
            notebook.write("inner")
            notebook.db.session.commit()

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        with pytest.raises(UnitOfWorkError):
            command_bus.send_with_routing("write")
    assert notebook.stored() == []


def test_begin_in_a_nested_context_is_refused(notebook: Notebook) -> None:
    """``db.session.begin()`` can't begin what the command has begun."""

    @command_handler("write")
    def write() -> None:
        with notebook.app.app_context():
            with notebook.db.session.begin():
                notebook.write("inner")

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        with pytest.raises(UnitOfWorkError, match="begin_nested"):
            command_bus.send_with_routing("write")
    assert notebook.stored() == []


def test_a_command_sent_in_a_nested_context_joins(notebook: Notebook) -> None:
    """A bus used inside a nested context belongs to the command around it."""

    @command_handler("outer")
    def outer(fail: bool) -> None:
        notebook.write("outer")
        notebook.db.session.flush()
        with notebook.app.app_context():
            command_bus.send_with_routing("inner")
            found = query_bus.send_with_routing("texts")
            assert sorted(found) == ["inner", "outer"]
        if fail:
            raise ValueError("outer failed")

    @command_handler("inner")
    def inner() -> None:
        notebook.db.session.add(notebook.Note(text="inner"))

    @query_handler("texts")
    def texts() -> list[str]:
        return list(notebook.db.session.scalars(sa.select(notebook.Note.text)))

    notebook.ecotone.register(outer, inner, texts)

    def send(fail: bool) -> t.Any:
        with notebook.app.app_context():
            return command_bus.send_with_routing("outer", fail)

    with pytest.raises(ValueError, match="outer failed"):
        send(True)
    assert notebook.stored() == []
    send(False)
    assert sorted(notebook.stored()) == ["inner", "outer"]


def test_a_request_inside_a_handler_joins(notebook: Notebook) -> None:
    """A test request pushed by a handler is a nested context like any other."""

    @command_handler("write")
    def write() -> None:
        notebook.write("outer")
        with notebook.app.test_request_context("/"):
            notebook.write("inner")

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        command_bus.send_with_routing("write")
    assert sorted(notebook.stored()) == ["inner", "outer"]
