"""A tenant is active while its message is handled: nesting, attempts, and the end."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

import pytest

from flask_ecotone import business_method
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import CommandBus
from flask_ecotone import console_command
from flask_ecotone import event_bus
from flask_ecotone import event_handler
from flask_ecotone import Header
from flask_ecotone import instant_retry
from flask_ecotone import internal_handler
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import Reference
from flask_ecotone import sql_query
from flask_ecotone import sql_write
from flask_ecotone import without_transaction
from flask_ecotone.errors import MissingTenantError
from flask_ecotone.errors import TenancyError
from flask_ecotone.errors import TenantAlreadyActiveError
from flask_ecotone.errors import UnitOfWorkError
from flask_ecotone.signals import tenant_activated
from flask_ecotone.signals import tenant_deactivated

from .house import A
from .house import B
from .house import House
from .house import logged
from .house import MAPPING
from .house import Register

Tenant = t.Annotated[str, Header("tenant")]


@dataclass(frozen=True)
class Registered:
    name: str


@pytest.fixture
def activations(house: House) -> t.Iterator[list[str]]:
    """What the signals of the house said, in order."""
    seen: list[str] = []

    def activated(sender: t.Any, *, tenant: str, bind_key: str) -> None:
        seen.append(f"+{tenant}@{bind_key}")

    def deactivated(sender: t.Any, *, tenant: str, bind_key: str) -> None:
        seen.append(f"-{tenant}@{bind_key}")

    with tenant_activated.connected_to(activated, house.app):
        with tenant_deactivated.connected_to(deactivated, house.app):
            yield seen


def test_nested_messages_join_the_tenant(house: House, activations: list[str]) -> None:
    """Commands, events and queries below inherit it, and activate it only once."""

    @command_handler("start")
    def start() -> list[str]:
        command_bus.send(Register(1, "Alice"))
        command_bus.send(Register(2, "Anna"), A)
        event_bus.publish(Registered("Ada"))
        return t.cast(list[str], query_bus.send_with_routing("names"))

    @event_handler
    def on(event: Registered, tenant: Tenant) -> None:
        house.write(3, f"{event.name} of {tenant}")

    house.ecotone.register(start, on)
    with house.app.app_context():
        found = command_bus.send_with_routing("start", metadata=A)
    assert found == ["Alice", "Anna", "Ada of tenant_a"]
    assert [name for _, name in house.stored("bind_a")] == found
    assert house.stored("bind_b") == []
    assert activations == ["+tenant_a@bind_a", "-tenant_a@bind_a"]


@pytest.mark.parametrize("send", ["command", "query", "event"])
def test_another_tenant_is_refused(
    house: House, activations: list[str], send: str
) -> None:
    """A message below can't go to another tenant; the error names both."""
    sends: dict[str, t.Callable[[], t.Any]] = {
        "command": lambda: command_bus.send(Register(2, "astray"), B),
        "query": lambda: query_bus.send_with_routing("names", metadata=B),
        "event": lambda: event_bus.publish(Registered("astray"), B),
    }

    @command_handler("start")
    def start() -> None:
        house.write(1, "Alice")
        sends[send]()

    @event_handler
    def on(event: Registered) -> None:
        house.write(3, event.name)

    house.ecotone.register(start, on)
    with house.app.app_context():
        with pytest.raises(TenantAlreadyActiveError) as raised:
            command_bus.send_with_routing("start", metadata=A)
        assert str(raised.value) == (
            "Tenant `tenant_a` is already active. Please deactivate it before"
            " activating another tenant. The message is for tenant `tenant_b`."
        )
        assert house.everything == {"bind_a": [], "bind_b": [], "default": []}
        command_bus.send(Register(1, "Bob"), B)
    assert house.stored("bind_b") == [(1, "Bob")]
    assert activations == [
        *("+tenant_a@bind_a", "-tenant_a@bind_a"),
        *("+tenant_b@bind_b", "-tenant_b@bind_b"),
    ]


def test_after_a_failure_no_tenant_is_active(
    binds: dict[str, str], trap: str, style: str
) -> None:
    """A message without tenant uses the default database again, failure or not."""
    configuration = MultiTenantConfiguration("tenant", MAPPING, "shared")
    shared = {**binds, "shared": trap}
    house = House(shared, style=style, configuration=configuration)
    with house.app.app_context():
        with pytest.raises(ValueError):
            command_bus.send(Register(1, "bad"), A)
        assert not house.connections.has_active_tenant()
        command_bus.send(Register(1, "Nobody"))
    assert house.everything == {
        "bind_a": [],
        "bind_b": [],
        "shared": [(1, "Nobody")],
    }
    house.check_clean()


