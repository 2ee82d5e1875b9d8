"""Payloads that don't fit their class are refused where they are sent."""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass
from dataclasses import field

import pytest

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import converter
from flask_ecotone import DatabaseChannel
from flask_ecotone import event_bus
from flask_ecotone.errors import ConversionError
from flask_ecotone.testing import flow_testing

from ..unit_of_work.notebook import Notebook
from .shop import OrderWasPlaced
from .shop import PlaceOrder
from .shop import Shop
from .test_batches import Works


@dataclass
class Line:
    sku: str
    price: float = 1.0


@dataclass
class Ship:
    order_id: int
    carrier: t.Literal["post", "bike"] = "post"
    lines: list[Line] = field(default_factory=list)
    note: str | None = None
    day: datetime.date | None = None

    def __post_init__(self) -> None:
        if self.note == "":
            raise ValueError("an empty note")


@asynchronous("later")
@command_handler(endpoint_id="ship")
def ship(command: Ship) -> None: ...


@command_handler
def ring(command: Line) -> None: ...


@asynchronous("later")
class LaterBus(CommandBus): ...


def ready(shop: Shop) -> int:
    return shop.source().status().ready


def test_what_the_database_is_yet_to_make_is_missed_at_the_sender(
    shop: Shop,
) -> None:
    """The error names message, endpoint and field, and what helps."""
    with shop.app.app_context():
        order = shop.effect(name="order", number=1)
        shop.db.session.add(order)
        with pytest.raises(ConversionError) as caught:
            event_bus.publish(OrderWasPlaced(order.id))
        said = str(caught.value)
        for part in ("OrderWasPlaced", "'mail'", "'number'", "is None, not int"):
            assert part in said
        assert "flush" in said
        assert "'| None'" in said
        shop.db.session.flush()
        event_bus.publish(OrderWasPlaced(order.id))
        shop.db.session.commit()
    assert shop.work().handled == 2


def test_the_command_that_sends_it_is_rolled_back(shop: Shop) -> None:
    """Nothing is stored, and nothing lies in the channel."""
    with shop.app.app_context(), pytest.raises(ConversionError):
        command_bus.send(PlaceOrder(t.cast(int, "7")))
    assert shop.effects() == []
    assert ready(shop) == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (Ship(t.cast(int, "7")), "its 'order_id' is str, not int"),
        (Ship(1, lines=[Line("a"), Line(t.cast(str, 5))]), "'lines[1].sku' is int"),
        (Ship(1, lines=[Line("a", float("nan"))]), "None, NaN or infinite, not float"),
        (Ship(1, lines=t.cast("list[Line]", None)), "its 'lines' is None, not list"),
        (Ship(1, note=t.cast(str, 5)), "its 'note' is int, not str | None"),
        (Ship(1, carrier=t.cast("t.Any", "s3cret")), "Invalid enum value - at"),
    ],
)
def test_an_error_says_what_was_found_and_what_fits(command: Ship, said: str) -> None:
    """In words of Python, and without the value."""
    flow = flow_testing([ship], asynchronous=True)
    with pytest.raises(ConversionError) as caught:
        flow.send_command(command)
    assert "Ship isn't sent to 'ship'" in str(caught.value)
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_what_fits_is_sent() -> None:
    """Optional fields may be missing, and dates are dates."""
    flow = flow_testing([ship], asynchronous=True)
    flow.send_command(Ship(1, lines=[Line("a")], day=datetime.date(2026, 1, 2)))
    flow.send_command(Ship(1, note=None))
    flow.run("later")


def test_a_class_that_refuses_what_it_has_become_says_why() -> None:
    """What its own check says is told."""
    flow = flow_testing([ship], asynchronous=True)
    command = Ship(1, note="call")
    command.note = ""
    with pytest.raises(ConversionError, match="an empty note"):
        flow.send_command(command)


def test_a_bus_over_a_channel_refuses_it_too(database_url: str) -> None:
    """The handler is a synchronous one."""
    book = Notebook(database_url, channels=[DatabaseChannel("later")])
    book.ecotone.register(ring, LaterBus)
    with book.app.app_context():
        bus = book.ecotone.get(LaterBus)
        with pytest.raises(ConversionError, match="Line isn't sent to .*'sku' is None"):
            bus.send(Line(t.cast(str, None)))
        source = book.app.extensions["ecotone"].messaging.channels.get("later")
        assert source.sources()[0].status().ready == 0


@pytest.mark.parametrize("transaction", ["message", "batch"])
def test_only_the_message_that_causes_it_fails(
    database_url: str, transaction: t.Literal["message", "batch"]
) -> None:
    """The others of its batch are handled."""
    works = Works(database_url, transaction)

    def act(number: int) -> None:
        sku = None if number == 2 else "a"
        command_bus.send_with_routing("later", Line(t.cast(str, sku)))

    works.act = act
    works.send(1, 2, 3)
    outcome = works.work()
    assert (outcome.handled, outcome.failed) == (2, 1)
    assert works.rows() == [1, 3]
    (parked,) = works.messaging.dead_letters.list()
    assert "Line isn't sent to 'later'" in parked.error_message


class Money:
    """A class that only converters of the application know."""

    def __init__(self, cents: int) -> None:
        self.cents = cents


@dataclass
class Pay:
    amount: Money


def test_converters_of_the_application_are_not_called_where_it_is_sent() -> None:
    """They are for whoever wants the value, and may do anything."""
    read: list[int] = []

    @converter
    def to_cents(money: Money) -> int:
        return money.cents

    @converter
    def to_money(cents: int) -> Money:
        read.append(cents)
        return Money(cents)

    @asynchronous("later")
    @command_handler
    def pay(command: Pay) -> None: ...

    flow = flow_testing([pay, to_cents, to_money], asynchronous=True)
    flow.send_command(Pay(Money(5)))
    assert read == []
    flow.run("later")
    assert read == [5]
