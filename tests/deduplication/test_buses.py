"""Buses that send one message of those with the same key, and events."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

import pytest

from flask_ecotone import around
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import deduplicated
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import MethodInvocation
from flask_ecotone import QueryBus
from flask_ecotone import without_transaction
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import DuplicateMessageError
from flask_ecotone.testing import flow_testing

from ..unit_of_work.notebook import Notebook


@dataclass
class Write:
    text: str
    fails: bool = False


@dataclass
class Written:
    text: str


@deduplicated(key="Idempotency-Key", on_duplicate="return_cached")
class WebBus(CommandBus):
    """What requests are sent through."""


@deduplicated(key="payload.text", on_duplicate="raise")
class StrictBus(CommandBus):
    """It refuses repeated commands."""


@deduplicated(key="payload.text")
class OnceBus(EventBus):
    """Each event once."""


def test_a_bus_sends_a_command_once(notebook: Notebook) -> None:
    """Other buses aren't concerned, and a failure frees the key."""

    @command_handler
    def write(command: Write) -> list[Written]:
        notebook.write(command.text)
        if command.fails:
            raise ValueError("no ink")
        return [Written(command.text)]

    notebook.ecotone.register(WebBus, write)
    with notebook.app.app_context():
        bus = notebook.ecotone.get(WebBus)
        key = {"Idempotency-Key": "1"}
        with pytest.raises(ValueError, match="no ink"):
            bus.send(Write("a", fails=True), key)
        assert bus.send(Write("a"), key) == [Written("a")]
        assert bus.send(Write("b"), key) == [Written("a")]
        assert bus.send(Write("c"), {"Idempotency-Key": "2"}) == [Written("c")]
        command_bus.send(Write("d"), key)
    assert notebook.stored() == ["a", "c", "d"]


def test_two_buses_have_keys_of_their_own(paper: Notebook) -> None:
    """And the key of a bus is another one than that of a handler."""

    @deduplicated(key="payload.text")
    @command_handler
    def write(command: Write) -> str:
        return "written"

    @deduplicated(key="payload.text", on_duplicate="raise")
    class OtherBus(CommandBus):
        pass

    paper.ecotone.register(StrictBus, OtherBus, write)
    with paper.app.app_context():
        assert paper.ecotone.get(StrictBus).send(Write("a")) == "written"
        assert paper.ecotone.get(OtherBus).send(Write("a")) is None
        with pytest.raises(DuplicateMessageError, match="StrictBus has handled .*'a'"):
            paper.ecotone.get(StrictBus).send(Write("a"))


def test_a_handler_that_commits_by_itself_is_noted_after(notebook: Notebook) -> None:
    """The bus opens no transaction around it."""
    is_open: list[bool] = []

    @without_transaction
    @command_handler
    def write(command: Write) -> str:
        is_open.append(notebook.db.session().in_transaction())
        notebook.write(command.text)
        notebook.db.session.commit()
        return "written"

    notebook.ecotone.register(StrictBus, write)
    with notebook.app.app_context():
        bus = notebook.ecotone.get(StrictBus)
        assert bus.send(Write("a")) == "written"
        with pytest.raises(DuplicateMessageError):
            bus.send(Write("a"))
    assert is_open == [False]
    assert notebook.stored() == ["a"]


def test_interceptors_stand_on_both_sides(paper: Notebook) -> None:
    """Those below -1900 see repeated messages, too."""
    seen: list[str] = []

    @command_handler
    def write(command: Write) -> None:
        seen.append("handler")

    @around(pointcut=WebBus, precedence=-1950)
    def outside(invocation: MethodInvocation) -> t.Any:
        seen.append("outside")
        return invocation.proceed()

    @around(pointcut=WebBus, precedence=-1850)
    def inside(invocation: MethodInvocation) -> t.Any:
        seen.append("inside")
        return invocation.proceed()

    paper.ecotone.register(WebBus, write, outside, inside)
    with paper.app.app_context():
        for _ in range(2):
            paper.ecotone.get(WebBus).send(Write("a"), {"Idempotency-Key": "1"})
    assert seen == ["outside", "inside", "handler", "outside"]


def test_an_event_bus_publishes_an_event_once(notebook: Notebook) -> None:
    """Outside of a command that is a unit of work for all handlers."""

    @event_handler
    def note(event: Written) -> None:
        notebook.write(event.text)

    @event_handler("written")
    def shout(event: Written) -> None:
        notebook.write(f"{event.text}!")

    @event_handler
    def refuse(event: Written) -> None:
        if event.text == "bad":
            raise ValueError("unreadable")

    notebook.ecotone.register(OnceBus, note, shout, refuse)
    with notebook.app.app_context():
        bus = notebook.ecotone.get(OnceBus)
        for _ in range(2):
            bus.publish(Written("a"))
            bus.publish_with_routing("written", Written("b"))
            with pytest.raises(ValueError, match="unreadable"):
                bus.publish(Written("bad"))
    assert notebook.stored() == ["a", "b!"]


def test_each_handler_of_an_event_has_keys_of_its_own(notebook: Notebook) -> None:
    """One that is published again finds those that haven't handled it yet."""
    fails = [True]

    @deduplicated(key="payload.text")
    @event_handler
    def note(event: Written) -> None:
        notebook.write(event.text)

    @deduplicated(key="payload.text")
    @event_handler
    def shout(event: Written) -> None:
        if fails:
            raise ValueError(fails.pop())
        notebook.write(f"{event.text}!")

    notebook.ecotone.register(note, shout)
    with notebook.app.app_context():
        with pytest.raises(ValueError, match="True"):
            event_bus.publish(Written("a"))
        event_bus.publish(Written("a"))
        event_bus.publish(Written("a"))
    assert notebook.stored() == ["a", "a!"]


def test_in_the_transaction_of_a_view_the_view_commits(notebook: Notebook) -> None:
    """What it doesn't commit was not handled, and the key is free."""

    @deduplicated(key="payload.text")
    @event_handler
    def note(event: Written) -> None:
        notebook.write(event.text)

    notebook.ecotone.register(note)
    with notebook.app.app_context():
        notebook.db.create_all()
        event_bus.publish(Written("prepares the table"))
        notebook.write("of the view")
        event_bus.publish(Written("a"))
        notebook.db.session.rollback()
        notebook.write("of the view")
        event_bus.publish(Written("a"))
        event_bus.publish(Written("a"))
        notebook.db.session.commit()
    assert notebook.stored() == ["prepares the table", "of the view", "a"]


def test_queries_and_replies_of_events_are_refused() -> None:
    """A query changes nothing, and an event has no reply."""

    @deduplicated(key="key")
    class Questions(QueryBus):
        pass

    @deduplicated(key="key", on_duplicate="return_cached")
    class Answers(EventBus):
        pass

    with pytest.raises(ConfigurationError, match="Questions .* changes nothing"):
        flow_testing([Questions])
    with pytest.raises(ConfigurationError, match="Answers .* returns nothing"):
        flow_testing([Answers])
