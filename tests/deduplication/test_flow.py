"""Flow tests, and applications without a database, handle messages once as well."""

from __future__ import annotations

import threading
import typing as t
from dataclasses import dataclass

import pytest
from flask import Flask

from flask_ecotone import asynchronous
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import deduplicated
from flask_ecotone import Ecotone
from flask_ecotone import event_handler
from flask_ecotone.errors import DuplicateMessageError
from flask_ecotone.testing import flow_testing


@dataclass
class Pay:
    number: str
    fails: bool = False


@dataclass
class PayAll:
    fails: bool = False


@dataclass
class Paid:
    number: str


class Till:
    """Handlers that remember what they did."""

    def __init__(self) -> None:
        self.paid: list[str] = []

    @deduplicated(key="payload.number", on_duplicate="return_cached")
    @command_handler
    def pay(self, command: Pay) -> int:
        if command.fails:
            raise ValueError("no money")
        self.paid.append(command.number)
        return len(self.paid)

    @command_handler
    def pay_all(self, command: PayAll, bus: CommandBus) -> int:
        count = t.cast(int, bus.send(Pay("all")))
        if command.fails:
            raise ValueError("closed")
        return count

    @deduplicated(key="payload", on_duplicate="raise")
    @command_handler("refund", endpoint_id="refund")
    def refund(self, number: str) -> None:
        self.paid.remove(number)

    @asynchronous("receipts")
    @deduplicated(key="payload.number")
    @event_handler(endpoint_id="print")
    def print(self, event: Paid) -> None:
        self.paid.append(f"printed {event.number}")


def test_a_flow_test_skips_raises_and_answers() -> None:
    """As an application does."""
    till = Till()
    bus = flow_testing([Till], services=[till]).command_bus
    assert [bus.send(Pay(number)) for number in ("a", "b", "a")] == [1, 2, 1]
    bus.send_with_routing("refund", "a")
    with pytest.raises(DuplicateMessageError, match="refund has handled"):
        bus.send_with_routing("refund", "a")
    assert till.paid == ["b"]


def test_failures_free_the_key() -> None:
    """Of the handler, and of the command around it."""
    till = Till()
    bus = flow_testing([Till], services=[till]).command_bus
    with pytest.raises(ValueError, match="no money"):
        bus.send(Pay("a", fails=True))
    assert bus.send(Pay("a")) == 1
    with pytest.raises(ValueError, match="closed"):
        bus.send(PayAll(fails=True))
    assert bus.send(PayAll()) == 3
    assert bus.send(PayAll()) == 3


def test_asynchronous_handlers_look_at_the_key_when_they_run() -> None:
    """Two messages travel, and one is handled."""
    till = Till()
    flow = flow_testing([Till], services=[till], asynchronous=True)
    flow.publish_event(Paid("a")).publish_event(Paid("a"))
    assert flow.waiting_in("receipts") == 2
    flow.run("receipts")
    assert till.paid == ["printed a"]
    flow.publish_event(Paid("a")).run("receipts")
    assert till.paid == ["printed a"]


def test_an_application_without_a_database_remembers_in_memory() -> None:
    """Of two threads with one key one runs the handler."""
    app = Flask("tills")
    ecotone = Ecotone(packages=[])
    ran: list[str] = []
    both = threading.Barrier(2)

    @deduplicated(key="payload.number", on_duplicate="return_cached")
    @command_handler
    def pay(command: Pay) -> int:
        ran.append(command.number)
        return len(ran)

    ecotone.register(pay)
    ecotone.init_app(app)
    with app.app_context():
        bus = ecotone.get(CommandBus)
    results: list[int] = []

    def run() -> None:
        both.wait(30)
        with app.app_context():
            results.append(bus.send(Pay("a")))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (ran, results) == (["a"], [1, 1])
