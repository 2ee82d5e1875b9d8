"""Messages that pass an outbox on their way to another channel."""

from __future__ import annotations

import typing as t
from collections.abc import Sequence
from dataclasses import dataclass

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
from flask_ecotone import Message
from flask_ecotone.channels import CombinedChannel
from flask_ecotone.channels.memory import MemoryQueue
from flask_ecotone.channels.protocols import Envelope
from flask_ecotone.consuming import Limits
from flask_ecotone.consuming import Outcome
from flask_ecotone.storage.tables import messages


class Broker(MemoryQueue):
    """A channel in another system, which is away at times."""

    is_away = False

    def send(self, envelopes: Sequence[Envelope]) -> None:
        if self.is_away:
            raise ConnectionError("the broker is away")
        super().send(envelopes)


@dataclass
class BrokerChannel:
    """What an application says about it."""

    name: str

    def open(self, surroundings: t.Any) -> Broker:
        return Broker(self.name)


class Post:
    """An application that sends over an outbox to a database and to memory."""

    def __init__(self, url: str) -> None:
        self.app = app = Flask("post")
        app.config["SQLALCHEMY_DATABASE_URI"] = url
        app.config["ECOTONE_CACHE_CONFIGURATION"] = False
        self.db = SQLAlchemy(app)
        self.seen: list[Message] = []

        @asynchronous("letters")
        @command_handler("letter", endpoint_id="letter")
        def letter(message: Message) -> None:
            self.seen.append(message)

        @asynchronous("cards")
        @command_handler("card", endpoint_id="card")
        def card(message: Message) -> None:
            self.seen.append(message)

        @asynchronous("cards")
        @delayed_retry(0, max_attempts=2)
        @command_handler("parcel", endpoint_id="parcel")
        def parcel(message: Message) -> None:
            self.seen.append(message)
            raise ValueError("no string")

        self.ecotone = Ecotone(
            packages=[],
            channels=[
                DatabaseChannel("outbox", batch=50),
                DatabaseChannel("abroad"),
                BrokerChannel("near"),
                CombinedChannel("letters", ["outbox", "abroad"]),
                CombinedChannel("cards", ["outbox", "near"]),
            ],
        )
        self.ecotone.register(letter, card, parcel)
        self.ecotone.init_app(app)
        with app.app_context():
            self.ecotone.compile()
            self.engine = self.db.engine
        self.messaging = app.extensions["ecotone"].messaging

    def send(self, to: str, *numbers: int) -> None:
        """Send a message for each number."""
        with self.app.app_context():
            for number in numbers:
                command_bus.send_with_routing(to, number, metadata={"user": "ann"})

    def work(self, channel: str) -> Outcome:
        """Let a worker empty a channel."""
        limits = Limits(finishes_when_empty=True)
        return t.cast(Outcome, self.messaging.worker([channel], limits=limits).run())

    def ready(self, channel: str) -> int:
        """How many messages can be claimed."""
        source = self.messaging.channels.get(channel).sources()[0]
        return t.cast(int, source.status().ready)


@pytest.fixture
def post(database_url: str) -> Post:
    """An application on SQLite, PostgreSQL and MariaDB in turn."""
    return Post(database_url)


def test_a_message_arrives_as_it_was_sent(post: Post) -> None:
    """Over the outbox, in the same order, with the same headers."""
    post.send("letter", *range(5))
    assert (post.ready("outbox"), post.ready("abroad")) == (5, 0)
    sent = post.work("outbox")
    assert (sent.handled, sent.failed) == (5, 0)
    assert (post.ready("outbox"), post.ready("abroad")) == (0, 5)
    assert post.seen == []
    assert post.work("abroad").handled == 5
    assert [message.payload for message in post.seen] == list(range(5))
    assert {message.headers["user"] for message in post.seen} == {"ann"}


