"""A signal may come while a worker gives back what it has claimed."""

from __future__ import annotations

import typing as t

import pytest

from flask_ecotone import asynchronous
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone.channels.database_source import DatabaseSource
from flask_ecotone.consuming import Stopping

from .book import Book


class Signal(BaseException):
    """What the handler of a signal raises."""


def test_what_a_signal_breaks_off_is_done_at_the_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have the messages at once, and not when the lease is over."""
    book, stopping = Book(database_url), Stopping()

    @asynchronous("outbox")
    @command_handler("write", endpoint_id="write")
    def write(text: str) -> None:
        book.write(text)
        stopping.request()

    book.ecotone.register(write)
    with book.app.app_context():
        for text in "abc":
            book.ecotone.get(CommandBus).send_with_routing("write", text)
    release = DatabaseSource.release
    broken_off: list[int] = []

    def break_off(source: t.Any, deliveries: t.Any) -> None:
        if not broken_off:
            broken_off.append(len(deliveries))
            raise Signal
        release(source, deliveries)

    monkeypatch.setattr(DatabaseSource, "release", break_off)
    messaging = book.app.extensions["ecotone"].messaging
    with pytest.raises(Signal):
        messaging.worker(["outbox"], stopping=stopping).run()
    assert broken_off == [2]
    assert book.stored() == ["a"]
    assert book.waiting() == (2, 0)
