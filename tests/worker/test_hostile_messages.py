"""Messages that nobody would send who means well."""

from __future__ import annotations

import json
import typing as t

import pytest

from flask_ecotone import event_bus
from flask_ecotone.channels.protocols import Envelope

from .shop import OrderWasPlaced
from .shop import Shop

_TYPE = f"{OrderWasPlaced.__module__}:{OrderWasPlaced.__qualname__}"


@pytest.fixture(params=["message", "batch"])
def shop(database_url: str, request: pytest.FixtureRequest) -> Shop:
    """A shop whose worker handles messages one by one, or several together."""
    return Shop(database_url, lease=1, transaction=request.param)


def send(shop: Shop, headers: t.Any, body: bytes = b'{"number": 1}') -> None:
    """Put a message, and one that is well, into the channel."""
    written = headers if isinstance(headers, str) else json.dumps(headers)
    with shop.app.app_context():
        channel = shop.messaging.channels.get("orders")
        channel.send([Envelope("mail", "hostile", body, written)])
        shop.db.session.commit()
        event_bus.publish(OrderWasPlaced(2))


@pytest.mark.parametrize(
    "headers",
    [
        "",
        "null",
        "[]",
        '"routingSlip"',
        "{",
        {"__TypeId__": 5},
        {"__TypeId__": ["x"]},
        {"__TypeId__": ""},
        {"__TypeId__": ":"},
        {"__TypeId__": "x" * 100_000},
        {"__TypeId__": "\0"},
        {"__TypeId__": "\ud800"},
        {"__TypeId__": "builtins:type"},
        {"__TypeId__": "builtins:exec"},
        {"__TypeId__": "subprocess:Popen"},
        {"__TypeId__": "x:y", "routingSlip": ["nowhere"]},
        {"__TypeId__": "x:y", "routingSlip": [["x"]]},
        {"__TypeId__": "x:y", "routingSlip": [5]},
        {"__TypeId__": "x:y", "routingSlip": {}},
        {"__TypeId__": "x:y", "routingSlip": "orders"},
        {"__TypeId__": "x:y", "ecotone_retry_number": 10**30},
        {"__TypeId__": "x:y", "ecotone_retry_number": -5},
        {"__TypeId__": "x:y", "ecotone_retry_number": True},
        {"__TypeId__": "x:y", "ecotone_retry_number": 2**31 - 1},
        {"__TypeId__": "x:y", "ecotone.first_failed_at": 10**30},
        {"__TypeId__": "x:y", "ecotone.dlq.message_replied": 10**30},
        {"__TypeId__": "x:y", "ecotone.dlq.message_replied": "\0"},
        {"__TypeId__": "x:y", "ecotone.bus": ["a"]},
        {"__TypeId__": "x:y", "id": 5, "correlationId": {}, "timestamp": "now"},
        {"__TypeId__": "x:y", "huge": "x" * 2_000_000},
        {"__TypeId__": "x:y", "\0": "\0"},
    ],
    ids=repr and (lambda h: str(h)[:60].encode("ascii", "replace").decode()),
)
def test_what_is_not_well_is_parked_and_its_neighbours_pass(
    shop: Shop, headers: t.Any
) -> None:
    """Whatever its headers are; the worker goes on."""
    send(shop, headers)
    outcome = shop.work()
    assert outcome.reason == "no messages"
    assert shop.effects() == [("mail", 2), ("pack", 2)]
    status = shop.source().status()
    letters = shop.messaging.dead_letters.list()
    assert len(letters) + status.delayed == 1, (letters, status)
    assert status.in_flight == 0
