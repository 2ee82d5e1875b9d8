"""A bus that sends over a channel: the handlers stay as they are."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass
from datetime import timedelta

import pytest
import sqlalchemy as sa

from flask_ecotone import add_header
from flask_ecotone import after
from flask_ecotone import asynchronous
from flask_ecotone import before
from flask_ecotone import business_method
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import deduplicated
from flask_ecotone import delayed
from flask_ecotone import delayed_retry
from flask_ecotone import DelayedRetry
from flask_ecotone import error_channel
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import FailedMessage
from flask_ecotone import instant_retry
from flask_ecotone import internal_handler
from flask_ecotone import Message
from flask_ecotone import named_event
from flask_ecotone import presend
from flask_ecotone import priority
from flask_ecotone import query_handler
from flask_ecotone import QueryBus
from flask_ecotone import remove_header
from flask_ecotone import RetryTemplate
from flask_ecotone import WithoutTransaction
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import DuplicateMessageError
from flask_ecotone.errors import NoHandlerError
from flask_ecotone.testing import flow_testing

from .book import Book


@dataclass
class Write:
    text: str
    fails: bool = False


@named_event("book.written")
@dataclass
class Written:
    text: str


@asynchronous("outbox")
class OutboxCommandBus(CommandBus):
    """Its commands are handled by a worker."""


@asynchronous("outbox")
class OutboxEventBus(EventBus):
    """Its events are handled by a worker."""


@asynchronous("outbox")
@deduplicated(key="payload.text", on_duplicate="raise")
class Once(CommandBus):
    """Its commands are handled by a worker, each once."""


def test_a_command_is_handled_by_the_worker(book: Book) -> None:
    """With its headers; through the plain bus the same handler runs at once."""
    seen: list[Message] = []

    @command_handler
    def write(command: Write, message: Message) -> str:
        seen.append(message)
        book.write(command.text)
        return "written"

    book.ecotone.register(OutboxCommandBus, write)
    assert book.send(OutboxCommandBus, Write("a"), user="ann") is None
    assert seen == []
    assert book.work().handled == 1
    assert book.stored() == ["a"]
    assert (seen[0].payload, seen[0].headers["user"]) == (Write("a"), "ann")
    assert seen[0].headers["polledChannelName"] == "outbox"
    assert book.send(CommandBus, Write("b")) == "written"
    assert book.waiting() == (0, 0)


def test_it_is_sent_in_the_transaction_of_the_command_around_it(book: Book) -> None:
    """A command that fails has sent nothing."""

    @command_handler
    def write(command: Write) -> None:
        book.write(command.text)

    @command_handler("both")
    def both(fails: bool, bus: OutboxCommandBus) -> None:
        book.write("at once")
        bus.send(Write("later"))
        if fails:
            raise ValueError("no ink")

    book.ecotone.register(OutboxCommandBus, write, both)
    with book.app.app_context():
        with pytest.raises(ValueError, match="no ink"):
            command_bus.send_with_routing("both", True)
        assert book.waiting() == (0, 0)
        command_bus.send_with_routing("both", False)
    assert book.stored() == ["at once"]
    book.work()
    assert book.stored() == ["at once", "later"]


def test_each_handler_of_an_event_gets_a_copy(book: Book) -> None:
    """One that fails is repeated without the others, by class and by name."""
    fails = [True, True]

    @event_handler(endpoint_id="note")
    def note(event: Written) -> None:
        book.write(f"note {event.text}")

    @event_handler("book.written", endpoint_id="tell")
    def tell(event: Written) -> None:
        book.write(f"tell {event.text}")
        if fails:
            raise ValueError(fails.pop())

    @asynchronous("outbox")
    @delayed_retry(0, max_attempts=3)
    class Quick(EventBus):
        pass

    book.ecotone.register(Quick, note, tell)
    book.send(Quick, Written("a"))
    outcome = book.work()
    assert (outcome.handled, outcome.failed) == (2, 2)
    with book.app.app_context():
        bus = book.ecotone.get(Quick)
        bus.publish_with_routing(
            "book.written", '{"text": "b"}', media_type="application/json"
        )
    book.work()
    assert sorted(book.stored()) == ["note a", "note b", "tell a", "tell b"]
    assert book.dead_letters() == []


def test_an_asynchronous_handler_is_reached_over_its_own_channel(book: Book) -> None:
    """First the channels of the bus, then those of the handler."""

    @asynchronous(["outbox", "second"])
    class Longer(CommandBus):
        pass

    @asynchronous("later")
    @command_handler(endpoint_id="write")
    def write(command: Write) -> None:
        book.write(command.text)

    book.ecotone.register(Longer, write)
    book.send(Longer, Write("a"))
    ways = []
    for name in ("outbox", "second", "later"):
        ways.append(book.waiting(name))
        book.work(name)
    assert ways == [(1, 0)] * 3
    assert book.stored() == ["a"]


def test_who_handles_nothing_is_told_at_once(paper: Book) -> None:
    """A command without handler doesn't travel."""

    @command_handler
    def write(command: Write) -> None:
        pass

    paper.ecotone.register(OutboxCommandBus, write)
    with pytest.raises(NoHandlerError, match="no handler takes it"):
        paper.send(OutboxCommandBus, Written("a"))
    assert paper.waiting() == (0, 0)


