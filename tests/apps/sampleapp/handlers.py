"""Handlers in a module of the package."""

import typing as t

from flask_ecotone import business_method
from flask_ecotone import command_handler
from flask_ecotone import query_handler


class Presence:
    """Remembers whether it was pinged."""

    def __init__(self) -> None:
        self.handled = False

    @command_handler("app.ping")
    def ping(self) -> str:
        """Answer."""
        self.handled = True
        return "pong"

    @query_handler("app.wasHandled")
    def was_handled(self) -> bool:
        """Tell whether it was pinged."""
        return self.handled


class Counter:
    """Counts."""

    def __init__(self) -> None:
        self.number = 0

    @command_handler("counter.increment")
    def increment(self) -> None:
        """Count one more."""
        self.number += 1

    @query_handler("counter.get")
    def get(self) -> int:
        """Return the number."""
        return self.number


class CounterGateway(t.Protocol):
    """Asks the counter."""

    @business_method("counter.get")
    def get(self) -> int:
        """Return the number."""
        ...
