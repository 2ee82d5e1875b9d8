"""Messages that nobody can handle: they cost the others nothing, and are kept."""

from __future__ import annotations

import os

import pytest
import sqlalchemy as sa

from flask_ecotone.errors import MessageDeliveryError
from flask_ecotone.storage.tables import messages

from ..processes import until
from .mailroom import Mailroom

_LARGE = 20_000_000
_POISON = (
    {"body": b"\xff\xfe{"},
    {"headers": "{"},
    {"headers": '{"__TypeId__": "nowhere:Nothing", "id": "x"}'},
    {"headers": '{"__TypeId__": "a\\u0000b:c", "id": "x"}'},
    {"attempts": 1000},
)


def test_a_flood_of_poison_stops_nobody(either_mailroom: Mailroom) -> None:
    """Each good message is handled once, each bad one is parked, in one process."""
    mailroom = either_mailroom
    rounds = 60 if os.environ.get("ECOTONE_FULL_LOAD") else 6
    for number in range(rounds):
        mailroom.publish(*range(number * 10, number * 10 + 10))
        mailroom.publish(-1, raises="ValueError", says="a \0 byte")
        mailroom.publish(*[-2] * len(_POISON))
        poison(mailroom)
    worker = mailroom.start("--threads", "2")
    until(lambda: mailroom.is_empty)
    assert worker.poll() is None
    assert "Stopped (asked to stop)" in mailroom.stop(worker)
    assert mailroom.numbers() == list(range(rounds * 10))
    assert len(mailroom.parked()) == rounds * (len(_POISON) + 1)


def poison(mailroom: Mailroom) -> None:
    """Spoil each of the last messages in another way."""
    with mailroom.engine.begin() as one:
        last = sa.select(messages.c.id).order_by(messages.c.id.desc())
        ids = one.scalars(last.limit(len(_POISON))).all()
        for values, id in zip(_POISON, ids, strict=True):
            changed = sa.update(messages).where(messages.c.id == id)
            one.execute(changed.values(**values))


def test_good_messages_come_first(either_mailroom: Mailroom) -> None:
    """A bad one takes its turn once before those behind it, and not three times."""
    mailroom = either_mailroom
    for number in range(20):
        mailroom.publish(-1, raises="ValueError")
        mailroom.publish(number)
    worker = mailroom.start("--handled-message-limit", "40")
    mailroom.finish(worker)
    # Some retries may have been due before the last good ones had their turn.
    assert mailroom.count() >= 10
    mailroom.start()
    until(lambda: mailroom.is_empty)
    assert mailroom.numbers() == list(range(20))
    assert len(mailroom.parked()) == 20


def test_large_messages_are_handled_or_refused(either_mailroom: Mailroom) -> None:
    """A database that would hang up says so when the message is sent."""
    mailroom = either_mailroom
    mailroom.publish(1)
    large = "x" * _LARGE
    is_refused = mailroom.engine.dialect.name in ("mysql", "mariadb")
    if is_refused:
        with pytest.raises(MessageDeliveryError, match="max_allowed_packet"):
            mailroom.publish(2, text=large)
    else:
        mailroom.publish(2, text=large)
        mailroom.publish(-1, raises="ValueError", text=large)
    mailroom.publish(3)
    worker = mailroom.start()
    until(lambda: mailroom.is_empty)
    assert "Stopped (asked to stop)" in mailroom.stop(worker)
    assert mailroom.numbers() == ([1, 3] if is_refused else [1, 2, 3])
    assert len(mailroom.parked()) == (0 if is_refused else 1)


def test_the_largest_message_that_is_taken_can_be_parked(mailroom: Mailroom) -> None:
    """Its failure needs room, too."""
    with mailroom.engine.connect() as one:
        limit = 16_000_000
        if one.dialect.name in ("mysql", "mariadb"):
            limit = one.exec_driver_sql("SELECT @@max_allowed_packet").scalar() or 0
    mailroom.publish(-1, raises="ValueError", text="x" * (limit // 2 - 251_000))
    mailroom.publish(1)
    worker = mailroom.start()
    until(lambda: mailroom.is_empty)
    assert "Stopped (asked to stop)" in mailroom.stop(worker)
    assert mailroom.numbers() == [1]
    assert len(mailroom.parked()) == 1