def test_what_a_bus_says_of_headers_concerns_what_it_sends(paper: Book) -> None:
    """Delay, priority and others; a message may say more itself."""
    seen: list[Message] = []

    @asynchronous("outbox")
    @delayed(timedelta(hours=1), replace=False)
    @priority(7)
    @add_header("source", expression="payload.text ~ '!'")
    @remove_header("secret")
    class Slow(CommandBus):
        pass

    @add_header("source", "plain")
    class Plain(CommandBus):
        pass

    @command_handler
    def write(command: Write, message: Message) -> None:
        seen.append(message)

    paper.ecotone.register(Slow, Plain, OutboxCommandBus, write)
    paper.send(OutboxCommandBus, Write("b"))
    paper.send(Slow, Write("a"), secret="x", deliveryDelay=0)
    paper.send(Slow, Write("c"))
    assert paper.waiting() == (2, 1)
    paper.work()
    assert [message.payload.text for message in seen] == ["a", "b"]
    assert seen[0].headers["source"] == "a!"
    assert "secret" not in seen[0].headers
    paper.send(Plain, Write("d"))
    assert seen[2].headers["source"] == "plain"


def test_failures_go_where_the_bus_says(paper: Book) -> None:
    """Unless the handler says something itself; other buses aren't concerned."""
    failed: list[FailedMessage] = []

    @asynchronous("outbox")
    @error_channel("complaints")
    class Complaining(CommandBus):
        pass

    @asynchronous(
        "outbox", execution=[DelayedRetry(retry=RetryTemplate(max_attempts=0))]
    )
    class Parking(CommandBus):
        pass

    @command_handler(endpoint_id="write")
    def write(command: Write) -> None:
        paper.write(command.text)
        raise ValueError("no ink")

    @asynchronous("outbox")
    @delayed_retry(0, max_attempts=1, dead_letter="nullChannel")
    @command_handler("own", endpoint_id="own")
    def own() -> None:
        raise ValueError("no pen")

    @internal_handler("complaints")
    def complain(message: FailedMessage) -> None:
        failed.append(message)

    paper.ecotone.register(Complaining, Parking, write, own, complain)
    paper.send(Complaining, Write("a"))
    assert paper.work().failed == 1
    assert [(each.endpoint_id, each.error_message) for each in failed] == [
        ("write", "no ink")
    ]
    paper.send(Parking, Write("b"))
    assert paper.work().failed == 1
    (parked,) = paper.dead_letters()
    assert (parked.endpoint_id, parked.attempts) == ("write", 1)
    with paper.app.app_context():
        paper.ecotone.get(Complaining).send_with_routing("own")
    assert paper.work().failed == 2
    assert (len(failed), len(paper.dead_letters())) == (1, 1)
    assert paper.stored() == []


