"""Whether memory grows with the number of messages sent."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import dataclass

from flask import Flask

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import current_message
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import query_bus
from flask_ecotone import query_handler

from .measuring import verdict

_BLOCK = 10_000
_BLOCKS = 10


@dataclass(frozen=True)
class Place:
    """A command that causes an event, which causes a query."""

    number: int


@dataclass(frozen=True)
class Fail:
    """A command that fails inside of another one."""

    depth: int


@dataclass(frozen=True)
class WasPlaced:
    """What happened."""

    number: int


@dataclass(frozen=True)
class GetNumber:
    """What somebody wants to know."""

    number: int


class Mailer:
    """A service that lives as long as the message."""


@command_handler
def place(command: Place, mailer: Mailer) -> None:
    """Publish what happened."""
    event_bus.publish(WasPlaced(command.number), {"user": command.number})


@event_handler
def on_placed(event: WasPlaced) -> None:
    """Ask something; the headers of the whole chain are completed."""
    assert query_bus.send(GetNumber(event.number)) == current_message.headers["user"]


@query_handler
def get_number(query: GetNumber) -> int:
    """Answer."""
    return query.number


@command_handler
def fail(command: Fail) -> None:
    """Fail, two commands deep."""
    if command.depth == 0:
        raise LookupError("as intended")
    command_bus.send(Fail(command.depth - 1))


def main() -> None:
    """Print the figures."""
    app = Flask(__name__)
    ecotone = Ecotone(packages=[])
    ecotone.register(place, on_placed, get_number, fail)
    ecotone.provide(Mailer, Mailer)
    ecotone.init_app(app)
    with app.app_context():
        _send(_BLOCK)
        tracemalloc.start()
        try:
            _report()
        finally:
            tracemalloc.stop()


def _report() -> None:
    _send(_BLOCK)
    before = _held()
    print(f"\nMemory held after blocks of {_BLOCK:,} messages\n")
    for number in range(1, _BLOCKS + 1):
        _send(_BLOCK)
        print(f"  {number * _BLOCK:>9,}  {_held() - before:+9,} bytes")
    grown = (_held() - before) / (_BLOCK * _BLOCKS)
    # The random bits of ids are drawn in stock: up to 20 kB that come and go.
    print()
    verdict("memory per message", grown, 0.5, "bytes")


def _send(messages: int) -> None:
    # Six messages a turn: three of a chain that succeeds, three of one that fails.
    for number in range(messages // 6):
        command_bus.send(Place(number), {"session": number})
        try:
            command_bus.send(Fail(2))
        except LookupError:
            pass


def _held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


if __name__ == "__main__":
    main()
