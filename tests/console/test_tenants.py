"""A command runs for the tenant that its headers name."""

from __future__ import annotations

import sqlite3
import typing as t
from pathlib import Path

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import console_command
from flask_ecotone import ConsoleWriter
from flask_ecotone import Ecotone
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import query_handler


def test_a_command_works_on_the_database_of_its_tenant(tmp_path: Path) -> None:
    """Without a bus in between; without a header it fails and nothing is stored."""
    db = SQLAlchemy()
    files = {name: tmp_path / f"{name}.sqlite" for name in ("a", "b")}
    app = Flask("shop")
    app.config["SQLALCHEMY_BINDS"] = {k: f"sqlite:///{f}" for k, f in files.items()}
    db.init_app(app)
    tenants = MultiTenantConfiguration("tenant", {"one": "a", "two": "b"})
    ecotone = Ecotone(app, packages=[], extensions=[tenants])

    class Note(db.Model):
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str]

    @query_handler("notes")
    def notes() -> list[str]:
        return [note.text for note in db.session.query(Note).order_by(Note.id)]

    @console_command("notes:add")
    def add(text: str, writer: ConsoleWriter) -> None:
        db.session.add(Note(text=text))
        db.session.flush()
        writer.writeln(", ".join(query_bus.send_with_routing("notes")))

    ecotone.register(notes, add)
    for file in files.values():
        connection = sqlite3.connect(file)
        connection.execute("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT)")
        connection.close()
    runner = app.test_cli_runner()

    def run(text: str, *argv: str) -> t.Any:
        return runner.invoke(args=["notes", "add", text, *argv])

    assert run("x", "--header=tenant:one").output == "x\n"
    assert run("y", "--header=tenant:two").output == "y\n"
    assert run("z", "--header=tenant:one").output == "x, z\n"
    missing = run("lost")
    assert missing.exit_code == 1
    assert missing.output == (
        "Error: Lack of context about tenant in Message Headers. Please add `tenant`"
        " header metadata to your message.\n"
    )
    unknown = run("lost", "--header=tenant:three")
    assert unknown.exit_code == 1 and unknown.output.startswith("Error: ")
    stored = {}
    for name, file in files.items():
        connection = sqlite3.connect(file)
        stored[name] = [text for (text,) in connection.execute("SELECT text FROM note")]
        connection.close()
    assert stored == {"a": ["x", "z"], "b": ["y"]}
