"""Calls of SQL methods are messages: they have interceptors, headers and a tenant."""

from __future__ import annotations

import typing as t
from collections.abc import Generator
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from flask_ecotone import after
from flask_ecotone import around
from flask_ecotone import before
from flask_ecotone import business_method
from flask_ecotone import command_bus
from flask_ecotone import command_handler
from flask_ecotone import current_message
from flask_ecotone import Header
from flask_ecotone import Headers
from flask_ecotone import Message
from flask_ecotone import MethodInvocation
from flask_ecotone import MultiTenantConfiguration
from flask_ecotone import query_bus
from flask_ecotone import query_handler
from flask_ecotone import Reference
from flask_ecotone import sql_query
from flask_ecotone import sql_write
from flask_ecotone.errors import ConfigurationError
from flask_ecotone.errors import HandlerSignatureError
from flask_ecotone.errors import MessagingError
from flask_ecotone.errors import MissingTenantError
from flask_ecotone.errors import TenantAlreadyActiveError
from flask_ecotone.errors import UnknownTenantError

from .conftest import NewApplication
from .people import Application
from .people import People

Tenant = t.Annotated[str | None, Header("tenant")]


class TenantPeople(t.Protocol):
    @sql_write("INSERT INTO person (id, name) VALUES (:id, :name)")
    def add(self, id: int, name: str, tenant: Tenant = None) -> None: ...

    @sql_query("SELECT name FROM person ORDER BY id")
    def names(self, tenant: Tenant = None) -> list[str]: ...

    @sql_query("SELECT name FROM person ORDER BY id")
    def one_by_one(self, tenant: Tenant = None) -> Iterator[str]: ...

    @sql_query("SELECT name FROM person ORDER BY id")
    def every_name(self, tenant: Tenant = None) -> Generator[str, None, None]: ...

    @business_method("person.shouted")
    def shouted(self, tenant: Tenant = None) -> t.Any: ...

    @sql_query("SELECT :tenant FROM person")
    def tenants(self, tenant: t.Annotated[str, Header("tenant")]) -> list[str]: ...

    @sql_query("SELECT COUNT(*) FROM person")
    def count(self, headers: t.Annotated[dict[str, str], Headers()]) -> int: ...

    @business_method("person.add")
    def send(self, id: int, tenant: Tenant = None) -> None: ...


@command_handler("person.add")
def add_person(id: int, people: People) -> None:
    people.add(id, "Sent")

    if id == 13:
        raise ValueError("unlucky")


@command_handler("person.add_all")
def add_for_all(payload: list[str], people: TenantPeople) -> None:
    for id, tenant in enumerate(payload):
        people.add(id, "Flo", tenant)

    if len(payload) > 2:
        raise ValueError("all of them")


@query_handler("names")
def names(people: t.Annotated[TenantPeople, Reference()]) -> list[list[str]]:
    return [people.names(), people.names("tenant_a"), list(people.one_by_one())]


@query_handler("person.shouted")
def shouted(people: t.Annotated[TenantPeople, Reference()]) -> Iterator[str]:
    for name in people.names():
        yield name.upper()


@pytest.fixture
def tenants(
    sqlite_url: str, database_url: str, second_database_url: str
) -> Iterator[Application]:
    """An application with two tenants; its default database must stay empty."""
    mapping = {"tenant_a": "bind_a", "tenant_b": "bind_b"}
    made = Application(
        sqlite_url,
        People,
        TenantPeople,
        add_person,
        add_for_all,
        names,
        shouted,
        binds={"bind_a": database_url, "bind_b": second_database_url},
        extensions=[MultiTenantConfiguration("tenant", mapping)],
    )

    with made.app.app_context():
        for engine in made.db.engines.values():
            made.table.metadata.create_all(engine)

        yield made
        assert made.rows(None) == []


def test_a_view_names_the_tenant_in_a_header(tenants: Application) -> None:
    """A call from a view reads and writes the database of the tenant it names.

    Nobody could commit for it: the session ends with the call.
    """
    people = tenants.ecotone.get(TenantPeople)
    people.add(1, "Alice", "tenant_a")
    people.add(1, "Bob", tenant="tenant_b")

    assert people.names("tenant_a") == ["Alice"]
    assert people.names("tenant_b") == ["Bob"]
    assert people.tenants("tenant_b") == ["tenant_b"]
    assert people.count({"tenant": "tenant_a"}) == 1
    assert tenants.rows("bind_a") == [(1, "Alice")]
    assert tenants.rows("bind_b") == [(1, "Bob")]


def test_without_tenant_nothing_is_executed(tenants: Application) -> None:
    """A call of a view that names none, or one that isn't mapped, fails."""
    people = tenants.ecotone.get(TenantPeople)

    with pytest.raises(MissingTenantError, match="add `tenant` header metadata"):
        people.add(1, "Nobody")
    with pytest.raises(MissingTenantError, match="add `tenant` header metadata"):
        tenants.ecotone.get(People).names()
    with pytest.raises(UnknownTenantError, match="`tenant_c`"):
        people.names("tenant_c")


