"""Handlers and buses that have no unit of work of their own."""

from __future__ import annotations

import pytest

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import without_transaction

from .notebook import Notebook


def test_a_handler_without_transaction_commits_by_itself(notebook: Notebook) -> None:
    """What it commits is stored at once, and what it doesn't commit isn't stored."""
    seen: list[list[str]] = []

    @without_transaction
    @command_handler("import")
    def import_notes() -> None:
        notebook.write("first part")
        notebook.db.session.commit()
        seen.append(notebook.stored())
        notebook.write("second part")
        notebook.db.session.flush()
        raise ValueError("interrupted")

    notebook.ecotone.register(import_notes)
    with notebook.app.app_context():
        with pytest.raises(ValueError, match="interrupted"):
            command_bus.send_with_routing("import")
    assert seen == [["first part"]]
    assert notebook.stored() == ["first part"]


def test_a_handler_without_transaction_does_not_commit_for_the_view(
    notebook: Notebook,
) -> None:
    """The command leaves what the view has pending as it is."""

    @command_handler("think")
    @without_transaction()
    def think() -> None:
        notebook.write("thought")

    notebook.ecotone.register(think)
    with notebook.app.app_context():
        notebook.write("by the view")
        command_bus.send_with_routing("think")
        notebook.db.session.flush()
        assert notebook.stored() == []
    assert notebook.stored() == []


def test_a_handler_without_transaction_may_use_blocks_of_the_session(
    notebook: Notebook,
) -> None:
    """``with db.session.begin()`` works where the bus doesn't begin."""

    @without_transaction
    @command_handler("write")
    def write(text: str) -> None:
        with notebook.db.session.begin():
            notebook.write(text)

    notebook.ecotone.register(write)
    with notebook.app.app_context():
        command_bus.send_with_routing("write", "milk")
    assert notebook.stored() == ["milk"]


def test_inside_another_command_it_takes_part(notebook: Notebook) -> None:
    """A nested command has no transaction to be without."""

    @command_handler("outer")
    def outer() -> None:
        command_bus.send_with_routing("write", "milk")
        raise ValueError("outer failed")

    @without_transaction
    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        notebook.db.session.commit()

    notebook.ecotone.register(outer, write)
    with notebook.app.app_context():
        with pytest.raises(ValueError, match="outer failed"):
            command_bus.send_with_routing("outer")
    assert notebook.stored() == []


def test_a_command_sent_by_a_handler_without_transaction_has_its_own(
    notebook: Notebook,
) -> None:
    """The first command with a unit of work is the outermost one."""

    @without_transaction
    @command_handler("import")
    def import_notes() -> None:
        command_bus.send_with_routing("write", "milk")
        with pytest.raises(ValueError):
            command_bus.send_with_routing("write", "bad")
        raise LookupError("after the first")

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        if text == "bad":
            raise ValueError(text)

    notebook.ecotone.register(import_notes, write)
    with notebook.app.app_context():
        with pytest.raises(LookupError):
            command_bus.send_with_routing("import")
    assert notebook.stored() == ["milk"]


def test_a_bus_without_transaction(notebook: Notebook) -> None:
    """On a bus class the marker concerns what is sent through that bus only."""

    @without_transaction
    class BareBus(CommandBus):
        pass

    @command_handler("write")
    def write(text: str) -> None:
        notebook.write(text)
        notebook.db.session.flush()

    notebook.ecotone.register(BareBus, write)
    with notebook.app.app_context():
        bus = notebook.ecotone.get(BareBus)
        bus.send_with_routing("write", "milk")
        assert notebook.stored() == []
        notebook.db.session.rollback()

        command_bus.send_with_routing("write", "bread")
    assert notebook.stored() == ["bread"]
