"""A repeated message gets what the first one returned."""

from __future__ import annotations

import typing as t
import uuid
from dataclasses import dataclass
from dataclasses import field

import pytest
from sqlalchemy.orm import Mapped
from sqlalchemy.orm import mapped_column

from flask_ecotone import after
from flask_ecotone import aggregate
from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import deduplicated
from flask_ecotone import event_handler
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import ConversionError
from flask_ecotone.errors import DuplicateMessageError
from flask_ecotone.testing import flow_testing

from ..unit_of_work.notebook import Notebook

cached = deduplicated(key="key", on_duplicate="return_cached")
KEY = {"key": "k"}


@dataclass
class Receipt:
    number: int
    id: uuid.UUID = field(default_factory=uuid.uuid4)


def twice(notebook: Notebook, name: str = "pay") -> list[t.Any]:
    """Send a message twice, and return both answers."""
    answers = []
    for _ in range(2):
        with notebook.app.app_context():
            answers.append(command_bus.send_with_routing(name, metadata=KEY))
    return answers


def test_the_reply_is_that_of_the_first_one(notebook: Notebook) -> None:
    """Of the class that the handler promises, items included."""

    @cached
    @command_handler("pay")
    def pay() -> list[Receipt]:
        return [Receipt(1), Receipt(2)]

    notebook.ecotone.register(pay)
    first, second = twice(notebook)
    assert first == second
    assert isinstance(second[0], Receipt)


@pytest.mark.parametrize(
    "reply",
    [
        None,
        "text",
        "",
        0,
        True,
        1.5,
        b"bytes",
        [1, "a", None],
        {"a": [1]},
        (1, 2),
        {1, 2},
        uuid.uuid4(),
        Receipt(3),
    ],
    ids=lambda reply: type(reply).__name__,
)
def test_a_reply_that_nobody_promised_keeps_its_class(
    paper: Notebook, reply: t.Any
) -> None:
    """It is noted with the reply."""

    @cached
    @command_handler("pay")
    def pay() -> t.Any:
        return reply

    paper.ecotone.register(pay)
    first, second = twice(paper)
    assert first == second == reply
    assert type(first) is type(second)


def test_a_large_reply_is_kept(notebook: Notebook) -> None:
    """Whatever the column of the database."""

    @cached
    @command_handler("pay")
    def pay() -> str:
        return "€" * 200_000

    notebook.ecotone.register(pay)
    assert twice(notebook) == ["€" * 200_000] * 2


def test_a_new_aggregate_answers_its_identifier(notebook: Notebook) -> None:
    """A UUID stays a UUID."""

    @aggregate
    class Order(notebook.db.Model):  # type: ignore[name-defined, misc, unused-ignore]
        __tablename__ = "orders"
        id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4)

        @cached
        @command_handler("place")
        @classmethod
        def place(cls) -> t.Self:
            return cls()

    notebook.ecotone.register(Order)
    with notebook.app.app_context():
        notebook.db.create_all()
    first, second = twice(notebook, "place")
    assert isinstance(first, uuid.UUID)
    assert first == second
    with notebook.app.app_context():
        assert notebook.db.session.query(Order).count() == 1


def test_what_an_interceptor_made_of_it_is_kept(paper: Notebook) -> None:
    """Whatever the handler itself promises."""

    @cached
    @command_handler("pay")
    def pay() -> Receipt:
        return Receipt(1)

    @after(pointcut=pay)
    def shorten(receipt: Receipt) -> int:
        return receipt.number

    paper.ecotone.register(pay, shorten)
    assert twice(paper) == [1, 1]


def test_what_is_no_json_undoes_the_command(notebook: Notebook) -> None:
    """The error says what to return, and the key is free."""

    @cached
    @command_handler("pay", endpoint_id="pay")
    def pay() -> t.Any:
        note = notebook.Note(text="paid")
        notebook.db.session.add(note)
        return note

    notebook.ecotone.register(pay)
    for _ in range(2):
        with notebook.app.app_context():
            with pytest.raises(ConversionError, match="What pay returned can't be"):
                command_bus.send_with_routing("pay", metadata=KEY)
    assert notebook.stored() == []


def test_replies_that_were_not_kept_are_not_known(notebook: Notebook) -> None:
    """A release that keeps them raises for keys that an earlier one noted."""

    def application(on_duplicate: t.Any) -> Notebook:
        @deduplicated(key="key", on_duplicate=on_duplicate)
        @command_handler("pay", endpoint_id="pay")
        def pay() -> str:
            return "paid"

        book = Notebook(notebook.url)
        book.ecotone.register(pay)
        return book

    assert twice(application("skip")) == ["paid", None]
    with pytest.raises(DuplicateMessageError, match="replies weren't kept then"):
        twice(application("return_cached"))


def test_where_nobody_waits_no_reply_is_kept() -> None:
    """Events and asynchronous handlers are refused."""

    @cached
    @event_handler("paid")
    def on_paid() -> None:
        pass

    @cached
    @asynchronous("tills")
    @command_handler("pay")
    def pay() -> None:
        pass

    for handler in (on_paid, pay):
        with pytest.raises(ConfigurationError, match="nobody waits for what it"):
            flow_testing([handler])
