"""What may be expected of a queue, whichever system it comes from."""

from __future__ import annotations

import datetime
import enum
import json
import typing as t
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import Ecotone
from flask_ecotone import event_handler
from flask_ecotone import media_type_converter
from flask_ecotone import Message
from flask_ecotone.channels import InMemoryChannel
from flask_ecotone.conversion import MediaType
from flask_ecotone.errors import ConversionError
from flask_ecotone.storage.tables import messages


@dataclass
class Fly:
    to: str


@dataclass
class Landed:
    at: str


class Colour(enum.StrEnum):
    BLUE = "blue"


@media_type_converter
class Semicolons:
    """Reads and writes lists of text."""

    def matches(
        self,
        source_type: t.Any,
        source_media_type: MediaType,
        target_type: t.Any,
        target_media_type: MediaType,
    ) -> bool:
        """Whether one side is such a list in writing."""
        return "text/semicolons" in (
            source_media_type.essence,
            target_media_type.essence,
        )

    def convert(
        self,
        source: t.Any,
        source_type: t.Any,
        source_media_type: MediaType,
        target_type: t.Any,
        target_media_type: MediaType,
    ) -> t.Any:
        """Convert from or to such a list."""
        if source_media_type.essence == "text/semicolons":
            return source.split(";")
        return ";".join(source)


