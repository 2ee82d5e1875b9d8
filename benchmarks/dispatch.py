"""What it costs to send a message to a plain handler, in one process, no database.

Beside a direct call, a look-up in a dict, and those of the peers that are installed:
``pip install mediatr lato diator python-cqrs messagebus``.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from flask import Flask

from flask_ecotone import around
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import EventBus
from flask_ecotone import MethodInvocation
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import QueryBus

from .measuring import compare
from .measuring import statement
from .measuring import Subject
from .measuring import verdict
from .peers import peers


@dataclass(frozen=True)
class Order:
    """A command."""

    number: int


@dataclass(frozen=True)
class OrderForMail:
    """A command whose handler takes a service."""

    number: int


@dataclass(frozen=True)
class GetOrder:
    """A query."""

    number: int


@dataclass(frozen=True)
class WasSeen:
    """An event with one handler."""

    number: int


@dataclass(frozen=True)
class WasPlaced:
    """An event with five handlers."""

    number: int


class Mailer:
    """A service."""


class TracedCommandBus(CommandBus):
    """A bus that something is around of."""


@command_handler
def place(command: Order) -> int:
    """Handle a command."""
    return command.number


@command_handler
def place_with_mail(command: OrderForMail, mailer: Mailer) -> int:
    """Handle a command with the help of a service."""
    return command.number


@query_handler
def get_order(query: GetOrder) -> int:
    """Answer a query."""
    return query.number


@event_handler
def on_seen(event: WasSeen) -> None:
    """React to an event."""


def _reaction(number: int) -> t.Callable[..., t.Any]:
    def on_placed(event: WasPlaced) -> None:
        pass

    on_placed.__qualname__ = on_placed.__name__ = f"on_placed_{number}"
    return event_handler(on_placed)


on_placed = [_reaction(number) for number in range(5)]


@around(pointcut=TracedCommandBus)
def trace(invocation: MethodInvocation) -> t.Any:
    """Do nothing, around the bus."""
    return invocation.proceed()


def create_app() -> Flask:
    """Return an application with the handlers above."""
    app = Flask(__name__)
    ecotone = Ecotone(packages=[])
    ecotone.register(place, place_with_mail, get_order, on_seen, *on_placed)
    ecotone.register(TracedCommandBus, trace)
    ecotone.provide(Mailer, Mailer)
    ecotone.init_app(app)
    return app


_DIRECT = "direct call"
_FIVE = "five direct calls"


def main() -> None:
    """Print the figures."""
    app = create_app()
    with app.app_context():
        get = app.extensions["ecotone"].system.services.get
        names = {
            **globals(),
            "commands": get(CommandBus),
            "queries": get(QueryBus),
            "events": get(EventBus),
            "traced": get(TracedCommandBus),
            "command_bus": command_bus,
            "query_bus": query_bus,
            "event_bus": event_bus,
            "handlers": {Order: place},
            "command": Order(1),
            "with_mail": OrderForMail(1),
            "query": GetOrder(1),
            "seen": WasSeen(1),
            "placed": WasPlaced(1),
            "metadata": {"user": 1},
        }
        _report(names)


def _report(names: dict[str, t.Any]) -> None:
    def all_of(codes: dict[str, str]) -> dict[str, Subject]:
        return {name: statement(code, names) for name, code in codes.items()}

    ours = all_of(
        {
            _DIRECT: "place(command)",
            "dict and call": "handlers[type(command)](command)",
            "command": "commands.send(command)",
            "query": "queries.send(query)",
            "event, 1 handler": "events.publish(seen)",
            "command_bus.send (proxy)": "command_bus.send(command)",
            "query_bus.send (proxy)": "query_bus.send(query)",
            "event_bus.publish (proxy)": "event_bus.publish(seen)",
            "command with metadata": "commands.send(command, metadata)",
            "command, one service": "commands.send(with_mail)",
            "command, one around on the bus": "traced.send(command)",
        }
    )
    found = compare({**ours, **peers()}, _DIRECT)
    found.show("One message to one handler")
    print()
    verdict("a command", found.over("command") * 1e6, 3, "µs over the call")
    verdict("a query", found.over("query") * 1e6, 2.5, "µs over the call")
    for bus, through in (
        ("command", "command_bus.send (proxy)"),
        ("query", "query_bus.send (proxy)"),
        ("event, 1 handler", "event_bus.publish (proxy)"),
    ):
        more = found.over(through, bus) * 1e6
        verdict(through, more, 1, "µs over the bus itself")

    five = all_of(
        {
            _FIVE: "for handle in on_placed: handle(placed)",
            "event, 5 handlers": "events.publish(placed)",
        }
    )
    found = compare({**five, **peers(events=True)}, _FIVE)
    found.show("One event to five handlers")
    print()
    more = found.over("event, 5 handlers") * 1e6
    verdict("an event to five handlers", more, 8, "µs over five calls")


if __name__ == "__main__":
    main()