def test_another_kind_of_channel_gets_them_too(post: Post) -> None:
    """What isn't in the database is sent, too, and in the same round."""
    post.send("card", 1, 2)
    post.send("letter", 3)
    assert post.work("outbox").handled == 3
    assert (post.ready("near"), post.ready("abroad")) == (2, 1)
    assert post.work("near").handled == 2


def test_what_cannot_be_sent_on_stays_in_the_outbox(post: Post) -> None:
    """Messages leave it only when the next channel has them."""
    post.send("card", 1, 2)
    near = post.messaging.channels.get("near")
    near.is_away = True
    outcome = post.work("outbox")
    assert (outcome.handled, outcome.failed) == (0, 2)
    status = post.messaging.channels.get("outbox").sources()[0].status()
    assert status.delayed == 2
    near.is_away = False
    with post.engine.begin() as connection:
        connection.execute(sa.update(messages).values(due_at=0))
    assert post.work("outbox").handled == 2
    assert post.ready("near") == 2


def test_what_failed_on_the_way_is_no_failure_of_the_handler(post: Post) -> None:
    """That has all of its retries when the message arrives."""
    post.send("parcel", 1)
    near = post.messaging.channels.get("near")
    near.is_away = True
    for _ in range(2):
        assert post.work("outbox").failed == 1
        with post.engine.begin() as connection:
            connection.execute(sa.update(messages).values(due_at=0))
    near.is_away = False
    assert post.work("outbox").handled == 1
    assert post.work("near").failed == len(post.seen) == 3
    (parked,) = post.messaging.dead_letters.list()
    assert (parked.endpoint_id, parked.attempts) == ("parcel", 3)


def test_a_lost_lease_holds_up_no_other_message(post: Post) -> None:
    """Those that are still ours go with the next ones, and nothing goes twice."""
    post.send("letter", *range(4))
    source = post.messaging.channels.get("outbox").sources()[0]
    claim = source.claim
    stolen: list[int] = []

    def claim_and_lose(limit: int) -> t.Any:
        claimed = claim(limit)
        if claimed and not stolen:
            stolen.append(claimed[0].position)
            with post.engine.begin() as connection:
                theirs = sa.update(messages).where(messages.c.id == stolen[0])
                connection.execute(theirs.values(token="somebody else's"))
        return claimed

    source.claim = claim_and_lose
    outcome = post.work("outbox")
    assert (outcome.handled, outcome.failed) == (3, 4)
    assert (post.ready("outbox"), post.ready("abroad")) == (0, 3)
    with post.engine.connect() as connection:
        held = sa.select(messages.c.id).where(messages.c.token.is_not(None))
        assert connection.scalars(held).all() == stolen


def test_a_channel_that_was_taken_away_stops_nobody(post: Post) -> None:
    """What is on its way to it is tried again later, and its neighbours pass."""
    post.send("card", 1)
    post.send("letter", 2)
    channels = post.messaging.channels
    del channels._opened["near"]
    outcome = post.work("outbox")
    assert (outcome.handled, outcome.failed) == (1, 1)
    assert channels.get("outbox").sources()[0].status().delayed == 1
    assert post.ready("abroad") == 1


def test_a_lost_lease_of_what_cannot_be_sent_on_stops_nobody(post: Post) -> None:
    """Somebody else has the message now, and decides."""
    post.send("card", 1)
    near = post.messaging.channels.get("near")

    def lose_and_fail(envelopes: t.Any) -> None:
        raise OSError("gone")

    source = post.messaging.channels.get("outbox").sources()[0]
    requeue = source.requeue

    def requeue_late(*arguments: t.Any) -> None:
        with post.engine.begin() as connection:
            connection.execute(sa.update(messages).values(token="somebody else's"))
        requeue(*arguments)

    near.send = lose_and_fail
    source.requeue = requeue_late
    outcome = post.work("outbox")
    assert (outcome.failed, outcome.reason) == (1, "no messages")