def test_a_replayed_dead_letter_still_belongs_to_its_bus(paper: Book) -> None:
    """It fails again as its bus says, and succeeds in the end."""
    fails = [True, True]

    @asynchronous("outbox")
    @error_channel("dead_letter")
    class Parking(CommandBus):
        pass

    @command_handler(endpoint_id="write")
    def write(command: Write) -> None:
        if fails:
            raise ValueError(fails.pop())
        paper.write(command.text)

    paper.ecotone.register(Parking, write)
    paper.send(Parking, Write("a"))
    for _ in range(2):
        assert paper.work().failed == 1
        (parked,) = paper.dead_letters()
        paper.app.extensions["ecotone"].messaging.dead_letters.replay(parked.id)
    assert paper.work().failed == 0
    assert paper.stored() == ["a"]


def test_messages_that_it_causes_are_not_of_the_bus(paper: Book) -> None:
    """What a handler sends over another bus is treated as that one says."""
    buses: list[t.Any] = []

    @asynchronous("later")
    @event_handler(endpoint_id="note")
    def note(event: Written, message: Message) -> None:
        buses.append(message.header("ecotone.bus"))

    @command_handler
    def write(command: Write, bus: EventBus, message: Message) -> None:
        buses.append(message.header("ecotone.bus"))
        bus.publish(Written("a"))

    paper.ecotone.register(OutboxCommandBus, write, note)
    paper.send(OutboxCommandBus, Write("a"))
    paper.work("outbox", "later")
    assert buses == [f"{__name__}:OutboxCommandBus", None]


def test_a_bus_that_is_gone_leaves_its_messages_to_the_handlers(
    sqlite_url: str,
) -> None:
    """A release without the bus handles what it had sent."""
    seen: list[str] = []

    def release(*registered: t.Any) -> Book:
        @command_handler(endpoint_id="write")
        def write(command: Write) -> None:
            seen.append(command.text)

        book = Book(sqlite_url)
        book.ecotone.register(write, *registered)
        with book.app.app_context():
            book.ecotone.compile()
        return book

    release(OutboxCommandBus).send(OutboxCommandBus, Write("a"))
    assert release().work().handled == 1
    assert seen == ["a"]


def test_instant_retries_and_transactions_are_those_of_the_worker(book: Book) -> None:
    """Each attempt with a fresh transaction, or without one."""
    seen: list[bool] = []

    @asynchronous("outbox")
    @instant_retry(2)
    class Trying(EventBus):
        pass

    @asynchronous("outbox", execution=[WithoutTransaction()])
    class Free(EventBus):
        pass

    @event_handler
    def note(event: Written) -> None:
        seen.append(book.db.session().in_transaction())
        book.write(event.text)
        book.db.session.flush()
        if len(seen) < 3:
            raise ValueError("no ink")
        book.db.session.commit()

    book.ecotone.register(Trying, Free, note)
    book.send(Trying, Written("a"))
    assert book.work().failed == 0
    assert len(seen) == 3
    assert seen[-1]
    book.send(Free, Written("b"))
    book.work()
    assert seen[3:] == [False]
    assert book.stored() == ["a", "b"]


def test_interceptors_of_the_bus_run_where_it_sends(paper: Book) -> None:
    """Those of the handler run in the worker, whatever the bus."""
    seen: list[str] = []

    @command_handler
    def write(command: Write) -> str:
        seen.append("handler")
        return "written"

    @before(pointcut=OutboxCommandBus)
    def of_bus(command: Write) -> Write:
        seen.append("bus")
        return Write(f"{command.text}!")

    @presend(pointcut=write)
    def sending(command: Write) -> None:
        seen.append(f"sending {command.text}")

    @after(pointcut=write)
    def done(reply: str) -> None:
        seen.append(reply)

    paper.ecotone.register(OutboxCommandBus, write, of_bus, sending, done)
    paper.send(OutboxCommandBus, Write("a"))
    assert seen == ["bus"]
    paper.work()
    assert seen == ["bus", "sending a!", "handler", "written"]


def test_a_key_is_noted_where_the_bus_sends(book: Book) -> None:
    """A repeated message doesn't travel; a rollback takes back note and message."""

    @command_handler
    def write(command: Write) -> None:
        book.write(command.text)

    @command_handler("both")
    def both(fails: bool, bus: Once) -> None:
        bus.send(Write("a"))
        if fails:
            raise ValueError("no ink")

    book.ecotone.register(Once, write, both)
    with book.app.app_context():
        with pytest.raises(ValueError, match="no ink"):
            command_bus.send_with_routing("both", True)
        command_bus.send_with_routing("both", False)
        with pytest.raises(DuplicateMessageError, match="Once has handled"):
            book.ecotone.get(Once).send(Write("a"))
    assert book.waiting() == (1, 0)
    book.work()
    assert book.stored() == ["a"]


