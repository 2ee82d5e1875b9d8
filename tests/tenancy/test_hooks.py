"""Who is told that a tenant becomes active, and what happens when they fail."""

from __future__ import annotations

import gc
import logging
import typing as t

import pytest

from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import Header
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import on_tenant_activation
from flask_ecotone import on_tenant_deactivation
from flask_ecotone import query_bus
from flask_ecotone import SQLAlchemyConnectionReference
from flask_ecotone.errors import MissingTenantError
from flask_ecotone.signals import tenant_activated
from flask_ecotone.signals import tenant_deactivated

from .house import A
from .house import B
from .house import House
from .house import logged
from .house import MAPPING
from .house import Register

Tenant = t.Annotated[str, Header("tenant")]


def errors(records: list[logging.LogRecord]) -> list[str]:
    """Return the errors that are logged, each with its exception."""
    return [
        str(record.exc_info[1]) if record.exc_info else record.getMessage()
        for record in records
        if record.levelno >= logging.ERROR
    ]


def test_hooks_and_signals_have_an_order(plain: House) -> None:
    """Hook, signal, message, hook, signal; a hook can use the tenant's database."""
    house = plain
    seen: list[t.Any] = []

    @on_tenant_activation
    def begin(connection: SQLAlchemyConnectionReference, tenant: Tenant) -> None:
        seen.append(("hook", connection.bind_key, tenant, house.names()))

    class Watcher:
        @on_tenant_deactivation()
        def end(self, connection: SQLAlchemyConnectionReference) -> None:
            seen.append(("end hook", str(connection), house.names()))

    @command_handler("work")
    def work() -> None:
        seen.append("work")
        house.write(1, "Alice")

    def signalled(name: str) -> t.Callable[..., None]:
        def receive(sender: t.Any, **values: t.Any) -> None:
            active = house.connections.has_active_tenant()
            seen.append((name, sender is house.app, values, active))

        return receive

    house.ecotone.register(begin, Watcher, work)
    values = {"tenant": "tenant_a", "bind_key": "bind_a"}
    with (
        tenant_activated.connected_to(signalled("on"), house.app),
        tenant_deactivated.connected_to(signalled("off"), house.app),
        house.app.app_context(),
    ):
        command_bus.send_with_routing("work", metadata=A)
    assert seen == [
        ("hook", "bind_a", "tenant_a", []),
        ("on", True, values, True),
        "work",
        ("end hook", "bind_a", ["Alice"]),
        ("off", True, values, False),
    ]


def test_a_hook_may_send_messages(plain: House) -> None:
    """What it sends inherits the tenant and activates nothing again."""
    house = plain
    seen: list[str] = []

    @on_tenant_activation
    def begin(connection: SQLAlchemyConnectionReference) -> None:
        seen.append("on")
        command_bus.send(Register(len(house.names()) + 1, f"hook {len(seen)}"))

    @on_tenant_deactivation
    def end(connection: SQLAlchemyConnectionReference) -> None:
        command_bus.send(Register(len(house.names()) + 1, f"end {len(seen)}"))

    house.ecotone.register(begin, end)
    with house.app.app_context():
        found = query_bus.send_with_routing("names", metadata=A)
        assert found == ["hook 1"]
        with pytest.raises(ValueError):
            command_bus.send(Register(9, "bad"), A)
    assert house.stored("bind_a") == [
        *((1, "hook 1"), (2, "end 1"), (3, "hook 2"), (4, "end 2"))
    ]
    assert house.stored("bind_b") == []


def test_a_failing_activation_hook_stops_the_message(house: House) -> None:
    """Its error is raised as it is, and the deactivation hooks run all the same."""
    seen: list[str] = []

    @on_tenant_activation
    def begin(connection: SQLAlchemyConnectionReference) -> None:
        house.write(1, "of the hook")
        house.db.session.flush()
        raise LookupError("hook")

    @on_tenant_deactivation
    def end(connection: SQLAlchemyConnectionReference) -> None:
        seen.append(",".join(house.names()))

    house.ecotone.register(begin, end)
    with house.app.app_context():
        for metadata in (A, B):
            with pytest.raises(LookupError, match="hook"):
                command_bus.send(Register(1, "never"), metadata)
            assert not house.connections.has_active_tenant()
            with pytest.raises(MissingTenantError):
                house.names()
    assert seen == ["", ""]
    assert house.everything == {"bind_a": [], "bind_b": [], "default": []}


