"""The proxies of the current application, in the handlers of a flow test."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from flask import Flask

from flask_ecotone import asynchronous
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import current_message
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone.testing import flow_testing


@dataclass
class Ordered:
    number: int


class Warehouse:
    """What was packed, and for whom."""

    def __init__(self) -> None:
        self.packed: list[tuple[int, str]] = []


@asynchronous("parcels")
@event_handler(endpoint_id="on_order")
def on_order(event: Ordered) -> None:
    if query_bus.send_with_routing("stock", event.number):
        command_bus.send_with_routing("pack", event.number)


@query_handler("stock")
def stock(number: int) -> int:
    return 10 - number


@command_handler("pack")
def pack(number: int, warehouse: Warehouse) -> None:
    warehouse.packed.append((number, current_message.header("user")))


@command_handler("order")
def order(number: int) -> None:
    event_bus.publish(Ordered(number))


HANDLERS = [on_order, stock, pack, order]


@pytest.mark.parametrize("is_asynchronous", [False, True])
def test_a_handler_sends_through_the_imported_buses(is_asynchronous: bool) -> None:
    """They are those of the flow test, without an app and whoever runs the handler."""
    warehouse = Warehouse()
    flow = flow_testing(HANDLERS, services=[warehouse], asynchronous=is_asynchronous)
    flow.send_command_with_routing("order", 1, metadata={"user": "ann"})
    if is_asynchronous:
        assert warehouse.packed == []
        flow.run("parcels")
    assert warehouse.packed == [(1, "ann")]
    assert flow.recorded_events() == [Ordered(1)]


def test_what_a_flow_test_sends_reaches_no_app() -> None:
    """Also where the context of one is pushed, as a fixture may do."""
    app = Flask(__name__)
    ecotone = Ecotone(app, packages=[], services={Warehouse: Warehouse})
    ecotone.register(*HANDLERS)
    warehouse = Warehouse()
    flow = flow_testing(HANDLERS, services=[warehouse])
    with app.app_context():
        flow.send_command_with_routing("order", 1, metadata={"user": "ann"})
        assert warehouse.packed == [(1, "ann")]
        assert command_bus._get_current_object() is ecotone.command_bus  # type: ignore[attr-defined]


def test_two_flow_tests_do_not_mix() -> None:
    """One in a handler of the other has its own buses, and gives them back."""
    outer, inner = Warehouse(), Warehouse()
    other = flow_testing([pack], services=[inner])

    @command_handler("both")
    def both() -> None:
        other.send_command_with_routing("pack", 1, metadata={"user": "ann"})
        command_bus.send_with_routing("pack", 2)

    flow = flow_testing([both, pack], services=[outer])
    flow.send_command_with_routing("both", metadata={"user": "bob"})
    assert (inner.packed, outer.packed) == ([(1, "ann")], [(2, "bob")])


def test_outside_of_a_message_there_is_no_bus() -> None:
    """A flow test that is over leaves nothing behind, not even when it failed."""
    flow = flow_testing([order, on_order])
    with pytest.raises(Exception, match="stock"):
        flow.send_command_with_routing("order", 1)
    with pytest.raises(RuntimeError, match="application context"):
        command_bus.send_with_routing("order", 1)
