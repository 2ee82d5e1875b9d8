"""What the key of a message can be."""

from __future__ import annotations

import datetime
import decimal
import enum
import typing as t
import uuid
from dataclasses import dataclass

import pytest

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import console_command
from flask_ecotone import converter
from flask_ecotone import deduplicated
from flask_ecotone import query_handler
from flask_ecotone import scheduled
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import HeaderNotFoundError
from flask_ecotone.errors import MessagingError
from flask_ecotone.testing import flow_testing

from ..unit_of_work.notebook import Notebook


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class OrderNumber:
    value: str


@converter
def to_text(number: OrderNumber) -> str:
    return number.value


def counted(key: t.Any) -> tuple[t.Any, list[t.Any]]:
    """Return a handler of ``pay`` with a key, and what it was called with."""
    seen: list[t.Any] = []

    @deduplicated(key=key)
    @command_handler("pay", endpoint_id="pay")
    def pay(value: object) -> None:
        seen.append(value)

    return pay, seen


@pytest.mark.parametrize(
    "key",
    [
        "payload",
        "payload ~ ''",
        "headers['number']",
        "number",
        "order.number",
        "Idempotency-Key",
        lambda payload: payload,
        lambda headers: headers["number"],
        lambda message: message.payload,
    ],
)
def test_a_key_is_a_header_or_an_expression(key: t.Any) -> None:
    """A string is an expression if it reads what expressions can read."""
    pay, seen = counted(key)
    bus = flow_testing([pay]).command_bus
    for value in ("a", "b", "a"):
        headers = dict.fromkeys(("number", "order.number", "Idempotency-Key"), value)
        bus.send_with_routing("pay", value, metadata=headers)
    assert seen == ["a", "b"]


@pytest.mark.parametrize(
    "value",
    [
        "k" * 10_000,
        "ключ \N{GRINNING FACE}" * 100,
        "a\0b",
        "\ud800",
        "A'\"\\;--",
        0,
        -1.5,
        decimal.Decimal("1.50"),
        uuid.uuid4(),
        datetime.date(2026, 11, 25),
        datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC),
        Colour.RED,
        OrderNumber("17"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_keys_are_any_text_and_what_is_written_as_text(
    notebook: Notebook, value: t.Any
) -> None:
    """However long, and whatever is in it."""
    pay, seen = counted(lambda payload: payload)
    notebook.ecotone.register(pay, to_text)
    with notebook.app.app_context():
        for each in (value, "another", value):
            command_bus.send_with_routing("pay", each)
    assert seen == [value, "another"]


@pytest.mark.parametrize("value", [None, "", True, ["a"], {"a": 1}, object()])
def test_a_key_that_is_none_is_an_error(paper: Notebook, value: t.Any) -> None:
    """Nothing is handled: it would be taken for another message sooner or later."""
    pay, seen = counted(lambda payload: payload)
    paper.ecotone.register(pay)
    with paper.app.app_context():
        with pytest.raises(MessagingError, match="the key is .* that tells one"):
            command_bus.send_with_routing("pay", value)
    assert seen == []


def test_a_missing_header_is_an_error() -> None:
    """It names the header and whoever wants it."""
    pay, seen = counted("Idempotency-Key")
    bus = flow_testing([pay]).command_bus
    with pytest.raises(HeaderNotFoundError, match="pay .*'Idempotency-Key'"):
        bus.send_with_routing("pay", 1)
    assert seen == []


def test_without_a_key_it_is_the_id_of_the_message() -> None:
    """Whoever sends a message again gives it the id that it had."""
    pay, seen = counted(None)
    bus = flow_testing([pay]).command_bus
    for number, name in enumerate(("a", "b", "a")):
        bus.send_with_routing("pay", number, metadata={"id": name})
    bus.send_with_routing("pay", 3)
    bus.send_with_routing("pay", 4)
    assert seen == [0, 1, 3, 4]


def test_an_expression_that_raises_stops_the_message(paper: Notebook) -> None:
    """A callable's own exception passes, and nothing is noted."""
    calls: list[t.Any] = []

    def key(payload: t.Any) -> t.Any:
        calls.append(payload)
        if len(calls) == 1:
            raise LookupError("no such order")
        return payload

    pay, seen = counted(key)
    paper.ecotone.register(pay)
    with paper.app.app_context():
        with pytest.raises(LookupError, match="no such order"):
            command_bus.send_with_routing("pay", "a")
        command_bus.send_with_routing("pay", "a")
    assert seen == ["a"]


def test_a_string_that_raises_is_a_messaging_error() -> None:
    """It says which expression of which handler."""
    pay, seen = counted("payload.number")
    bus = flow_testing([pay]).command_bus
    with pytest.raises(MessagingError, match=r"@deduplicated.*'payload\.number'"):
        bus.send_with_routing("pay", "a")
    assert seen == []


def test_a_string_that_reads_a_body_says_when_it_is_read() -> None:
    """The body of a request is text for it, whatever the handler takes."""
    pay, _ = counted("payload.number")
    bus = flow_testing([pay]).command_bus
    with pytest.raises(MessagingError, match="bytes: an expression reads it as it was"):
        bus.send_with_routing("pay", b'{"number": 1}', media_type="application/json")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("payload.x + paramter('y')", "neither the name of a header nor an expression"),
        ("'constant'", "neither the name of a header nor an expression"),
        ("payload.(", "neither the name of a header nor an expression"),
        (lambda nonsense: 1, "asks for 'nonsense'"),
    ],
)
def test_a_key_that_makes_no_sense_does_not_compile(key: t.Any, message: str) -> None:
    """It is found before the first message."""
    pay, _ = counted(key)
    with pytest.raises(ConfigurationError, match=message):
        flow_testing([pay])


def test_what_the_marker_does_not_understand_is_refused() -> None:
    """At import time, with what to write instead."""
    with pytest.raises(ConfigurationError, match="'skip', 'raise', 'return_cached'"):
        deduplicated(on_duplicate="ignore")  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match=r"Write @deduplicated\(key='x'\)"):
        deduplicated("x")  # type: ignore[type-var]
    for key in ("", 17):
        with pytest.raises(ConfigurationError, match="Give the name of a header"):
            deduplicated(key=key)


def test_what_is_not_handled_once_is_refused() -> None:
    """Queries, schedules and console commands."""

    @deduplicated(key="key")
    @query_handler("ask")
    def ask() -> None:
        pass

    @deduplicated(key="key")
    @scheduled(every=datetime.timedelta(hours=1))
    def tick() -> None:
        pass

    @deduplicated(key="key")
    @console_command("report")
    def report() -> None:
        pass

    for marked, what in ((ask, "query"), (tick, "schedule"), (report, "console")):
        with pytest.raises(ConfigurationError, match=f"{what}.*@deduplicated"):
            flow_testing([marked])


def test_the_queries_of_a_class_are_left_alone() -> None:
    """As with other markers of a class, they concern what they can concern."""

    @deduplicated(key="key")
    class Desk:
        @query_handler("ask")
        def ask(self) -> str:
            return "open"

        @command_handler("pay")
        def pay(self, bus: CommandBus) -> str:
            return "paid"

    flow = flow_testing([Desk])
    for _ in range(2):
        assert flow.query_bus.send_with_routing("ask") == "open"