def test_each_attempt_activates_anew(house: House, activations: list[str]) -> None:
    """A command that is tried again has a fresh session of its tenant each time."""
    sessions: list[t.Any] = []

    @command_handler("shaky")
    @instant_retry(2)
    def shaky() -> None:
        sessions.append(house.db.session())
        assert house.names() == []
        house.write(1, "Alice")
        house.db.session.flush()
        if len(sessions) < 3:
            raise ValueError(f"attempt {len(sessions)}")

    house.ecotone.register(shaky)
    with house.app.app_context():
        command_bus.send_with_routing("shaky", metadata=A)
    assert len(set(map(id, sessions))) == 3
    assert house.stored("bind_a") == [(1, "Alice")]
    assert activations == ["+tenant_a@bind_a", "-tenant_a@bind_a"] * 3


@pytest.mark.parametrize("fail", [False, True])
def test_commits_contexts_and_savepoints_take_part(house: House, fail: bool) -> None:
    """Inside a tenant's command they belong to its one transaction."""

    @command_handler("start")
    def start() -> None:
        house.write(1, "first")
        house.db.session.commit()
        with house.app.app_context():
            assert house.names() == ["first"]
            house.write(2, "in a context")
            command_bus.send(Register(3, "sent from there"))
        try:
            with house.db.session.begin_nested():
                house.write(4, "given up")
                house.db.session.flush()
                raise LookupError
        except LookupError:
            pass
        house.db.session.remove()
        house.write(5, "after remove")
        if fail:
            raise ValueError("fail")

    house.ecotone.register(start)
    with house.app.app_context():
        if fail:
            with pytest.raises(ValueError, match="fail"):
                command_bus.send_with_routing("start", metadata=A)
        else:
            command_bus.send_with_routing("start", metadata=A)
    kept = [(1, "first"), (2, "in a context"), (3, "sent from there")]
    kept.append((5, "after remove"))
    assert house.stored("bind_a") == ([] if fail else kept)
    assert house.stored("bind_b") == []


def test_a_rollback_fails_the_command(house: House) -> None:
    """As without tenants, and the tenant isn't active any more."""

    @command_handler("start")
    def start() -> None:
        house.write(1, "Alice")
        house.db.session.rollback()

    house.ecotone.register(start)
    with house.app.app_context():
        with pytest.raises(UnitOfWorkError, match="Nothing was stored"):
            command_bus.send_with_routing("start", metadata=A)
        with pytest.raises(MissingTenantError):
            house.names()
    assert house.stored("bind_a") == []


def test_a_command_without_transaction_commits_itself(house: House) -> None:
    """What it doesn't commit is gone with its session, and no lock is left."""

    @command_handler("start")
    @without_transaction
    def start() -> None:
        house.write(1, "kept")
        house.db.session.commit()
        house.write(2, "lost")
        house.db.session.flush()

    house.ecotone.register(start)
    with house.app.app_context():
        command_bus.send_with_routing("start", metadata=A)
        command_bus.send(Register(2, "next"), A)
    assert house.stored("bind_a") == [(1, "kept"), (2, "next")]


class AuditBus(CommandBus):
    """A bus of the application."""


class Api(t.Protocol):
    @business_method("names.of")
    def names(self, tenant: Tenant) -> list[str]: ...


class Customers(t.Protocol):
    @sql_write("INSERT INTO customers (id, name) VALUES (:id, :name)")
    def add(self, id: int, name: str) -> int: ...

    @sql_query("SELECT name FROM customers ORDER BY id")
    def names(self) -> list[str]: ...


def test_other_gateways_activate_too(house: House) -> None:
    """Custom buses and business interfaces follow the header."""

    @internal_handler("names.of")
    def names_of() -> list[str]:
        return house.names()

    house.ecotone.register(AuditBus, Api, names_of)
    with house.app.app_context():
        house.ecotone.get(AuditBus).send(Register(1, "Alice"), A)
        api = house.ecotone.get(Api)
        assert api.names("tenant_a") == ["Alice"]
        assert api.names("tenant_b") == []


def test_sql_interfaces_follow_the_tenant(house: House) -> None:
    """In a handler they use its tenant and its transaction; elsewhere they fail."""

    @command_handler("start")
    def start(id: int, customers: Customers) -> None:
        customers.add(id, f"number {id}")
        if id == 7:
            raise ValueError("rolled back")

    @query_handler("found")
    def found(customers: t.Annotated[Customers, Reference()]) -> list[str]:
        return customers.names()

    house.ecotone.register(Customers, start, found)
    with house.app.app_context():
        with pytest.raises(ValueError, match="rolled back"):
            command_bus.send_with_routing("start", 7, metadata=A)
        command_bus.send_with_routing("start", 1, metadata=A)
        assert query_bus.send_with_routing("found", metadata=A) == ["number 1"]
        assert query_bus.send_with_routing("found", metadata=B) == []
        with pytest.raises(MissingTenantError):
            house.ecotone.get(Customers).names()
    assert house.stored("bind_a") == [(1, "number 1")]
    assert house.stored("bind_b") == []


