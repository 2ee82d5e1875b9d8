"""Messages for asynchronous aggregates that don't say for which one."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column
from werkzeug.local import LocalProxy

from flask_ecotone import aggregate
from flask_ecotone import asynchronous
from flask_ecotone import before
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import DatabaseChannel
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import presend
from flask_ecotone import TargetIdentifier
from flask_ecotone.consuming import Limits
from flask_ecotone.errors import ConversionError
from flask_ecotone.errors import IdentifierMissingError
from flask_ecotone.testing import flow_testing

from ..unit_of_work.notebook import Notebook


@dataclass
class Rename:
    text: str
    id: int | None = None


@dataclass
class Closed:
    note: t.Annotated[int | None, TargetIdentifier("id")] = None


@dataclass
class Start:
    text: str


@asynchronous("later")
class LaterBus(CommandBus):
    """Its commands are handled by a worker."""


def shelf_at(url: str) -> Notebook:
    """Return an application whose notes are aggregates, with one of them."""
    notebook = Notebook(url, channels=[DatabaseChannel("notes")])
    db = notebook.db

    @aggregate
    class Sheet(db.Model):  # type: ignore[name-defined, misc, unused-ignore]
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str | None] = mapped_column(sa.String(100))

        @asynchronous("notes")
        @command_handler(endpoint_id="rename")
        def rename(self, command: Rename) -> None:
            self.text = command.text

        @asynchronous("notes")
        @event_handler(endpoint_id="close")
        def close(self, event: Closed) -> None:
            self.text = "closed"

    @command_handler("close.all")
    def close_all(numbers: list[t.Any]) -> None:
        notebook.write("closing")
        for number in numbers:
            event_bus.publish(Closed(number))

    notebook.ecotone.register(Sheet, close_all)
    with notebook.app.app_context():
        db.create_all()
        db.session.add(Sheet(id=1))
        db.session.commit()
    return notebook


@dataclass
class Sheet:
    """One that is kept in memory."""

    id: int
    text: str = ""


def flow_with(*more: t.Any, cls: t.Any = None, id: int = 1) -> t.Any:
    """Return a flow test of a sheet, with asynchronous handlers."""

    @aggregate(identifiers=["id"])
    class Page(Sheet):
        @asynchronous("later")
        @command_handler(endpoint_id="rename")
        def rename(self, command: Rename) -> None:
            self.text = command.text

    made = cls or Page
    flow = flow_testing([made, *more], asynchronous=True)
    return flow.with_state_for(made(id))


def test_the_sender_of_a_command_is_told(database_url: str) -> None:
    """Nothing is sent, and with an identifier it is."""
    shelf = shelf_at(database_url)
    with shelf.app.app_context():
        with pytest.raises(IdentifierMissingError, match="Rename has no value"):
            command_bus.send(Rename("a"))
        source = shelf.app.extensions["ecotone"].messaging.channels.get("notes")
        assert source.sources()[0].status().ready == 0
        command_bus.send(Rename("a", 1))
        command_bus.send(Rename("b"), {"aggregate.id": 1})
    limits = Limits(finishes_when_empty=True)
    messaging = shelf.app.extensions["ecotone"].messaging
    assert messaging.worker(["notes"], limits=limits).run().handled == 2


def test_the_command_that_publishes_such_an_event_fails(database_url: str) -> None:
    """What it did is rolled back, and no copy is sent."""
    shelf = shelf_at(database_url)
    with shelf.app.app_context():
        with pytest.raises(IdentifierMissingError, match="Closed has no value for"):
            command_bus.send_with_routing("close.all", [1, None])
        source = shelf.app.extensions["ecotone"].messaging.channels.get("notes")
        assert source.sources()[0].status().ready == 0
    assert shelf.stored() == []


def test_what_comes_before_sending_may_say_it() -> None:
    """A header that a presend interceptor adds counts."""

    @presend(pointcut=Sheet, change_headers=True)
    def say(command: Rename) -> dict[str, t.Any]:
        return {"aggregate.id": 1}

    flow = flow_with(say)
    flow.send_command(Rename("a")).run("later")


def test_what_comes_before_the_handler_may_say_it_in_the_worker() -> None:
    """Who may change the message is waited for."""

    @before(pointcut=Sheet)
    def say(command: Rename) -> Rename:
        return Rename(command.text, 1)

    flow_with(say).send_command(Rename("a")).run("later")


def test_what_only_looks_at_the_message_changes_nothing() -> None:
    """The sender is told all the same."""
    seen: list[Rename] = []

    @before(pointcut=Sheet)
    def look(command: Rename) -> None:
        seen.append(command)

    with pytest.raises(IdentifierMissingError):
        flow_with(look).send_command(Rename("a"))
    assert seen == []


def test_the_command_of_a_bus_over_a_channel_is_looked_at() -> None:
    """The handler is a synchronous one."""

    @aggregate(identifiers=["id"])
    class Page(Sheet):
        @command_handler
        def rename(self, command: Rename) -> None:
            self.text = command.text

    flow = flow_with(LaterBus, cls=Page)
    with pytest.raises(IdentifierMissingError):
        flow.gateway(LaterBus).send(Rename("a"))
    flow.gateway(LaterBus).send(Rename("a", 1))
    flow.run("later")


def test_a_bus_over_a_channel_waits_for_all_that_may_change_the_message() -> None:
    """What precedes a synchronous handler runs in the worker."""

    @aggregate(identifiers=["id"])
    class Page(Sheet):
        @command_handler
        def rename(self, command: Rename) -> None:
            self.text = command.text

    @presend(pointcut=Page)
    def say(command: Rename) -> Rename:
        return Rename(command.text, 1)

    flow = flow_with(say, LaterBus, cls=Page)
    flow.gateway(LaterBus).send(Rename("a"))
    flow.run("later")


def test_what_makes_an_aggregate_needs_no_identifier() -> None:
    """Only the action that takes another class does."""

    @aggregate(identifiers=["id"])
    class Page(Sheet):
        @asynchronous("later")
        @event_handler(endpoint_id="start")
        @classmethod
        def start(cls, event: Start | Rename) -> t.Self:
            return cls(2, event.text)

        @asynchronous("later")
        @event_handler
        def rename(self, event: Rename | Closed) -> None:
            self.text = "changed"

    flow = flow_with(cls=Page)
    with pytest.raises(IdentifierMissingError):
        flow.publish_event(Closed())
    with pytest.raises(IdentifierMissingError):
        flow.publish_event(Rename("a"))
    flow.publish_event(Start("b")).publish_event(Rename("a", 1)).run("later")
    assert flow.aggregate(Page, 2).text == "b"
    assert flow.aggregate(Page, 1).text == "changed"


def test_text_is_read_for_it() -> None:
    """A body that can't be read, or names nothing, is refused at once."""

    @aggregate(identifiers=["id"])
    class Page(Sheet):
        @asynchronous("later")
        @command_handler("rename", endpoint_id="rename")
        def rename(self, command: Rename) -> None:
            self.text = command.text

    flow = flow_with(cls=Page)
    json = "application/json"
    with pytest.raises(IdentifierMissingError):
        flow.send_command_with_routing("rename", '{"text": "a"}', media_type=json)
    with pytest.raises(ConversionError):
        flow.send_command_with_routing("rename", '{"text": 5}', media_type=json)


def test_a_proxy_is_what_it_stands_for() -> None:
    """Markers on its class are found."""

    @aggregate(identifiers=["id"])
    class Page(Sheet):
        @event_handler(endpoint_id="close")
        def close(self, event: Closed) -> None:
            self.text = "closed"

    flow = flow_with(cls=Page)
    event = Closed(1)
    flow.publish_event(LocalProxy(lambda: event))
    assert flow.aggregate(Page, 1).text == "closed"
