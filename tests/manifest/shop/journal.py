"""Handlers that nobody can tell beforehand: they are there at each boot."""

from abc import ABC

from flask_ecotone import event_handler

lines: list[str] = []


class Fragile(ABC):  # noqa: B024
    """What can break; classes are registered for it."""


@event_handler
def any_event(event: object) -> None:
    lines.append("any object")


@event_handler("stock.*")
def any_of_the_stock() -> None:
    lines.append("stock by glob")


@event_handler
def fragile(event: Fragile) -> None:
    lines.append("fragile")