def test_a_console_command_activates(house: House, activations: list[str]) -> None:
    """Its own code, and what it sends, works for the tenant of the header."""

    @console_command("customers:add")
    def add(name: str) -> None:
        house.write(1, name)
        command_bus.send(Register(2, f"{name} again"))
        if name == "bad":
            raise ValueError("bad")

    house.ecotone.register(add)
    runner = house.app.test_cli_runner()
    with house.app.app_context():
        house.ecotone.compile()
        run = house.app.extensions["ecotone"].system.run_console_command
        run("customers:add", {"name": "Alice"}, A)
        with pytest.raises(ValueError):
            run("customers:add", {"name": "bad"}, B)
        with pytest.raises(MissingTenantError):
            run("customers:add", {"name": "Nobody"})
    result = runner.invoke(
        args=["customers", "add", "Bob", "--header", "tenant:tenant_b"]
    )
    assert result.exit_code == 0, result.output
    assert house.stored("bind_a") == [(1, "Alice"), (2, "Alice again")]
    assert house.stored("bind_b") == [(1, "Bob"), (2, "Bob again")]
    assert activations == [
        *("+tenant_a@bind_a", "-tenant_a@bind_a"),
        *("+tenant_b@bind_b", "-tenant_b@bind_b") * 2,
    ]


def test_a_tenant_may_send_no_message_without_one(house: House) -> None:
    """The header can't be taken away: the tenant stays, and so does its database."""

    @command_handler("start")
    def start() -> list[str]:
        house.write(1, "Alice")
        house.db.session.flush()
        found = query_bus.send_with_routing("names", metadata={"tenant": None})
        return t.cast(list[str], found)

    house.ecotone.register(start)
    with house.app.app_context():
        assert command_bus.send_with_routing("start", metadata=A) == ["Alice"]


def test_the_bus_of_another_application_is_refused(files: dict[str, str]) -> None:
    """In the context of another app there is no database of the tenant."""
    house, other = House(files), House({"bind_a": files["bind_b"]}, configuration=_ONE)
    with house.app.app_context():
        bus = house.ecotone.query_bus
        with other.app.app_context():
            with pytest.raises((TenancyError, RuntimeError)):
                bus.send_with_routing("names", metadata=A)
        assert bus.send_with_routing("names", metadata=A) == []


_ONE = MultiTenantConfiguration("tenant", {"tenant_a": "bind_a"})


def test_two_applications_have_tenants_of_their_own(files: dict[str, str]) -> None:
    """Inside of a tenant of one app, another app activates its own."""
    house, other = House(files), House({"bind_a": files["bind_b"]}, configuration=_ONE)

    @query_handler("both")
    def both() -> list[str]:
        with other.app.app_context():
            command_bus.send(Register(7, "of the other"), A)
            with pytest.raises(MissingTenantError):
                other.names()
            found = query_bus.send_with_routing("names", metadata=A)
        return [*house.names(), *t.cast(list[str], found)]

    house.ecotone.register(both)
    with house.app.app_context():
        command_bus.send(Register(1, "Alice"), A)
        found = query_bus.send_with_routing("both", metadata=A)
    assert found == ["Alice", "of the other"]
    assert house.stored("bind_b") == [(7, "of the other")]
    house.check_clean()
    other.check_clean()


def test_the_log_names_tenant_and_connection(house: House) -> None:
    """Activation and deactivation are logged, in order, with the connection's name."""
    with logged("house.ecotone") as records:
        with house.app.app_context():
            query_bus.send_with_routing("names", metadata=A)
    lines = [r.getMessage() for r in records if "tenant" in r.getMessage()]
    assert lines == [
        "Activating tenant `tenant_a` on connection `bind_a`",
        "Deactivating tenant `tenant_a` on connection `bind_a`",
    ]


def test_a_streamed_answer_keeps_no_tenant(house: House) -> None:
    """Between the pieces of a response no tenant is active, nor in a late generator."""
    active: list[bool] = []

    @query_handler("late")
    def late() -> t.Iterator[str]:
        yield from house.names()

    @house.app.get("/stream")
    def stream() -> t.Any:
        def pieces() -> t.Iterator[str]:
            for metadata in (A, B):
                with house.app.app_context():
                    yield ",".join(
                        query_bus.send_with_routing("names", metadata=metadata)
                    )
                    active.append(house.connections.has_active_tenant())

        return pieces()

    house.ecotone.register(late)
    with house.app.app_context():
        command_bus.send(Register(1, "Alice"), A)
        command_bus.send(Register(1, "Bob"), B)
        with pytest.raises(MissingTenantError):
            list(query_bus.send_with_routing("late", metadata=A))
    response = house.app.test_client().get("/stream", buffered=False)
    assert list(response.iter_encoded()) == [b"Alice", b"Bob"]
    response.close()
    assert active == [False, False]
