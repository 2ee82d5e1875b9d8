"""How long messages live: from the first channel to the last attempt."""

from __future__ import annotations

import datetime
import typing as t

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import DatabaseChannel
from flask_ecotone import delayed_retry
from flask_ecotone import Ecotone
from flask_ecotone import InMemoryChannel
from flask_ecotone import time_to_live
from flask_ecotone.channels import CombinedChannel
from flask_ecotone.consuming import Limits
from flask_ecotone.consuming import Outcome
from flask_ecotone.storage.tables import messages

HOUR = 3_600_000


class Newsroom:
    """An application whose news are soon old."""

    def __init__(self, url: str) -> None:
        self.app = app = Flask("newsroom")
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.db = SQLAlchemy(app)
        self.seen: list[str] = []
        self.fails = False

        def print_news(text: str) -> None:
            self.seen.append(text)
            if self.fails:
                raise OSError("no paper")

        @asynchronous("far")
        @time_to_live(datetime.timedelta(milliseconds=HOUR))
        @command_handler("send.far", endpoint_id="send.far")
        def send_far(text: str) -> None:
            print_news(text)

        @asynchronous("near")
        @time_to_live(datetime.timedelta(milliseconds=HOUR))
        @command_handler("send.near", endpoint_id="send.near")
        def send_near(text: str) -> None:
            print_news(text)

        @asynchronous("press")
        @time_to_live(datetime.timedelta(milliseconds=HOUR))
        @delayed_retry(datetime.timedelta(minutes=1), max_attempts=9)
        @command_handler("print", endpoint_id="print")
        def print_(text: str) -> None:
            print_news(text)

        @asynchronous("press")
        @time_to_live(datetime.timedelta(milliseconds=HOUR))
        @delayed_retry(datetime.timedelta(hours=2), max_attempts=9)
        @command_handler("print.rarely", endpoint_id="print.rarely")
        def print_rarely(text: str) -> None:
            print_news(text)

        self.ecotone = Ecotone(
            packages=[],
            channels=[
                DatabaseChannel("outbox"),
                DatabaseChannel("press"),
                DatabaseChannel("abroad"),
                InMemoryChannel("memory"),
                CombinedChannel("far", ["outbox", "abroad"]),
                CombinedChannel("near", ["outbox", "memory"]),
            ],
        )
        self.ecotone.register(send_far, send_near, print_, print_rarely)
        self.ecotone.init_app(app)
        with app.app_context():
            self.ecotone.compile()
            self.engine = self.db.engine
        self.messaging = app.extensions["ecotone"].messaging

    def send(self, to: str, *texts: str, **metadata: t.Any) -> None:
        """Send messages in one transaction."""
        with self.app.app_context():
            if len(texts) > 1:
                self.db.session.execute(sa.text("SELECT 1"))
            for text in texts:
                command_bus.send_with_routing(to, text, metadata=metadata)
            self.db.session.commit()

    def work(self, channel: str) -> Outcome:
        """Let a worker empty a channel."""
        limits = Limits(finishes_when_empty=True)
        return t.cast(Outcome, self.messaging.worker([channel], limits=limits).run())

    def stored(self) -> list[t.Any]:
        """The messages in the database."""
        with self.engine.connect() as connection:
            return list(connection.execute(sa.select(messages)))

    def let_pass(self, milliseconds: int) -> None:
        """Let messages in the database grow older."""
        older = sa.update(messages).values(
            created_at=messages.c.created_at - milliseconds,
            due_at=messages.c.due_at - milliseconds,
            expires_at=messages.c.expires_at - milliseconds,
        )
        with self.engine.begin() as connection:
            connection.execute(older)


@pytest.fixture
def newsroom(database_url: str) -> Newsroom:
    """An application on SQLite, PostgreSQL and MariaDB in turn."""
    return Newsroom(database_url)


@pytest.mark.parametrize("texts", [["war"], ["war", "peace"]], ids=["one", "many"])
def test_a_relay_keeps_when_a_message_expires(
    newsroom: Newsroom, texts: list[str]
) -> None:
    """What waited in the outbox has the rest of its life in the next channel."""
    newsroom.send("send.far", *texts)
    newsroom.let_pass(HOUR // 2)
    before = [row.expires_at for row in newsroom.stored()]
    assert newsroom.work("outbox").handled == len(texts)
    assert [row.expires_at for row in newsroom.stored()] == before
    newsroom.let_pass(HOUR // 2)
    assert newsroom.work("abroad").handled == 0
    assert newsroom.seen == []
    assert newsroom.stored() == []


def test_a_relay_into_memory_keeps_when_a_message_expires(newsroom: Newsroom) -> None:
    """Another kind of channel forgets it at the same time."""
    newsroom.send("send.near", "war")
    (row,) = newsroom.stored()
    newsroom.work("outbox")
    memory = newsroom.messaging.channels.get("memory")
    assert memory.status().ready == 1
    memory.now = lambda: row.expires_at / 1000 - 1
    assert memory.status().ready == 1
    memory.now = lambda: row.expires_at / 1000 + 1
    assert memory.status().ready == 0


def test_a_retry_keeps_when_a_message_expires(newsroom: Newsroom) -> None:
    """What failed is tried again as long as it lives, and not beyond that."""
    newsroom.fails = True
    newsroom.send("print", "war")
    (sent,) = newsroom.stored()
    newsroom.work("press")
    (failed,) = newsroom.stored()
    assert failed.expires_at == sent.expires_at
    newsroom.let_pass(HOUR // 2)
    newsroom.work("press")
    newsroom.let_pass(HOUR // 2)
    newsroom.work("press")
    assert newsroom.seen == ["war", "war"]
    assert newsroom.stored() == []


def test_what_expires_before_its_retry_is_not_put_back(newsroom: Newsroom) -> None:
    """It failed for good, and isn't forgotten without a word."""
    newsroom.fails = True
    newsroom.send("print.rarely", "war")
    newsroom.work("press")
    assert newsroom.stored() == []
    (letter,) = newsroom.messaging.dead_letters.list()
    assert (letter.attempts, letter.error_message) == (1, "no paper")


def test_a_replayed_dead_letter_does_not_expire(newsroom: Newsroom) -> None:
    """Whoever replays it wants it handled, however old it is."""
    newsroom.fails = True
    newsroom.send("print.rarely", "war")
    newsroom.work("press")
    newsroom.fails = False
    (letter,) = newsroom.messaging.dead_letters.list()
    newsroom.messaging.dead_letters.replay(letter.id)
    (row,) = newsroom.stored()
    assert row.expires_at is None
    newsroom.let_pass(9 * HOUR)
    assert newsroom.work("press").handled == 1
    assert newsroom.seen == ["war", "war"]


@pytest.mark.parametrize("texts", [["war"], ["war", "peace"]], ids=["one", "many"])
def test_a_lifetime_begins_when_a_message_is_due(
    newsroom: Newsroom, texts: list[str]
) -> None:
    """The wait until a moment doesn't count."""
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    newsroom.send("print", *texts, deliveryDelay=moment)
    for row in newsroom.stored():
        assert row.expires_at == row.due_at + HOUR