@pytest.mark.parametrize("bad", [False, True])
def test_failures_at_the_end_change_nothing(house: House, bad: bool) -> None:
    """Hooks and receivers that fail are logged, each one, and hide nothing."""
    seen: list[str] = []

    @on_tenant_deactivation
    def end(connection: SQLAlchemyConnectionReference) -> None:
        house.write(5, "lost")
        house.db.session.flush()
        raise LookupError("hook")

    @on_tenant_deactivation
    def end_too(connection: SQLAlchemyConnectionReference) -> None:
        seen.append("second hook")

    def fail(sender: t.Any, **values: t.Any) -> None:
        raise LookupError("receiver")

    def receive(sender: t.Any, **values: t.Any) -> None:
        seen.append("second receiver")

    house.ecotone.register(end, end_too)
    with (
        logged("house.ecotone") as records,
        tenant_activated.connected_to(fail, house.app),
        tenant_activated.connected_to(receive, house.app),
        tenant_deactivated.connected_to(fail, house.app),
        tenant_deactivated.connected_to(receive, house.app),
        house.app.app_context(),
    ):
        if bad:
            with pytest.raises(ValueError, match="bad") as raised:
                command_bus.send(Register(1, "bad"), A)
            assert raised.value.__cause__ is None
        else:
            command_bus.send(Register(1, "Alice"), A)
        assert not house.connections.has_active_tenant()
    assert errors(records) == ["receiver", "hook", "receiver"]
    assert seen == ["second receiver", "second hook", "second receiver"]
    assert house.stored("bind_a") == ([] if bad else [(1, "Alice")])


def test_an_interrupt_leaves_no_tenant_active(plain: House) -> None:
    """Not even Ctrl+C in a hook at the end."""
    house = plain

    @on_tenant_deactivation
    def end(connection: SQLAlchemyConnectionReference) -> None:
        house.names()
        raise KeyboardInterrupt

    house.ecotone.register(end)
    with house.app.app_context():
        with pytest.raises(KeyboardInterrupt):
            command_bus.send(Register(1, "Alice"), A)
        assert not house.connections.has_active_tenant()
    assert house.stored("bind_a") == [(1, "Alice")]


def test_receivers_that_are_gone_are_not_called(plain: House) -> None:
    """Blinker holds receivers weakly, and those of other senders aren't called."""
    house = plain
    seen: list[str] = []

    class Receiver:
        def __call__(self, sender: t.Any, **values: t.Any) -> None:
            seen.append("gone")

    receiver = Receiver()
    tenant_activated.connect(receiver, sender=house.app)
    del receiver
    gc.collect()

    def other(sender: t.Any, **values: t.Any) -> None:
        seen.append("other")

    def any_sender(sender: t.Any, **values: t.Any) -> None:
        seen.append(sender.name)

    with (
        tenant_activated.connected_to(other, object()),
        tenant_activated.connected_to(any_sender),
        house.app.app_context(),
    ):
        query_bus.send_with_routing("names", metadata=A)
    assert seen == ["house"]


def test_without_tenant_nobody_is_told(plain: House) -> None:
    """On the default connection nothing is activated; for an unmapped tenant it is."""
    configuration = MultiTenantConfiguration("tenant", MAPPING, "bind_b")
    house = House(plain.binds, configuration=configuration)
    seen: list[t.Any] = []

    def receive(sender: t.Any, **values: t.Any) -> None:
        seen.append(values)

    @on_tenant_activation
    def begin(connection: SQLAlchemyConnectionReference) -> None:
        seen.append(connection)

    house.ecotone.register(begin)
    with tenant_activated.connected_to(receive, house.app), house.app.app_context():
        query_bus.send_with_routing("names")
        assert seen == []
        query_bus.send_with_routing("names", metadata={"tenant": "other"})
    assert seen == [
        SQLAlchemyConnectionReference("bind_b", "bind_b"),
        {"tenant": "other", "bind_key": "bind_b"},
    ]