class Loft:
    """An application that keeps the messages its pigeons carried."""

    def __init__(self, url: str, channel: t.Any = None, **config: t.Any) -> None:
        self.app = app = Flask("loft")
        app.config.update(config)
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["SQLALCHEMY_BINDS"] = {"queues": "sqlite://"}
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.db = SQLAlchemy(app)
        self.seen: list[tuple[str, t.Any, Message]] = []
        self.failures = 0
        channel = channel or DatabaseChannel("pigeons")
        self.ecotone = Ecotone(packages=[], channels=[channel])
        self.ecotone.register(*self._handlers(), Semicolons)
        self.ecotone.init_app(app)
        with app.app_context():
            self.db.create_all()
            self.ecotone.compile()

    def _handlers(self) -> list[t.Any]:
        seen = self.seen

        @asynchronous("pigeons")
        @command_handler(endpoint_id="fly")
        def fly(command: Fly, message: Message) -> None:
            seen.append(("fly", command, message))
            if self.failures:
                self.failures -= 1
                raise ValueError("a falcon")

        @asynchronous("pigeons")
        @command_handler("rest", endpoint_id="rest")
        def rest(message: Message) -> None:
            seen.append(("rest", message.payload, message))

        @asynchronous("pigeons")
        @command_handler("feed", endpoint_id="feed")
        def feed(grains: list[str], message: Message) -> None:
            seen.append(("feed", grains, message))

        @asynchronous("pigeons")
        @command_handler("coo", endpoint_id="coo")
        def coo(text: str, message: Message) -> None:
            seen.append(("coo", text, message))

        @asynchronous("pigeons")
        @event_handler(endpoint_id="count")
        def count(event: Landed, message: Message) -> None:
            seen.append(("count", event, message))

        @asynchronous("pigeons")
        @event_handler(endpoint_id="clean")
        def clean(event: Landed, message: Message) -> None:
            seen.append(("clean", event, message))

        @asynchronous("pigeons")
        @command_handler("drop", endpoint_id="drop")
        def drop(data: bytes, message: Message) -> None:
            seen.append(("drop", data, message))

        @asynchronous("pigeons")
        @command_handler("whatever", endpoint_id="whatever")
        def whatever(payload: t.Any, message: Message) -> None:
            seen.append(("whatever", payload, message))

        return [fly, rest, feed, coo, count, clean, drop, whatever]

    def send(self, command: t.Any, **headers: t.Any) -> None:
        with self.app.app_context():
            self.ecotone.command_bus.send(command, headers)

    def route(self, key: str, *payload: t.Any, **options: t.Any) -> None:
        with self.app.app_context():
            self.ecotone.command_bus.send_with_routing(key, *payload, **options)

    def run(self, *options: str) -> str:
        """Run a worker as at the terminal, until nothing is left."""
        return self.command("run", "pigeons", "--finish-when-no-messages", *options)

    def command(self, *arguments: str) -> str:
        """Run a command of ``flask ecotone``."""
        result = self.app.test_cli_runner().invoke(args=["ecotone", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    def stored(self) -> list[t.Any]:
        """The messages that lie in the channel, read on a connection of its own."""
        query = sa.select(messages).order_by(messages.c.id)
        with self.app.app_context(), self.db.engine.connect() as connection:
            return list(connection.execute(query))


@pytest.fixture
def loft(database_url: str) -> Loft:
    """A loft on SQLite, PostgreSQL and MariaDB in turn."""
    return Loft(database_url)


def test_an_empty_channel_is_no_failure(loft: Loft) -> None:
    """A worker that finds nothing ends well."""
    assert "Stopped (no messages): 0 messages handled, 0 failed." in loft.run()


@pytest.mark.parametrize(
    "channel",
    [
        DatabaseChannel("pigeons"),
        DatabaseChannel("pigeons", bind="queues"),
        InMemoryChannel("pigeons"),
    ],
    ids=["database", "bind", "memory"],
)
def test_a_message_comes_out_as_it_went_in(database_url: str, channel: t.Any) -> None:
    """Payload, id, timestamp and headers; the channel tells its name, and the message
    in which media type it came.
    """
    loft = Loft(database_url, channel)
    loft.send(Fly("home"), ring="blue", id="pigeon-1", timestamp=1_700_000_000)
    loft.run()
    ((_, command, message),) = loft.seen
    assert command == Fly("home")
    assert message.headers.message_id == "pigeon-1"
    assert message.headers.timestamp == 1_700_000_000
    assert message.headers["ring"] == "blue"
    assert message.headers["polledChannelName"] == "pigeons"
    assert message.headers["contentType"] == "application/json"


def test_a_message_is_stored_for_others_to_read(loft: Loft) -> None:
    """The body is JSON, and the headers say so."""
    loft.send(Fly("home"))
    (row,) = loft.stored()
    headers = json.loads(row.headers)
    assert headers["contentType"] == "application/json"
    assert headers["id"] == row.message_id
    assert json.loads(row.body) == {"to": "home"}


def test_a_handled_message_is_gone(loft: Loft) -> None:
    """The second run has nothing to do."""
    loft.send(Fly("home"))
    loft.run()
    assert "0 messages handled" in loft.run()
    assert len(loft.seen) == 1


def test_a_command_without_payload(loft: Loft) -> None:
    """The name alone is a message."""
    loft.route("rest")
    loft.run()
    assert [name for name, _, _ in loft.seen] == ["rest"]


def test_a_list_as_payload(loft: Loft) -> None:
    """It is written as JSON and read as what the handler takes."""
    loft.route("feed", ["corn", "peas"])
    assert json.loads(loft.stored()[0].body) == ["corn", "peas"]
    loft.run()
    assert [payload for _, payload, _ in loft.seen] == [["corn", "peas"]]


def test_text_that_is_json_already_stays_as_it_is(loft: Loft) -> None:
    """It isn't written as JSON once more; its media type is said by the sender."""
    loft.route("feed", '["corn"]', media_type="application/json")
    (row,) = loft.stored()
    assert bytes(row.body) == b'["corn"]'
    assert json.loads(row.headers)["contentType"] == "application/json"
    loft.run()
    ((_, payload, message),) = loft.seen
    assert payload == ["corn"]
    assert message.headers["contentType"] == "application/json"


def test_plain_text_comes_out_as_plain_text(loft: Loft) -> None:
    """Whatever is in it."""
    loft.route("coo", '"ruckedigu" 🐦')
    assert bytes(loft.stored()[0].body) == '"ruckedigu" 🐦'.encode()
    loft.run()
    ((_, payload, message),) = loft.seen
    assert payload == '"ruckedigu" 🐦'
    assert message.headers["contentType"] == "text/plain"


@pytest.mark.parametrize("media_type", [None, "image/png"])
def test_bytes_come_out_as_bytes(loft: Loft, media_type: str | None) -> None:
    """They are stored as they are, and keep the media type that the sender said."""
    data = bytes(range(256))
    loft.route("drop", data, media_type=media_type)
    assert bytes(loft.stored()[0].body) == data
    loft.run()
    ((_, payload, message),) = loft.seen
    assert payload == data
    said = media_type or "application/octet-stream"
    assert message.headers["contentType"] == said


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (Fly("home"), Fly("home")),
        (Colour.BLUE, Colour.BLUE),
        ("blue", "blue"),
        ("", ""),
        (b"\xff", b"\xff"),
        ({"to": "home"}, {"to": "home"}),
        (7, 7),
    ],
)
def test_an_object_is_not_read_twice(loft: Loft, sent: t.Any, received: t.Any) -> None:
    """A handler that takes anything gets the object, whatever it was written in."""
    loft.route("whatever", sent)
    loft.run()
    assert [(p, type(p)) for _, p, _ in loft.seen] == [(received, type(received))]


def test_an_object_is_written_in_the_media_type_that_is_asked_for(loft: Loft) -> None:
    """By the converter of the application, which reads it as well."""
    loft.route("feed", ["corn", "peas"], media_type="text/semicolons")
    assert bytes(loft.stored()[0].body) == b"corn;peas"
    loft.run()
    ((_, payload, message),) = loft.seen
    assert payload == ["corn", "peas"]
    assert message.headers["contentType"] == "text/semicolons"