def test_failed_write_leaves_nothing(tenants: Application) -> None:
    """A call that fails is rolled back and the tenant isn't active any more."""
    people = tenants.ecotone.get(TenantPeople)
    people.add(1, "Alice", "tenant_a")

    with pytest.raises(sa.exc.IntegrityError):
        people.add(1, "Again", "tenant_a")

    people.add(1, "Bob", "tenant_b")
    assert tenants.rows("bind_a") == [(1, "Alice")]
    assert tenants.rows("bind_b") == [(1, "Bob")]


def test_calls_inside_of_a_message_have_its_tenant(tenants: Application) -> None:
    """The tenant is inherited, the same may be named, another one may not."""
    people = tenants.ecotone.get(TenantPeople)
    people.add(1, "Alice", "tenant_a")
    found = query_bus.send_with_routing("names", metadata={"tenant": "tenant_a"})
    assert found == [["Alice"], ["Alice"], ["Alice"]]

    with pytest.raises(TenantAlreadyActiveError, match=r"tenant_b.*tenant_a"):
        query_bus.send_with_routing("names", metadata={"tenant": "tenant_b"})


def test_calls_inside_of_a_command_are_part_of_it(tenants: Application) -> None:
    """What is written for tenants is committed, or not, with the command."""
    named = ["tenant_a", "tenant_b", "tenant_b"]

    with pytest.raises(ValueError, match="all of them"):
        command_bus.send_with_routing("person.add_all", named)

    assert tenants.rows("bind_a") == tenants.rows("bind_b") == []
    command_bus.send_with_routing("person.add_all", named[:2])
    assert tenants.rows("bind_a") == [(0, "Flo")]
    assert tenants.rows("bind_b") == [(1, "Flo")]


def test_a_view_iterates_over_the_rows_of_a_tenant(tenants: Application) -> None:
    """They are read by the call, and no transaction stays open for the rest of them."""
    people = tenants.ecotone.get(TenantPeople)
    people.add(1, "Alice", "tenant_a")
    people.add(2, "Ann", "tenant_a")
    people.add(1, "Bob", "tenant_b")

    with tenants.app.test_request_context():
        rows = people.one_by_one("tenant_a")
        assert next(rows) == "Alice"
        # While they are read, other tenants may be used.
        assert list(people.one_by_one("tenant_b")) == ["Bob"]
        people.add(3, "Art", "tenant_a")
        assert tenants.in_use == 0
        assert list(rows) == ["Ann"]

    left = people.every_name("tenant_a")
    assert next(left) == "Alice"
    left.close()
    assert list(left) == []


def test_a_view_iterates_over_what_a_query_yields(tenants: Application) -> None:
    """The handler runs while its tenant is active, however late it is read."""
    people = tenants.ecotone.get(TenantPeople)
    people.add(1, "Alice", "tenant_a")
    assert list(people.shouted("tenant_a")) == ["ALICE"]


def test_business_method_with_a_tenant_is_committed(tenants: Application) -> None:
    """Nor could anybody commit what a command did that such a method sent."""
    people = tenants.ecotone.get(TenantPeople)
    people.send(1, "tenant_a")

    with pytest.raises(ValueError, match="unlucky"):
        people.send(13, "tenant_a")

    assert tenants.rows("bind_a") == [(1, "Sent")]


def test_interceptors_around_a_method_have_the_tenant(tenants: Application) -> None:
    """Theirs are the session and the transaction of the call (integration 3.3)."""

    @around(pointcut=TenantPeople.send)
    def witness(invocation: MethodInvocation, people: People) -> t.Any:
        people.add(7, "Before")
        return invocation.proceed()

    @around(pointcut=TenantPeople.names)
    def also(invocation: MethodInvocation, people: People) -> t.Any:
        return [*invocation.proceed(), str(people.count())]

    tenants.ecotone.register(witness, also)
    people = tenants.ecotone.get(TenantPeople)
    assert people.names("tenant_b") == ["0"]

    with pytest.raises(ValueError, match="unlucky"):
        people.send(13, "tenant_b")

    people.send(1, "tenant_b")
    assert tenants.rows("bind_b") == [(1, "Sent"), (7, "Before")]


def test_metadata_of_the_request_names_the_tenant(tenants: Application) -> None:
    """As for messages on a bus."""
    tenants.ecotone.metadata_provider(lambda: {"tenant": "tenant_b"})

    with tenants.app.test_request_context():
        people = tenants.ecotone.get(TenantPeople)
        people.add(1, "Bob")
        assert people.names() == ["Bob"]

    assert tenants.rows("bind_b") == [(1, "Bob")]


class Watched(t.Protocol):
    @sql_write("INSERT INTO person (id, name) VALUES (:id, :name)")
    def add(self, id: int, name: str) -> None: ...

    @sql_query("SELECT name FROM person WHERE id = :id")
    def name_of(self, id: int) -> str | None: ...


