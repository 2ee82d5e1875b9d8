"""Payloads that only say they are of a class."""

from __future__ import annotations

import typing as t
from unittest.mock import Mock

import pytest
from flask import Flask
from werkzeug.local import LocalProxy

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Ecotone
from flask_ecotone import event_bus
from flask_ecotone import event_handler


class Visitor:
    """A class that proxies stand for."""


@pytest.mark.parametrize("is_watched", [False, True])
@pytest.mark.parametrize("payload", [LocalProxy(Visitor), Mock(spec=Visitor)])
def test_a_proxy_goes_where_its_object_would(payload: t.Any, is_watched: bool) -> None:
    """It is handled by its __class__, whatever else looks at messages."""
    heard: list[t.Any] = []

    @command_handler
    def greet(visitor: Visitor) -> str:
        return "Hello"

    @event_handler
    def listen(visitor: Visitor) -> None:
        heard.append(visitor)

    app = Flask(__name__)
    app.config["ECOTONE_TEST"] = is_watched
    Ecotone(app, packages=[]).register(greet, listen)

    with app.app_context():
        assert command_bus.send(payload) == "Hello"
        event_bus.publish(payload)

    assert len(heard) == 1