def test_objects_are_written_in_the_media_type_of_the_application(
    sqlite_url: str,
) -> None:
    """Unless the sender says another one; text stays as it is."""
    key = "ECOTONE_DEFAULT_SERIALIZATION_MEDIA_TYPE"
    loft = Loft(sqlite_url, **{key: "text/semicolons"})
    loft.route("feed", ["corn", "peas"])
    loft.route("coo", "ruckedigu")
    loft.route("feed", ["oats"], media_type="application/json")
    written = [b"corn;peas", b"ruckedigu", b'["oats"]']
    assert [bytes(row.body) for row in loft.stored()] == written
    loft.run()
    feeds = [["corn", "peas"], "ruckedigu", ["oats"]]
    assert [payload for _, payload, _ in loft.seen] == feeds
    types = [message.headers["contentType"] for _, _, message in loft.seen]
    assert types == ["text/semicolons", "text/plain", "application/json"]


def test_an_object_that_nothing_writes_is_refused(loft: Loft) -> None:
    """By the sender, and not by a worker later."""
    with pytest.raises(ConversionError, match=r"list.*text/csv.*@media_type_converter"):
        loft.route("feed", ["corn"], media_type="text/csv")
    assert loft.stored() == []


@pytest.mark.parametrize(
    ("media_type", "said"),
    [
        ("application/xml", "Can't read application/xml as Fly"),
        ("nonsense", "'nonsense' is not a media type"),
        (7, "7 is not a media type"),
    ],
)
def test_a_media_type_that_nothing_reads_is_a_dead_letter(
    loft: Loft, media_type: t.Any, said: str
) -> None:
    """It isn't tried again; the dead letter says which media type it is."""
    loft.send(Fly("home"))
    (row,) = loft.stored()
    headers = {**json.loads(row.headers), "contentType": media_type}
    with loft.app.app_context(), loft.db.engine.begin() as connection:
        connection.execute(sa.update(messages).values(headers=json.dumps(headers)))
    loft.run()
    assert (loft.stored(), loft.seen) == ([], [])
    (parked,) = json.loads(loft.command("deadletter", "list", "--json"))
    assert said in parked["error_message"]
    assert parked["attempts"] == 1
    shown = json.loads(loft.command("deadletter", "show", str(parked["id"]), "--json"))
    assert json.loads(shown["headers"])["contentType"] == media_type


def test_a_message_says_its_type(loft: Loft) -> None:
    """The class by its name, so that others can read it."""
    loft.send(Fly("home"))
    headers = json.loads(loft.stored()[0].headers)
    assert headers["__TypeId__"] == f"{Fly.__module__}:{Fly.__qualname__}"


def test_each_handler_of_an_event_has_a_message(loft: Loft) -> None:
    """A run of one message is a run of one handler."""
    with loft.app.app_context():
        loft.ecotone.event_bus.publish(Landed("home"))
    assert [row.endpoint_id for row in loft.stored()] == ["count", "clean"]
    for done in (["count"], ["count", "clean"]):
        loft.run("--handled-message-limit", "1")
        assert [name for name, _, _ in loft.seen] == done
    assert loft.stored() == []


@pytest.mark.parametrize(
    "in_an_hour",
    [
        lambda: 3_600_000,
        lambda: datetime.timedelta(hours=1),
        lambda: datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1),
    ],
    ids=["milliseconds", "timedelta", "datetime"],
)
def test_a_delay_is_given_with_the_message(
    loft: Loft, in_an_hour: Callable[[], t.Any]
) -> None:
    """In milliseconds, as a timedelta or as the moment when it is due."""
    loft.send(Fly("later"), deliveryDelay=in_an_hour())
    loft.send(Fly("now"))
    loft.run()
    assert [command for _, command, _ in loft.seen] == [Fly("now")]
    (row,) = loft.stored()
    assert 3_000_000 < row.due_at - row.created_at <= 3_600_000
    with loft.app.app_context(), loft.db.engine.begin() as connection:
        # An hour passes.
        past = messages.c.due_at - 3_600_000
        connection.execute(sa.update(messages).values(due_at=past))
    loft.run()
    assert [command for _, command, _ in loft.seen] == [Fly("now"), Fly("later")]


def test_a_dead_letter_comes_back_by_commands(loft: Loft) -> None:
    """It fails, is listed and put back; then it is handled from its channel (L-41)."""
    loft.failures = 4
    loft.send(Fly("home"))
    for _ in range(4):  # retries are due after seconds, which pass at once
        loft.run()
        with loft.app.app_context(), loft.db.engine.begin() as connection:
            past = messages.c.due_at - 3_600_000
            connection.execute(sa.update(messages).values(due_at=past))
    assert loft.stored() == []
    (parked,) = json.loads(loft.command("deadletter", "list", "--json"))
    assert (parked["error_message"], parked["attempts"]) == ("a falcon", 4)
    handled = len(loft.seen)
    loft.command("deadletter", "replay", str(parked["id"]))
    assert json.loads(loft.command("deadletter", "list", "--json")) == []
    assert (len(loft.stored()), len(loft.seen)) == (1, handled)
    assert "1 messages handled, 0 failed" in loft.run()
    assert (loft.stored(), len(loft.seen)) == ([], handled + 1)
    assert loft.seen[-1][2].headers["contentType"] == "application/json"
