"""Events of a tenant are heard in its database and its transaction."""

from __future__ import annotations

import typing as t

import pytest

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import Header

from .house import A
from .house import B
from .house import House


def test_events_of_a_failing_command_leave_nothing(house: House) -> None:
    """What event handlers wrote is given up with the command that published (L-2)."""
    heard: list[str] = []

    @command_handler("register")
    def register(payload: int, fails: t.Annotated[str, Header("fails")]) -> None:
        house.write(payload, f"customer {payload}")
        event_bus.publish_with_routing("registered", payload)

        if fails == "yes":
            raise ValueError("after the event")

    @event_handler("registered")
    def welcome(payload: int, tenant: t.Annotated[str, Header("tenant")]) -> None:
        house.write(payload + 100, f"welcome {payload}")
        heard.append(tenant)

    house.ecotone.register(register, welcome)

    with house.app.app_context():
        for metadata in (A, B):
            with pytest.raises(ValueError, match="after the event"):
                command_bus.send_with_routing(
                    "register", 1, metadata={**metadata, "fails": "yes"}
                )

        assert house.everything == {"bind_a": [], "bind_b": [], "default": []}
        command_bus.send_with_routing("register", 2, metadata={**A, "fails": "no"})

    assert heard == ["tenant_a", "tenant_b", "tenant_a"]
    assert house.stored("bind_a") == [(2, "customer 2"), (102, "welcome 2")]
    assert house.stored("bind_b") == []