def test_interceptors_point_at_sql_methods(new_application: NewApplication) -> None:
    """They get the arguments as a dict, which they may replace, and the result."""
    seen: list[t.Any] = []

    @before(pointcut=Watched.add)
    def louder(payload: dict[str, t.Any]) -> dict[str, t.Any]:
        return {**payload, "name": payload["name"].upper()}

    @around(pointcut=Watched)
    def watch(invocation: MethodInvocation, message: Message) -> t.Any:
        seen.append(dict(message.payload))
        return invocation.proceed()

    @after(pointcut=Watched.name_of)
    def shorten(payload: str) -> str:
        return payload[:2]

    application = new_application(Watched, louder, watch, shorten)
    people = application.ecotone.get(Watched)
    people.add(1, name="Alice")
    assert people.name_of(1) == "AL"
    assert people.name_of(2) is None
    assert seen == [{"id": 1, "name": "ALICE"}, {"id": 1}, {"id": 2}]


def test_an_interceptor_stops_a_write(new_application: NewApplication) -> None:
    """``None`` of a before interceptor keeps the SQL from running."""

    @before(pointcut=Watched.add)
    def stop(payload: dict[str, t.Any]) -> dict[str, t.Any] | None:
        return None if payload["id"] == 1 else payload

    application = new_application(Watched, stop)
    people = application.ecotone.get(Watched)
    people.add(1, "Alice")
    people.add(2, "Bob")
    assert (people.name_of(1), people.name_of(2)) == (None, "Bob")


def test_interceptor_must_keep_the_arguments(new_application: NewApplication) -> None:
    """What isn't a dict of them is an error that says so."""

    @before(pointcut=Watched.add)
    def forget(payload: dict[str, t.Any]) -> dict[str, t.Any]:
        return {"id": 1}

    application = new_application(Watched, forget)

    with pytest.raises(MessagingError, match=r"made \['id'\].*dict of id, name"):
        application.ecotone.get(Watched).add(1, "Alice")


def test_required_interceptors(new_application: NewApplication) -> None:
    """A method can ask for interceptors; one that is missing is an error."""
    seen: list[str] = []

    @before(pointcut="nothing.at.all")
    def first(message: Message) -> None:
        seen.append(current_message.payload["id"])

    class Requiring(t.Protocol):
        @sql_write(
            "INSERT INTO person (id, name) VALUES (:id, 'x')",
            required_interceptors=[first],
        )
        def add(self, id: int) -> None: ...

        @sql_query("SELECT COUNT(*) FROM person", required_interceptors=[])
        def count(self) -> int: ...

    application = new_application(Requiring, first)
    application.ecotone.get(Requiring).add(1)
    assert application.ecotone.get(Requiring).count() == 1
    assert seen == [1]

    with pytest.raises(ConfigurationError, match="requires the interceptor 'test_req"):
        new_application(Requiring).ecotone.compile()


def test_computed_header_is_refused(new_application: NewApplication) -> None:
    """As for business methods."""

    class Computing(t.Protocol):
        @sql_query("SELECT 1")
        def one(
            self, tenant: t.Annotated[str, Header("tenant", "payload + 1")]
        ) -> int: ...

    with pytest.raises(HandlerSignatureError, match="can't have an expression"):
        new_application(Computing).ecotone.compile()


class Escaping(t.Protocol):
    # For MySQL the quote goes on behind the backslash, for others it ends there.
    @sql_query(r"SELECT 'a\':b' /* ' || :name */ FROM person")
    def for_mysql(self) -> list[str]: ...

    @sql_query(r"SELECT 'a\' || :name FROM person")
    def for_others(self, name: str) -> list[str]: ...


@query_handler("mysql")
def for_mysql(escaping: t.Annotated[Escaping, Reference()]) -> list[str]:
    return escaping.for_mysql()


@query_handler("others")
def for_others(escaping: t.Annotated[Escaping, Reference()]) -> list[str]:
    return escaping.for_others(":n")


def test_each_tenant_has_its_dialect(
    sqlite_url: str, mariadb_url: str, tmp_path: Path
) -> None:
    """SQL is read as the database of the active tenant reads it."""
    made = Application(
        sqlite_url,
        TenantPeople,
        People,
        add_person,
        shouted,
        Escaping,
        for_mysql,
        for_others,
        binds={"a": f"sqlite:///{tmp_path / 'a.sqlite'}", "b": mariadb_url},
        extensions=[MultiTenantConfiguration("tenant", {"a": "a", "b": "b"})],
    )

    with made.app.app_context():
        for key in ("a", "b"):
            made.table.metadata.create_all(made.db.engines[key])
            made.ecotone.get(TenantPeople).add(1, "x", key)

        def ask(key: str, tenant: str) -> t.Any:
            return query_bus.send_with_routing(key, metadata={"tenant": tenant})

        assert ask("others", "a") == ["a\\:n"]
        assert ask("mysql", "b") == ["a':b"]

        with pytest.raises(HandlerSignatureError, match="isn't closed"):
            ask("others", "b")