def test_a_message_that_a_worker_has_twice_is_handled_once(book: Book) -> None:
    """Deduplication of the worker is the same as for other messages."""

    @command_handler(endpoint_id="write")
    def write(command: Write) -> None:
        book.write(command.text)

    book.ecotone.register(OutboxCommandBus, write)
    for text in ("a", "b"):
        book.send(OutboxCommandBus, Write(text), id="same")
    assert book.work().handled == 2
    assert book.stored() == ["a"]


def test_the_headers_can_be_spoilt(paper: Book) -> None:
    """A message whose headers can't be read is parked, and others pass."""

    @command_handler(endpoint_id="write")
    def write(command: Write) -> None:
        paper.write(command.text)

    paper.ecotone.register(OutboxCommandBus, write)
    paper.send(OutboxCommandBus, Write("a"))
    with paper.app.app_context():
        with paper.db.engine.begin() as connection:
            spoilt = '{"ecotone.bus": '
            connection.execute(
                sa.text("UPDATE ecotone_message SET headers = :h"), {"h": spoilt}
            )
    paper.send(OutboxCommandBus, Write("b"))
    outcome = paper.work()
    assert (outcome.handled, outcome.failed) == (1, 1)
    assert paper.stored() == ["b"]
    assert len(paper.dead_letters()) == 1


def test_a_flow_test_runs_the_channel_of_a_bus() -> None:
    """Without channels it sends at once, as asynchronous handlers run at once."""
    seen: list[str] = []

    @command_handler
    def write(command: Write) -> None:
        seen.append(command.text)

    @asynchronous("outbox")
    @delayed(timedelta(hours=1))
    @deduplicated(key="payload.text")
    class Slow(CommandBus):
        pass

    flow = flow_testing([write, OutboxCommandBus, Slow], asynchronous=True)
    flow.gateway(OutboxCommandBus).send(Write("a"))
    assert flow.waiting_in("outbox") == 1
    flow.run("outbox")
    for _ in range(2):
        flow.gateway(Slow).send(Write("b"))
    flow.run("outbox")
    assert seen == ["a"]
    flow.advance_time(timedelta(hours=2)).run("outbox")
    assert seen == ["a", "b"]
    plain = flow_testing([write, OutboxCommandBus])
    plain.gateway(OutboxCommandBus).send(Write("c"))
    assert seen == ["a", "b", "c"]


def test_what_can_not_work_does_not_compile(sqlite_url: str) -> None:
    """Each with the reason and what to do."""

    @asynchronous("outbox")
    class Questions(QueryBus):
        pass

    @asynchronous("nowhere")
    class Lost(CommandBus):
        pass

    @error_channel("dead_letter")
    class Synchronous(EventBus):
        pass

    @asynchronous("outbox")
    @error_channel("dead_letter")
    @delayed_retry(5)
    class Twofold(CommandBus):
        pass

    @asynchronous("outbox")
    @error_channel("nobody")
    class Unheard(CommandBus):
        pass

    @asynchronous("outbox")
    @deduplicated(key="key", on_duplicate="return_cached")
    class Silent(CommandBus):
        pass

    @asynchronous("outbox")
    class Desk(t.Protocol):
        @business_method("ask")
        def ask(self) -> str: ...

    @query_handler("ask")
    def ask() -> str:
        return "open"

    for marked, message in (
        (Questions, "a query is answered at once"),
        (Lost, "'nowhere' was not provided"),
        (Synchronous, "it is not asynchronous: its caller gets"),
        (Twofold, "both @delayed_retry and @error_channel"),
        (Unheard, "names the error channel 'nobody'"),
        (Silent, "what it sends returns nothing"),
        (Desk, "business interface .*Desk .* has @asynchronous"),
    ):
        book = Book(sqlite_url)
        book.ecotone.register(marked, ask)
        with book.app.app_context():
            with pytest.raises(ConfigurationError, match=message):
                book.ecotone.compile()
