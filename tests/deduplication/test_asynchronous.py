"""Asynchronous handlers, and the tables of an application that notes keys."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import typing as t
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from flask_ecotone import asynchronous
from flask_ecotone import DatabaseChannel
from flask_ecotone import deduplicated
from flask_ecotone import delayed_retry
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import without_transaction
from flask_ecotone.consuming import Limits

from ..unit_of_work.notebook import Notebook


@dataclass
class Paid:
    number: str
    fails: bool = False


def work(notebook: Notebook) -> t.Any:
    """Let a worker empty the channel."""
    messaging = notebook.app.extensions["ecotone"].messaging
    limits = Limits(finishes_when_empty=True)
    return messaging.worker(["receipts"], limits=limits).run()


def publish(notebook: Notebook, *events: Paid) -> None:
    with notebook.app.app_context():
        for event in events:
            event_bus.publish(event)


def test_two_messages_with_one_key_are_handled_once(database_url: str) -> None:
    """Besides that one message is: the worker sees to that by itself."""
    notebook = Notebook(database_url, channels=[DatabaseChannel("receipts")])

    @asynchronous("receipts")
    @deduplicated(key="payload.number")
    @event_handler(endpoint_id="print")
    def receipt(event: Paid) -> None:
        notebook.write(event.number)

    @asynchronous("receipts")
    @event_handler(endpoint_id="count")
    def count(event: Paid) -> None:
        seen.append(event.number)

    seen: list[str] = []
    notebook.ecotone.register(receipt, count)
    publish(notebook, Paid("a"), Paid("a"))
    assert work(notebook).handled == 4
    publish(notebook, Paid("a"), Paid("b"))
    assert work(notebook).failed == 0
    assert notebook.stored() == ["a", "b"]
    assert seen == ["a", "a", "a", "b"]


def test_a_failed_message_frees_the_key_for_the_next_one(database_url: str) -> None:
    """Its own retry finds the key noted by then, and is skipped."""
    notebook = Notebook(database_url, channels=[DatabaseChannel("receipts")])
    fails = [True]

    @asynchronous("receipts")
    @deduplicated(key="payload.number")
    @event_handler(endpoint_id="print")
    def receipt(event: Paid) -> None:
        notebook.write(event.number)
        if event.fails and fails:
            raise ValueError(fails.pop())

    notebook.ecotone.register(receipt)
    publish(notebook, Paid("a", fails=True))
    assert work(notebook).failed == 1
    assert notebook.stored() == []
    publish(notebook, Paid("a"))
    assert work(notebook).failed == 0
    assert notebook.stored() == ["a"]


def test_in_a_batch_each_key_is_handled_once(database_url: str) -> None:
    """The messages of one transaction find the keys of each other."""
    channel = DatabaseChannel("receipts", transaction="batch")
    notebook = Notebook(database_url, channels=[channel])
    fails = [True]

    @asynchronous("receipts")
    @delayed_retry(0)
    @deduplicated(key="payload.number")
    @event_handler(endpoint_id="print")
    def receipt(event: Paid) -> None:
        notebook.write(event.number)
        if event.fails and fails:
            raise ValueError(fails.pop())

    notebook.ecotone.register(receipt)
    events = [Paid("a"), Paid("a"), Paid("b", fails=True), Paid("b"), Paid("c")]
    publish(notebook, *events)
    outcome = work(notebook)
    assert (outcome.handled, outcome.failed) == (5, 1)
    assert sorted(notebook.stored()) == ["a", "b", "c"]


def test_without_a_transaction_the_worker_notes_a_success(database_url: str) -> None:
    """The marker isn't silently without effect."""
    notebook = Notebook(database_url, channels=[DatabaseChannel("receipts")])
    ran: list[str] = []

    @asynchronous("receipts")
    @without_transaction
    @deduplicated(key="payload.number")
    @event_handler(endpoint_id="print")
    def receipt(event: Paid) -> None:
        ran.append(event.number)

    notebook.ecotone.register(receipt)
    publish(notebook, Paid("a"), Paid("b"), Paid("a"))
    assert work(notebook).handled == 3
    assert ran == ["a", "b"]


def test_an_application_that_notes_nothing_gets_no_tables(sqlite_url: str) -> None:
    """Ours come with the first marker, or a channel in the database."""
    notebook = Notebook(sqlite_url)

    @event_handler
    def note(event: Paid) -> None:
        notebook.write(event.number)
        notebook.db.session.commit()

    notebook.ecotone.register(note)
    publish(notebook, Paid("a"))
    assert sa.inspect(notebook.engine).get_table_names() == ["notes"]


def test_a_warm_boot_makes_the_table_for_what_it_imports_later(
    tmp_path: Path,
) -> None:
    """A module with the marker is imported inside of a unit of work."""
    (tmp_path / "till").mkdir()
    (tmp_path / "till" / "__init__.py").write_text(
        textwrap.dedent(
            f"""
            from flask import Flask
            from flask_sqlalchemy import SQLAlchemy
            from flask_ecotone import Ecotone

            db = SQLAlchemy()
            ecotone = Ecotone()

            def create_app(name):
                app = Flask(__name__, instance_path={str(tmp_path / "instance")!r})
                app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{{name}}"
                app.config["ECOTONE_CACHE_CONFIGURATION"] = True
                app.config["ECOTONE_ENVIRONMENT"] = "production"
                db.init_app(app)
                ecotone.init_app(app)
                return app
            """
        )
    )
    (tmp_path / "till" / "outer.py").write_text(
        textwrap.dedent(
            """
            from flask_ecotone import command_handler, CommandBus
            from . import db
            import sqlalchemy as sa

            @command_handler("outer")
            def outer(bus: CommandBus) -> list[object]:
                db.session.execute(sa.text("CREATE TABLE IF NOT EXISTS x (y INT)"))
                sent = bus.send_with_routing
                return [sent("inner", metadata={"key": "k"}) for _ in range(2)]
            """
        )
    )
    (tmp_path / "till" / "inner.py").write_text(
        textwrap.dedent(
            """
            from flask_ecotone import command_handler, deduplicated

            @deduplicated(key="key")
            @command_handler("inner")
            def inner() -> str:
                return "handled"
            """
        )
    )
    script = textwrap.dedent(
        """
        import sys
        import till
        from flask_ecotone import command_bus
        app = till.create_app(sys.argv[1])
        with app.app_context():
            till.ecotone.compile()
            print("till.inner" in sys.modules)
            print(command_bus.send_with_routing("outer"))
        """
    )
    for number, is_imported in enumerate((True, False)):
        database = str(tmp_path / f"{number}.sqlite")
        ran = subprocess.run(
            [sys.executable, "-c", script, database],
            cwd=tmp_path,
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.stdout.split("\n")[:2] == [str(is_imported), "['handled', None]"], (
            ran.stderr
        )
