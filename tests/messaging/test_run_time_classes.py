"""Payload classes that are made at run time."""

from __future__ import annotations

import gc
import typing as t
import weakref
from dataclasses import dataclass

import pytest

from flask_ecotone import command_handler
from flask_ecotone import event_handler
from flask_ecotone import query_handler
from flask_ecotone.reflection import Remembered
from flask_ecotone.testing import flow_testing


@dataclass(frozen=True)
class Base:
    number: int = 1


@pytest.mark.parametrize("kind", ["command", "query", "event"])
def test_they_can_go_and_their_messages_arrive(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Buses remember a limited number of classes, and route those they forgot."""
    monkeypatch.setattr(Remembered, "limit", 5)
    seen: list[int] = []

    def handle(message: Base) -> None:
        seen.append(message.number)

    markers: dict[str, t.Any] = {
        "command": command_handler,
        "query": query_handler,
        "event": event_handler,
    }
    flow = flow_testing([markers[kind](handle)])
    send: t.Callable[[t.Any], t.Any] = {
        "command": flow.command_bus.send,
        "query": flow.query_bus.send,
        "event": flow.event_bus.publish,
    }[kind]
    classes = [type(f"Made{n}", (Base,), {}) for n in range(20)]
    references = [weakref.ref(cls) for cls in classes]
    for _ in range(2):
        for number, cls in enumerate(classes):
            send(cls(number))
    assert seen == [*range(20), *range(20)]
    flow.discard_recorded_messages()
    del classes, cls
    gc.collect()
    assert sum(reference() is not None for reference in references) <= 10


def test_it_starts_over_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is there already makes no room."""
    monkeypatch.setattr(Remembered, "limit", 2)
    remembered = Remembered[str, int]()
    remembered["a"] = 1
    remembered["b"] = 2
    remembered["a"] = 3
    assert remembered == {"a": 3, "b": 2}
    remembered["c"] = 4
    assert remembered == {"c": 4}
