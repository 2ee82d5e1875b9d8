"""A command on the default database may send messages to tenants."""

from __future__ import annotations

import typing as t

import pytest
import sqlalchemy as sa

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus

from .house import A
from .house import B
from .house import House
from .house import MAPPING
from .house import Register


@pytest.fixture
def shared(binds: dict[str, str], trap: str, style: str) -> t.Iterator[House]:
    """A house where messages without tenant go to a default database."""
    house = House(
        {**binds, "shared": trap},
        style=style,
        configuration=MultiTenantConfiguration("tenant", MAPPING, "shared"),
    )
    yield house
    house.check_clean()


@pytest.mark.parametrize("fail", ["nowhere", "at the end", "in a tenant", "on commit"])
def test_a_command_on_the_default_database_may_send_to_tenants(
    shared: House, fail: str
) -> None:
    """All of it is one unit of work: every database commits, or none does."""
    house = shared

    @command_handler("start")
    def start() -> None:
        house.write(1, "shared")
        command_bus.send(Register(1, "Alice"), A)
        assert query_bus.send_with_routing("names", metadata=A) == ["Alice"]
        command_bus.send(Register(1, "bad" if fail == "in a tenant" else "Bob"), B)
        command_bus.send(Register(2, "Anna"), A)
        assert house.names() == ["shared"]
        # Nothing is committed while it isn't over.
        assert house.stored("bind_a") == house.stored("bind_b") == []
        if fail == "at the end":
            raise ValueError("bad")
        if fail == "on commit":
            house.write(1, "taken")

    house.ecotone.register(start)
    with house.app.app_context():
        if fail == "nowhere":
            command_bus.send_with_routing("start")
        else:
            with pytest.raises((ValueError, sa.exc.IntegrityError)):
                command_bus.send_with_routing("start")
        assert not house.connections.has_active_tenant()
    assert house.everything == (
        {
            "bind_a": [(1, "Alice"), (2, "Anna")],
            "bind_b": [(1, "Bob")],
            "shared": [(1, "shared")],
        }
        if fail == "nowhere"
        else {"bind_a": [], "bind_b": [], "shared": []}
    )


def test_what_a_tenant_failed_to_do_is_given_up(shared: House) -> None:
    """A command without tenant may go on when one of its tenants fails."""
    house = shared

    @command_handler("start")
    def start() -> None:
        house.write(1, "shared")
        for metadata, name in ((A, "bad"), (B, "Bob")):
            try:
                command_bus.send(Register(1, name), metadata)
            except ValueError:
                house.write(2, f"{metadata['tenant']} failed")

    house.ecotone.register(start)
    with house.app.app_context():
        command_bus.send_with_routing("start")
    assert house.everything == {
        "bind_a": [],
        "bind_b": [(1, "Bob")],
        "shared": [(1, "shared"), (2, "tenant_a failed")],
    }


def test_a_failing_flush_of_a_tenant_fails_its_message(shared: House) -> None:
    """What is pending is written while the tenant's message is handled, not later."""
    house = shared

    @command_handler("pending")
    def pending() -> None:
        house.db.session.add(house.Customer(id=1, name="twice"))

    @command_handler("start")
    def start() -> None:
        with pytest.raises(sa.exc.IntegrityError):
            command_bus.send_with_routing("pending", metadata=A)
        command_bus.send(Register(2, "Anna"), A)

    house.ecotone.register(pending, start)
    with house.app.app_context():
        command_bus.send(Register(1, "Alice"), A)
        command_bus.send_with_routing("start")
    assert house.stored("bind_a") == [(1, "Alice"), (2, "Anna")]


def test_without_default_a_command_may_send_to_tenants_too(house: House) -> None:
    """Nor does it need a database itself: tenants commit together, or none does."""

    @command_handler("start")
    def start(fail: bool) -> None:
        for metadata, name in ((A, "Alice"), (B, "Bob")):
            command_bus.send(Register(1, name), metadata)
        if fail:
            raise ValueError("bad")

    house.ecotone.register(start)
    with house.app.app_context():
        with pytest.raises(ValueError, match="bad"):
            command_bus.send_with_routing("start", True)
        assert house.everything == {"bind_a": [], "bind_b": [], "default": []}
        command_bus.send_with_routing("start", False)
    assert house.stored("bind_a") == [(1, "Alice")]
    assert house.stored("bind_b") == [(1, "Bob")]
