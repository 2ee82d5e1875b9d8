"""Models as payloads: inside their session they may travel, out of it they can't."""

from __future__ import annotations

import typing as t

import pytest
import sqlalchemy as sa

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone.errors import MessagingError

from .notebook import Notebook

REFUSED = "Note that belongs to another database session.*with the id of the"


def make_note(notebook: Notebook) -> t.Any:
    """Return a note that the current session has loaded."""
    notebook.write("milk")
    notebook.db.session.commit()
    return notebook.db.session.scalars(sa.select(notebook.Note)).one()


def renaming(notebook: Notebook) -> t.Any:
    """Return a command handler that takes a note."""

    def rename(note: t.Any) -> str:
        note.text = f"{note.text}!"
        return str(note.text)

    rename.__annotations__["note"] = notebook.Note
    return command_handler(rename)


def test_a_model_may_be_sent_in_its_session(notebook: Notebook) -> None:
    """The handler works on the same session, so it can use the view's object."""
    notebook.ecotone.register(renaming(notebook))
    with notebook.app.app_context():
        assert command_bus.send(make_note(notebook)) == "milk!"
    assert notebook.stored() == ["milk!"]


def test_a_new_model_may_be_sent(notebook: Notebook) -> None:
    """An object that belongs to no session yet is a plain object."""

    def add(note: t.Any) -> None:
        notebook.db.session.add(note)

    add.__annotations__["note"] = notebook.Note
    notebook.ecotone.register(command_handler(add))
    with notebook.app.app_context():
        command_bus.send(notebook.Note(text="bread"))
    assert notebook.stored() == ["bread"]


def test_a_model_from_another_context_is_refused(notebook: Notebook) -> None:
    """A nested context has another session, where the object can't be used."""
    notebook.ecotone.register(renaming(notebook))
    with notebook.app.app_context():
        note = make_note(notebook)
        with notebook.app.app_context():
            for _ in range(2):
                with pytest.raises(MessagingError, match=REFUSED):
                    command_bus.send(note)
    assert notebook.stored() == ["milk"]


def test_a_model_is_refused_by_a_retry(database_url: str) -> None:
    """A retry has a session of its own: the error says to send the id instead."""
    notebook = Notebook(database_url, ECOTONE_INSTANT_RETRIES=2)
    attempts: list[str] = []

    def fail(note: t.Any) -> None:
        attempts.append(note.text)
        raise ConnectionError("once")

    fail.__annotations__["note"] = notebook.Note
    notebook.ecotone.register(command_handler(fail))
    with notebook.app.app_context():
        with pytest.raises(MessagingError, match=REFUSED):
            command_bus.send(make_note(notebook))
    assert attempts == ["milk"]
    assert notebook.sessions == 0


def test_a_model_as_event_from_another_context_is_refused(notebook: Notebook) -> None:
    """The same holds for events."""
    seen: list[str] = []

    def on_note(note: t.Any) -> None:
        seen.append(note.text)

    on_note.__annotations__["note"] = notebook.Note
    notebook.ecotone.register(event_handler(on_note))
    with notebook.app.app_context():
        note = make_note(notebook)
        event_bus.publish(note)
        with notebook.app.app_context():
            with pytest.raises(MessagingError, match=REFUSED):
                event_bus.publish(note)
    assert seen == ["milk"]
