"""A command is a unit of work, on a real database."""

from __future__ import annotations

import sqlite3
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import Result
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import aggregate
from flask_ecotone import around
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import console_command
from flask_ecotone import Ecotone
from flask_ecotone import instant_retry
from flask_ecotone import MethodInvocation
from flask_ecotone import without_transaction
from flask_ecotone.errors import MessagingError


@dataclass(frozen=True)
class AddNote:
    text: str


class Notes:
    """An application with a table of notes, looked at through another connection."""

    def __init__(self, file: Path) -> None:
        db = self.db = SQLAlchemy()
        app = self.app = Flask("notes")
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{file}"
        db.init_app(app)
        self.ecotone = Ecotone(app, packages=[])
        self._file = file

        @aggregate
        class Note(db.Model):
            id: Mapped[int] = mapped_column(primary_key=True)
            text: Mapped[str]

            @command_handler
            @classmethod
            def add(cls, command: AddNote) -> t.Self:
                return cls(text=command.text)

        self.Note: t.Any = Note
        self.ecotone.register(Note)
        with app.app_context():
            db.create_all()

    def add(self, text: str) -> None:
        self.db.session.add(self.Note(text=text))
        self.db.session.flush()

    def run(self, found: t.Any, *argv: str) -> Result:
        self.ecotone.register(*found if isinstance(found, tuple) else (found,))
        return self.app.test_cli_runner().invoke(args=argv)

    def read(self) -> list[str]:
        connection = sqlite3.connect(self._file)
        try:
            rows = connection.execute("SELECT text FROM note ORDER BY id").fetchall()
        finally:
            connection.close()
        return [text for (text,) in rows]


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    """Notes in a new SQLite file."""
    return Notes(tmp_path / "notes.sqlite")


def test_a_command_commits_once_at_its_end(notes: Notes) -> None:
    """What it wrote, and what the commands wrote that it sent."""
    seen: list[list[str]] = []

    @console_command("import")
    def import_notes(texts: list[str], commands: CommandBus) -> None:
        for text in texts:
            commands.send(AddNote(text))
        notes.add("last")
        seen.append(notes.read())

    result = notes.run(import_notes, "import", "--texts=a", "--texts=b")
    assert (result.exit_code, result.output) == (0, "")
    assert seen == [[]]
    assert notes.read() == ["a", "b", "last"]


def test_a_failing_command_leaves_nothing(notes: Notes) -> None:
    """The commands that it sent are rolled back with it."""

    @console_command("import")
    def import_notes(commands: CommandBus) -> None:
        commands.send(AddNote("a"))
        notes.add("b")
        raise OSError

    result = notes.run(import_notes, "import")
    assert result.exit_code == 1
    assert isinstance(result.exception, OSError)
    assert notes.read() == []


@pytest.mark.parametrize("code", [0, 3])
def test_leaving_early_rolls_back(notes: Notes, code: int) -> None:
    """sys.exit() gives up the command; its exit code is the one of flask."""

    @console_command("import")
    def import_notes() -> None:
        notes.add("a")
        raise SystemExit(code)

    assert notes.run(import_notes, "import").exit_code == code
    assert notes.read() == []


def test_without_transaction_each_command_is_its_own(notes: Notes) -> None:
    """What was sent before the failure stays; what was only written is lost."""

    @without_transaction
    @console_command("import")
    def import_notes(commands: CommandBus) -> None:
        commands.send(AddNote("a"))
        assert notes.read() == ["a"]
        notes.add("b")
        raise OSError

    assert notes.run(import_notes, "import").exit_code == 1
    assert notes.read() == ["a"]


def test_without_transaction_the_command_commits_itself(notes: Notes) -> None:
    """db.session.commit() commits, as outside of Ecotone."""

    @without_transaction()
    @console_command("import")
    def import_notes() -> None:
        notes.add("a")
        notes.db.session.commit()
        assert notes.read() == ["a"]

    assert notes.run(import_notes, "import").exit_code == 0
    assert notes.read() == ["a"]


def test_a_failing_attempt_is_rolled_back_before_the_next(notes: Notes) -> None:
    """A retry has a session of its own, and only the last attempt is stored."""
    attempts: list[int] = []

    @instant_retry(1, exceptions=MessagingError)
    @console_command("import")
    def import_notes() -> None:
        attempts.append(len(attempts) + 1)
        notes.add(f"attempt {len(attempts)}")
        if len(attempts) == 1:
            raise MessagingError("Once more.")

    assert notes.run(import_notes, "import").exit_code == 0
    assert notes.read() == ["attempt 2"]


def test_interceptors_stand_inside_and_outside(notes: Notes) -> None:
    """Below -2000 an interceptor sees what was committed, above it not yet."""
    seen: dict[str, list[str]] = {}

    @console_command("import")
    def import_notes() -> None:
        notes.add("a")

    @around(pointcut=import_notes)
    def inside(invocation: MethodInvocation) -> t.Any:
        invocation.proceed()
        notes.add("b")
        seen["inside"] = notes.read()

    @around(pointcut=console_command, precedence=-2001)
    def outside(invocation: MethodInvocation) -> t.Any:
        invocation.proceed()
        seen["outside"] = notes.read()

    found = (import_notes, inside, outside)
    assert notes.run(found, "import").exit_code == 0
    assert seen == {"inside": [], "outside": ["a", "b"]}


def test_nothing_is_left_in_use(notes: Notes) -> None:
    """After a command, failed or not, connection and session are given back."""

    @console_command("import")
    def import_notes(fail: bool) -> None:
        notes.add("a")
        if fail:
            raise OSError

    for argv in (["import"], ["import", "--fail"]):
        notes.run(import_notes, *argv)
        with notes.app.app_context():
            pool: t.Any = notes.db.engine.pool
            assert pool.checkedout() == 0
        assert notes.db.session.registry.registry == {}
